/*
 * bazil-mountd: one mounted volume. It is the only process that sees names and contents; see
 * mountd/mountd.h for its parts and ARCHITECTURE.md for what flows through it.
 */
#include <errno.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/ring.h"
#include "ipc/work.gen.h"
#include "mountd/flush.h"
#include "mountd/mount.h"
#include "mountd/mountd.h"
#include "mountd/unmount.h"
#include "worker/log.h"
#include "worker/start.h"

/* What could not be stored is still in the dirty log: status 1 says that it is worth trying again
 * with a new process. */
static void gone(struct mountd *m, int r)
{
	if (r == 0)
		work_unmounted(worker_chan(m->worker), &(struct work_unmounted){ 0 });
	worker_exit(m->worker, r == 0 ? 0 : 1);
}

static int prepare(void *self, struct worker *worker)
{
	struct mountd *m = self;
	int r;

	m->worker = worker;
	m->gone = gone;
	r = mountd_prepare(m, worker_loop(worker));
	return r < 0 ? log_error_errno(r, "mountd: starting") : 0;
}

static int entered(void *self, struct worker *worker)
{
	int r = mountd_entered(self);

	return r < 0 ? log_error_errno(r, "mountd: starting") : 0;
}

static int take_ring(struct mountd *m, const struct work_edge *req)
{
	if (m->ring != NULL && m->incarnation == req->incarnation)
		return 0; /* the same memory, as stored was restarted */
	if (m->ring != NULL)
		return -EEXIST;
	m->incarnation = req->incarnation;
	return ipc_ring_map(&m->ring, req->ring_in, IPC_RING_PRODUCER);
}

static void edge(void *self, struct ipc_call *call, const struct work_edge *req)
{
	struct mountd *m = self;
	int r = -EINVAL;

	if (strcmp(req->kind, "store") == 0) {
		r = take_ring(m, req);
		if (r == 0)
			r = edges_open_store(m, IPC_TAKE_FD(req->fd));
	} else if (strcmp(req->kind, "key") == 0) {
		r = edges_open_key(m, IPC_TAKE_FD(req->fd));
	}
	if (r < 0)
		ipc_call_fail(call, r, "mountd: edge %s: %s", req->kind, strerror(-r));
	else
		work_edge_reply(call, &(struct work_edge_reply){ 0 });
}

static void mount(void *self, struct ipc_call *call, const struct work_mount *req)
{
	struct mountd *m = self;
	const char *why = "";
	int r = mount_begin(m, req, &why);

	if (r < 0)
		ipc_call_fail(call, r, "mount: %s: %s", why, strerror(-r));
	else
		work_mount_reply(call, &(struct work_mount_reply){ 0 });
}

static void status(void *self, struct ipc_call *call)
{
	struct mountd *m = self;
	struct work_counter counters[] = {
		{ .name = "requests", .value = m->num_requests },
		{ .name = "batches", .value = m->num_batches },
		{ .name = "objects", .value = m->num_objects },
		{ .name = "chunks_sealed", .value = m->num_sealed },
		{ .name = "chunk_keys", .value = m->num_chunk_keys },
		{ .name = "key_calls", .value = m->num_key_calls },
		{ .name = "bytes_written", .value = m->bytes_written },
		{ .name = "inodes_cached", .value = m->inodes.num },
		{ .name = "names_cached", .value = m->num_names },
		{ .name = "dirty_files", .value = m->inodes.num_dirty },
		{ .name = "far_files", .value = flush_far(m) },
	};
	struct work_status_reply reply = { .counters = counters,
		.num_counters = sizeof(counters) / sizeof(counters[0]) };

	work_status_reply(call, &reply);
}

static void settle(void *self, struct ipc_call *call)
{
	unmount_settle(self, call);
}

/* Not while a handler waits for stored: its batch, its run and its tree are half made. */
static void stop_now(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct mountd *m = timer->data;

	if (m->nested > 0)
		return; /* the timer repeats */
	ev_timer_stop(loop, timer);
	session_stop(m);
	(void)unmount_make_durable(m, 0);
	worker_stopped(m->worker, m->stop_call);
}

static void stop(void *self, struct ipc_call *call)
{
	struct mountd *m = self;

	if (ev_is_active(&m->stopping)) {
		if (call)
			ipc_call_fail(call, -EALREADY, NULL);
		else
			m->stop_call = NULL; /* the supervisor died, and its call with it */
		return;
	}
	m->is_stopping = true;
	m->stop_call = call;
	ev_timer_init(&m->stopping, stop_now, 0., 0.001);
	m->stopping.data = m;
	ev_timer_start(m->loop, &m->stopping);
}

int main(void)
{
	static const struct worker_role role = { .name = "mountd", .profile = SANDBOX_MOUNTD };
	static const struct worker_ops ops = {
		.prepare = prepare,
		.entered = entered,
		.edge = edge,
		.mount = mount,
		.status = status,
		.settle = settle,
		.stop = stop,
	};
	static struct mountd m;

	return worker_run(&role, &ops, &m);
}
