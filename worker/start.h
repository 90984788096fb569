/*
 * How every worker starts, and its side of the `work` channel (ipc/supervisor-worker.msg).
 *
 * main() of a worker is a struct worker_role, a struct worker_ops and
 *
 *	return worker_run(&role, &ops, &state);
 *
 * worker_run() does, in this order: not dumpable, log, the event loop; ops->prepare(); the sandbox
 * (worker/sandbox.h); ops->entered(); the work channel and work_ready; the loop. It returns
 *main()'s exit status after worker_stopped(), worker_exit(), or when the supervisor died.
 *
 * Descriptors: 0 is /dev/null, 1 and 2 the log pipe, 3 the work channel, and for keyd and stored
 * WORKER_DIR_FD their directory: open everything relative to it. Nothing else is open.
 *
 * Every request is answered exactly once, by the callback that gets the call, at once or later:
 *
 *	work_begin_reply(call, &(struct work_begin_reply){ 0 });
 *	ipc_call_fail(call, -ENOSPC, "store: %s: the disk is full: ...", ...);
 *
 * A callback that is NULL: prepare, entered, begin, status: nothing to do, answered well; stop: the
 *worker just exits; edge, settle, mount, listener, addresses, attach, detach: refused with
 *-EOPNOTSUPP.
 *
 * Death of the supervisor (end of file on the work channel): ops->stop(self, NULL); the worker
 *makes durable what it can and calls worker_stopped(worker, NULL) within 5 seconds, else it is
 *ended. SIGTERM, SIGINT and SIGHUP are ignored: only the supervisor ends a worker. SIGPIPE is
 *ignored.
 */
#ifndef BAZIL_WORKER_START_H
#define BAZIL_WORKER_START_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "worker/sandbox.h"

#define WORKER_WORK_FD 3
#define WORKER_DIR_FD  4

struct ev_loop;
struct worker;

struct worker_role {
	const char *name; /* "keyd": what is in logs and in `bazil server status` */
	enum sandbox_profile profile;
	const char *build; /* NULL: BAZIL_BUILD; for tests */
};

struct worker_ops {
	/*
	 * Before the sandbox: everything that opens files or loads libraries on first use
	 * (sodium_init, OPENSSL_init_crypto). No threads: namespaces, capabilities and Landlock are
	 * a thread's, so one made here would stay outside; the sandbox refuses that. Keep `worker`;
	 * its loop is there, its channel is not. Returns 0 or -errno after logging why.
	 */
	int (*prepare)(void *self, struct worker *worker);
	/* The sandbox is closed, nothing was heard yet: make threads now or later. 0 or -errno. */
	int (*entered)(void *self, struct worker *worker);
	/*
	 * Opens a channel on req->fd and so on: take fds by IPC_TAKE_FD(req->fd); the others are
	 * closed after the call. A new edge with the kind and id of an old one replaces it. Comes
	 * before begin too.
	 */
	void (*edge)(void *self, struct ipc_call *call, const struct work_edge *req);
	void (*begin)(void *self, struct ipc_call *call, const struct work_begin *req);
	void (*status)(void *self, struct ipc_call *call);
	void (*settle)(void *self, struct ipc_call *call);
	/* Make all durable, then worker_stopped(worker, call). call NULL: the supervisor died. */
	void (*stop)(void *self, struct ipc_call *call);
	void (*mount)(void *self, struct ipc_call *call, const struct work_mount *req);
	void (*listener)(void *self, struct ipc_call *call, const struct work_listener *req);
	void (*addresses)(void *self, struct ipc_call *call, const struct work_addresses *req);
	void (*attach)(void *self, struct ipc_call *call, const struct work_attach *req);
	void (*detach)(void *self, struct ipc_call *call, const struct work_detach *req);
};

int worker_run(const struct worker_role *role, const struct worker_ops *ops, void *self);

/* The one event loop of the process. */
struct ev_loop *worker_loop(const struct worker *worker);

/* The work channel, e.g. for work_unmounted(); NULL in prepare(). */
struct ipc_chan *worker_chan(const struct worker *worker);

/* All is durable: answers the stop (call may be NULL) and ends worker_run() with status 0. */
void worker_stopped(struct worker *worker, struct ipc_call *call);

/* Ends worker_run() with this status from the loop, e.g. mountd after work_unmounted(). */
void worker_exit(struct worker *worker, int status);

#endif
