/*
 * Writing a base (stored/base.h) when the changes since the last ones have become more than it
 * takes, and saying from when on changes may go: when two bases that have them were read back.
 *
 * A base is written out of a snapshot of the index, while changes go on: those are behind it in the
 * log. One that is interrupted is begun anew by a later collection; its frames are dead.
 */
#include "stored/gc_base.h"
#include "stored/broken.h"

#include <errno.h>
#include <stdlib.h>

#define ROW_BYTES  128 /* about, while no base says how much it is */
#define COUNT_STEP 16  /* times gc->options.rows entries of a footer */

static void bases_release(struct gc *gc)
{
	for (int i = 0; i < BASE_KEPT; i++)
		base_release(&gc->bases[i]);
	gc->num_bases = 0;
	gc->cut = (struct place){ 0 };
}

/* All but what the next phase needs. */
static void work_end(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;

	if (!b)
		return;
	gc_walk_close(engine, &b->walk);
	if (b->is_reading)
		base_reader_end(&b->reader);
	gc_write_end(b);
	free(b);
	gc->base = NULL;
}

void gc_base_end(struct engine *engine, struct gc *gc)
{
	work_end(engine, gc);
	bases_release(gc);
}

/* ---- those that there are */

/* One that cannot be read is none: it is forgotten, and nothing goes on its account. */
static int drop_damaged(struct engine *engine, const struct gc *gc, struct place frame)
{
	engine_log(engine, 3, "store: arena %u: the base at %llu is damaged", frame.arena,
		(unsigned long long)frame.offset);
	return gc->options.is_dry ? 0 : base_forget(engine, frame);
}

static int load_one(struct engine *engine, struct gc *gc, struct place frame)
{
	struct base_reader reader;
	int r = base_reader_begin(&reader, engine, frame);

	if (r == 0) {
		gc->bases[gc->num_bases++] = reader.base;
		reader.base = (struct base){ 0 };
	}
	base_reader_end(&reader);
	return r == -EBADMSG ? drop_damaged(engine, gc, frame) : r;
}

static int load_list(struct engine *engine, struct gc *gc)
{
	struct base_list list;
	int r = base_list(engine, &list);

	bases_release(gc);
	for (int i = 0; r == 0 && i < list.num; i++)
		r = load_one(engine, gc, list.frames[i]);
	return r;
}

static struct place cut_of(const struct gc *gc)
{
	return gc->num_bases == BASE_KEPT ? gc->bases[BASE_KEPT - 1].at : (struct place){ 0 };
}

/* ---- whether it is time */

static void count_frame(struct gc *gc, struct gc_base *b, const struct sealed_entry *entry)
{
	struct place payload = entry->object.place;
	struct gc_arena *arena = &gc->arenas[b->arena];
	uint64_t size = frame_size(payload.len);

	if (entry->type == FRAME_ROWS || entry->type == FRAME_BASE)
		gc->report.bases += size;
	else if (entry->type == FRAME_FREED)
		arena->freed += size;
	else if (!frame_is_change(entry->type))
		return;
	if (!frame_is_change(entry->type)) {
		arena->loose += size;
		return;
	}
	gc->report.changes += size;
	if (gc_far_has(gc, payload))
		return;
	arena->loose += size;
	if (arenas_is_before(payload, cut_of(gc))) {
		b->old += size;
		return;
	}
	b->fresh += size;
	if (gc->num_bases == 0 || !arenas_is_before(payload, gc->bases[0].at))
		b->last += size;
}

/* Some of one arena. */
static int count_step(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	struct sealed_entry entry;
	uint32_t i, number;
	int r;

	if (b->arena == gc->num_arenas || gc->arenas[b->arena].number >= gc->begin.arena) {
		b->stage = BASE_BEGIN;
		return 1;
	}
	number = gc->arenas[b->arena].number;
	r = gc_walk_open(engine, &b->walk, number, false);
	if (r == 1) {
		gc->arenas[b->arena].extent = b->walk.sealed.trailer.footer;
		gc->arenas[b->arena].bytes = b->walk.sealed.trailer.object_bytes;
	}
	for (i = 0; r == 1 && i < COUNT_STEP * gc->options.rows; i++) {
		r = sealed_walk_next(&b->walk.walk, &entry);
		if (r == 1)
			count_frame(gc, b, &entry);
	}
	if (r == 1)
		return 1;
	gc_walk_close(engine, &b->walk);
	b->arena++;
	return r < 0 && r != -EBADMSG ? r : 1;
}

/* Bytes of a base of what there is now. */
static uint64_t expect(struct engine *engine, const struct gc *gc)
{
	const struct base *last = gc->num_bases > 0 ? &gc->bases[0] : NULL;
	uint64_t rows = 0;

	for (unsigned i = 0; i < BASE_TABLES; i++)
		if (base_table(i) != DB_META)
			rows += db_rows(txn(engine), base_table(i));
	return last && last->num_rows > 0 ? rows * (last->bytes / last->num_rows + 1)
					  : rows * ROW_BYTES;
}

/* A base that makes so many bytes of changes dead. */
static bool is_wanted(struct engine *engine, const struct gc *gc, uint64_t changes)
{
	uint64_t size = expect(engine, gc);

	return changes >= engine->options.base_size &&
	       changes / engine->options.base_percent >= size / 100 && gc_has_room(engine, size);
}

/* Reading all of them back is not done again for the same ones. */
static bool is_check_wanted(const struct engine *engine, const struct gc *gc)
{
	const struct gc_base *b = gc->base;

	return gc->num_bases == BASE_KEPT && (b->is_written || b->old >= engine->options.base_size);
}

static bool was_checked(const struct engine *engine, const struct gc *gc)
{
	return engine->based.arena == gc->bases[0].frame.arena &&
	       engine->based.offset == gc->bases[0].frame.offset;
}

/* ---- reading back */

static int check_begin(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;

	b->is_reading = true;
	return base_reader_begin(&b->reader, engine, gc->bases[b->checking].frame);
}

/* 1: go on; 0: those that are left were all read back. */
static int check_step(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	int r;

	if (!b->is_reading && b->checking == gc->num_bases)
		return 0;
	r = b->is_reading ? 1 : check_begin(engine, gc);
	if (r >= 0)
		r = base_reader_check(&b->reader);
	if (r == 1)
		return 1;
	base_reader_end(&b->reader);
	b->is_reading = false;
	b->checking++;
	if (r == -EBADMSG) {
		r = drop_damaged(engine, gc, gc->bases[b->checking - 1].frame);
		if (r == 0)
			r = load_list(engine, gc);
		b->checking = 0;
	}
	return r < 0 ? r : 1;
}

static int prove_step(struct engine *engine, struct gc *gc)
{
	int r;

	if (!is_check_wanted(engine, gc) || was_checked(engine, gc))
		return 0;
	r = check_step(engine, gc);
	if (r == 0 && gc->num_bases == BASE_KEPT)
		engine->based = gc->bases[0].frame;
	return r;
}

/* ---- */

static int write_step(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	int r = gc_write_step(engine, gc);

	if (r != 0)
		return r;
	gc_write_end(b);
	b->is_written = true;
	b->checking = 0;
	b->stage = BASE_CHECK;
	r = load_list(engine, gc);
	if (r < 0)
		return r;
	if (is_wanted(engine, gc, b->last))
		gc->report.awaiting = b->last;
	return 1;
}

static int stage_step(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	int r;

	switch (b->stage) {
	case BASE_COUNT:
		return count_step(engine, gc);
	case BASE_BEGIN:
		if (gc->options.is_dry)
			return 0;
		b->stage = is_wanted(engine, gc, b->fresh) ? BASE_REVIEW : BASE_CHECK;
		return 1;
	case BASE_REVIEW:
		r = check_step(engine, gc);
		return r == 0 ? gc_write_begin(engine, gc) : r;
	case BASE_WRITE:
		return write_step(engine, gc);
	case BASE_CHECK:
		return prove_step(engine, gc);
	}
	return -EINVAL;
}

static int start(struct engine *engine, struct gc *gc)
{
	gc->base = calloc(1, sizeof(*gc->base));
	return gc->base ? load_list(engine, gc) : -ENOMEM;
}

/* Far parts that only an older snapshot knows are read by who serves a pull out of it. */
static void stop(struct engine *engine, struct gc *gc)
{
	bool is_whole = gc->options.is_dry || was_checked(engine, gc);

	if (gc->num_bases == BASE_KEPT && is_whole && !gc->was_serving)
		gc->cut = BROKEN(BROKEN_BASE_CUT) ? engine->committed : cut_of(gc);
	work_end(engine, gc);
	gc->phase = GC_COMPACT;
	gc->at_len = 0;
}

int gc_base_step(struct engine *engine, struct gc *gc)
{
	int r = gc->base ? 0 : start(engine, gc);

	if (r == 0)
		r = stage_step(engine, gc);
	/* Without a base nothing goes, that is all. */
	if (r == -ENOSPC)
		r = 0;
	if (r == 0)
		stop(engine, gc);
	return r < 0 ? r : 1;
}
