/*
 * Real connections on the loopback: to a listener, to a port where nobody listens, to one that does
 * not answer.
 */
#include "dialer/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "dialer/resolve.h"

static struct ev_loop *loop;
static struct resolver *resolver;

struct outcome {
	int calls, err, fd;
	char text[600];
};

static void done(void *arg, int err, int fd, const char *text)
{
	struct outcome *o = arg;

	o->calls++;
	o->err = err;
	o->fd = fd;
	snprintf(o->text, sizeof(o->text), "%s", text);
	ev_break(loop, EVBREAK_ALL);
}

static struct outcome dial(const char *address, uint32_t timeout_ms)
{
	struct outcome o = { .fd = -1 };

	assert_int_equal(dial_start(loop, resolver, address, timeout_ms, done, &o), 0);
	assert_int_equal(o.calls, 0);
	ev_run(loop, 0);
	assert_int_equal(o.calls, 1);
	return o;
}

/* A listener on the loopback with room for `backlog` connections; *ret_address is where it listens.
 */
static int listener(int backlog, char ret_address[32])
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	snprintf(ret_address, 32, "127.0.0.1:%u", ntohs(sin.sin_port));
	return fd;
}

static void dial__connects_to_a_listener(void **state)
{
	char address[32], c = 0;
	int fd = listener(1, address), accepted;
	struct outcome o = dial(address, 5000);

	assert_int_equal(o.err, 0);
	assert_string_equal(o.text, address);
	accepted = accept(fd, NULL, NULL);
	assert_int_equal(write(accepted, "x", 1), 1);
	usleep(20000);
	assert_int_equal(read(o.fd, &c, 1), 1);
	assert_int_equal(c, 'x');
	close(o.fd);
	close(accepted);
	close(fd);
}

static void dial__refused_says_where(void **state)
{
	char address[32];
	int fd = listener(-1, address);
	struct outcome o = dial(address, 5000);

	assert_int_equal(o.err, -ECONNREFUSED);
	assert_int_equal(o.fd, -1);
	assert_non_null(strstr(o.text, address));
	assert_non_null(strstr(o.text, "refused"));
	close(fd);
}

/* A full backlog: the kernel lets the handshake of one more wait. */
static void dial__no_answer_ends_at_the_deadline(void **state)
{
	char address[32];
	int fd = listener(0, address);
	struct outcome first = dial(address, 1000), o;
	ev_tstamp start;

	assert_int_equal(first.err, 0);
	start = ev_time();
	o = dial(address, 300);
	assert_int_equal(o.err, -ETIMEDOUT);
	assert_true(ev_time() - start < 2);
	close(first.fd);
	close(fd);
}

static void dial__names_that_do_not_exist_say_so(void **state)
{
	struct outcome o = dial("no-such-host.invalid:1", 5000);

	assert_int_equal(o.err, -EHOSTUNREACH);
	assert_non_null(strstr(o.text, "no-such-host.invalid"));
}

static void dial__malformed_is_refused_at_once(void **state)
{
	assert_int_equal(dial_start(loop, resolver, "host:", 1, done, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dial__connects_to_a_listener),
		cmocka_unit_test(dial__refused_says_where),
		cmocka_unit_test(dial__no_answer_ends_at_the_deadline),
		cmocka_unit_test(dial__names_that_do_not_exist_say_so),
		cmocka_unit_test(dial__malformed_is_refused_at_once),
	};

	loop = ev_loop_new(EVFLAG_AUTO);
	if (!loop || resolver_start(&resolver, loop) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
