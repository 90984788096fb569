/*
 * bazil-keyd: the process that holds the secrets of a node, and nothing else. Read on in
 * keyd/keyd.h (state), keyd/client.h (who may ask what), keyd/serve_*.c (the answers),
 * keyd/keyring.h, keyd/keyfile.h.
 */
#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "keyd/keyd.h"
#include "worker/log.h"
#include "worker/start.h"

#include <errno.h>

struct process {
	struct worker *worker;
	struct keyd keyd;
};

static int prepare(void *self, struct worker *worker)
{
	struct process *p = self;
	int r;

	p->worker = worker;
	r = keyd_init(&p->keyd, worker_loop(worker));
	return r < 0 ? log_error_errno(r, "keyd: starting") : 0;
}

static void edge(void *self, struct ipc_call *call, const struct work_edge *req)
{
	struct process *p = self;
	int r = keyd_edge(&p->keyd, req, IPC_TAKE_FD(req->fd));

	if (r < 0)
		ipc_call_fail(call, r, "keyd serves no such edge: %s for %s", req->kind, req->role);
	else
		work_edge_reply(call, &(struct work_edge_reply){ 0 });
}

static void begin(void *self, struct ipc_call *call, const struct work_begin *req)
{
	struct process *p = self;
	const char *text = "";
	int r = keyd_begin(&p->keyd, WORKER_DIR_FD, req->create, &text);

	if (r < 0)
		ipc_call_fail(call, r, "keyring: %s", text);
	else
		work_begin_reply(call, &(struct work_begin_reply){ 0 });
}

static void status(void *self, struct ipc_call *call)
{
	struct process *p = self;
	struct work_counter counters[WORK_STATUS_REPLY_COUNTERS_MAX];
	size_t num = keyd_counters(&p->keyd, counters, WORK_STATUS_REPLY_COUNTERS_MAX);

	work_status_reply(
		call, &(struct work_status_reply){ .counters = counters, .num_counters = num });
}

/* Every change was durable before its reply: there is nothing to finish. */
static void stop(void *self, struct ipc_call *call)
{
	struct process *p = self;

	keyd_release(&p->keyd);
	worker_stopped(p->worker, call);
}

int main(void)
{
	static const struct worker_role role = { .name = "keyd", .profile = SANDBOX_KEYD };
	static const struct worker_ops ops = {
		.prepare = prepare,
		.edge = edge,
		.begin = begin,
		.status = status,
		.stop = stop,
	};
	struct process process = { 0 };

	return worker_run(&role, &ops, &process);
}
