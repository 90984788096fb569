/*
 * The sandbox from inside: what workers need goes on working in it. What they must not do is tried
 * by bazil-attack (tests/system/sandbox). Each case runs in a child, since there is no way back.
 */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* A child's own checks: a failed one is its exit status, the line number. */
#define NEED(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			return __LINE__ % 256;                                                     \
	} while (0)

static int in_child(int (*fn)(int arg), int arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(arg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void *thread(void *arg)
{
	memset(malloc(1 << 20), 1, 1 << 20);
	*(int *)arg = 1;
	return NULL;
}

static int common_work(int profile)
{
	struct sandbox_report report;
	struct timespec now;
	int fds[2], ran = 0;
	pthread_t t;
	char *p;

	NEED(sandbox_enter(profile, 0, -1, &report) == 0);
	NEED((report.layers & SANDBOX_SECCOMP) && (report.layers & SANDBOX_NO_NEW_PRIVS));
	p = malloc(64 << 20);
	NEED(p);
	memset(p, 1, 64 << 20);
	free(p);
	NEED(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	NEED(pipe2(fds, O_CLOEXEC) == 0 && write(fds[1], "x", 1) == 1 &&
		read(fds[0], &now, 1) == 1);
	if (profile == SANDBOX_MOUNTD || profile == SANDBOX_STORED || profile == SANDBOX_DIALER) {
		NEED(pthread_create(&t, NULL, thread, &ran) == 0);
		NEED(pthread_join(t, NULL) == 0 && ran == 1);
	}
	return 0;
}

static void sandbox__lets_every_role_do_common_work(void **state)
{
	for (int p = 0; p < SANDBOX_MOUNTER; p++)
		assert_int_equal(in_child(common_work, p), 0);
}

static char dir[] = "/var/tmp/bazil-unit.XXXXXX";

static int own_files(int profile)
{
	struct sandbox_report report;
	char buf[4];
	struct stat st;
	void *p;
	int fd, dir_fd;

	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	NEED(sandbox_enter(profile, 0, dir_fd, &report) == 0);
	fd = openat(dir_fd, "a", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	NEED(fd >= 0 && pwrite(fd, "text", 4, 0) == 4 && pread(fd, buf, 4, 0) == 4);
	NEED(ftruncate(fd, 8192) == 0 && fdatasync(fd) == 0 && fstat(fd, &st) == 0);
	NEED(renameat(dir_fd, "a", dir_fd, "b") == 0 && fsync(dir_fd) == 0);
	NEED(fstatat(dir_fd, "b", &st, 0) == 0 && st.st_size == 8192);
	p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	NEED(p != MAP_FAILED && memcmp(p, "text", 4) == 0);
	if (profile == SANDBOX_STORED) {
		struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

		NEED(fcntl(fd, F_SETLK, &lock) == 0);
		NEED(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536) == 0);
	}
	/* One of both keeps it in; a container may refuse Landlock, and only namespaces give a
	 * root. */
	if (report.layers & (SANDBOX_ROOT | SANDBOX_LANDLOCK)) {
		NEED(openat(dir_fd, "../../../etc/passwd", O_RDONLY) < 0);
		NEED(openat(dir_fd, "/etc/passwd", O_RDONLY) < 0);
	}
	NEED(unlinkat(dir_fd, "b", 0) == 0);
	return 0;
}

static void sandbox__gives_owners_their_directory_alone(void **state)
{
	assert_non_null(mkdtemp(dir));
	assert_int_equal(in_child(own_files, SANDBOX_KEYD), 0);
	assert_int_equal(in_child(own_files, SANDBOX_STORED), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int with_threads(int profile)
{
	struct sandbox_report report;
	pthread_t t;

	NEED(pthread_create(&t, NULL, wait_for_ever, NULL) == 0);
	/* As in the small root of a worker, where there is no /proc. */
	NEED(geteuid() != 0 || chroot("/usr") == 0);
	return sandbox_enter(profile, 0, -1, &report) == -EBUSY ? 0 : 1;
}

static void sandbox__refuses_a_process_with_threads(void **state)
{
	assert_int_equal(in_child(with_threads, SANDBOX_MOUNTD), 0);
}

static int forbidden(int profile)
{
	struct sandbox_report report;

	NEED(sandbox_enter(profile, 0, -1, &report) == 0);
	return socket(AF_VSOCK, SOCK_STREAM, 0) < 0 ? 7 : 8;
}

static void sandbox__kills_what_does_the_forbidden(void **state)
{
	for (int p = 0; p < SANDBOX_MOUNTER; p++)
		assert_int_equal(in_child(forbidden, p), -SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sandbox__lets_every_role_do_common_work),
		cmocka_unit_test(sandbox__gives_owners_their_directory_alone),
		cmocka_unit_test(sandbox__refuses_a_process_with_threads),
		cmocka_unit_test(sandbox__kills_what_does_the_forbidden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
