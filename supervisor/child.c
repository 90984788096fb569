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
#include "ipc/ctl.gen.h"
#include "ipc/work.gen.h"
#include "supervisor/control.h"
#include "supervisor/edges.h"
#include "supervisor/mounts.h"
#include "supervisor/peers.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "supervisor/verify.h"
#include "supervisor/watchdog.h"
#include "worker/log.h"
#include "worker/scope.h"

#define READY_SECONDS	    20.0
#define STOP_SECONDS	    10.0
#define STOP_MOUNT_SECONDS  60.0
#define LIVED_SECONDS	    10.0
#define OTHER_BUILD_SECONDS 2.0
/* Another worker of a killed supervisor may still be finishing and hold its directory. */
#define BUSY_SECONDS	    15.0

/* The generated handlers' views of us: both ends' self is the child. */
struct work_client {
	struct child child;
};
struct ctl_client {
	struct child child;
};

static void start_process(struct child *c);
static void died(struct child *c, const char *how);

const char *child_state_name(const struct child *c)
{
	switch (c->state) {
	case CHILD_STOPPED:
	case CHILD_STOPPING:
		return "stopped";
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

static void set_timer(struct child *c, double seconds)
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
	if (why)
		snprintf(c->last_line, sizeof(c->last_line), "%s", why);
	syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

/* From ready to running. */

static void now_running(struct child *c)
{
	struct supervisor *s = c->supervisor;

	set_timer(c, -1);
	c->state = CHILD_RUNNING;
	watchdog_start(c);
	if (c->role->id == ROLE_STORED || c->role->id == ROLE_DIALER)
		peers_refresh(s);
	if (c->role->id == ROLE_SYNCD)
		peers_listen(s);
	if (c->mount)
		mount_child_running(c->mount);
	control_release_held(c);
}

static void begin_done(void *arg, int err, const struct work_begin_reply *reply)
{
	struct child *c = arg;
	struct supervisor *s = c->supervisor;
	const char *why;

	if (c->state != CHILD_BEGINNING)
		return;
	if (!err) {
		now_running(c);
		return;
	}
	if (err == -ECONNRESET)
		return; /* its death says more */
	why = *ipc_chan_error(c->work) ? ipc_chan_error(c->work) : strerror(-err);
	if (s->starting && !(err == -EBUSY && ev_now(s->loop) - s->dir.opened < BUSY_SECONDS))
		supervisor_fail(s, "%s", why);
	else
		log_error("%s: %s", c->role->name, why);
	child_kill(c, why);
}

static void begin(struct child *c)
{
	struct supervisor *s = c->supervisor;
	struct work_edge ctl = { .kind = "ctl",
		.fd = c->ctl_fd,
		.ring_in = -1,
		.ring_out = -1,
		.role = "supervisor",
		.sharing = "" };

	c->state = CHILD_BEGINNING;
	/* What is begun may take its time: a store that recovers. Only its death ends it. */
	set_timer(c, -1);
	if (c->ctl_fd >= 0) {
		work_edge(c->work, &ctl, NULL, NULL);
		close(TAKE_FD(c->ctl_fd));
	}
	edges_hand(s, c);
	if (work_begin(c->work, &(struct work_begin){ .create = s->create }, begin_done, c) < 0)
		child_kill(c, "work_begin could not be sent");
}

/* Nothing that it says can be believed to mean what we think: it ends, and not to come back soon.
 */
static void other_build(struct child *c, const char *build)
{
	char why[200];

	c->is_other_build = true;
	upgrade_mismatch(c->supervisor, c, build, why);
	if (c->supervisor->starting)
		supervisor_fail(c->supervisor, "%s", why);
	else
		log_error("%s", why);
	if (c->mount && c->mount->call) {
		mount_set_failure(c->mount, why);
		c->mount->is_over = true;
	}
	child_kill(c, "it is of another build than the server");
}

void on_work_ready(struct work_client *self, const struct work_ready *msg)
{
	struct child *c = &self->child;
	char why[100];

	if (c->state != CHILD_STARTING)
		return;
	if (strcmp(msg->build, BAZIL_BUILD) != 0) {
		other_build(c, msg->build);
		return;
	}
	c->layers |= msg->layers;
	c->landlock_abi = msg->landlock_abi;
	snprintf(c->missing + strlen(c->missing), sizeof(c->missing) - strlen(c->missing), "%s%s",
		*c->missing && *msg->missing ? "; " : "", msg->missing);
	if (strcmp(msg->role, c->role->name) != 0)
		snprintf(why, sizeof(why), "it says that it is %s", msg->role);
	else if (verify(c->pid, c->pidfd, c->layers, why, sizeof(why)) == 0) {
		begin(c);
		return;
	}
	log_error("%s is not what it should be: %s", c->role->name, why);
	child_kill(c, why);
}

void on_work_unmounted(struct work_client *self, const struct work_unmounted *msg)
{
	if (self->child.mount)
		mount_child_unmounted(self->child.mount);
}

void on_ctl_peers_changed(struct ctl_client *self, const struct ctl_peers_changed *msg)
{
	peers_refresh(self->child.supervisor);
}

static void work_closed(void *self, struct ipc_chan *chan, int err)
{
	struct child *c = self;

	if (err)
		log_error("%s: work channel: %s", c->role->name, ipc_chan_error(chan));
	ipc_chan_close(chan);
	c->work = NULL;
	/* Without it the worker cannot be steered. Most often it is dead already. */
	if (err == -EPROTO)
		other_build(c, "");
	else if (err)
		child_kill(c, "it spoke nonsense to the supervisor");
	else
		set_timer(c, STOP_SECONDS);
}

static void ctl_closed(void *self, struct ipc_chan *chan, int err)
{
	struct child *c = self;

	if (err)
		log_error("%s: ctl channel: %s", c->role->name, ipc_chan_error(chan));
	ipc_chan_close(chan);
	c->ctl = NULL;
	if (err)
		child_kill(c, "it spoke nonsense to the supervisor");
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
	set_timer(c, -1);
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
	forget_process(c);
	died(c, how);
}

static void died(struct child *c, const char *how)
{
	struct supervisor *s = c->supervisor;
	/* A start that has failed is not tried again: its one reason was said. */
	const bool stopping =
		c->state == CHILD_STOPPING || s->failed || (c->mount && mount_is_over(c->mount));

	snprintf(c->last_death, sizeof(c->last_death), "%s", how);
	edges_renew(s, c);
	if (stopping) {
		c->state = CHILD_STOPPED;
		if (c->mount)
			mount_child_stopped(c->mount);
		return;
	}
	if (ev_now(s->loop) - c->started > LIVED_SECONDS)
		c->failures = 0;
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
	/* From the loop in any case: a program that cannot be run must not recurse. */
	set_timer(c, c->is_other_build ? OTHER_BUILD_SECONDS : backoff(c->failures));
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

/* Channels first: the worker may speak as soon as it runs. */
static int open_channels(struct child *c, int *ret_work_fd)
{
	struct ev_loop *loop = c->supervisor->loop;
	int fds[2], r = ipc_pair(fds);

	if (r < 0)
		return r;
	*ret_work_fd = fds[1];
	r = ipc_chan_open(&c->work, loop, fds[0], &work_client_service, c, work_closed);
	if (r < 0 || !c->role->serves_ctl)
		return r;
	r = ipc_pair(fds);
	if (r < 0)
		return r;
	c->ctl_fd = fds[1];
	return ipc_chan_open(&c->ctl, loop, fds[0], &ctl_client_service, c, ctl_closed);
}

static int try_start(struct child *c)
{
	_cleanup_(closep) int work_fd = -1, log_fd = -1;
	struct ev_loop *loop = c->supervisor->loop;
	int fds[2], r = open_channels(c, &work_fd);

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
	c->is_other_build = false;
	set_timer(c, READY_SECONDS);
	r = try_start(c);
	if (r == 0)
		return;
	snprintf(how, sizeof(how), "could not be run: %s", strerror(-r));
	if (s->starting && (r == -ENOENT || r == -EACCES))
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

	if (before == CHILD_STOPPED || before == CHILD_STOPPING)
		return;
	c->state = CHILD_STOPPING;
	if (before == CHILD_BACKING_OFF || c->pid == 0) {
		set_timer(c, -1);
		c->state = CHILD_STOPPED;
		if (c->mount)
			mount_child_stopped(c->mount);
		return;
	}
	/* A mountd may have much to store yet, on a slow disk. */
	set_timer(c, c->mount ? STOP_MOUNT_SECONDS : STOP_SECONDS);
	/* One that is not ready has begun nothing. */
	if (before == CHILD_STARTING || !c->work ||
		work_stop(c->work, &(struct work_stop){ 0 }, stop_done, c) < 0)
		child_kill(c, NULL);
}

void child_release(struct child *c)
{
	control_fail_held(c);
	forget_process(c);
}
