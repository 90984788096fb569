/*
 * Compacting sealed arenas, one after another: which frames are dead is judged by the index, then
 * runs of them become gaps; before that what lives is moved, if little is left. An arena in which
 * nothing is left is removed.
 *
 * Dead are objects that the index does not have at their place; when two bases are whole
 * (stored/base.h), changes before the older of them, unless a record's far part lies among them,
 * and what belongs to no base any more; and a FRAME_FREED when none of the objects that it names
 * has a frame any more. What is dead in a sealed arena stays dead.
 *
 * A frame is judged when it is come to, and again when the gaps are listed: nothing is kept for
 * each of them, so that an arena may have any number. Gaps are at least a block.
 *
 * A crash before the gaps are written changes nothing but where objects are; behind that the row
 * 'a' tells the next collection to punch them all again.
 */
#include "stored/gc_compact.h"
#include "cas/object.h"
#include "stored/broken.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MOVE_BYTES (1u << 20) /* in one step */
#define MOVE_NUM   256
#define PUNCH_STEP 128
/* Sealing anew reads all heads: less than one in so many bytes of the arena is not worth it. */
#define WORTH_GAPS 64
/* And copying one byte is to give back at least an eighth of one. */
#define WORTH_MOVE 8

void gc_compact_end(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;

	if (!c)
		return;
	gc_walk_close(engine, &c->walk);
	gc_freed_release(engine, &c->freed);
	free(c->gaps);
	free(c);
	gc->compact = NULL;
}

/* ---- choosing an arena */

static void mark_key(uint8_t key[5], uint32_t number)
{
	key[0] = 'a';
	be32_put(key + 1, number);
}

static bool is_worth(const struct gc *gc)
{
	const struct gc_arena *counted = gc_arena(gc, gc->compact->number);

	if (!counted || counted->extent == 0)
		return false;
	if (gc->compact->is_marked || counted->live == 0)
		return true;
	return counted->live <= counted->bytes &&
	       counted->bytes - counted->live + counted->loose >= counted->extent / WORTH_GAPS;
}

/* From the first frame on. 1; 0: the arena is left. */
static int start_walk(struct engine *engine, struct compact *c, enum stage stage)
{
	gc_walk_close(engine, &c->walk);
	c->num_gaps = c->at = 0;
	c->stay = c->move = (struct run){ 0 };
	c->lives = (struct gc_count){ 0 };
	c->live = c->num_stay = c->num_held = c->punched = 0;
	c->stage = stage;
	return gc_walk_open(engine, &c->walk, c->number, true);
}

/* 1: it is to be judged; 0: leave it. */
static int load(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	uint8_t key[5];
	int r;

	mark_key(key, c->number);
	c->is_marked = db_has(txn(engine), DB_GC, key, sizeof(key));
	gc_freed_release(engine, &c->freed);
	if (!is_worth(gc))
		return 0;
	r = start_walk(engine, c, STAGE_FREED);
	if (r == 1)
		c->extent = c->walk.sealed.trailer.footer;
	return r;
}

static int pick(struct engine *engine, struct gc *gc)
{
	struct arenas *a = &engine->arenas;
	struct compact *c = gc->compact;
	int r = 0;

	for (size_t i = 0; i < a->num; i++) {
		if (a->list[i].number <= c->number)
			continue;
		if (a->list[i].number >= gc->begin.arena)
			break;
		/* One that is not sealed yet is looked at by the next collection. */
		c->number = a->list[i].number;
		if (!a->list[i].is_sealed)
			continue;
		r = load(engine, gc);
		if (r == 0)
			c->stage = STAGE_PICK;
		return r < 0 ? r : 1;
	}
	gc->phase = gc->options.is_dry ? GC_DONE : GC_PUNCH_MOVED;
	gc->at_len = 0;
	return 1;
}

/* ---- FRAME_FREED */

/* Looking them up reads the footers of all arenas that they name. */
static bool is_freed_worth(const struct gc *gc)
{
	const struct gc_arena *counted = gc_arena(gc, gc->compact->number);

	return counted && counted->freed > 0 &&
	       (counted->live == 0 || counted->freed >= gc->compact->extent / WORTH_GAPS);
}

/* They are listed while the arena's own footer is walked, so before any other is. */
static int freed_list(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	struct sealed_entry entry;
	int r = 1;

	for (uint32_t i = 0; r == 1 && i < gc->options.rows && !c->freed.is_full; i++) {
		r = sealed_walk_next(&c->walk.walk, &entry);
		if (r == 1 && entry.type == FRAME_FREED)
			r = gc_freed_add(engine, &c->freed, entry.object.place) < 0 ? -EBADMSG : 1;
	}
	if (r == 1 && !c->freed.is_full)
		return 1;
	gc_walk_close(engine, &c->walk);
	/* All of them stay. */
	if (r < 0)
		gc_freed_release(engine, &c->freed);
	return r < 0 && r != -EBADMSG ? r : 1;
}

static int freed_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	int r;

	if (c->walk.is_open && is_freed_worth(gc))
		return freed_list(engine, gc);
	gc_walk_close(engine, &c->walk);
	r = gc_freed_step(engine, gc, &c->freed, c->number);
	if (r != 0)
		return r;
	r = start_walk(engine, c, c->freed.is_full ? STAGE_FREED : STAGE_JUDGE);
	c->freed.is_full = false;
	if (r == 0)
		c->stage = STAGE_PICK;
	return r < 0 ? r : 1;
}

/* ---- what to do with it */

bool gc_has_room(struct engine *engine, uint64_t bytes)
{
	struct statvfs fs;

	if (engine->io->fstatvfs(engine->io->ctx, engine->options.dir_fd, &fs) < 0)
		return false;
	return (uint64_t)fs.f_bavail * fs.f_frsize > bytes + bytes / 4 + (1u << 20);
}

/* Whether to move what lives: the gaps alone give back c->stay.more. */
static bool is_move_worth(struct engine *engine, const struct compact *c)
{
	uint64_t gaps = c->stay.more, moved = c->move.more;

	if (c->live == 0 || c->live > c->extent / 3 * 2 || moved < gaps + c->live)
		return false;
	return moved - gaps - c->live >= c->live / WORTH_MOVE &&
	       moved - c->live >= c->extent / WORTH_GAPS && gc_has_room(engine, c->live);
}

static void report_dry(struct gc *gc, bool move)
{
	const struct compact *c = gc->compact;
	struct gc_report *report = &gc->report;

	report->removed += gc_is_empty(c);
	report->regained += gc_is_empty(c) ? c->extent - c->punched
			    : move	   ? c->move.more
					   : c->stay.more;
	if (!move)
		return;
	report->moved.objects += c->lives.objects;
	report->moved.bytes += c->lives.bytes;
}

static int decide(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	uint64_t gaps = c->stay.more;
	bool move = c->can_punch && is_move_worth(engine, c);
	int r;

	c->stage = STAGE_PICK;
	if (!gc_is_empty(c) &&
		(!c->can_punch ||
			(!move && !c->is_marked && (gaps == 0 || gaps < c->extent / WORTH_GAPS))))
		return 1;
	gc->report.compacted += !gc_is_empty(c);
	if (gc->options.is_dry) {
		report_dry(gc, move);
		return 1;
	}
	r = start_walk(engine, c, move ? STAGE_MOVE : STAGE_LIST);
	return r < 0 ? r : 1;
}

/* What cannot be read of an arena is left, with all of it. */
static int leave(struct compact *c, int r)
{
	c->stage = STAGE_PICK;
	return r == -EBADMSG ? 1 : r;
}

static int judge_step(struct engine *engine, struct gc *gc)
{
	int r = gc_judge_some(engine, gc);

	return r == 1 ? 1 : r < 0 ? leave(gc->compact, r) : decide(engine, gc);
}

/* ---- moving */

/* 0: what is there is not the object, or cannot be read, and it stays. */
static int move_one(struct engine *engine, const struct sealed_object *object, uint8_t *buf)
{
	int r;

	if (object->place.len > CAS_OBJECT_MAX ||
		engine_read_object(engine, object->id, object->place, buf) < 0)
		return 0;
	r = object_move(engine, object, buf);
	return r < 0 ? r : 1;
}

static void freed_of(const struct sealed_object *object, struct frame_freed *ret)
{
	ret->arena = object->place.arena;
	ret->len = object->place.len + FRAME_OBJECT_HEAD;
	ret->offset = object->place.offset - GC_TO_SEALED;
	memcpy(ret->id, object->id, 32);
	memset(ret->tag, 0, 32);
}

/* Some objects, until MOVE_BYTES are copied. Both ends are told in one flush: the copy first. 1:
 * there are more. */
static int move_some(struct engine *engine, struct gc *gc, struct frame_freed *freed, uint8_t *buf)
{
	struct compact *c = gc->compact;
	uint32_t num = 0, seen = 0;
	struct sealed_entry entry;
	size_t bytes = 0;
	int r = 1, err = 0;

	while (err == 0 && bytes < MOVE_BYTES && num < MOVE_NUM && seen++ < gc->options.rows) {
		r = sealed_walk_next(&c->walk.walk, &entry);
		if (r != 1)
			break;
		if (gc_judge(engine, gc, &entry) != FATE_LIVES)
			continue;
		err = move_one(engine, &entry.object, buf);
		if (err == 1) {
			freed_of(&entry.object, &freed[num++]);
			bytes += entry.object.place.len;
			err = 0;
		}
	}
	if (err == 0 && num > 0)
		err = object_free(engine, freed, num);
	if (err == 0)
		err = engine_flush(engine);
	if (err == 0)
		err = engine_tick(engine);
	gc->report.moved.objects += num;
	gc->report.moved.bytes += bytes;
	return err < 0 ? err : r;
}

static int move_step(struct engine *engine, struct gc *gc)
{
	struct frame_freed *freed = malloc(MOVE_NUM * sizeof(*freed));
	uint8_t *buf = malloc(CAS_OBJECT_MAX);
	int r = freed && buf ? move_some(engine, gc, freed, buf) : -ENOMEM;

	free(freed);
	free(buf);
	if (r == 1)
		return 1;
	if (r < 0)
		return leave(gc->compact, r);
	r = start_walk(engine, gc->compact, STAGE_LIST);
	return r < 0 ? r : 1;
}

/* ---- making gaps */

static int list_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	int r = gc_judge_some(engine, gc);

	if (r == 1)
		return 1;
	if (r < 0)
		return leave(c, r);
	gc->ticket = engine_commit_ticket(engine);
	c->stage = gc_is_empty(c) ? STAGE_REMOVE : c->can_punch ? STAGE_WRITE : STAGE_PICK;
	return 1;
}

/* A copy must be durable, and the index know it alone, before its origin goes; and so must be the
 * bases that have what the changes came to. As gc_wait. */
static int settle(struct engine *engine, struct gc *gc)
{
	return BROKEN(BROKEN_BASE_FIRST) ? engine_flush(engine) : gc_wait(engine, gc);
}

static int write_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	uint8_t key[5];
	int r;

	mark_key(key, c->number);
	engine->ops++;
	gc->ticket = engine_commit_ticket(engine);
	c->stage = STAGE_COMMIT;
	r = db_put(txn(engine), DB_GC, key, sizeof(key), (const uint8_t *)"", 0);
	return r < 0 ? r : 1;
}

static int commit_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	int r = settle(engine, gc);

	if (r == 0 && c->num_gaps > 0)
		r = gap_write(&engine->arenas, c->number, c->gaps, c->num_gaps);
	if (r != 0) {
		engine->is_broken |= engine->arenas.has_failed;
		return r;
	}
	gc->report.regained += c->stay.more;
	c->stage = STAGE_PUNCH;
	c->at = 0;
	return 1;
}

/* Gone, or there was none. */
static int unmark(struct engine *engine, struct compact *c)
{
	uint8_t key[5];
	int r;

	mark_key(key, c->number);
	r = db_delete(txn(engine), DB_GC, key, sizeof(key));
	engine->ops++;
	c->stage = STAGE_PICK;
	return r < 0 && r != -ENOENT ? r : 1;
}

static int punch_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	size_t end = c->at + PUNCH_STEP;
	uint64_t bytes;
	int r = 0;

	for (; r == 0 && c->at < c->num_gaps && c->at < end; c->at++) {
		const struct gap *gap = &c->gaps[c->at];

		if (gap->size > 0)
			r = gc_punch_range(engine, c->number, gap->offset + FRAME_HEAD_SIZE,
				gap->offset + gap->size, &bytes);
	}
	if (r < 0)
		return r;
	return c->at < c->num_gaps ? 1 : unmark(engine, c);
}

static int remove_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	int r = settle(engine, gc);

	if (r == 0)
		r = arenas_unlink(&engine->arenas, c->number);
	/* Somebody has it open: the next collection finds it again. */
	if (r == -EBUSY) {
		c->stage = STAGE_PICK;
		return 1;
	}
	if (r != 0) {
		engine->is_broken |= engine->arenas.has_failed;
		return r;
	}
	engine->num_gone++;
	gc->report.removed++;
	gc->report.regained += c->extent - c->punched;
	return unmark(engine, c);
}

/* Behind the end there is nothing to punch, but the file system says whether it could. */
static bool can_punch(struct engine *engine)
{
	const struct arena *arena = &engine->arenas.list[0];
	uint64_t behind = (arena->size / GC_BLOCK + SEALED_OBJECTS_MAX) * GC_BLOCK;
	int r = arenas_fd(&engine->arenas, arena->number);

	if (r >= 0)
		r = engine->io->fallocate(engine->io->ctx, r,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, behind, GC_BLOCK);
	return r != -EOPNOTSUPP && r != -ENOSYS;
}

/* An arena whose name went in a process that was killed then must not come back, once what says
 * that its objects are dead has gone too. */
static int names_settle(struct engine *engine, const struct gc *gc)
{
	int r = 0;

	if (!gc->options.is_dry)
		r = engine->io->fsync_dir(engine->io->ctx, engine->options.dir_fd);
	engine->is_broken |= r < 0;
	return r < 0 ? -EIO : 0;
}

static int stage_step(struct engine *engine, struct gc *gc)
{
	switch (gc->compact->stage) {
	case STAGE_PICK:
		return pick(engine, gc);
	case STAGE_FREED:
		return freed_step(engine, gc);
	case STAGE_JUDGE:
		return judge_step(engine, gc);
	case STAGE_MOVE:
		return move_step(engine, gc);
	case STAGE_LIST:
		return list_step(engine, gc);
	case STAGE_WRITE:
		return write_step(engine, gc);
	case STAGE_COMMIT:
		return commit_step(engine, gc);
	case STAGE_PUNCH:
		return punch_step(engine, gc);
	case STAGE_REMOVE:
		return remove_step(engine, gc);
	}
	return -EINVAL;
}

int gc_compact_step(struct engine *engine, struct gc *gc)
{
	int r;

	if (!gc->compact) {
		gc->compact = calloc(1, sizeof(*gc->compact));
		if (!gc->compact)
			return -ENOMEM;
		gc->compact->can_punch = can_punch(engine);
		r = names_settle(engine, gc);
		if (r < 0)
			return r;
	}
	r = stage_step(engine, gc);
	if (r != -ENOSPC)
		return r;
	/* What was collected is, all the same. */
	gc->phase = GC_DONE;
	return 1;
}
