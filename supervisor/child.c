#include "supervisor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "supervisor/control.h"
#include "supervisor/edges.h"
#include "supervisor/mounts.h"
#include "supervisor/rebuild.h"
#include "supervisor/remains.h"
#include "supervisor/supervisor.h"
#include "supervisor/watchdog.h"
#include "worker/log.h"
#include "worker/scope.h"

#define READY_SECONDS	    20.0
#define STOP_SECONDS	    10.0
#define STOP_MOUNT_SECONDS  60.0
#define FAULTS_MAX	    30 /* half a minute, with the back-off */
#define LIVED_SECONDS	    10.0
#define OTHER_BUILD_SECONDS 2.0

static void start_process(struct child *c);
static void died(struct child *c, const char *how);

const char *child_state_name(const struct child *c)
{
	switch (c->state) {
	case CHILD_STOPPED:
		return "stopped";
	case CHILD_STOPPING:
		return c->is_renewed ? "starting" : "stopped";
	case CHILD_STARTING:
	case CHILD_BEGINNING:
		return "starting";
	case CHILD_RUNNING:
		return "running";
	case CHILD_BACKING_OFF:
		return "backing off";
	}
	return "?";
}

bool child_is_alive(const struct child *c)
{
	struct pollfd p = { .fd = c->pidfd, .events = POLLIN };

	return c->pidfd >= 0 && poll(&p, 1, 0) == 0;
}

bool child_is_ready(const struct child *c)
{
	return c->work && (c->state == CHILD_BEGINNING || c->state == CHILD_RUNNING);
}

void child_set_timer(struct child *c, double seconds)
{
	ev_timer_stop(c->supervisor->loop, &c->timer);
	if (seconds >= 0) {
		ev_timer_set(&c->timer, seconds, 0.);
		ev_timer_start(c->supervisor->loop, &c->timer);
	}
}

void child_kill(struct child *c, const char *why)
{
	if (c->pid <= 0)
		return;
	c->is_fault = c->is_fault || why;
	if (why)
		snprintf(c->last_line, sizeof(c->last_line), "%s", why);
	syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

/* From death to the next life. */

static double backoff(unsigned failures)
{
	static const double seconds[] = { 0., 0.01, 0.05, 0.25, 1. };
	const unsigned last = sizeof(seconds) / sizeof(seconds[0]) - 1;

	return seconds[failures < last ? failures : last];
}

static void forget_process(struct child *c)
{
	struct ev_loop *loop = c->supervisor->loop;

	ev_io_stop(loop, &c->exited);
	ev_io_stop(loop, &c->log);
	watchdog_stop(c);
	remains_stop(c);
	child_set_timer(c, -1);
	if (c->log.fd >= 0)
		close(c->log.fd);
	ev_io_set(&c->log, -1, EV_READ);
	if (c->pidfd >= 0)
		close(TAKE_FD(c->pidfd));
	if (c->ctl_fd >= 0)
		close(TAKE_FD(c->ctl_fd));
	c->pid = 0;
	/* Requests under way are answered by -ECONNRESET in here. */
	ipc_chan_close(TAKE_PTR(c->work));
	ipc_chan_close(TAKE_PTR(c->ctl));
}

static void on_exited(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct child *c = w->data;
	siginfo_t info = { 0 };
	char how[100];

	/* What it said last is still in the socket and in the pipe. */
	while (c->work && ipc_chan_pump(c->work, 0) > 0)
		;
	if (c->log.fd >= 0)
		child_log_read(c);
	if (waitid(P_PIDFD, c->pidfd, &info, WEXITED) < 0)
		return;
	child_describe(c, &info, how);
	if (info.si_code == CLD_EXITED || info.si_status != SIGKILL)
		c->is_fault = true;
	forget_process(c);
	died(c, how);
}

void child_abandon(struct child *c)
{
	if (c->log.fd >= 0)
		child_log_read(c);
	ev_io_stop(c->supervisor->loop, &c->exited);
	remains_keep(c->supervisor, TAKE_FD(c->pidfd));
	forget_process(c);
	died(c, "it is dead, but for a thread that is held back by the kernel");
}

static void died(struct child *c, const char *how)
{
	struct supervisor *s = c->supervisor;
	/* A start that has failed is not tried again: its one reason was said. */
	const bool renewed = c->is_renewed;
	const bool stopping = (c->state == CHILD_STOPPING && !renewed) || s->failed ||
			      (c->mount && mount_is_over(c->mount));

	c->is_renewed = false;
	if (!renewed) {
		snprintf(c->last_death, sizeof(c->last_death), "%s", how);
		rebuild_died(c);
	}
	edges_renew(s, c);
	if (stopping) {
		c->state = CHILD_STOPPED;
		if (c->mount)
			mount_child_stopped(c->mount);
		return;
	}
	if (renewed) {
		c->state = CHILD_BACKING_OFF;
		child_set_timer(c, 0.);
		return;
	}
	if (ev_now(s->loop) - c->started > LIVED_SECONDS)
		c->failures = c->faults = 0;
	c->faults += c->is_fault;
	log_warn("%s: %s: restarting it", c->role->name, how);
	c->state = CHILD_BACKING_OFF;
	c->restarts++;
	if (s->starting && c->failures >= 4) {
		supervisor_fail(s, "server: %s does not start: %s", c->role->name, how);
		c->state = CHILD_STOPPED;
		return;
	}
	if (c->mount && mount_child_died(c->mount))
		return; /* given up */
	if (c->faults == FAULTS_MAX && (c->role->id == ROLE_STORED || c->role->id == ROLE_KEYD))
		mounts_give_up(s, c->role->name);
	/* From the loop in any case: a program that cannot be run must not recurse. */
	child_set_timer(c, c->is_other_build ? OTHER_BUILD_SECONDS : backoff(c->failures));
	c->failures++;
}

static void on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct child *c = w->data;

	switch (c->state) {
	case CHILD_BACKING_OFF:
		start_process(c);
		break;
	case CHILD_STARTING:
		child_kill(c, "did not get ready in time");
		break;
	case CHILD_STOPPING:
		log_warn("%s did not stop in time: it is killed", c->role->name);
		child_kill(c, "did not stop in time");
		break;
	case CHILD_BEGINNING:
	case CHILD_RUNNING:
		child_kill(c, "closed its channel");
		break;
	case CHILD_STOPPED:
		break;
	}
}

/* The start of a process. */

static int try_start(struct child *c)
{
	_cleanup_(closep) int work_fd = -1, log_fd = -1;
	struct ev_loop *loop = c->supervisor->loop;
	int fds[2], r = child_open_channels(c, &work_fd);

	if (r < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	log_fd = fds[1];
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	ev_io_set(&c->log, fds[0], EV_READ);
	r = child_run(c, work_fd, log_fd);
	if (r < 0)
		return r;
	ev_io_start(loop, &c->log);
	ev_io_set(&c->exited, c->pidfd, EV_READ);
	ev_io_start(loop, &c->exited);
	return 0;
}

static void start_process(struct child *c)
{
	struct supervisor *s = c->supervisor;
	char how[100];
	int r;

	c->state = CHILD_STARTING;
	c->started = ev_now(s->loop);
	c->last_line[0] = '\0';
	c->line_len = 0;
	c->is_other_build = c->is_fault = false;
	c->begun = c->to_begin = 0;
	child_set_timer(c, READY_SECONDS);
	r = try_start(c);
	if (r == 0)
		return;
	snprintf(how, sizeof(how), "could not be run: %s", strerror(-r));
	if (s->starting && c->role->dir &&
		faccessat(s->dir.fd, c->role->dir, R_OK | X_OK, AT_EACCESS) < 0)
		supervisor_fail(s,
			"data directory: %s/%s: %s: it must be there, belong to you and be open to "
			"you: `chmod 700` it",
			s->dir.path, c->role->dir, strerror(errno));
	else if (s->starting && (r == -ENOENT || r == -EACCES))
		supervisor_fail(s, "%s/bazil-%s: %s: is bazil installed completely?", s->libexec,
			c->role->name, strerror(-r));
	forget_process(c);
	died(c, how);
}

void child_init(struct child *c, struct supervisor *s, const struct role *role, struct mount *mount)
{
	*c = (struct child){
		.supervisor = s, .role = role, .mount = mount, .pidfd = -1, .ctl_fd = -1
	};
	ev_init(&c->exited, on_exited);
	/* After the channels: a worker's last words come before its death. */
	ev_set_priority(&c->exited, EV_MINPRI);
	ev_io_init(&c->log, child_on_log, -1, EV_READ);
	ev_init(&c->timer, on_timer);
	watchdog_init(c);
	remains_init(c);
	c->exited.data = c->log.data = c->timer.data = c;
}

void child_start(struct child *c)
{
	if (c->state == CHILD_STOPPED)
		start_process(c);
}

static void stop_done(void *arg, int err, const struct work_stop_reply *reply)
{
	struct child *c = arg;

	if (err && err != -ECONNRESET)
		log_error("%s: %s", c->role->name,
			c->work ? ipc_chan_error(c->work) : strerror(-err));
}

void child_stop(struct child *c)
{
	const enum child_state before = c->state;

	c->is_renewed = false;
	if (before == CHILD_STOPPED || before == CHILD_STOPPING)
		return;
	c->state = CHILD_STOPPING;
	if (before == CHILD_BACKING_OFF || c->pid == 0) {
		child_set_timer(c, -1);
		c->state = CHILD_STOPPED;
		if (c->mount)
			mount_child_stopped(c->mount);
		return;
	}
	/* A mountd may have much to store yet, on a slow disk. */
	child_set_timer(c, c->mount ? STOP_MOUNT_SECONDS : STOP_SECONDS);
	/* One that is not ready has begun nothing. */
	if (before == CHILD_STARTING || !c->work ||
		work_stop(c->work, &(struct work_stop){ 0 }, stop_done, c) < 0)
		child_kill(c, NULL);
}

void child_renew(struct child *c)
{
	const enum child_state before = c->state;

	if (before == CHILD_STOPPED) {
		child_start(c);
	} else if (before == CHILD_RUNNING || before == CHILD_BEGINNING) {
		child_stop(c);
		c->is_renewed = true;
		/* It opens what it should not: there is nothing to be finished. */
		if (before == CHILD_BEGINNING)
			child_kill(c, NULL);
	}
}

void child_release(struct child *c)
{
	control_fail_held(c);
	forget_process(c);
}
