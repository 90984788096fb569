#include "supervisor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/spawn.h"
#include "supervisor/supervisor.h"
#include "worker/sandbox.h"
#include "worker/scope.h"

static void namespace_report(struct child *c, const struct spawned *spawned)
{
	c->layers = spawned->layers & ~SANDBOX_ROOT;
	snprintf(c->missing, sizeof(c->missing), "%s", spawned->missing);
}

int child_run(struct child *c, int work_fd, int log_fd)
{
	struct supervisor *s = c->supervisor;
	_cleanup_(closep) int dir_fd = -1, null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char program[sizeof(s->libexec) + 32];
	struct spawned spawned;
	int r;

	if (null_fd < 0)
		return -errno;
	if (c->role->dir) {
		dir_fd = openat(s->dir.fd, c->role->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir_fd < 0)
			return -errno;
	}
	snprintf(program, sizeof(program), "%s/bazil-%s", s->libexec, c->role->name);
	r = spawn(
		&(struct spawn){
			.program = program,
			.work_fd = work_fd,
			.dir_fd = dir_fd,
			.log_fd = log_fd,
			.null_fd = null_fd,
			.resolves = c->role->profile == SANDBOX_DIALER,
			.layers = sandbox_expected(c->role->profile),
		},
		&spawned);
	if (r < 0)
		return r;
	c->pid = spawned.pid;
	c->pidfd = spawned.pidfd;
	namespace_report(c, &spawned);
	return 0;
}

void child_describe(const struct child *c, const siginfo_t *info, char how[100])
{
	if (info->si_code == CLD_EXITED)
		snprintf(how, 100, "exit %d%s%.80s", info->si_status, *c->last_line ? ": " : "",
			c->last_line);
	else if (info->si_status == SIGSYS)
		snprintf(how, 100, "seccomp: forbidden system call (SIGSYS)");
	else
		snprintf(how, 100, "killed by signal %d (%s)%s%.60s", info->si_status,
			sigabbrev_np(info->si_status) ? sigabbrev_np(info->si_status) : "?",
			info->si_status == SIGKILL && *c->last_line ? ": " : "",
			info->si_status == SIGKILL ? c->last_line : "");
}
