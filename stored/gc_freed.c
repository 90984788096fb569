#include "stored/gc_state.h"

#include <errno.h>
#include <stdlib.h>

/* Looked up at once: 16 MiB, and one FRAME_FREED never has so many. */
#define NAMES_MAX (1u << 20)
#define STEP	  64 /* times gc->options.rows entries of a footer */

/* An object that one of the frames names. */
struct gc_freed_name {
	uint64_t offset; /* of the object's frame */
	uint32_t arena, frame;
};

void gc_freed_release(struct engine *engine, struct gc_freed *f)
{
	gc_walk_close(engine, &f->walk);
	free(f->frames);
	free(f->names);
	*f = (struct gc_freed){ 0 };
}

static int grow(void **list, size_t *cap, size_t num, size_t size)
{
	size_t want = *cap ? *cap * 2 : 256;
	void *p;

	if (num < *cap)
		return 0;
	p = realloc(*list, want * size);
	if (!p)
		return -ENOMEM;
	*list = p;
	*cap = want;
	return 0;
}

static int add_names(struct gc_freed *f, const uint8_t *payload, int num)
{
	struct frame_freed freed;
	int r = 0;

	for (int i = 0; r == 0 && i < num; i++) {
		frame_freed_parse(payload, i, &freed);
		r = grow((void **)&f->names, &f->cap_names, f->num_names, sizeof(*f->names));
		if (r == 0)
			f->names[f->num_names++] = (struct gc_freed_name){ freed.offset,
				freed.arena, (uint32_t)f->num - 1 };
	}
	return r;
}

static int add(struct gc_freed *f, struct place payload, const uint8_t *data)
{
	int num = frame_freed_num(data, payload.len), r;

	f->is_full = num > 0 && f->num_names > 0 && f->num_names + (size_t)num > NAMES_MAX;
	if (f->is_full)
		return 0;
	r = grow((void **)&f->frames, &f->cap, f->num, sizeof(*f->frames));
	if (r < 0)
		return r;
	/* What cannot be understood stays. */
	f->frames[f->num++] = (struct gc_freed_frame){ payload.offset, num < 0, false };
	return add_names(f, data, num);
}

int gc_freed_add(struct engine *engine, struct gc_freed *f, struct place payload)
{
	uint8_t *data;
	int r;

	if (f->num > 0 && payload.offset <= f->frames[f->num - 1].offset)
		return 0;
	data = malloc(payload.len + 1);
	r = data ? arenas_read(&engine->arenas, payload, data) : -ENOMEM;
	if (r == 0)
		r = add(f, payload, data);
	free(data);
	return r;
}

static int compare(const void *x, const void *y)
{
	const struct gc_freed_name *a = x, *b = y;

	if (a->arena != b->arena)
		return a->arena < b->arena ? -1 : 1;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

static void need(struct gc_freed *f, const struct gc_freed_name *name, uint32_t here)
{
	struct gc_freed_frame *frame = &f->frames[name->frame];

	if (name->arena == here)
		frame->is_needed_here = true;
	else
		frame->is_needed = true;
}

/* All names of this arena that are left. */
static void need_all(struct gc_freed *f, uint32_t arena, uint32_t here)
{
	for (; f->at < f->num_names && f->names[f->at].arena == arena; f->at++)
		need(f, &f->names[f->at], here);
}

/* The names of this arena that lie before an offset name nothing any more; one that is there is
 * needed. Several may name the same. */
static void meet(struct gc_freed *f, uint32_t arena, uint64_t offset, uint32_t here)
{
	for (; f->at < f->num_names && f->names[f->at].arena == arena &&
		f->names[f->at].offset <= offset;
		f->at++)
		if (f->names[f->at].offset == offset)
			need(f, &f->names[f->at], here);
}

static int walk_some(
	struct engine *engine, struct gc *gc, struct gc_freed *f, uint32_t arena, uint32_t here)
{
	struct sealed_entry entry;
	int r = 1;

	for (uint32_t i = 0; r == 1 && i < STEP * gc->options.rows; i++) {
		if (f->at == f->num_names || f->names[f->at].arena != arena) {
			r = 0;
			break;
		}
		r = sealed_walk_next(&f->walk.walk, &entry);
		if (r == 1 && entry.type == FRAME_OBJECT)
			meet(f, arena,
				entry.object.place.offset - FRAME_HEAD_SIZE - FRAME_OBJECT_HEAD,
				here);
	}
	if (r == 1)
		return 1;
	if (r == 0)
		meet(f, arena, UINT64_MAX, here);
	need_all(f, arena, here);
	gc_walk_close(engine, &f->walk);
	return r == 0 || r == -EBADMSG ? 1 : r;
}

int gc_freed_step(struct engine *engine, struct gc *gc, struct gc_freed *f, uint32_t here)
{
	uint32_t arena;
	int r;

	if (f->at == 0 && !f->walk.is_open && f->num_names > 0)
		qsort(f->names, f->num_names, sizeof(*f->names), compare);
	if (f->at == f->num_names) {
		gc_walk_close(engine, &f->walk);
		f->at = f->num_names = 0;
		return 0;
	}
	arena = f->names[f->at].arena;
	if (!arenas_find(&engine->arenas, arena)) {
		/* Gone, and all that was in it. */
		meet(f, arena, UINT64_MAX, here);
		return 1;
	}
	r = gc_walk_open(engine, &f->walk, arena, true);
	if (r == 1)
		return walk_some(engine, gc, f, arena, here);
	need_all(f, arena, here);
	return r < 0 ? r : 1;
}

const struct gc_freed_frame *gc_freed_find(const struct gc_freed *f, uint64_t offset)
{
	size_t low = 0, high = f->num;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (f->frames[mid].offset == offset)
			return &f->frames[mid];
		if (f->frames[mid].offset < offset)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}
