#include "stored/census.h"

#include "stored/engine_state.h"
#include "stored/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- objects */

static int count_file(struct engine *engine, const struct arena *arena, struct census_arena *ret)
{
	const struct store_io *io = engine->io;
	struct sealed_trailer trailer;
	struct stat st;
	int fd, r;

	*ret = (struct census_arena){ .number = arena->number, .is_sealed = arena->is_sealed };
	fd = arenas_fd(&engine->arenas, arena->number);
	if (fd < 0)
		return fd;
	r = io->fstat(io->ctx, fd, &st);
	if (r < 0)
		return r;
	ret->size = (uint64_t)st.st_size;
	ret->disk = (uint64_t)st.st_blocks * 512;
	/* All that was ever put there; what lives is taken away from it at the end. */
	if (arena->is_sealed && sealed_trailer_read(io, fd, arena->number, arena->id,
					(uint64_t)st.st_size, &trailer) == 0)
		ret->dead = trailer.object_bytes;
	return 0;
}

int census_begin(struct engine *engine, struct census *ret)
{
	const struct arenas *a = &engine->arenas;
	int r = 0;

	*ret = (struct census){ .num = a->num };
	ret->arenas = calloc(a->num + 1, sizeof(*ret->arenas));
	if (!ret->arenas)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < a->num; i++)
		r = count_file(engine, &a->list[i], &ret->arenas[i]);
	return r;
}

static struct census_arena *find(struct census *census, uint32_t number)
{
	size_t low = 0, high = census->num;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (census->arenas[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low < census->num && census->arenas[low].number == number ? &census->arenas[low]
									 : NULL;
}

static void count_object(struct census *census, const struct db_iter *it)
{
	struct census_arena *arena;
	struct object_row row;

	if (object_row_parse(it->value, it->value_len, &row) < 0)
		return;
	arena = find(census, row.place.arena);
	if (!arena)
		return;
	arena->objects++;
	arena->live += row.place.len;
}

static void subtract(struct census *census)
{
	for (size_t i = 0; i < census->num; i++) {
		struct census_arena *arena = &census->arenas[i];

		arena->dead = arena->dead > arena->live ? arena->dead - arena->live : 0;
	}
}

/* Of one arena. What has gone since, or cannot be read, is not counted. */
static int count_footer(struct engine *engine, struct census *census)
{
	uint32_t number = census->arenas[census->footers++].number;
	struct sealed_arena sealed;
	struct sealed_entry entry;
	struct sealed_walk walk;
	int r;

	if (arenas_open_sealed(&engine->arenas, number, &sealed) < 0)
		return 1;
	r = sealed_walk_begin(&walk, &sealed, false);
	while (r == 0 && sealed_walk_next(&walk, &entry) == 1) {
		if (frame_is_change(entry.type))
			census->changes += frame_size(entry.object.place.len);
		else if (entry.type == FRAME_ROWS || entry.type == FRAME_BASE)
			census->bases += frame_size(entry.object.place.len);
	}
	sealed_walk_end(&walk);
	sealed_arena_close(&sealed);
	return r < 0 ? r : 1;
}

int census_step(struct engine *engine, struct census *census, unsigned max)
{
	struct db_iter it;
	int r;

	if (census->footers < census->num)
		return count_footer(engine, census);
	r = db_iter_first(&it, txn(engine), DB_OBJECTS, NULL, 0, census->next, 32);
	while (r > 0 && max-- > 0) {
		count_object(census, &it);
		r = db_iter_next(&it);
	}
	if (r > 0 && it.key_len == 32)
		memcpy(census->next, it.key, 32);
	db_iter_close(&it);
	if (r == 0)
		subtract(census);
	return r;
}

void census_release(struct census *census)
{
	free(census->arenas);
	*census = (struct census){ 0 };
}

/* ---- damage */

bool engine_note_range(struct engine *engine, uint32_t arena, uint64_t from, uint64_t to)
{
	struct census_range *list = engine->ranges;

	for (size_t i = 0; i < engine->num_ranges; i++)
		if (list[i].arena == arena && list[i].from <= from && list[i].to >= to)
			return false;
	if (engine->num_ranges == ENGINE_RANGES_MAX)
		return false;
	list[engine->num_ranges++] = (struct census_range){ arena, from, to };
	return true;
}

void engine_note_record(struct engine *engine, struct place place)
{
	if (engine_note_range(engine, place.arena, place.offset, place.offset + place.len))
		engine_log(engine, 3, "store: arena %u: the record at %llu is damaged", place.arena,
			(unsigned long long)place.offset);
}

static int note_listed(
	void *arg, const struct sealed_object *object, uint32_t type, struct place place)
{
	if (!object && type == 0)
		engine_note_range(arg, place.arena, place.offset, place.offset + place.len);
	return 0;
}

/* An error only means that less is known. */
static void note_footer(struct engine *engine, const struct arena *arena)
{
	struct sealed_arena sealed;

	if (arenas_open_sealed(&engine->arenas, arena->number, &sealed) < 0)
		return;
	if (sealed.trailer.num_damaged > 0)
		sealed_arena_walk(&sealed, note_listed, engine);
	sealed_arena_close(&sealed);
}

static int compare(const void *x, const void *y)
{
	const struct census_range *a = x, *b = y;

	if (a->arena != b->arena)
		return a->arena < b->arena ? -1 : 1;
	return a->from < b->from ? -1 : a->from > b->from;
}

size_t census_damage(struct engine *engine, struct census_range *ret, size_t max)
{
	size_t num;

	for (size_t i = 0; i < engine->arenas.num; i++)
		if (engine->arenas.list[i].is_sealed)
			note_footer(engine, &engine->arenas.list[i]);
	qsort(engine->ranges, engine->num_ranges, sizeof(engine->ranges[0]), compare);
	num = engine->num_ranges < max ? engine->num_ranges : max;
	memcpy(ret, engine->ranges, num * sizeof(*ret));
	return num;
}
