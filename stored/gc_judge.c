/*
 * Which frames of an arena are dead, and the gaps that they leave.
 */
#include "stored/damage.h"
#include "stored/gc_compact.h"

#include <errno.h>
#include <stdlib.h>

static enum fate judge_object(
	struct engine *engine, const struct gc *gc, const struct sealed_object *object)
{
	if (damage_is_expected(engine, object->id, object->place)) {
		bool is_doomed =
			gc->options.is_dry && gc_table_why(&gc->table, object->id) == GC_WHY_DOOMED;

		return is_doomed ? FATE_DEAD : FATE_LIVES;
	}
	return damage_is_noted(engine, object->id) ? FATE_STAYS : FATE_DEAD;
}

static enum fate judge_freed(const struct gc *gc, struct place payload)
{
	const struct gc_freed_frame *frame = gc_freed_find(&gc->compact->freed, payload.offset);

	if (!frame || frame->is_needed)
		return FATE_STAYS;
	return frame->is_needed_here ? FATE_HELD : FATE_DEAD;
}

static bool is_of_base(const struct gc *gc, struct place payload)
{
	for (int i = 0; i < gc->num_bases; i++)
		if (base_has(&gc->bases[i], payload))
			return true;
	return false;
}

enum fate gc_judge(struct engine *engine, const struct gc *gc, const struct sealed_entry *entry)
{
	struct place payload = entry->object.place;

	switch (entry->type) {
	case FRAME_OBJECT:
		return judge_object(engine, gc, &entry->object);
	case FRAME_GAP:
		return FATE_GAP;
	case FRAME_END:
		return FATE_END;
	case FRAME_FREED:
		return judge_freed(gc, payload);
	case FRAME_ROWS:
	case FRAME_BASE:
		return gc->cut.arena == 0 || is_of_base(gc, payload) ? FATE_STAYS : FATE_DEAD;
	default:
		break;
	}
	if (!frame_is_change(entry->type) || !arenas_is_before(payload, gc->cut))
		return FATE_STAYS;
	return gc_far_has(gc, payload) ? FATE_STAYS : FATE_DEAD;
}

/* ---- runs of frames */

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

/* A frame that is not free follows. */
static int run_end(struct compact *c, struct run *run)
{
	const struct gap *gap = &run->gap;
	uint64_t after = gc_blocks(gap->offset + FRAME_HEAD_SIZE, gap->offset + gap->size);
	int r = 0;

	if (gap->size > 0 && after > run->before)
		run->more += after - run->before;
	/* After a crash it is not known whether those that there are were punched. */
	if (gap->size > 0 && c->stage == STAGE_LIST && run == &c->stay &&
		(after > run->before || c->is_marked))
		r = gap_add(c, gap);
	run->gap.size = run->before = 0;
	return r;
}

static int run_add(struct compact *c, struct run *run, const struct gap *frame, uint64_t punched)
{
	int r = 0;

	if (run->gap.size > 0 && (frame->offset != run->gap.offset + run->gap.size ||
					 run->gap.size + frame->size > FRAME_LEN_MAX))
		r = run_end(c, run);
	if (run->gap.size == 0) {
		if (!gap_fits(frame->offset) || frame->size > FRAME_LEN_MAX)
			return r;
		run->gap.offset = frame->offset;
	}
	run->gap.last = frame->offset;
	run->gap.size += frame->size;
	run->before += punched;
	return r;
}

static void count(struct compact *c, enum fate fate, const struct gap *frame, uint64_t sealed)
{
	if (fate == FATE_LIVES) {
		c->lives.objects++;
		c->lives.bytes += sealed;
		c->live += frame->size;
	}
	c->num_stay += fate == FATE_STAYS;
	c->num_held += fate == FATE_HELD;
}

/* The next frame of the arena. */
static int add_frame(struct engine *engine, struct gc *gc, const struct sealed_entry *entry)
{
	bool is_object = entry->type == FRAME_OBJECT;
	struct place payload = entry->object.place;
	struct compact *c = gc->compact;
	enum fate fate = gc_judge(engine, gc, entry);
	bool is_free = fate == FATE_DEAD || fate == FATE_GAP;
	uint64_t end = payload.offset + payload.len, punched = 0;
	struct gap frame = { .offset = payload.offset -
				       (is_object ? GC_TO_SEALED : FRAME_HEAD_SIZE) };
	int r;

	frame.size = frame_size(payload.len + (is_object ? FRAME_OBJECT_HEAD : 0));
	if (fate == FATE_GAP || (is_object && fate == FATE_DEAD))
		punched = gc_blocks(payload.offset, end);
	c->punched += punched;
	count(c, fate, &frame, payload.len);
	r = is_free ? run_add(c, &c->stay, &frame, punched) : run_end(c, &c->stay);
	if (r == 0)
		r = is_free || fate == FATE_LIVES ? run_add(c, &c->move, &frame, punched)
						  : run_end(c, &c->move);
	return r;
}

int gc_judge_some(struct engine *engine, struct gc *gc)
{
	struct compact *c = gc->compact;
	struct sealed_entry entry;
	int r = 1;

	for (uint32_t i = 0; r == 1 && i < gc->options.rows; i++) {
		r = sealed_walk_next(&c->walk.walk, &entry);
		if (r == 1 && (r = add_frame(engine, gc, &entry)) == 0)
			r = 1;
	}
	if (r == 1)
		return 1;
	gc_walk_close(engine, &c->walk);
	if (r == 0)
		r = run_end(c, &c->stay);
	if (r == 0)
		r = run_end(c, &c->move);
	return r;
}

bool gc_is_empty(const struct compact *c)
{
	return c->lives.objects == 0 && c->num_stay == 0;
}
