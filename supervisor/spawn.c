#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/root.h"
#include "worker/sandbox.h"
#include "worker/scope.h"

#ifdef BAZIL_SANITIZED
/* See worker/sandbox.h. */
#define NAMESPACES (SANDBOX_USER_NS | SANDBOX_NET_NS | SANDBOX_IPC_NS)
#else
#define NAMESPACES                                                                                 \
	(SANDBOX_USER_NS | SANDBOX_ROOT | SANDBOX_NET_NS | SANDBOX_PID_NS | SANDBOX_IPC_NS)
#endif

/* Where the child failed; it writes this and errno into a pipe that exec closes. */
enum stage { STAGE_MAPS, STAGE_CAPS, STAGE_ROOT, STAGE_FDS, STAGE_EXEC };

struct failure {
	enum stage stage;
	int err;
};

static uint64_t clone_flags(uint32_t layers)
{
	uint64_t flags = 0;

	if (layers & SANDBOX_USER_NS)
		flags |= CLONE_NEWUSER;
	if (layers & SANDBOX_ROOT)
		flags |= CLONE_NEWNS;
	if (layers & SANDBOX_NET_NS)
		flags |= CLONE_NEWNET;
	if (layers & SANDBOX_PID_NS)
		flags |= CLONE_NEWPID;
	if (layers & SANDBOX_IPC_NS)
		flags |= CLONE_NEWIPC | CLONE_NEWUTS;
	return flags;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Our uid and gid are the only ones there are in the new user namespace. */
static int map_ids(uid_t uid, gid_t gid)
{
	char map[64];
	int r;

	/* The supervisor cannot be dumped, and neither could we: then these files would be root's.
	 */
	prctl(PR_SET_DUMPABLE, 1);
	r = write_file("/proc/self/setgroups", "deny");
	if (r < 0 && r != -ENOENT)
		return r;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	r = write_file("/proc/self/uid_map", map);
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return write_file("/proc/self/gid_map", map);
}

/* Only ambient capabilities survive the exec of somebody who is not root in his namespace. */
static int keep_caps(void)
{
	const int kept[] = { CAP_SYS_ADMIN, CAP_SETPCAP };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		data[0].inheritable |= 1u << kept[i];
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0) < 0)
			return -errno;
	return 0;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * What a program needs to be run, and what the dialer's resolver reads. See worker/root.h for why
 * it must not be run from the old root.
 */
static const char *const run_paths[] = { "/usr", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache",
	NULL };
static const char *const resolver_paths[] = { "/usr", "/lib", "/lib32", "/lib64", "/etc",
	"/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman", NULL };

/* Makes the worker's first root; what->dir_fd becomes its directory seen from inside. */
static int enter_root(struct spawn *what)
{
	char link[64], own[PATH_MAX], programs[PATH_MAX];
	struct root_plan plan = { .paths = what->resolves ? resolver_paths : run_paths,
		.extra = programs };
	const char *step;
	ssize_t n;
	int r;

	snprintf(programs, sizeof(programs), "%s", what->program);
	*strrchr(programs, '/') = '\0';
	if (what->dir_fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", what->dir_fd);
		n = readlink(link, own, sizeof(own) - 1);
		if (n < 0)
			return -errno;
		own[n] = '\0';
		plan.own = own;
	}
	r = root_enter_with(&plan, &step);
	if (r < 0 || what->dir_fd < 0)
		return r;
	what->dir_fd = open(ROOT_OWN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return what->dir_fd < 0 ? -errno : 0;
}

/* 0 to 4 are what was agreed on, everything else is closed but for the pipe to report by. */
static int place_fds(const struct spawn *what, int *report)
{
	const int wanted[] = { what->null_fd, what->log_fd, what->log_fd, what->work_fd,
		what->dir_fd };
	int high[5];

	/* First all out of the way, so that none is overwritten before it is moved. */
	for (int i = 0; i < 5; i++) {
		high[i] = wanted[i] < 0 ? -1 : fcntl(wanted[i], F_DUPFD_CLOEXEC, 32);
		if (wanted[i] >= 0 && high[i] < 0)
			return -errno;
	}
	*report = fcntl(*report, F_DUPFD_CLOEXEC, 32);
	if (*report < 0)
		return -errno;
	for (int i = 0; i < 5; i++) {
		if (high[i] >= 0 && dup2(high[i], i) < 0)
			return -errno;
		if (high[i] < 0)
			close(i);
	}
	/* All others have close-on-exec, this is for those that a library has forgotten. */
	if (close_range(5, *report - 1, 0) < 0 || close_range(*report + 1, ~0u, 0) < 0)
		return -errno;
	return 0;
}

static int exec_program(const struct spawn *what)
{
	const char *argv[] = { what->program, what->arg, NULL };
	const char *env[8] = { "PATH=/usr/bin:/bin", "LC_ALL=C" };

#ifdef BAZIL_SANITIZED
	static const char *const passed[] = { "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS" };

	for (int i = 0, n = 2; i < 3; i++)
		if (getenv(passed[i]))
			env[n++] = getenv(passed[i]) - strlen(passed[i]) - 1;
#endif
	execve(what->program, (char *const *)argv, (char *const *)env);
	return -errno;
}

static _Noreturn void child_main(
	struct spawn *what, uint32_t layers, uid_t uid, gid_t gid, int report)
{
	struct failure failure = { .stage = STAGE_MAPS };

	reset_signals();
	/* Out of the terminal's group: Ctrl-C is for the supervisor, which stops us in order. */
	setsid();
	umask(077);
	if (layers & SANDBOX_USER_NS) {
		failure.err = map_ids(uid, gid);
		if (failure.err == 0 && uid != 0) {
			failure.stage = STAGE_CAPS;
			failure.err = keep_caps();
		}
	}
	if (failure.err == 0 && (layers & SANDBOX_ROOT)) {
		failure.stage = STAGE_ROOT;
		failure.err = enter_root(what);
	}
	if (failure.err == 0) {
		failure.stage = STAGE_FDS;
		failure.err = place_fds(what, &report);
	}
	if (failure.err == 0) {
		failure.stage = STAGE_EXEC;
		failure.err = exec_program(what);
	}
	if (write(report, &failure, sizeof(failure)) < 0) {
		/* The supervisor sees the exit status. */
	}
	_exit(127);
}

/* Waits for the exec: 0, or -errno of what failed before it, and the child reaped. */
static int await_exec(struct spawned *ret, int report, enum stage *ret_stage)
{
	struct failure failure;
	ssize_t n;

	do
		n = read(report, &failure, sizeof(failure));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	waitpid(ret->pid, NULL, 0);
	close(ret->pidfd);
	*ret_stage = n == sizeof(failure) ? failure.stage : STAGE_FDS;
	return n == sizeof(failure) ? failure.err : -EIO;
}

static int spawn_with(
	const struct spawn *what, uint32_t layers, struct spawned *ret, enum stage *ret_stage)
{
	_cleanup_(closep) int in = -1, out = -1;
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	struct clone_args args = {
		.flags = CLONE_PIDFD | clone_flags(layers),
		.pidfd = (uintptr_t)&ret->pidfd,
		.exit_signal = SIGCHLD,
	};
	struct spawn copy = *what;
	int fds[2];
	long pid;

	*ret_stage = STAGE_MAPS;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	in = fds[0];
	out = fds[1];
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child_main(&copy, layers, uid, gid, out);
	ret->pid = (pid_t)pid;
	ret->layers = layers;
	close(TAKE_FD(out));
	return await_exec(ret, in, ret_stage);
}

int spawn(const struct spawn *what, struct spawned *ret)
{
	const uint32_t all = what->layers & NAMESPACES;
	/* Root may have the others without a user namespace of its own, nobody else may. */
	const uint32_t tries[] = { all, all & ~SANDBOX_USER_NS, all & ~SANDBOX_ROOT, 0 };
	enum stage stage = STAGE_EXEC;
	int r = 0, first = 0;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < 4; i++) {
		if (i > 0 && tries[i] == tries[i - 1])
			continue;
		r = spawn_with(what, tries[i], ret, &stage);
		if (r == 0 || stage == STAGE_EXEC || stage == STAGE_FDS)
			break;
		if (!first)
			first = r;
	}
	if (r == 0 && ret->layers != all)
		snprintf(ret->missing, sizeof(ret->missing), "namespaces: %s",
			first == -ENOSPC || first == -EUSERS
				? "their number here is limited to none (user.max_user_namespaces)"
				: strerror(-first));
	return r;
}
