#include "stored/scrub.h"

#include "cas/bytes.h"
#include "stored/damage.h"
#include "stored/meta.h"
#include "stored/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROW_SIZE   85
#define RANGES_MAX 64

/* ---- the row: u8 version 1 | u32 running | u32 rate | u32 arena | then u64s */

int scrub_save(struct engine *engine, const struct scrub *scrub)
{
	const uint64_t words[9] = { scrub->at.offset, scrub->started, scrub->finished, scrub->bytes,
		scrub->objects, scrub->damaged, scrub->lost_bytes, scrub->healed, 0 };
	uint8_t row[ROW_SIZE] = { 1 };

	le32_put(row + 1, scrub->is_running);
	le32_put(row + 5, scrub->rate);
	le32_put(row + 9, scrub->at.arena);
	for (size_t i = 0; i < 9; i++)
		le64_put(row + 13 + 8 * i, words[i]);
	engine->ops++;
	return meta_put(engine, "scrub", row, sizeof(row));
}

int scrub_load(struct engine *engine, struct scrub *ret)
{
	uint64_t *words[8] = { &ret->at.offset, &ret->started, &ret->finished, &ret->bytes,
		&ret->objects, &ret->damaged, &ret->lost_bytes, &ret->healed };
	const uint8_t *row;
	size_t len;
	int r;

	*ret = (struct scrub){ 0 };
	r = meta_get(engine, "scrub", &row, &len);
	if (r <= 0)
		return r;
	if (len != ROW_SIZE || row[0] != 1)
		return -EUCLEAN;
	ret->is_running = le32_get(row + 1);
	ret->rate = le32_get(row + 5);
	ret->at.arena = le32_get(row + 9);
	for (size_t i = 0; i < 8; i++)
		*words[i] = le64_get(row + 13 + 8 * i);
	return 0;
}

int scrub_start(struct engine *engine, struct scrub *scrub, uint32_t rate)
{
	uint64_t finished = scrub->finished;

	*scrub = (struct scrub){ .is_running = true, .rate = rate, .finished = finished };
	scrub->started = engine->io->now(engine->io->ctx);
	return scrub_save(engine, scrub);
}

uint64_t scrub_total(const struct engine *engine)
{
	return arenas_size(&engine->arenas);
}

/* ---- walking */

struct range {
	uint32_t arena;
	uint64_t from, to;
	uint64_t objects; /* damaged ones */
};

struct found {
	uint8_t id[32];
	struct range *in;
};

struct walk {
	struct engine *engine;
	struct scrub *scrub;
	struct range ranges[RANGES_MAX]; /* that are not one frame after another any more */
	size_t num;
	struct found *found; /* objects that the index has there */
	size_t num_found, cap_found;
};

static int on_frame(void *arg, const struct frame_view *frame)
{
	struct walk *walk = arg;
	struct place place = frame->place;
	uint8_t id[32];

	if (frame->type != FRAME_OBJECT)
		return 0;
	walk->scrub->objects++;
	if (!frame->is_hole)
		return 0;
	/* Freed, unless the index says that it should be there. */
	memcpy(id, frame->payload, sizeof(id));
	place.offset += FRAME_OBJECT_HEAD;
	place.len -= FRAME_OBJECT_HEAD;
	if (!damage_is_expected(walk->engine, id, place))
		return 0;
	walk->scrub->damaged++;
	return damage_note(walk->engine, id, place);
}

static void on_damage(void *arg, uint32_t arena, uint64_t from, uint64_t to, bool is_tail)
{
	struct walk *walk = arg;

	if (walk->num < RANGES_MAX)
		walk->ranges[walk->num++] = (struct range){ arena, from, to, 0 };
	else /* What lies between is looked at again below and found whole. */
		walk->ranges[walk->num - 1].to = to;
}

static struct range *range_of(struct walk *walk, struct place place)
{
	for (size_t i = 0; i < walk->num; i++) {
		struct range *range = &walk->ranges[i];

		if (range->arena == place.arena && place.offset < range->to &&
			place.offset + place.len > range->from)
			return range;
	}
	return NULL;
}

static int found_add(struct walk *walk, const uint8_t id[32], struct range *range)
{
	if (walk->num_found == walk->cap_found) {
		size_t cap = walk->cap_found ? walk->cap_found * 2 : 64;
		struct found *found = realloc(walk->found, cap * sizeof(*found));

		if (!found)
			return -ENOMEM;
		walk->found = found;
		walk->cap_found = cap;
	}
	memcpy(walk->found[walk->num_found].id, id, 32);
	walk->found[walk->num_found++].in = range;
	return 0;
}

static int find(struct walk *walk)
{
	struct object_row row;
	struct range *range;
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(walk->engine), DB_OBJECTS, NULL, 0, NULL, 0);
	while (r > 0) {
		range = object_row_parse(it.value, it.value_len, &row) == 0
				? range_of(walk, row.place)
				: NULL;
		r = range ? found_add(walk, it.key, range) : 0;
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

/* The objects that the index has in the ranges, found by one walk over it. Those that are whole all
 * the same are found so. */
static int note_ranges(struct walk *walk)
{
	int r = walk->num > 0 ? find(walk) : 0;

	for (size_t i = 0; r == 0 && i < walk->num_found; i++)
		if (damage_check(walk->engine, walk->found[i].id) == -EBADMSG) {
			walk->found[i].in->objects++;
			walk->scrub->damaged++;
		}
	walk->num_found = 0;
	return r;
}

/* What the index has in arenas that were set aside. */
static int note_aside(struct walk *walk)
{
	const struct arenas *a = &walk->engine->arenas;
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->num_notes; i++) {
		if (!a->notes[i].is_aside)
			continue;
		walk->ranges[walk->num++] = (struct range){ a->notes[i].number, 0, UINT64_MAX, 0 };
		if (walk->num < RANGES_MAX)
			continue;
		r = note_ranges(walk);
		walk->num = 0;
	}
	if (r == 0)
		r = note_ranges(walk);
	walk->num = 0;
	return r;
}

/* Where no object was lost something else was. */
static void note_rest(struct walk *walk)
{
	for (size_t i = 0; i < walk->num; i++) {
		const struct range *range = &walk->ranges[i];

		if (range->objects > 0)
			continue;
		walk->scrub->lost_bytes += range->to - range->from;
		engine_note_range(walk->engine, range->arena, range->from, range->to);
	}
}

static int walk_on(struct walk *walk, uint64_t max)
{
	struct engine *engine = walk->engine;
	uint64_t bytes = 0;
	int more, r;

	r = engine_flush(engine);
	if (r == 0 && walk->scrub->at.arena == 0)
		r = note_aside(walk);
	if (r < 0)
		return r;
	more = arenas_verify(
		&engine->arenas, &walk->scrub->at, max, &bytes, on_frame, on_damage, walk);
	walk->scrub->bytes += bytes;
	if (more < 0)
		return more;
	r = note_ranges(walk);
	if (r == 0)
		note_rest(walk);
	return r < 0 ? r : more;
}

int scrub_step(struct engine *engine, struct scrub *scrub, uint64_t max)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	int more;

	if (!walk)
		return -ENOMEM;
	walk->engine = engine;
	walk->scrub = scrub;
	more = walk_on(walk, max);
	free(walk->found);
	free(walk);
	if (more == 0) {
		scrub->is_running = false;
		scrub->finished = engine->io->now(engine->io->ctx);
	}
	return more;
}
