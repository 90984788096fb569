/*
 * bazil-stored: the only process that writes the store. Read on in stored/stored.h (the process),
 * stored/engine.h (the store), stored/intake.h (what mountd sends).
 */
#include "ipc/work.gen.h"
#include "stored/collect.h"
#include "stored/dead.h"
#include "stored/digest.h"
#include "stored/prune.h"
#include "stored/recover.h"
#include "stored/stored.h"
#include "worker/log.h"
#include "worker/start.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * After a request the loop polls for this long: somebody waits for the answer to the next one, and
 * waking an idle core costs more than answering.
 */
#define POLL_SECONDS 0.0001
/*
 * Nobody waits for what is taken from a ring. While entries come the rings are looked at every
 * millisecond, without having announced to sleep: so the writer need not kick, has the processor
 * for itself, and entries are written in large groups.
 */
#define NAP_SECONDS  0.001
#define NAPS_SECONDS 0.020 /* napping goes on for this long after the last entry */
#define TICK_SECONDS 1.0
#define PRUNE_SLICES 16

static void engine_line(void *arg, int level, const char *text)
{
	log_at(level <= 3    ? LOG_LEVEL_ERROR
		: level == 4 ? LOG_LEVEL_WARN
			     : LOG_LEVEL_INFO,
		"%s", text);
}

/* ---- the loop */

static bool take_all(struct stored *stored)
{
	struct store_server *mount, *next;
	bool any;

	any = intake_sync(stored);
	for (mount = stored->mounts; mount; mount = next) {
		next = mount->next;
		any |= intake_run(mount);
		if (mount->is_broken)
			mount_close(mount);
	}
	return any;
}

/* The rings wait while the index catches up, requests do not: whoever does that wakes the loop. */
static bool is_behind(struct stored *stored)
{
	if (!engine_is_behind(stored->engine))
		return false;
	commit_index(stored);
	commit_run(stored);
	return engine_is_behind(stored->engine);
}

/* Before the loop waits for events. */
static void on_prepare(struct ev_loop *loop, struct ev_prepare *w, int events)
{
	struct stored *stored = w->data;
	double now;

	if (!stored->engine)
		return;
	if (is_behind(stored)) {
		ev_idle_stop(loop, &stored->idle);
		ev_timer_stop(loop, &stored->nap);
		return;
	}
	if (take_all(stored)) {
		ev_now_update(loop);
		stored->took = ev_now(loop);
		commit_index(stored);
	}
	commit_run(stored);
	ev_now_update(loop);
	now = ev_now(loop);
	if (now - stored->active < POLL_SECONDS) {
		ev_idle_start(loop, &stored->idle);
		return;
	}
	if (now - stored->took < NAPS_SECONDS) {
		ev_idle_stop(loop, &stored->idle);
		ev_timer_again(loop, &stored->nap);
		return;
	}
	ev_timer_stop(loop, &stored->nap);
	/* Announced first, looked once more, then slept: nothing published is slept over. */
	intake_sleep(stored);
	stored->is_asleep = true;
	if (intake_pending(stored)) {
		ev_idle_start(loop, &stored->idle);
		return;
	}
	ev_idle_stop(loop, &stored->idle);
}

static void on_check(struct ev_loop *loop, struct ev_check *w, int events)
{
	struct stored *stored = w->data;

	if (!stored->is_asleep)
		return;
	stored->is_asleep = false;
	intake_wake(stored);
}

/* Only wakes the loop. */
static void on_durable(struct ev_loop *loop, struct ev_async *w, int events)
{
}

/* Keeps the loop from waiting while it polls. */
static void on_idle(struct ev_loop *loop, struct ev_idle *w, int events)
{
}

/* Only ends the wait: the rings are looked at before the next one. */
static void on_nap(struct ev_loop *loop, struct ev_timer *w, int events)
{
}

/* Some of what retention has to do: a few milliseconds of each second at most. */
static void prune(struct stored *stored)
{
	bool more = true;
	int i, r;

	for (i = 0; more && i < PRUNE_SLICES; i++) {
		r = prune_tick(stored->engine, &more);
		if (r < 0)
			stored_die(r, "dropping old versions");
	}
}

static void cut_dead(struct stored *stored)
{
	bool more = true;
	int i, r;

	for (i = 0; more && i < PRUNE_SLICES; i++) {
		r = dead_tick(stored->engine, &more);
		if (r < 0)
			stored_die(r, "cutting the log of deletions");
	}
}

static void on_tick(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct stored *stored = w->data;

	if (!stored->engine)
		return;
	prune(stored);
	cut_dead(stored);
	commit_index(stored);
	intake_check_room(stored);
	if (stored->sync)
		sync_expire(stored->sync);
}

/* ---- what the supervisor asks */

static int prepare(void *self, struct worker *worker)
{
	struct stored *stored = self;
	struct digest *digest;

	stored->worker = worker;
	stored->loop = worker_loop(worker);
	/* The index is opened by name; inside the sandbox this directory is the root. */
	if (fchdir(WORKER_DIR_FD) < 0)
		return log_error_errno(-errno, "no store directory");
	/* libcrypto reads its configuration on first use. */
	digest = digest_new();
	if (!digest)
		return log_error_errno(-ENOSYS, "no SHA-256");
	digest_free(digest);
	ev_prepare_init(&stored->prepare, on_prepare);
	ev_check_init(&stored->check, on_check);
	ev_idle_init(&stored->idle, on_idle);
	ev_timer_init(&stored->nap, on_nap, 0, NAP_SECONDS);
	ev_async_init(&stored->durable, on_durable);
	ev_async_start(stored->loop, &stored->durable);
	ev_timer_init(&stored->tick, on_tick, TICK_SECONDS, TICK_SECONDS);
	stored->prepare.data = stored->check.data = stored->idle.data = stored->tick.data = stored;
	ev_prepare_start(stored->loop, &stored->prepare);
	ev_check_start(stored->loop, &stored->check);
	ev_timer_start(stored->loop, &stored->tick);
	return 0;
}

static void edge(void *self, struct ipc_call *call, const struct work_edge *req)
{
	int r = stored_edge(self, req);

	if (r < 0)
		ipc_call_fail(call, r, "stored serves no such edge: %s", req->kind);
	else
		work_edge_reply(call, &(struct work_edge_reply){ 0 });
}

/* Opening takes long. Sent at once: the loop does not turn meanwhile. */
static void progress(void *arg, uint64_t done, uint64_t total)
{
	ipc_call_progress(arg, done, total, "");
}

/* In the thread that made something durable: the loop turns, and looks. */
static void wake(void *arg)
{
	struct stored *stored = arg;

	ev_async_send(stored->loop, &stored->durable);
}

static void begin(void *self, struct ipc_call *call, const struct work_begin *req)
{
	struct stored *stored = self;
	struct engine_options options = {
		.dir_fd = WORKER_DIR_FD,
		.path = ".",
		.create = req->create,
		.arena_size = req->arena_size,
		.rebuild = req->rebuild,
		.progress = progress,
		.progress_arg = call,
		.threads = true,
		.wake = wake,
		.wake_arg = stored,
		.log = engine_line,
	};
	int r;

	if (stored->engine) {
		ipc_call_fail(call, -EALREADY, "store: open already");
		return;
	}
	r = engine_open(&stored->engine, &options);
	if (r < 0) {
		stored->engine = NULL;
		ipc_call_fail(call, r, "%s", engine_error(NULL));
		return;
	}
	scrubber_begin(stored);
	r = collect_new(stored);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	stored_edges_begin(stored);
	work_begin_reply(call, &(struct work_begin_reply){ 0 });
}

static void status(void *self, struct ipc_call *call)
{
	struct stored *stored = self;
	const struct collect *c = stored->collect;
	struct engine_stat stat = { 0 };
	uint64_t index_bytes = 0, index_free = 0;
	struct gc_known known = { 0 };

	if (stored->engine) {
		engine_stat(stored->engine, &stat);
		engine_stat_index(stored->engine, &index_bytes, &index_free);
		gc_known(stored->engine, &known);
	}
	struct work_counter counters[] = {
		{ "objects", stat.objects },
		{ "object_bytes", stat.object_bytes },
		{ "arenas", stat.arenas },
		{ "sealed", stat.sealed },
		{ "arenas_set_aside", stat.set_aside },
		{ "arena_bytes", stat.arena_bytes },
		{ "index_bytes", index_bytes },
		{ "index_free", index_free },
		{ "index_rebuilt", stat.was_rebuilt },
		{ "format", ENGINE_FORMAT },
		{ "damaged", stat.damaged },
		{ "objects_in", stored->counters.objects },
		{ "batches", stored->counters.batches },
		{ "reads", stored->counters.reads },
		{ "syncs", stored->counters.syncs },
		{ "fdatasyncs", stored->counters.fdatasyncs },
		{ "pulls", stored->counters.pulls },
		{ "serves", stored->counters.serves },
		{ "fetches", stored->counters.fetches },
		{ "broken_edges", stored->counters.broken },
		{ "gc_runs", c ? c->counters.runs : 0 },
		{ "gc_running", c && c->state != COLLECT_IDLE },
		{ "gc_noted", known.noted },
		{ "gc_last_s", known.last / 1000000000 },
		{ "gc_freed_objects", known.freed_objects },
		{ "gc_freed_bytes", known.freed_bytes },
		{ "gc_punched_bytes", c ? c->counters.punched : 0 },
	};

	work_status_reply(call, &(struct work_status_reply){ .counters = counters,
					.num_counters = sizeof(counters) / sizeof(counters[0]) });
}

static void stop(void *self, struct ipc_call *call)
{
	struct stored *stored = self;
	int r = 0;

	if (stored->engine) {
		take_all(stored);
		commit_all(stored);
		collect_free(stored);
		stored_edges_close(stored);
		scrubber_end(stored);
		r = engine_close(stored->engine);
		stored->engine = NULL;
	}
	if (r < 0)
		log_error_errno(r, "the last commit failed; the log has everything");
	worker_stopped(stored->worker, call);
}

#ifndef BAZIL_SANITIZED
/* A damaged index ends the process: noted, so that it does not do so for ever. */
static void on_fault(int number)
{
	recover_note_fault(WORKER_DIR_FD);
	signal(number, SIG_DFL);
	raise(number);
}
#endif

static int entered(void *self, struct worker *worker)
{
#ifndef BAZIL_SANITIZED
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_RESETHAND };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
#endif
	return 0;
}

int main(void)
{
	static const struct worker_role role = { .name = "stored", .profile = SANDBOX_STORED };
	static const struct worker_ops ops = {
		.prepare = prepare,
		.entered = entered,
		.edge = edge,
		.begin = begin,
		.status = status,
		.stop = stop,
	};
	struct stored *stored = calloc(1, sizeof(*stored));

	if (!stored)
		fatal("no memory");
	return worker_run(&role, &ops, stored);
}
