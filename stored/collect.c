#include "stored/collect.h"

#include "ipc/ctl.gen.h"
#include "ipc/store.gen.h"
#include "stored/settings.h"
#include "worker/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_BUSY    0.002 /* seconds of work at a time */
#define SLICE_QUIET   0.010
#define PAUSE_BUSY    0.020 /* and between two */
#define PAUSE_QUIET   0.002
#define QUIET_SECONDS 0.5 /* nobody asked for anything for so long */
#define FLUSH_SECONDS 20.

/* ---- the end */

static void answer(struct collect *c, const struct gc_report *report)
{
	char hex[GC_HOLDERS_MAX][65];
	struct ctl_name names[GC_HOLDERS_MAX];
	struct ctl_gc_age ages[GC_AGES];
	struct settings_peer peers[GC_HOLDERS_MAX];
	struct ctl_gc_reply reply = {
		.objects = report->all.objects,
		.bytes = report->all.bytes,
		.live_objects = report->live.objects,
		.live_bytes = report->live.bytes,
		.history_objects = report->history.objects,
		.history_bytes = report->history.bytes,
		.freed_objects = report->freed.objects,
		.freed_bytes = report->freed.bytes,
		.noted_objects = report->noted.objects,
		.noted_bytes = report->noted.bytes,
		.peers_objects = report->peers.objects,
		.peers_bytes = report->peers.bytes,
		.tail_objects = report->tail.objects,
		.tail_bytes = report->tail.bytes,
		.old_objects = report->old.objects,
		.old_bytes = report->old.bytes,
		.punched = report->punched,
		.unpunched = report->unpunched,
		.compacted = report->compacted,
		.removed = report->removed,
		.changes = report->changes,
		.bases = report->bases,
		.written = report->written,
		.moved_objects = report->moved.objects,
		.moved_bytes = report->moved.bytes,
		.regained = report->regained,
		.grace_until = report->grace_until,
		.peers_until = report->peers_until,
		.ages_from = report->ages_from,
		.ages_until = report->ages_until,
		.ages = ages,
		.num_ages = c->is_dry ? GC_AGES : 0,
		.lost_until = report->lost_until,
		.incomplete = c->is_late,
		.holders = names,
		.num_holders = report->num_holders,
	};

	for (size_t i = 0; i < GC_AGES; i++)
		ages[i] = (struct ctl_gc_age){ report->ages[i].objects, report->ages[i].bytes };
	for (size_t i = 0; i < report->num_holders; i++) {
		for (size_t n = 0; n < 32; n++)
			snprintf(hex[i] + 2 * n, 3, "%02x", report->holders[i][n]);
		names[i].name = hex[i];
		if (settings_peer_get(c->stored->engine, report->holders[i], &peers[i]) == 0 &&
			peers[i].nickname[0])
			names[i].name = peers[i].nickname;
	}
	ctl_gc_reply(c->call, &reply);
}

static void fail(struct collect *c, int err, const struct gc_report *report)
{
	char hex[65] = "";

	if (err == -EBADMSG && report)
		for (size_t n = 0; n < 32; n++)
			snprintf(hex + 2 * n, 3, "%02x", report->damaged[n]);
	if (!c->call) {
		log_warn("stored: garbage was not collected: %s %s", strerror(-err), hex);
		return;
	}
	if (err == -EBADMSG)
		ipc_call_fail(c->call, err,
			"the list of a file's contents is damaged, so nothing was freed: object "
			"%s; bazil scrub has it mended by a peer, or names the file",
			hex);
	else
		ipc_call_fail(c->call, err, "garbage was not collected: %s; try again later",
			strerror(-err));
}

/* Seconds until the next one: when what was noted may go, or a while. */
static double next_one(struct collect *c, const struct gc_report *report)
{
	double now = ev_time(), until = report ? (double)report->grace_until / 1e9 : 0;

	if (c->is_again)
		return COLLECT_SOON;
	return until > now && until - now < COLLECT_EVERY ? until - now + 1 : COLLECT_EVERY;
}

static void count(struct collect *c, const struct gc_report *report)
{
	c->counters.runs++;
	if (c->is_dry)
		return;
	c->counters.freed_objects += report->freed.objects;
	c->counters.freed_bytes += report->freed.bytes;
	c->counters.punched += report->punched + report->regained;
	c->has_run = true;
	c->losses = c->losses_now;
	c->is_again = report->awaiting > 0 && !c->is_again;
}

static void ended(struct collect *c, int err)
{
	struct stored *stored = c->stored;
	const struct gc_report *report = gc_report(stored->engine);

	ev_timer_stop(stored->loop, &c->slice);
	ev_timer_stop(stored->loop, &c->late);
	c->state = COLLECT_IDLE;
	if (err < 0) {
		c->is_again = false;
		fail(c, err, report);
	} else if (report) {
		count(c, report);
		if (c->call)
			answer(c, report);
		else if (report->freed.objects > 0 || report->compacted > 0 || report->removed > 0)
			log_info("stored: %" PRIu64 " objects were garbage: %" PRIu64
				 " bytes given back",
				report->freed.objects, report->punched + report->regained);
	}
	c->call = NULL;
	c->due.repeat = next_one(c, report);
	ev_timer_again(stored->loop, &c->due);
	gc_end(stored->engine);
}

/* ---- the way */

static void run(struct collect *c, enum collect_state state)
{
	struct gc_options options = {
		.is_dry = c->is_dry,
		.is_final = state == COLLECT_FINAL && !c->is_late,
		.roll = c->is_now ? 1 << 16 : COLLECT_ROLL,
		.grace_s = c->is_now ? 0 : GC_GRACE_SECONDS,
	};
	struct store_server *mount;
	struct gc_known known;
	int r;

	/* Of two collections the second must look at what the first has noted. */
	if (c->is_now && state == COLLECT_FINAL)
		options.roll = 0;
	for (mount = c->stored->mounts; mount; mount = mount->next)
		intake_run(mount);
	c->state = state;
	if (gc_known(c->stored->engine, &known) == 0)
		c->losses_now = known.losses;
	r = gc_begin(c->stored->engine, &options);
	if (r == -EIO)
		stored_die(r, "collecting garbage");
	if (r < 0) {
		ended(c, r);
		return;
	}
	c->slice.repeat = PAUSE_QUIET;
	ev_timer_again(c->stored->loop, &c->slice);
}

static void flushed_all(struct collect *c)
{
	struct store_server *mount;

	for (mount = c->stored->mounts; mount; mount = mount->next)
		if (mount->flush_token && !c->is_late)
			return;
	ev_timer_stop(c->stored->loop, &c->late);
	run(c, COLLECT_FINAL);
}

static void flush(struct collect *c)
{
	struct store_server *mount;

	c->state = COLLECT_FLUSHING;
	for (mount = c->stored->mounts; mount; mount = mount->next) {
		mount->flush_token = ++c->stored->flush_token;
		if (store_flush(mount->chan, &(struct store_flush){ .token = mount->flush_token }) <
			0)
			mount->flush_token = 0;
	}
	ev_timer_again(c->stored->loop, &c->late);
	flushed_all(c);
}

void collect_flushed(struct stored *stored, struct store_server *mount, uint64_t token)
{
	if (mount && token >= mount->flush_token)
		mount->flush_token = 0;
	if (stored->collect && stored->collect->state == COLLECT_FLUSHING)
		flushed_all(stored->collect);
}

static void on_late(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct collect *c = timer->data;

	ev_timer_stop(loop, timer);
	log_warn("stored: a mountd did not store what it holds: garbage is noted and not freed");
	c->is_late = true;
	flushed_all(c);
}

static void on_slice(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct collect *c = timer->data;
	struct stored *stored = c->stored;
	const struct gc_report *report = gc_report(stored->engine);
	bool is_quiet = c->call || (ev_now(loop) - stored->active > QUIET_SECONDS &&
					   ev_now(loop) - stored->took > QUIET_SECONDS);
	double start = ev_time();
	int r;

	do
		r = gc_step(stored->engine);
	while (r == 1 && ev_time() - start < (is_quiet ? SLICE_QUIET : SLICE_BUSY));
	if (r == -EIO)
		stored_die(r, "collecting garbage");
	if (r > 0) {
		if (c->call)
			ipc_call_progress(c->call, report->done, report->expect,
				c->state == COLLECT_NOTING ? "looking" : "collecting");
		timer->repeat = is_quiet ? PAUSE_QUIET : PAUSE_BUSY;
		ev_timer_again(loop, timer);
		return;
	}
	ev_timer_stop(loop, timer);
	if (r < 0 || c->state == COLLECT_FINAL) {
		ended(c, r);
		return;
	}
	gc_end(stored->engine);
	flush(c);
}

static void begin(struct collect *c, struct ipc_call *call, bool is_dry, bool is_now)
{
	c->call = call;
	c->is_dry = is_dry;
	c->is_now = is_now;
	c->is_late = false;
	ev_timer_stop(c->stored->loop, &c->due);
	if (is_dry)
		run(c, COLLECT_FINAL);
	else if (is_now)
		run(c, COLLECT_NOTING);
	else
		flush(c);
}

/* What was left when the last server ended is not known. */
static bool is_wanted(const struct collect *c, const struct gc_known *known)
{
	bool has_changed = c->has_run ? known->losses != c->losses
				      : ev_time() - (double)known->last / 1e9 >= COLLECT_EVERY;

	return c->is_again || has_changed || known->last == 0 || known->noted > 0;
}

static void on_due(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct collect *c = timer->data;
	struct gc_known known;

	if (c->state != COLLECT_IDLE || !c->stored->engine)
		return;
	if (gc_known(c->stored->engine, &known) < 0)
		return;
	timer->repeat = COLLECT_EVERY;
	ev_timer_again(loop, timer);
	if (is_wanted(c, &known))
		begin(c, NULL, false, false);
}

void on_ctl_gc(struct ctl_server *self, struct ipc_call *call, const struct ctl_gc *req)
{
	struct collect *c = self->stored->collect;

	if (c->state != COLLECT_IDLE && !c->call) {
		/* The one that runs by itself gives way: nothing but time is lost. */
		gc_end(self->stored->engine);
		c->state = COLLECT_IDLE;
		ev_timer_stop(self->stored->loop, &c->slice);
		ev_timer_stop(self->stored->loop, &c->late);
	}
	if (c->state != COLLECT_IDLE) {
		ipc_call_fail(call, -EBUSY, "garbage is being collected already; wait for its end");
		return;
	}
	begin(c, call, req->dry_run, req->now);
}

/* ---- its life */

int collect_new(struct stored *stored)
{
	struct collect *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->stored = stored;
	ev_timer_init(&c->slice, on_slice, 0., PAUSE_QUIET);
	ev_timer_init(&c->late, on_late, 0., FLUSH_SECONDS);
	ev_timer_init(&c->due, on_due, 0., COLLECT_FIRST);
	c->slice.data = c->late.data = c->due.data = c;
	ev_timer_again(stored->loop, &c->due);
	stored->collect = c;
	return 0;
}

void collect_free(struct stored *stored)
{
	struct collect *c = stored->collect;

	if (!c)
		return;
	if (c->call)
		ipc_call_fail(c->call, -ECONNRESET, "the server stops");
	ev_timer_stop(stored->loop, &c->slice);
	ev_timer_stop(stored->loop, &c->late);
	ev_timer_stop(stored->loop, &c->due);
	stored->collect = NULL;
	free(c);
}
