#include "stored/gc_state.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)
#define DAY_NS	  (86400 * SECOND_NS)

static void count(struct gc_count *count, uint64_t bytes)
{
	count->objects++;
	count->bytes += bytes;
}

/* ---- notes */

static void note_key(uint8_t key[33], const uint8_t id[32])
{
	key[0] = 'd';
	memcpy(key + 1, id, 32);
}

/* When it was found dead first; 0: never. */
static int note_get(struct engine *engine, const uint8_t id[32], uint64_t *ret)
{
	const uint8_t *row;
	uint8_t key[33];
	size_t len;
	int r;

	*ret = 0;
	note_key(key, id);
	r = db_get(txn(engine), DB_GC, key, sizeof(key), &row, &len);
	if (r == 0 && len == 8)
		*ret = le64_get(row);
	return r == -ENOENT ? 0 : r;
}

int gc_notes_step(struct engine *engine, struct gc *gc)
{
	uint8_t(*gone)[33] = malloc(GC_ROWS_MAX * sizeof(*gone));
	size_t num = 0, seen = 0, i;
	struct db_iter it;
	bool end;
	int r;

	if (!gone)
		return -ENOMEM;
	r = db_iter_first(&it, txn(engine), DB_GC, "d", 1, gc->at_len ? gc->at : NULL, gc->at_len);
	for (; r == 1 && seen < gc->options.rows; seen++) {
		int why = it.key_len == 33 ? gc_table_why(&gc->table, it.key + 1) : -1;

		if (why != GC_WHY_NONE && it.key_len == 33)
			memcpy(gone[num++], it.key, 33);
		memcpy(gc->at, it.key, it.key_len);
		gc->at_len = it.key_len;
		r = db_iter_next(&it);
	}
	end = r == 0;
	db_iter_close(&it);
	for (i = 0; r >= 0 && i < num; i++) {
		r = db_delete(txn(engine), DB_GC, gone[i], 33);
		engine->ops++;
	}
	free(gone);
	if (r < 0)
		return r;
	if (end) {
		gc->phase = GC_VERDICT;
		gc->at_len = 0;
	} else if (gc->at_len < sizeof(gc->at)) {
		gc->at[gc->at_len++] = 0; /* behind the last one */
	}
	return 1;
}

/* ---- judging */

struct dead {
	uint8_t id[32];
	struct place place;
};

static void count_held(struct gc_report *report, uint64_t first, uint64_t bytes)
{
	uint64_t until = first + GC_PEERS_DAYS * DAY_NS;

	count(&report->peers, bytes);
	if (report->peers_until == 0 || until < report->peers_until)
		report->peers_until = until;
}

/* An object that nothing reached; 1: it goes now. */
static int judge(struct engine *engine, struct gc *gc, const struct dead *dead)
{
	uint64_t first, grace = gc->options.grace_s * SECOND_NS;
	uint8_t key[33], row[8];
	int r;

	r = note_get(engine, dead->id, &first);
	if (r < 0)
		return r;
	if (gc->options.is_single)
		first = gc->now;
	if (first == 0 || !gc->options.is_final || first > gc->now || gc->now - first < grace) {
		uint64_t until = (first ? first : gc->now) + grace;

		count(&gc->report.noted, dead->place.len);
		if (gc->report.grace_until == 0 || until < gc->report.grace_until)
			gc->report.grace_until = until;
		if (first != 0 || gc->options.is_dry)
			return 0;
		note_key(key, dead->id);
		le64_put(row, gc->now);
		engine->ops++;
		return db_put(txn(engine), DB_GC, key, sizeof(key), row, sizeof(row));
	}
	if (gc_peers_hold(gc, first)) {
		count_held(&gc->report, first, dead->place.len);
		return 0;
	}
	if (gc->options.is_dry) {
		count(&gc->report.freed, dead->place.len);
		gc_count_live(gc, dead->place, false);
		gc_table_doom(&gc->table, dead->id);
		return 0;
	}
	return 1;
}

static void count_history(struct gc_report *report, enum gc_why why, uint64_t bytes)
{
	count(&report->history, bytes);
	count(&report->ages[why - GC_WHY_DAY], bytes);
}

/* Counts an object; true: it is one to be judged. */
static bool look(struct gc *gc, const uint8_t id[32], const struct object_row *row)
{
	struct gc_report *report = &gc->report;
	/* What came since is not in the table, which may take it for another. */
	bool is_in = arenas_is_before(row->place, gc->begin);
	int why = is_in ? gc_table_why(&gc->table, id) : -1;

	count(&report->all, row->place.len);
	gc_count_live(gc, row->place, true);
	if (why < 0 || why == GC_WHY_LIVE)
		count(&report->live, row->place.len);
	else if (why != GC_WHY_NONE)
		count_history(report, (enum gc_why)why, row->place.len);
	else if (row->place.arena >= gc->begin.arena)
		count(&report->tail, row->place.len);
	else if (arenas_is_before(row->place, gc->old))
		count(&report->old, row->place.len);
	else
		return true;
	return false;
}

/* ---- freeing */

int gc_note_tags(struct engine *engine)
{
	return db_put(txn(engine), DB_GC, "t", 1, NULL, 0);
}

static int drop_notes(struct engine *engine, const struct dead *dead, size_t num)
{
	uint8_t key[33];
	int r = 0;

	for (size_t i = 0; r == 0 && i < num; i++) {
		note_key(key, dead[i].id);
		r = db_delete(txn(engine), DB_GC, key, sizeof(key));
		r = r == -ENOENT ? 0 : r;
	}
	return r;
}

static int free_all(struct engine *engine, struct gc *gc, const struct dead *dead, size_t num)
{
	struct frame_freed *freed = calloc(num, sizeof(*freed));
	int r;

	if (!freed)
		return -ENOMEM;
	for (size_t i = 0; i < num; i++) {
		struct place place = dead[i].place;

		freed[i].arena = place.arena;
		freed[i].offset = place.offset - GC_TO_SEALED;
		freed[i].len = place.len + FRAME_OBJECT_HEAD;
		memcpy(freed[i].id, dead[i].id, 32);
		gc_table_doom(&gc->table, dead[i].id);
		count(&gc->report.freed, place.len);
		gc_count_live(gc, place, false);
		if (!gc_holds_block(freed[i].offset, freed[i].len))
			gc->report.unpunched += frame_size(freed[i].len);
	}
	r = object_free(engine, freed, (uint32_t)num);
	free(freed);
	if (r == 0 && !gc->options.is_single)
		r = drop_notes(engine, dead, num);
	engine->ops += num;
	return r;
}

/* In one step, so that nothing is promised in between. */
static int judge_all(struct engine *engine, struct gc *gc, struct dead *dead, size_t num)
{
	size_t num_freed = 0;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < num; i++) {
		r = judge(engine, gc, &dead[i]);
		if (r == 1)
			dead[num_freed++] = dead[i];
	}
	return r < 0 || num_freed == 0 ? r : free_all(engine, gc, dead, num_freed);
}

int gc_verdict_step(struct engine *engine, struct gc *gc)
{
	struct dead *dead = malloc(GC_ROWS_MAX * sizeof(*dead));
	struct object_row row;
	size_t num = 0, seen;
	struct db_iter it;
	bool end;
	int r;

	if (!dead)
		return -ENOMEM;
	r = db_iter_first(
		&it, txn(engine), DB_OBJECTS, "", 0, gc->at_len ? gc->at : NULL, gc->at_len);
	if (r == 1 && gc->at_len == 32 && memcmp(it.key, gc->at, 32) == 0)
		r = db_iter_next(&it);
	for (seen = 0; r == 1 && seen < gc->options.rows; seen++) {
		if (it.key_len != 32 || object_row_parse(it.value, it.value_len, &row) < 0) {
			r = -EUCLEAN;
			break;
		}
		memcpy(gc->at, it.key, 32);
		gc->at_len = 32;
		gc->report.done++;
		if (look(gc, it.key, &row)) {
			memcpy(dead[num].id, it.key, 32);
			dead[num++].place = row.place;
		}
		r = db_iter_next(&it);
	}
	end = r == 0;
	db_iter_close(&it);
	if (r >= 0)
		r = judge_all(engine, gc, dead, num);
	free(dead);
	if (r < 0)
		return r;
	if (end) {
		gc->phase = gc->options.is_dry ? GC_BASE : GC_TAGS;
		gc->at_len = 0;
	}
	return 1;
}

/* ---- tags of what has gone */

/* It takes the table's word that an object is here, but not that it is not. */
static bool is_gone(struct engine *engine, const struct gc *gc, const uint8_t id[32])
{
	int why = gc_table_why(&gc->table, id);

	return (why < 0 || why == GC_WHY_DOOMED) && !db_has(txn(engine), DB_OBJECTS, id, 32);
}

/* Some rows, and how many of them are to go; 0: that was the end. */
static int tags_find(struct engine *engine, struct gc *gc, uint8_t (*gone)[32], size_t *ret_num)
{
	struct db_iter it;
	size_t seen;
	int r;

	r = db_iter_first(&it, txn(engine), DB_TAGS, "", 0, gc->at_len ? gc->at : NULL, gc->at_len);
	for (seen = 0; r == 1 && seen < gc->options.rows; seen++) {
		if (it.key_len != 32 || it.value_len != 32) {
			r = -EUCLEAN;
			break;
		}
		if (is_gone(engine, gc, it.value))
			memcpy(gone[(*ret_num)++], it.key, 32);
		/* The smallest key behind it. */
		memcpy(gc->at, it.key, 32);
		gc->at[32] = 0;
		gc->at_len = 33;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

int gc_tags_step(struct engine *engine, struct gc *gc)
{
	uint8_t(*gone)[32];
	size_t num = 0, i;
	int r, more;

	if (gc->at_len == 0 && !db_has(txn(engine), DB_GC, "t", 1)) {
		gc->phase = GC_PUNCH;
		return 1;
	}
	gone = malloc(GC_ROWS_MAX * sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	r = more = tags_find(engine, gc, gone, &num);
	for (i = 0; r >= 0 && i < num; i++)
		r = db_delete(txn(engine), DB_TAGS, gone[i], 32);
	free(gone);
	engine->ops += num;
	if (r >= 0 && more == 0) {
		r = db_delete(txn(engine), DB_GC, "t", 1);
		gc->phase = GC_PUNCH;
		gc->at_len = 0;
	}
	return r < 0 && r != -ENOENT ? r : 1;
}
