/*
 * `bazil store status`: what the store is made of. The walk over all objects goes on in slices,
 * beside the service.
 */
#include "ipc/ctl.gen.h"
#include "stored/census.h"
#include "stored/damage.h"
#include "stored/gc.h"
#include "stored/prune.h"
#include "stored/scrub.h"
#include "stored/stored.h"

#include <errno.h>
#include <stdlib.h>

#include <ev.h>

#define SLICE_OBJECTS 4096
#define PAUSE_SECONDS 0.001

struct query {
	struct stored *stored;
	struct ipc_call *call;
	struct census census;
	struct ev_timer slice;
};

static uint64_t oldest(struct engine *engine)
{
	struct volume *vol;
	uint64_t ret = 0;

	for (size_t i = 0; (vol = engine_volume_at(engine, i)); i++) {
		uint64_t time = prune_oldest(engine, vol);

		if (time > 0 && (ret == 0 || time < ret))
			ret = time;
	}
	return ret;
}

static void fill_arenas(const struct census *census, struct ctl_store_status_reply *reply)
{
	for (size_t i = 0; i < census->num; i++) {
		const struct census_arena *a = &census->arenas[i];

		reply->num_all_arenas++;
		reply->sealed += a->is_sealed;
		reply->arena_bytes += a->size;
		reply->disk_bytes += a->disk;
		reply->objects += a->objects;
		reply->live += a->live;
		reply->dead += a->dead;
		if (reply->num_arenas == CTL_STORE_STATUS_REPLY_ARENAS_MAX)
			continue;
		reply->arenas[reply->num_arenas++] = (struct ctl_arena){ a->number, a->is_sealed,
			a->size, a->disk, a->objects, a->live, a->dead };
	}
}

static void fill_ranges(struct engine *engine, struct ctl_store_status_reply *reply)
{
	struct census_range ranges[CTL_STORE_STATUS_REPLY_RANGES_MAX];

	reply->num_ranges = census_damage(engine, ranges, CTL_STORE_STATUS_REPLY_RANGES_MAX);
	for (size_t i = 0; i < reply->num_ranges; i++)
		reply->ranges[i] =
			(struct ctl_range){ ranges[i].arena, ranges[i].from, ranges[i].to };
}

static void fill_engine(struct engine *engine, struct ctl_store_status_reply *reply)
{
	struct engine_stat stat = { 0 };
	struct damage list[FETCH_IDS_MAX];
	struct gc_known known = { 0 };
	struct scrub scrub = { 0 };
	int found;

	engine_stat(engine, &stat);
	engine_stat_index(engine, &reply->index_bytes, &reply->index_free);
	gc_known(engine, &known);
	scrub_load(engine, &scrub);
	damage_settle(engine);
	found = damage_list(engine, NULL, list, FETCH_IDS_MAX);
	reply->version = ENGINE_FORMAT;
	reply->arena_size = stat.arena_size;
	reply->rebuilt = stat.was_rebuilt;
	reply->reserve = stat.reserve;
	reply->available = stat.fs.f_bavail * stat.fs.f_frsize;
	reply->damaged_objects = found > 0 ? (uint32_t)found : 0;
	reply->scrub_running = scrub.is_running;
	reply->scrubbed = scrub.finished;
	reply->collected = known.last;
	reply->garbage_objects = known.noted;
	reply->freed_objects = known.freed_objects;
	reply->freed_bytes = known.freed_bytes;
	reply->oldest = oldest(engine);
}

static void answer(struct query *q)
{
	struct ctl_arena arenas[CTL_STORE_STATUS_REPLY_ARENAS_MAX];
	struct ctl_range ranges[CTL_STORE_STATUS_REPLY_RANGES_MAX];
	struct ctl_store_status_reply reply = { .arenas = arenas, .ranges = ranges };

	fill_arenas(&q->census, &reply);
	reply.changes = q->census.changes;
	reply.bases = q->census.bases;
	fill_ranges(q->stored->engine, &reply);
	fill_engine(q->stored->engine, &reply);
	ctl_store_status_reply(q->call, &reply);
}

static void end(struct query *q, int err)
{
	ev_timer_stop(q->stored->loop, &q->slice);
	if (err < 0)
		ipc_call_fail(q->call, err, NULL);
	else
		answer(q);
	census_release(&q->census);
	free(q);
}

static void on_slice(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct query *q = timer->data;
	int r = -ESHUTDOWN;

	if (q->stored->engine)
		r = census_step(q->stored->engine, &q->census, SLICE_OBJECTS);
	if (r <= 0)
		end(q, r);
}

void on_ctl_store_status(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_store_status *req)
{
	struct query *q = calloc(1, sizeof(*q));
	struct store_server *mount;
	int r;

	if (!q) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	for (mount = self->stored->mounts; mount; mount = mount->next)
		intake_run(mount);
	*q = (struct query){ .stored = self->stored, .call = call };
	ev_timer_init(&q->slice, on_slice, 0., PAUSE_SECONDS);
	q->slice.data = q;
	r = census_begin(q->stored->engine, &q->census);
	if (r < 0)
		end(q, r);
	else
		ev_timer_start(q->stored->loop, &q->slice);
}
