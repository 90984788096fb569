#include "stored/gc_state.h"

#include <errno.h>

struct gc_arena *gc_arena(const struct gc *gc, uint32_t number)
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
	struct gc_arena *arena = gc_arena(gc, place.arena);

	if (arena)
		arena->live += is_live ? place.len : -(uint64_t)place.len;
}

int gc_walk_open(struct engine *engine, struct gc_walk *w, uint32_t number, bool with_objects)
{
	int r;

	if (w->is_open)
		return 1;
	r = arenas_lend(&engine->arenas, number, ARENAS_GC);
	if (r >= 0)
		r = arenas_open_sealed(&engine->arenas, number, &w->sealed);
	if (r == 0) {
		r = sealed_walk_begin(&w->walk, &w->sealed, with_objects);
		if (r < 0)
			sealed_arena_close(&w->sealed);
	}
	w->is_open = r == 0;
	if (!w->is_open)
		arenas_give_back(&engine->arenas, ARENAS_GC);
	return r == 0 ? 1 : r == -EBADMSG || r == -ENODATA || r == -ENOENT ? 0 : r;
}

void gc_walk_close(struct engine *engine, struct gc_walk *w)
{
	if (!w->is_open)
		return;
	sealed_walk_end(&w->walk);
	sealed_arena_close(&w->sealed);
	arenas_give_back(&engine->arenas, ARENAS_GC);
	w->is_open = false;
}
