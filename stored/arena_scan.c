#include "stored/arena_state.h"

#include <errno.h>
#include <string.h>

struct visit {
	struct arenas *a;
	struct arena *arena;
	uint64_t from; /* frames before are not visited */
	struct scan scan;
	struct scan one; /* of single frames, while the footer is read */
	arenas_frame_fn *fn;
	arenas_damage_fn *damage;
	void *arg;
};

static int visit_frame(struct visit *v, const struct frame_view *frame)
{
	if (frame->type == FRAME_END) {
		v->arena->has_ended = true;
		/* It shares its number with the next arena's first frame. */
		if (frame->sequence > v->a->next_sequence)
			v->a->next_sequence = frame->sequence;
		return 0;
	}
	if (frame->sequence >= v->a->next_sequence)
		v->a->next_sequence = frame->sequence + 1;
	return v->fn(v->arg, frame);
}

static unsigned strictness(const struct visit *v)
{
	return v->a->skips_unreadable ? 0 : SCAN_STRICT;
}

static int visit_sealed(
	void *arg, const struct sealed_object *object, uint32_t type, struct place place)
{
	struct visit *v = arg;
	struct frame_view frame = { .type = FRAME_OBJECT };
	struct scan_item item;
	uint8_t head[FRAME_OBJECT_HEAD];
	int kind;

	if (place.offset < v->from)
		return 0;
	if (object) {
		memcpy(head, object->id, 32);
		memcpy(head + 32, object->tag, 32);
		frame.place = place;
		frame.place.offset -= FRAME_OBJECT_HEAD;
		frame.place.len += FRAME_OBJECT_HEAD;
		frame.payload = head;
		return v->fn(v->arg, &frame);
	}
	if (type == 0) {
		v->damage(v->arg, place.arena, place.offset, place.offset + place.len, false);
		return 0;
	}
	place.offset -= FRAME_HEAD_SIZE;
	scan_start(&v->one, v->arena->fd, place.arena, v->arena->id, place.offset,
		place.offset + frame_size(place.len), strictness(v));
	kind = scan_next(&v->one, &item);
	if (kind == SCAN_FRAME)
		return visit_frame(v, &item.frame);
	if (kind == SCAN_DAMAGE)
		v->damage(v->arg, place.arena, item.from, item.to, false);
	return kind < 0 ? kind : 0;
}

/* 1: by its footer. 0: it has none that can be used. */
static int visit_footer(struct visit *v)
{
	struct sealed_arena sealed;
	int r;

	if (!v->arena->is_sealed)
		return 0;
	r = arenas_open_sealed(v->a, v->arena->number, &sealed);
	if (r == 0) {
		/* Known to be whole before anything is done by it. */
		r = sealed_arena_check(&sealed);
		if (r < 0)
			sealed_arena_close(&sealed);
	}
	if (r == -EBADMSG || r == -ENODATA) {
		v->arena->is_sealed = false; /* to be sealed anew */
		return 0;
	}
	if (r < 0)
		return r;
	if (sealed.trailer.last_sequence >= v->a->next_sequence)
		v->a->next_sequence = sealed.trailer.last_sequence + 1;
	r = sealed_arena_walk(&sealed, visit_sealed, v);
	sealed_arena_close(&sealed);
	return r < 0 ? r : 1;
}

/* A checkpoint may stand right behind a FRAME_END, which then is not visited. */
static bool ends_before(struct visit *v, uint64_t offset)
{
	struct scan_item item;

	if (offset < FRAME_SUPER_SIZE + FRAME_HEAD_SIZE || offset > v->arena->size)
		return false;
	scan_start(&v->one, v->arena->fd, v->arena->number, v->arena->id, offset - FRAME_HEAD_SIZE,
		offset, 0);
	return scan_next(&v->one, &item) == SCAN_FRAME && item.frame.type == FRAME_END;
}

static int visit_arena(struct visit *v, uint64_t offset, bool is_last)
{
	struct arena *arena = v->arena;
	struct scan_item item;
	uint64_t end = arena->size;
	int kind, r;

	if (ends_before(v, offset)) {
		arena->has_ended = true;
		arena->size = offset;
		return 0;
	}
	v->from = offset;
	r = visit_footer(v);
	if (r != 0)
		return r < 0 ? r : 0;
	/* Nothing is punched out of an arena that is appended to. */
	scan_start(&v->scan, arena->fd, arena->number, arena->id, offset, end,
		SCAN_SEALED | strictness(v) | (is_last ? SCAN_TORN : SCAN_HOLES));
	v->scan.next = v->a->next_sequence;
	while ((kind = scan_next(&v->scan, &item)) > 0) {
		r = 0;
		if (kind == SCAN_FRAME)
			r = visit_frame(v, &item.frame);
		else
			v->damage(
				v->arg, arena->number, item.from, item.to, item.is_tail && is_last);
		if (r < 0)
			return r;
	}
	if (kind < 0)
		return kind;
	if (arena->has_ended)
		arena->size = v->scan.offset;
	if (!is_last || v->scan.offset == end)
		return 0;
	/* A last frame without its padding is whole, but the next must not begin inside it. */
	r = v->a->io->ftruncate(v->a->io->ctx, arena->fd, v->scan.offset);
	arena->size = v->scan.offset;
	v->a->written++;
	return r;
}

int arenas_scan(struct arenas *a, uint32_t arena, uint64_t offset, arenas_frame_fn *fn,
	arenas_damage_fn *damage, void *arg)
{
	struct visit v = { .a = a, .fn = fn, .damage = damage, .arg = arg };
	size_t i;
	int r;

	r = scan_init(&v.scan, a->io);
	if (r == 0)
		r = scan_init(&v.one, a->io);
	for (i = 0; r == 0 && i < a->num; i++) {
		if (a->list[i].number < arena)
			continue;
		v.arena = &a->list[i];
		r = arenas_lend(a, v.arena->number, ARENAS_SCAN);
		if (r < 0)
			break;
		if (v.arena->sequence > a->next_sequence)
			a->next_sequence = v.arena->sequence;
		if (v.arena->number != arena || offset < FRAME_SUPER_SIZE)
			offset = FRAME_SUPER_SIZE;
		r = visit_arena(&v, offset, i + 1 == a->num);
	}
	arenas_give_back(a, ARENAS_SCAN);
	a->flushed = a->scanned = a->next_sequence;
	scan_release(&v.scan);
	scan_release(&v.one);
	return r;
}

/* ---- verifying */

/* A place where a frame began may lie in a gap by now: then the frames go on behind it. */
static int leave_gap(struct visit *v, struct place *at)
{
	const struct arena *arena = v->arena;
	struct scan *s = &v->scan;
	struct scan_item item;
	int kind;

	scan_start(s, arena->fd, arena->number, arena->id, at->offset, arena->size, 0);
	kind = scan_next(s, &item);
	if (kind != SCAN_DAMAGE)
		return kind < 0 ? kind : 0;
	scan_start(s, arena->fd, arena->number, arena->id, FRAME_SUPER_SIZE, arena->size, 0);
	while (s->offset < at->offset && (kind = scan_next(s, &item)) > 0)
		if (kind == SCAN_FRAME && item.frame.type == FRAME_GAP && s->offset > at->offset)
			at->offset = s->offset;
	return kind < 0 ? kind : 0;
}

/* From *at on in this arena, at most about max bytes. 1: its end was reached. */
static int verify_arena(struct visit *v, struct place *at, uint64_t max)
{
	const struct arena *arena = v->arena;
	struct scan *s = &v->scan;
	struct scan_item item;
	int kind, r = 0;

	if (at->offset > FRAME_SUPER_SIZE)
		r = leave_gap(v, at);
	if (r < 0)
		return r;
	scan_start(s, arena->fd, arena->number, arena->id, at->offset, arena->size,
		SCAN_SEALED | SCAN_HOLES);
	do {
		kind = scan_next(s, &item);
		if (kind == SCAN_FRAME)
			r = v->fn(v->arg, &item.frame);
		else if (kind == SCAN_DAMAGE)
			v->damage(v->arg, arena->number, item.from, item.to, item.is_tail);
	} while (kind > 0 && r == 0 && s->offset - at->offset < max);
	at->offset = s->offset;
	return r < 0 ? r : kind < 0 ? kind : kind == 0;
}

static struct place start_of(const struct arena *arena)
{
	return (struct place){ .arena = arena->number, .offset = FRAME_SUPER_SIZE };
}

int arenas_verify(struct arenas *a, struct place *at, uint64_t max, uint64_t *ret_bytes,
	arenas_frame_fn *fn, arenas_damage_fn *damage, void *arg)
{
	struct visit v = { .a = a, .fn = fn, .damage = damage, .arg = arg };
	uint64_t from;
	size_t i = 0;
	int r;

	*ret_bytes = 0;
	while (i < a->num && a->list[i].number < at->arena)
		i++;
	if (i == a->num)
		return 0;
	v.arena = &a->list[i];
	if (v.arena->number != at->arena || at->offset < FRAME_SUPER_SIZE)
		*at = start_of(v.arena);
	from = at->offset;
	r = scan_init(&v.scan, a->io);
	if (r == 0)
		r = arenas_lend(a, at->arena, ARENAS_SCAN);
	if (r >= 0)
		r = verify_arena(&v, at, max);
	arenas_give_back(a, ARENAS_SCAN);
	scan_release(&v.scan);
	if (r < 0)
		return r;
	*ret_bytes = at->offset - from;
	if (r == 0)
		return 1;
	if (i + 1 == a->num)
		return 0;
	*at = start_of(&a->list[i + 1]);
	return 1;
}
