/*
 * Compacting sealed arenas, one after another: which frames are dead is judged by the index, then
 * runs of them become gaps; before that what lives is moved, if little is left.
 *
 * A crash before the gaps are written changes nothing but where objects are; behind that the row
 * 'a' tells the next collection to punch them all again.
 */
#include "cas/object.h"
#include "stored/damage.h"
#include "stored/gap.h"
#include "stored/gc_state.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX  (512u << 10) /* an arena with more frames of objects is left as it is */
#define MOVE_BYTES (1u << 20)	/* in one step */
#define MOVE_NUM   256
#define PUNCH_STEP 128
#define TO_SEALED  (FRAME_HEAD_SIZE + FRAME_OBJECT_HEAD)
/* Sealing anew reads all heads: less than one in so many bytes of the arena is not worth it. */
#define WORTH_GAPS 64
/* And copying one byte is to give back at least an eighth of one. */
#define WORTH_MOVE 8

enum item_state {
	ITEM_LIVE,
	ITEM_DEAD,
	ITEM_KEPT, /* damaged or unreadable: it stays where it is */
	ITEM_GAP,
};

/* A frame of the arena: an object, or a gap. */
struct item {
	uint64_t offset; /* of the frame */
	uint32_t len;	 /* of its payload */
	enum item_state state;
	uint8_t id[32], tag[32];
};

enum stage {
	STAGE_PICK,
	STAGE_JUDGE,
	STAGE_MOVE,
	STAGE_WRITE,
	STAGE_COMMIT,
	STAGE_PUNCH,
};

struct compact {
	enum stage stage;
	uint32_t number; /* of the arena */
	bool is_marked;	 /* it has a row 'a' */
	uint64_t extent; /* bytes of its frames */
	struct item *items;
	size_t num, cap, at;
	struct gap *gaps;
	size_t num_gaps, cap_gaps;
	uint64_t live; /* bytes of the frames that stay */
};

void gc_compact_end(struct gc *gc)
{
	if (!gc->compact)
		return;
	free(gc->compact->items);
	free(gc->compact->gaps);
	free(gc->compact);
	gc->compact = NULL;
}

static struct gc_arena *arena_of(const struct gc *gc, uint32_t number)
{
	size_t low = 0, high = gc->num_arenas;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (gc->arenas[mid].number == number)
			return &gc->arenas[mid];
		if (gc->arenas[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

void gc_count_live(struct gc *gc, struct place place, bool is_live)
{
	struct gc_arena *arena = arena_of(gc, place.arena);

	if (arena)
		arena->live += is_live ? place.len : -(uint64_t)place.len;
}

/* ---- choosing an arena */

static void mark_key(uint8_t key[5], uint32_t number)
{
	key[0] = 'a';
	be32_put(key + 1, number);
}

static int item_add(
	void *arg, const struct sealed_object *object, uint32_t type, struct place place)
{
	struct compact *c = arg;
	struct item *item;

	if (!object && type != FRAME_GAP)
		return 0;
	if (c->num == ITEMS_MAX)
		return -E2BIG;
	if (c->num == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 1024;
		void *p = realloc(c->items, cap * sizeof(*c->items));

		if (!p)
			return -ENOMEM;
		c->items = p;
		c->cap = cap;
	}
	item = &c->items[c->num++];
	*item = (struct item){ .len = place.len, .state = ITEM_GAP };
	item->offset = place.offset - FRAME_HEAD_SIZE;
	if (!object)
		return 0;
	item->offset = place.offset - TO_SEALED;
	item->len = place.len + FRAME_OBJECT_HEAD;
	item->state = ITEM_LIVE;
	memcpy(item->id, object->id, 32);
	memcpy(item->tag, object->tag, 32);
	return 0;
}

static bool is_load_worth(struct gc *gc, uint32_t number, const struct sealed_trailer *trailer)
{
	const struct gc_arena *counted = arena_of(gc, number);
	uint64_t bytes = trailer->object_bytes;

	if (trailer->num_objects > ITEMS_MAX)
		return false;
	return gc->compact->is_marked ||
	       (counted && counted->live < bytes &&
		       bytes - counted->live >= gc->compact->extent / WORTH_GAPS);
}

/* 1: its frames are in c->items; 0: leave it. */
static int load(struct engine *engine, struct gc *gc, const struct arena *arena)
{
	struct compact *c = gc->compact;
	struct sealed_arena sealed;
	uint8_t key[5];
	int r;

	mark_key(key, arena->number);
	c->is_marked = db_has(txn(engine), DB_GC, key, sizeof(key));
	r = arenas_open_sealed(&engine->arenas, arena->number, &sealed);
	if (r < 0)
		return r == -EBADMSG || r == -ENODATA ? 0 : r;
	c->extent = sealed.trailer.footer;
	c->num = c->at = c->num_gaps = 0;
	c->live = 0;
	r = is_load_worth(gc, arena->number, &sealed.trailer);
	if (r == 1) {
		r = sealed_arena_check(&sealed);
		if (r == 0)
			r = sealed_arena_walk(&sealed, item_add, c);
		r = r == -EBADMSG || r == -E2BIG ? 0 : r < 0 ? r : 1;
	}
	sealed_arena_close(&sealed);
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
		if (a->list[i].number >= gc->tail)
			break;
		/* One that is not sealed yet is looked at by the next collection. */
		c->number = a->list[i].number;
		if (!a->list[i].is_sealed)
			continue;
		r = load(engine, gc, &a->list[i]);
		if (r == 1)
			c->stage = STAGE_JUDGE;
		return r < 0 ? r : 1;
	}
	gc->phase = gc->options.is_dry ? GC_DONE : GC_PUNCH_MOVED;
	gc->at_len = 0;
	return 1;
}

/* ---- what to do with it */

/* Bytes that are punched of it already. */
static uint64_t punched(const struct item *item)
{
	uint64_t end = item->offset + FRAME_HEAD_SIZE + item->len;

	if (item->state == ITEM_DEAD)
		return gc_blocks(item->offset + TO_SEALED, end);
	return item->state == ITEM_GAP ? gc_blocks(item->offset + FRAME_HEAD_SIZE, end) : 0;
}

static int gap_add(struct compact *c, const struct gap *gap)
{
	if (c->num_gaps == c->cap_gaps) {
		size_t cap = c->cap_gaps ? c->cap_gaps * 2 : 256;
		void *p = realloc(c->gaps, cap * sizeof(*c->gaps));

		if (!p)
			return -ENOMEM;
		c->gaps = p;
		c->cap_gaps = cap;
	}
	c->gaps[c->num_gaps++] = *gap;
	return 0;
}

static bool is_free(const struct item *item, bool move)
{
	return item->state == ITEM_DEAD || item->state == ITEM_GAP ||
	       (move && item->state == ITEM_LIVE);
}

/* The run of frames that begins with items[i]; how many items it has. */
static size_t run_at(const struct compact *c, size_t i, bool move, struct gap *ret)
{
	size_t n = i;

	*ret = (struct gap){ .offset = c->items[i].offset };
	while (n < c->num && is_free(&c->items[n], move)) {
		const struct item *item = &c->items[n];
		uint64_t size = frame_size(item->len);

		if (item->offset != ret->offset + ret->size || ret->size + size > FRAME_LEN_MAX)
			break;
		ret->last = item->offset;
		ret->size += size;
		n++;
	}
	return n - i;
}

/*
 * Finds the gaps; *ret_more is what they would give back besides what is punched already. keep:
 * into c->gaps. move: as if all that lives had been moved.
 */
static int find_gaps(struct compact *c, bool move, bool keep, uint64_t *ret_more)
{
	size_t i = 0, n;
	struct gap gap;
	int r = 0;

	*ret_more = 0;
	c->num_gaps = 0;
	while (r == 0 && i < c->num) {
		uint64_t before = 0, after;

		if (!is_free(&c->items[i], move) || !gap_fits(c->items[i].offset)) {
			i++;
			continue;
		}
		n = run_at(c, i, move, &gap);
		if (n == 0) {
			i++;
			continue;
		}
		for (size_t k = i; k < i + n; k++)
			before += punched(&c->items[k]);
		i += n;
		after = gc_blocks(gap.offset + FRAME_HEAD_SIZE, gap.offset + gap.size);
		if (after > before)
			*ret_more += after - before;
		/* After a crash it is not known whether those that there are were punched. */
		if (keep && (after > before || c->is_marked))
			r = gap_add(c, &gap);
	}
	return r;
}

static bool has_room(struct engine *engine, uint64_t bytes)
{
	struct statvfs fs;

	if (engine->io->fstatvfs(engine->io->ctx, engine->options.dir_fd, &fs) < 0)
		return false;
	return (uint64_t)fs.f_bavail * fs.f_frsize > bytes + bytes / 4 + (1u << 20);
}

/* Whether to move what lives: the gaps alone give back `gaps`. */
static bool is_move_worth(struct engine *engine, struct compact *c, uint64_t gaps, uint64_t *ret)
{
	if (c->live == 0 || c->live > c->extent / 3 * 2 || find_gaps(c, true, false, ret) < 0)
		return false;
	if (*ret < gaps + c->live)
		return false;
	return *ret - gaps - c->live >= c->live / WORTH_MOVE &&
	       *ret - c->live >= c->extent / WORTH_GAPS && has_room(engine, c->live);
}

static void decide(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	struct gc_report *report = &gc->report;
	uint64_t gaps, moved = 0;
	size_t i;
	bool move;

	c->at = 0;
	c->stage = STAGE_PICK;
	find_gaps(c, false, false, &gaps);
	move = is_move_worth(engine, c, gaps, &moved);
	if (!move && !c->is_marked && (gaps == 0 || gaps < c->extent / WORTH_GAPS))
		return;
	report->compacted++;
	if (!gc->options.is_dry) {
		c->stage = move ? STAGE_MOVE : STAGE_WRITE;
		return;
	}
	report->regained += move ? moved : gaps;
	for (i = 0; move && i < c->num; i++)
		if (c->items[i].state == ITEM_LIVE) {
			report->moved.objects++;
			report->moved.bytes += c->items[i].len - FRAME_OBJECT_HEAD;
		}
}

/* By what is committed or will be before anything is written: what is dead in a sealed arena stays
 * dead. */
static enum item_state judge(struct engine *engine, const struct gc *gc, const struct item *item)
{
	struct place place = { .arena = gc->compact->number };

	place.offset = item->offset + TO_SEALED;
	place.len = item->len - FRAME_OBJECT_HEAD;
	if (damage_is_expected(engine, item->id, place)) {
		bool is_doomed =
			gc->options.is_dry && gc_table_bits(&gc->table, item->id) & GC_BIT_DOOMED;

		return is_doomed ? ITEM_DEAD : ITEM_LIVE;
	}
	return damage_is_noted(engine, item->id) ? ITEM_KEPT : ITEM_DEAD;
}

static int judge_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	size_t end = c->at + gc->options.rows;

	for (; c->at < c->num && c->at < end; c->at++) {
		struct item *item = &c->items[c->at];

		if (item->state != ITEM_GAP)
			item->state = judge(engine, gc, item);
		if (item->state == ITEM_LIVE)
			c->live += frame_size(item->len);
	}
	if (c->at == c->num)
		decide(engine, gc);
	return 1;
}

/* ---- moving */

/* 0: what is there is not the object, or cannot be read, and it stays. */
static int move_one(struct engine *engine, struct gc *gc, struct item *item, uint8_t *buf)
{
	struct sealed_object object = { .place = { .arena = gc->compact->number } };
	int r;

	memcpy(object.id, item->id, 32);
	memcpy(object.tag, item->tag, 32);
	object.place.offset = item->offset + TO_SEALED;
	object.place.len = item->len - FRAME_OBJECT_HEAD;
	if (engine_read_object(engine, item->id, object.place, buf) < 0)
		return 0;
	r = object_move(engine, &object, buf);
	return r < 0 ? r : 1;
}

static void freed_of(const struct gc *gc, const struct item *item, struct frame_freed *ret)
{
	ret->arena = gc->compact->number;
	ret->len = item->len;
	ret->offset = item->offset;
	memcpy(ret->id, item->id, 32);
	memset(ret->tag, 0, 32);
}

/* Some objects, until MOVE_BYTES are copied. Both ends are told in one flush: the copy first. */
static int move_some(struct engine *engine, struct gc *gc, struct frame_freed *freed, uint8_t *buf)
{
	struct compact *c = gc->compact;
	size_t from = c->at, bytes = 0, at;
	uint32_t num = 0;
	int r = 0;

	for (at = from; at < c->num && bytes < MOVE_BYTES && num < MOVE_NUM; at++) {
		struct item *item = &c->items[at];

		/* It may have gone, or have been found damaged, meanwhile. */
		if (item->state == ITEM_LIVE)
			item->state = judge(engine, gc, item);
		if (item->state != ITEM_LIVE)
			continue;
		r = move_one(engine, gc, item, buf);
		if (r < 0)
			return r;
		if (r == 0) {
			item->state = ITEM_KEPT;
			continue;
		}
		freed_of(gc, item, &freed[num++]);
		bytes += item->len - FRAME_OBJECT_HEAD;
	}
	r = num > 0 ? object_free(engine, freed, num) : 0;
	if (r == 0)
		r = engine_flush(engine);
	if (r < 0)
		return r;
	for (; c->at < at; c->at++)
		if (c->items[c->at].state == ITEM_LIVE)
			c->items[c->at].state = ITEM_DEAD;
	gc->report.moved.objects += num;
	gc->report.moved.bytes += bytes;
	return engine_tick(engine);
}

static int move_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	struct frame_freed *freed = malloc(MOVE_NUM * sizeof(*freed));
	uint8_t *buf = malloc(CAS_OBJECT_MAX);
	int r = freed && buf ? move_some(engine, gc, freed, buf) : -ENOMEM;

	free(freed);
	free(buf);
	if (r == 0 && c->at == c->num)
		c->stage = STAGE_WRITE;
	return r < 0 ? r : 1;
}

/* ---- making gaps */

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
	uint64_t more;
	int r;

	/* A copy must be durable, and the index know it alone, before its origin goes. */
	r = gc_wait(engine, gc);
	if (r == 0)
		r = find_gaps(c, false, true, &more);
	if (r == 0 && c->num_gaps > 0)
		r = gap_write(&engine->arenas, c->number, c->gaps, c->num_gaps);
	if (r != 0) {
		engine->is_broken |= engine->arenas.has_failed;
		return r;
	}
	gc->report.regained += more;
	c->stage = STAGE_PUNCH;
	c->at = 0;
	return 1;
}

static int punch_step(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	size_t end = c->at + PUNCH_STEP;
	uint64_t bytes;
	uint8_t key[5];
	int r = 0;

	for (; r == 0 && c->at < c->num_gaps && c->at < end; c->at++) {
		const struct gap *gap = &c->gaps[c->at];

		if (gap->size > 0)
			r = gc_punch_range(engine, c->number, gap->offset + FRAME_HEAD_SIZE,
				gap->offset + gap->size, &bytes);
	}
	if (r < 0)
		return r;
	if (c->at < c->num_gaps)
		return 1;
	mark_key(key, c->number);
	r = db_delete(txn(engine), DB_GC, key, sizeof(key));
	engine->ops++;
	c->stage = STAGE_PICK;
	return r < 0 && r != -ENOENT ? r : 1;
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

static int stage_step(struct engine *engine, struct gc *gc)
{
	switch (gc->compact->stage) {
	case STAGE_PICK:
		return pick(engine, gc);
	case STAGE_JUDGE:
		return judge_step(engine, gc);
	case STAGE_MOVE:
		return move_step(engine, gc);
	case STAGE_WRITE:
		return write_step(engine, gc);
	case STAGE_COMMIT:
		return commit_step(engine, gc);
	case STAGE_PUNCH:
		return punch_step(engine, gc);
	}
	return -EINVAL;
}

int gc_compact_step(struct engine *engine, struct gc *gc)
{
	int r;

	if (!gc->compact && !can_punch(engine)) {
		gc->phase = GC_DONE;
		return 1;
	}
	if (!gc->compact) {
		gc->compact = calloc(1, sizeof(*gc->compact));
		if (!gc->compact)
			return -ENOMEM;
	}
	r = stage_step(engine, gc);
	if (r != -ENOSPC)
		return r;
	/* What was collected is, all the same. */
	gc->phase = GC_DONE;
	return 1;
}
