/*
 * bazil-syncd: the process on the network. It has no files and an empty network namespace: its
 * listening socket and the connected ones are handed to it. What it does is told in syncd/syncd.h;
 * here it meets the supervisor.
 */
#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "syncd/syncd.h"
#include "worker/log.h"
#include "worker/start.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

struct process {
	struct worker *worker;
	struct syncd syncd;
};

static int prepare(void *self, struct worker *worker)
{
	struct process *p = self;
	int r;

	p->worker = worker;
	if (sodium_init() < 0)
		return log_error_errno(-EIO, "starting libsodium");
	r = syncd_init(&p->syncd, worker_loop(worker), &syncd_default_limits);
	return r < 0 ? log_error_errno(r, "starting the network worker") : 0;
}

static void edge(void *self, struct ipc_call *call, const struct work_edge *req)
{
	struct process *p = self;
	int r = syncd_edge(&p->syncd, req->kind, IPC_TAKE_FD(req->fd), IPC_TAKE_FD(req->ring_in),
		IPC_TAKE_FD(req->ring_out));

	if (r < 0)
		ipc_call_fail(call, r, "syncd: edge %s: %s", req->kind, strerror(-r));
	else
		work_edge_reply(call, &(struct work_edge_reply){ 0 });
}

static void listener(void *self, struct ipc_call *call, const struct work_listener *req)
{
	struct process *p = self;
	int r = syncd_listen(&p->syncd, IPC_TAKE_FD(req->fd));

	if (r < 0)
		ipc_call_fail(call, r, "syncd: listening socket: %s", strerror(-r));
	else
		work_listener_reply(call, &(struct work_listener_reply){ 0 });
}

static void status(void *self, struct ipc_call *call)
{
	struct process *p = self;
	struct work_counter counters[SYNCD_NUM_COUNTERS + 1];
	struct work_status_reply reply = {
		.counters = counters,
		.num_counters = SYNCD_NUM_COUNTERS + 1,
	};

	for (int i = 0; i < SYNCD_NUM_COUNTERS; i++)
		counters[i] =
			(struct work_counter){ .name = syncd_counter_name((enum syncd_counter)i),
				.value = p->syncd.counters[i] };
	counters[SYNCD_NUM_COUNTERS] = (struct work_counter){
		.name = "sessions open",
		.value = peers_num_sessions(&p->syncd.peers),
	};
	work_status_reply(call, &reply);
}

/* Nothing of ours is to be kept: answers those who wait. */
static void stop(void *self, struct ipc_call *call)
{
	struct process *p = self;

	syncd_stop(&p->syncd);
	worker_stopped(p->worker, call);
}

int main(void)
{
	static const struct worker_role role = { .name = "syncd", .profile = SANDBOX_SYNCD };
	static const struct worker_ops ops = {
		.prepare = prepare,
		.edge = edge,
		.listener = listener,
		.status = status,
		.stop = stop,
	};
	static struct process process;
	int status = worker_run(&role, &ops, &process);

	if (process.syncd.loop)
		syncd_release(&process.syncd);
	return status;
}
