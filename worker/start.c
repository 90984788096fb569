#include "worker/start.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "worker/log.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

/* After the supervisor died: time to make durable what can be. */
#define ORPHAN_SECONDS 5.0

struct worker {
	const struct worker_role *role;
	const struct worker_ops *ops;
	void *self;
	struct ev_loop *loop;
	struct ipc_chan *chan;
	struct ev_timer orphan;
	struct sandbox_report report;
	int status;
};

/* The generated handlers' view of us. */
struct work_server {
	struct worker worker;
};

struct ev_loop *worker_loop(const struct worker *worker)
{
	return worker->loop;
}

struct ipc_chan *worker_chan(const struct worker *worker)
{
	return worker->chan;
}

void worker_exit(struct worker *worker, int status)
{
	worker->status = status;
	ev_break(worker->loop, EVBREAK_ALL);
}

void worker_stopped(struct worker *worker, struct ipc_call *call)
{
	if (call)
		work_stop_reply(call, &(struct work_stop_reply){ 0 });
	worker_exit(worker, 0);
}

static void orphan_timeout(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	log_error("no supervisor, and not everything could be made durable in time");
	/* Not by way of the loop: a handler may be waiting in one of its own, for ever. */
	_exit(1);
}

static void work_closed(void *self, struct ipc_chan *chan, int err)
{
	struct worker *worker = &((struct work_server *)self)->worker;

	log_set_sink(NULL, NULL);
	if (err)
		log_error("work channel: %s", ipc_chan_error(chan));
	worker->chan = NULL;
	ipc_chan_close(chan);
	ev_timer_start(worker->loop, &worker->orphan);
	if (worker->ops->stop)
		worker->ops->stop(worker->self, NULL);
	else
		worker_exit(worker, 0);
}

static void send_log(void *arg, enum log_level level, const char *text)
{
	struct worker *worker = arg;

	/* A supervisor that reads nothing must not make us collect lines without end. */
	if (worker->chan && ipc_chan_queued(worker->chan) < 65536)
		work_log(worker->chan, &(struct work_log){ .level = level, .text = text });
}

/* Requests; each callback answers its own. */

void on_work_edge(struct work_server *self, struct ipc_call *call, const struct work_edge *req)
{
	if (self->worker.ops->edge)
		self->worker.ops->edge(self->worker.self, call, req);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s has no edges", self->worker.role->name);
}

void on_work_begin(struct work_server *self, struct ipc_call *call, const struct work_begin *req)
{
	if (self->worker.ops->begin)
		self->worker.ops->begin(self->worker.self, call, req);
	else
		work_begin_reply(call, &(struct work_begin_reply){ 0 });
}

void on_work_status(struct work_server *self, struct ipc_call *call, const struct work_status *req)
{
	if (self->worker.ops->status)
		self->worker.ops->status(self->worker.self, call);
	else
		work_status_reply(call, &(struct work_status_reply){ 0 });
}

void on_work_settle(struct work_server *self, struct ipc_call *call, const struct work_settle *req)
{
	if (self->worker.ops->settle)
		self->worker.ops->settle(self->worker.self, call);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s stores nothing", self->worker.role->name);
}

void on_work_stop(struct work_server *self, struct ipc_call *call, const struct work_stop *req)
{
	if (self->worker.ops->stop)
		self->worker.ops->stop(self->worker.self, call);
	else
		worker_stopped(&self->worker, call);
}

void on_work_mount(struct work_server *self, struct ipc_call *call, const struct work_mount *req)
{
	if (self->worker.ops->mount)
		self->worker.ops->mount(self->worker.self, call, req);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s serves no mount", self->worker.role->name);
}

void on_work_listener(
	struct work_server *self, struct ipc_call *call, const struct work_listener *req)
{
	if (self->worker.ops->listener)
		self->worker.ops->listener(self->worker.self, call, req);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s accepts nobody", self->worker.role->name);
}

void on_work_addresses(
	struct work_server *self, struct ipc_call *call, const struct work_addresses *req)
{
	if (self->worker.ops->addresses)
		self->worker.ops->addresses(self->worker.self, call, req);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s dials nobody", self->worker.role->name);
}

void on_work_ping(struct work_server *self, struct ipc_call *call, const struct work_ping *req)
{
	work_ping_reply(call, &(struct work_ping_reply){ 0 });
}

void on_work_attach(struct work_server *self, struct ipc_call *call, const struct work_attach *req)
{
	if (self->worker.ops->attach)
		self->worker.ops->attach(self->worker.self, call, req);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s mounts nothing", self->worker.role->name);
}

void on_work_detach(struct work_server *self, struct ipc_call *call, const struct work_detach *req)
{
	if (self->worker.ops->detach)
		self->worker.ops->detach(self->worker.self, call, req);
	else
		ipc_call_fail(call, -EOPNOTSUPP, "%s mounts nothing", self->worker.role->name);
}

static void ignore_signals(void)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	const int signals[] = { SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXFSZ };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &ignore, NULL);
}

/* Only now is anything heard: what the worker knows about files and the network is over. */
static int say_ready(struct work_server *server)
{
	struct worker *worker = &server->worker;
	int r = ipc_chan_open(&worker->chan, worker->loop, WORKER_WORK_FD, &work_server_service,
		server, work_closed);

	if (r < 0)
		return log_error_errno(r, "work channel");
	log_set_sink(send_log, worker);
	return work_ready(worker->chan,
		&(struct work_ready){
			.role = worker->role->name,
			.layers = worker->report.layers,
			.landlock_abi = worker->report.landlock_abi,
			.missing = worker->report.missing,
			.build = worker->role->build ? worker->role->build : BAZIL_BUILD,
		});
}

static int enter(struct worker *worker, int dir_fd)
{
	int r;

	if (worker->ops->prepare) {
		r = worker->ops->prepare(worker->self, worker);
		if (r < 0)
			return r;
	}
	r = sandbox_enter(worker->role->profile, 0, dir_fd, &worker->report);
	if (r < 0)
		return log_error_errno(r, "sandbox");
	return worker->ops->entered ? worker->ops->entered(worker->self, worker) : 0;
}

int worker_run(const struct worker_role *role, const struct worker_ops *ops, void *self)
{
	struct work_server server = { .worker = { .role = role, .ops = ops, .self = self } };
	struct worker *worker = &server.worker;
	int dir_fd = WORKER_DIR_FD;

	/* The first thing of all: until here everybody with our uid could read our memory. */
#ifndef BAZIL_SANITIZED
	prctl(PR_SET_DUMPABLE, 0);
#endif
	/* Before anything of ours may take the number. */
	if (fcntl(WORKER_DIR_FD, F_SETFD, FD_CLOEXEC) < 0)
		dir_fd = -1;
	log_set_name(role->name);
	ignore_signals();
	if (fcntl(WORKER_WORK_FD, F_SETFD, FD_CLOEXEC) < 0)
		fatal("%s is started by `bazil server run`, not by hand", role->name);
	worker->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
	if (!worker->loop)
		fatal("event loop: %s", strerror(errno));
	ev_timer_init(&worker->orphan, orphan_timeout, ORPHAN_SECONDS, 0.);
	worker->orphan.data = worker;
	if (enter(worker, dir_fd) < 0 || say_ready(&server) < 0)
		return 1;

	ev_run(worker->loop, 0);

	/* The answer to the stop must leave before we do. */
	if (worker->chan)
		ipc_chan_flush(worker->chan, 1000);
	log_set_sink(NULL, NULL);
	ipc_chan_close(worker->chan);
	/* The loop stays: the role may stop its watchers and close its channels after us. */
#ifdef __SANITIZE_ADDRESS__
	__lsan_ignore_object(worker->loop);
#endif
	return worker->status;
}
