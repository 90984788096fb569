#include "stored/scrub.h"

#include "cas/bytes.h"
#include "stored/damage.h"
#include "stored/engine_state.h"
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
	int r;

	le32_put(row + 1, scrub->is_running);
	le32_put(row + 5, scrub->rate);
	le32_put(row + 9, scrub->at.arena);
	for (size_t i = 0; i < 9; i++)
		le64_put(row + 13 + 8 * i, words[i]);
	r = db_put(txn(engine), DB_META, "scrub", 5, row, sizeof(row));
	engine->ops++;
	return r;
}

int scrub_load(struct engine *engine, struct scrub *ret)
{
	uint64_t *words[8] = { &ret->at.offset, &ret->started, &ret->finished, &ret->bytes,
		&ret->objects, &ret->damaged, &ret->lost_bytes, &ret->healed };
	const uint8_t *row;
	size_t len;
	int r;

	*ret = (struct scrub){ 0 };
	r = db_get(txn(engine), DB_META, "scrub", 5, &row, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
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
};

struct walk {
	struct engine *engine;
	struct scrub *scrub;
	struct range ranges[RANGES_MAX];
	size_t num;
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
	struct range *last = &walk->ranges[walk->num - (walk->num == RANGES_MAX)];

	if (walk->num < RANGES_MAX) {
		walk->ranges[walk->num++] = (struct range){ arena, from, to };
	} else if (last->arena == arena) {
		/* What lies between is looked at again below and found whole. */
		last->to = to;
	}
}

/* The objects that the index has in a range which is not one frame after another any more. Those
 * that are whole all the same are found so. */
static int note_range(struct walk *walk, const struct range *range, uint64_t *objects)
{
	uint8_t(*ids)[32] = NULL;
	size_t num = 0, cap = 0;
	struct db_iter it;
	int r, checked = 0;

	r = db_iter_first(&it, txn(walk->engine), DB_OBJECTS, NULL, 0, NULL, 0);
	while (r > 0) {
		struct object_row row;

		if (object_row_parse(it.value, it.value_len, &row) == 0 &&
			row.place.arena == range->arena && row.place.offset < range->to &&
			row.place.offset + row.place.len > range->from) {
			if (num == cap) {
				void *more = realloc(ids, (cap = cap ? 2 * cap : 64) * 32);

				if (!more) {
					r = -ENOMEM;
					break;
				}
				ids = more;
			}
			memcpy(ids[num++], it.key, 32);
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	for (size_t i = 0; r == 0 && i < num; i++) {
		checked = damage_check(walk->engine, ids[i]);
		*objects += checked == -EBADMSG;
	}
	free(ids);
	return r;
}

/* What the index has in arenas that were set aside. */
static int note_aside(struct walk *walk)
{
	const struct arenas *a = &walk->engine->arenas;
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->num_notes; i++) {
		struct range all = { a->notes[i].number, 0, UINT64_MAX };

		if (a->notes[i].is_aside)
			r = note_range(walk, &all, &walk->scrub->damaged);
	}
	return r;
}

int scrub_step(struct engine *engine, struct scrub *scrub, uint64_t max)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	uint64_t bytes = 0, before;
	int more, r = 0;

	if (!walk)
		return -ENOMEM;
	walk->engine = engine;
	walk->scrub = scrub;
	more = engine_flush(engine);
	if (more == 0 && scrub->at.arena == 0)
		more = note_aside(walk);
	before = scrub->damaged;
	if (more == 0)
		more = arenas_verify(
			&engine->arenas, &scrub->at, max, &bytes, on_frame, on_damage, walk);
	scrub->bytes += bytes;
	for (size_t i = 0; more >= 0 && r == 0 && i < walk->num; i++) {
		const struct range *range = &walk->ranges[i];

		r = note_range(walk, range, &scrub->damaged);
		if (scrub->damaged == before) {
			scrub->lost_bytes += range->to - range->from;
			engine_note_range(engine, range->arena, range->from, range->to);
		}
	}
	free(walk);
	if (more == 0) {
		scrub->is_running = false;
		scrub->finished = engine->io->now(engine->io->ctx);
	}
	return r < 0 ? r : more;
}
