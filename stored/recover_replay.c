/* The log behind what the index covers. */
#include "stored/base.h"
#include "stored/broken.h"
#include "stored/change.h"
#include "stored/gc_state.h"
#include "stored/indexer.h"
#include "stored/meta.h"
#include "stored/object.h"
#include "stored/recover.h"
#include "stored/volume.h"

#include <errno.h>
#include <stdlib.h>

#define COMMIT_EVERY   BULK_ROWS /* changes, while replaying a long log */
#define PROGRESS_EVERY 256	 /* frames between two looks at the clock */
#define PROGRESS_NS    UINT64_C(100000000)

void recover_note_lost(struct engine *engine)
{
	engine->num_damaged++;
	engine->lost_at = engine->io->now(engine->io->ctx);
}

void recover_note_lost_changes(struct engine *engine)
{
	recover_note_lost(engine);
	engine->has_lost_changes = true;
}

/* One frame, whose head is well and says that it had no changes. */
static bool had_no_changes(struct engine *engine, uint32_t number, uint64_t from, uint64_t to)
{
	const struct arena *arena = arenas_find(&engine->arenas, number);
	const struct place place = { number, FRAME_HEAD_SIZE, from };
	uint8_t data[FRAME_HEAD_SIZE];
	struct frame_head head;

	return arena && arenas_read(&engine->arenas, place, data) == 0 &&
	       frame_head_parse(data, arena->id, from, &head) == 0 && !frame_is_change(head.type) &&
	       from + frame_size(head.len) >= to;
}

static void replay_damage(void *arg, uint32_t arena, uint64_t from, uint64_t to, bool is_tail)
{
	struct engine *engine = arg;

	if (is_tail) {
		engine_log(engine, 5, "store: arena %u: cut an unfinished tail of %llu bytes",
			arena, (unsigned long long)(to - from));
		return;
	}
	if (had_no_changes(engine, arena, from, to))
		recover_note_lost(engine);
	else
		recover_note_lost_changes(engine);
	engine_note_range(engine, arena, from, to);
	engine_log(engine, 3, "store: arena %u: bytes %llu to %llu are damaged and were skipped",
		arena, (unsigned long long)from, (unsigned long long)to);
}

static int parts_add(struct engine *engine, struct place place)
{
	struct place *places;

	places = realloc(engine->parts.places, (engine->parts.num + 1) * sizeof(*places));
	if (!places)
		return -ENOMEM;
	engine->parts.places = places;
	places[engine->parts.num++] = place;
	return 0;
}

static int replay_changes(struct engine *engine, const struct frame_view *frame)
{
	int r = change_replay(engine, frame);

	if (r != -EBADMSG)
		return r;
	recover_note_lost_changes(engine);
	engine_log(engine, 3, "store: arena %u: the changes at %llu make no sense and were skipped",
		frame->place.arena, (unsigned long long)frame->place.offset);
	return 0;
}

/* All of a pull, now that its commit was found. */
static int replay_pull(struct engine *engine, const struct frame_view *commit)
{
	struct frame_view frame = { .type = FRAME_PULL_CHANGES };
	uint8_t *payload = NULL;
	size_t cap = 0, i;
	int r = 0;

	change_replay_time(engine, commit);
	for (i = 0; r == 0 && i < engine->parts.num; i++) {
		frame.place = engine->parts.places[i];
		r = scratch_grow(&payload, &cap, frame.place.len);
		if (r == 0)
			r = arenas_read(&engine->arenas, frame.place, payload);
		frame.payload = payload;
		if (r == 0)
			r = replay_changes(engine, &frame);
	}
	free(payload);
	engine->parts.num = 0;
	return r < 0 ? r : replay_changes(engine, commit);
}

int recover_commit(struct engine *engine)
{
	return failed_note_commit(engine->io, engine->options.dir_fd, db_commit(engine->db));
}

/* A long replay commits in between, so that it need not begin at the start when it is interrupted.
 */
static int replay_commit(struct engine *engine, struct place next)
{
	int r;

	r = bulk_flush(engine);
	if (r == 0)
		r = arenas_sync(&engine->arenas);
	if (r == 0)
		r = meta_save(engine, next);
	if (r == 0)
		r = meta_save_lost(engine);
	if (r == 0)
		r = recover_commit(engine);
	if (r == 0)
		r = db_begin(engine->db);
	if (r == 0) {
		engine->committed = next;
		engine->ops = 0;
	}
	return r;
}

/* Bytes of the arenas before this place, of all there are. */
static void tell_progress(struct engine *engine, struct place at)
{
	const struct arenas *a = &engine->arenas;
	uint64_t now = engine->io->now(engine->io->ctx), done = at.offset;

	if (now - engine->told_at < PROGRESS_NS)
		return;
	engine->told_at = now;
	for (size_t i = 0; i < a->num && a->list[i].number < at.arena; i++)
		done += a->list[i].size;
	engine->options.progress(engine->options.progress_arg, done, arenas_size(a));
}

/* An index that ends before changes that may be gone is a copy from some time ago, put back. */
static int replay_base(struct engine *engine, const struct frame_view *frame)
{
	int r = base_note(engine, frame->place, frame->payload);

	if (r < 0)
		return r == -EBADMSG ? 0 : r;
	return engine->replay_start.arena != 0 &&
			       arenas_is_before(engine->replay_start, base_cut(frame->payload))
		       ? -EUCLEAN
		       : 0;
}

static int replay_by_type(struct engine *engine, const struct frame_view *frame)
{
	int r = 0;

	switch (frame->type) {
	case FRAME_OBJECT:
		engine->ops++;
		r = object_replay(engine, frame);
		break;
	case FRAME_FREED:
		engine->ops++;
		r = object_replay_freed(engine, frame);
		break;
	case FRAME_PULL_PART:
		/* Of a new pull: what one before it began was never committed. */
		engine->parts.num = 0;
		engine->ops++;
		break;
	case FRAME_END:
	case FRAME_GAP:
	case FRAME_ROWS:
		break;
	case FRAME_BASE:
		return replay_base(engine, frame);
	case FRAME_PULL_CHANGES:
		if (BROKEN(BROKEN_HALF_PULL))
			return replay_changes(engine, frame);
		return parts_add(engine, frame->place);
	case FRAME_PULL_COMMIT:
		r = replay_pull(engine, frame);
		break;
	case FRAME_BATCH:
	case FRAME_SETTINGS:
		/* Changes of a pull that was never committed. */
		engine->parts.num = 0;
		r = replay_changes(engine, frame);
		break;
	}
	return r;
}

static int replay_frame(void *arg, const struct frame_view *frame)
{
	struct engine *engine = arg;
	struct place next = frame->place;
	int r = 0;

	if (engine->options.progress && engine->num_replayed++ % PROGRESS_EVERY == 0)
		tell_progress(engine, frame->place);
	/* The base has them, and of some the rest is gone. */
	if (!frame_is_change(frame->type) || !arenas_is_before(frame->place, engine->from))
		r = replay_by_type(engine, frame);
	if (r < 0 || engine->ops < COMMIT_EVERY || engine->parts.num > 0)
		return r;
	next.offset += frame_size(next.len) - FRAME_HEAD_SIZE;
	return replay_commit(engine, next);
}

/* The arenas end before what the index covers: they were replaced, or lost something durable. */
static bool is_ahead(const struct engine *engine)
{
	const struct arenas *a = &engine->arenas;
	size_t i;

	if (engine->committed.arena == 0)
		return false;
	for (i = 0; i < a->num; i++)
		if (a->list[i].number == engine->committed.arena)
			return engine->committed.offset > a->list[i].size;
	return true;
}

/* An index with nothing in it takes the rows of a base, and is one that has replayed nothing yet:
 * from there on it can be interrupted as any other. */
static int begin_with_base(struct engine *engine)
{
	struct place start = { .offset = FRAME_SUPER_SIZE };
	int r = 0;

	engine->replay_start = arenas_is_before(engine->committed, engine->from)
				       ? engine->from
				       : engine->committed;
	if (engine->committed.arena == 0)
		r = base_load(engine);
	if (r == 0)
		r = volumes_load(engine);
	if (r < 0 || engine->committed.arena != 0 || engine->from.arena == 0)
		return r;
	start.arena = engine->arenas.list[0].number;
	return replay_commit(engine, start);
}

static int replay_once(struct engine *engine)
{
	int r;

	db_abort(engine->db);
	engine->last_stamp_len = 0;
	engine->num_moved = 0;
	engine->parts.num = 0;
	engine->holes.num = 0;
	bulk_drop(&engine->bulk);
	engine->ops = 0;
	r = db_begin(engine->db);
	if (r == 0)
		r = meta_load(engine);
	if (r == 0 && is_ahead(engine))
		r = -EUCLEAN;
	if (r == 0)
		r = begin_with_base(engine);
	if (r < 0)
		return r;
	engine->is_replaying = true;
	r = arenas_scan(&engine->arenas, engine->committed.arena, engine->committed.offset,
		replay_frame, replay_damage, engine);
	if (r == 0)
		r = bulk_flush(engine);
	bulk_release(&engine->bulk);
	engine->is_replaying = false;
	engine->parts.num = 0;
	if (r < 0)
		return r;
	object_holes_end(engine);
	volumes_prune(engine);
	r = gc_promise_again(engine);
	return r < 0 ? r : meta_save_lost(engine);
}

int recover_replay(struct engine *engine)
{
	int r;

	r = indexer_settle(engine);
	if (r < 0)
		return r;
	do {
		r = replay_once(engine);
		if (r != -EOVERFLOW)
			break;
		db_abort(engine->db);
		r = db_grow(engine->db);
	} while (r == 0);
	return r;
}
