/* Lines of the log: where they go, how they are cut and cleaned. */
#include "worker/log.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct heard {
	enum log_level level;
	char text[1024];
	int num;
};

static void hear(void *arg, enum log_level level, const char *text)
{
	struct heard *h = arg;

	h->level = level;
	strncpy(h->text, text, sizeof(h->text) - 1);
	h->num++;
}

static void log__goes_to_the_sink_with_its_level(void **state)
{
	struct heard h = { 0 };

	log_set_sink(hear, &h);
	log_warn("it is %d", 7);
	assert_int_equal(h.level, LOG_LEVEL_WARN);
	assert_string_equal(h.text, "it is 7");
	assert_int_equal(log_error_errno(-ENOENT, "opening %s", "x"), -ENOENT);
	assert_string_equal(h.text, "opening x: No such file or directory");
	log_debug("nobody wants it");
	assert_int_equal(h.num, 2);
	log_set_sink(NULL, NULL);
}

static void log__is_one_line_of_bounded_length(void **state)
{
	struct heard h = { 0 };
	char text[2000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_set_sink(hear, &h);
	log_error("a\nb\033[31m%s", text);
	assert_int_equal(strlen(h.text), LOG_TEXT_MAX);
	assert_memory_equal(h.text, "a?b?[31mxxx", 11);
	log_set_sink(NULL, NULL);
}

static void fatal__says_why_on_stderr_and_ends_with_1(void **state)
{
	char text[200] = "";
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct heard h = { 0 };

		dup2(fds[1], 2);
		log_set_sink(hear, &h);
		log_set_name("keyd");
		fatal("no %s", "luck");
	}
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_int_equal(read(fds[0], text, sizeof(text) - 1), 14);
	assert_string_equal(text, "keyd: no luck\n");
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log__goes_to_the_sink_with_its_level),
		cmocka_unit_test(log__is_one_line_of_bounded_length),
		cmocka_unit_test(fatal__says_why_on_stderr_and_ends_with_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
