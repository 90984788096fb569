#include "stored/broken.h"
#include "stored/gc_state.h"
#include "stored/object.h"
#include "stored/rows.h"
#include "stored/sealer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PUNCH_STEP 128
#define FRAME_SKIP (FRAME_HEAD_SIZE + FRAME_OBJECT_HEAD) /* from a frame to its sealed bytes */
#define SECOND_NS  UINT64_C(1000000000)

/* Rows of the index. */
static void changed(struct engine *engine, struct gc *gc, size_t rows)
{
	engine->ops += rows;
	gc->changed += rows;
}

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
		int bits = it.key_len == 33 ? gc_table_bits(&gc->table, it.key + 1) : -1;

		if ((bits < 0 || bits & GC_BIT_MARKED) && it.key_len == 33)
			memcpy(gone[num++], it.key, 33);
		memcpy(gc->at, it.key, it.key_len);
		gc->at_len = it.key_len;
		r = db_iter_next(&it);
	}
	end = r == 0;
	db_iter_close(&it);
	for (i = 0; r >= 0 && i < num; i++) {
		r = db_delete(txn(engine), DB_GC, gone[i], 33);
		changed(engine, gc, 1);
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
		changed(engine, gc, 1);
		return db_put(txn(engine), DB_GC, key, sizeof(key), row, sizeof(row));
	}
	if (gc_peers_hold(gc, first)) {
		count(&gc->report.peers, dead->place.len);
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

/* Counts an object; true: it is one to be judged. */
static bool look(struct gc *gc, const uint8_t id[32], const struct object_row *row)
{
	struct gc_report *report = &gc->report;
	int bits = gc_table_bits(&gc->table, id);

	count(&report->all, row->place.len);
	gc_count_live(gc, row->place, true);
	if (bits < 0 || bits & GC_BIT_LIVE)
		count(&report->live, row->place.len);
	else if (bits & GC_BIT_MARKED)
		count(&report->history, row->place.len);
	else if (row->place.arena >= gc->tail)
		count(&report->tail, row->place.len);
	else if (arenas_is_before(row->place, gc->old))
		count(&report->old, row->place.len);
	else
		return true;
	return false;
}

/* ---- freeing */

static void hole_key(uint8_t key[13], uint32_t arena, uint64_t offset)
{
	key[0] = 'h';
	be32_put(key + 1, arena);
	be64_put(key + 5, offset);
}

/* Of an OBJECT frame with a payload of len bytes; of a smaller one nothing can be punched. */
static bool holds_block(uint64_t frame, uint32_t len)
{
	return gc_blocks(frame + FRAME_SKIP, frame + FRAME_HEAD_SIZE + len) > 0;
}

int gc_note_freed(struct engine *engine, const struct frame_freed *freed)
{
	uint8_t key[33], len[4];
	int r;

	if (freed->len < FRAME_OBJECT_HEAD)
		return -EBADMSG;
	/* One that was only moved keeps its note. */
	note_key(key, freed->id);
	r = db_has(txn(engine), DB_OBJECTS, freed->id, 32) ? 0
							   : db_delete(txn(engine), DB_GC, key, 33);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!holds_block(freed->offset, freed->len))
		return 0;
	hole_key(key, freed->arena, freed->offset);
	le32_put(len, freed->len);
	return db_put(txn(engine), DB_GC, key, 13, len, sizeof(len));
}

int gc_note_tags(struct engine *engine)
{
	return db_put(txn(engine), DB_GC, "t", 1, NULL, 0);
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
		freed[i].offset = place.offset - FRAME_SKIP;
		freed[i].len = place.len + FRAME_OBJECT_HEAD;
		memcpy(freed[i].id, dead[i].id, 32);
		gc_table_doom(&gc->table, dead[i].id);
		count(&gc->report.freed, place.len);
		gc_count_live(gc, place, false);
		if (!holds_block(freed[i].offset, freed[i].len))
			gc->report.unpunched += frame_size(freed[i].len);
	}
	r = object_free(engine, freed, (uint32_t)num);
	free(freed);
	changed(engine, gc, num);
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
		gc->phase = gc->options.is_dry ? GC_COMPACT : GC_TAGS;
		gc->at_len = 0;
	}
	return 1;
}

/* ---- tags of what has gone */

/* It takes the table's word that an object is here, but not that it is not. */
static bool is_gone(struct engine *engine, const struct gc *gc, const uint8_t id[32])
{
	int bits = gc_table_bits(&gc->table, id);

	return (bits < 0 || bits & GC_BIT_DOOMED) && !db_has(txn(engine), DB_OBJECTS, id, 32);
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
	changed(engine, gc, num);
	if (r >= 0 && more == 0) {
		r = db_delete(txn(engine), DB_GC, "t", 1);
		gc->phase = GC_PUNCH;
		gc->at_len = 0;
	}
	return r < 0 && r != -ENOENT ? r : 1;
}

/* ---- punching */

struct hole {
	uint8_t key[13];
	struct place place; /* of the sealed bytes */
	uint32_t len;	    /* of the payload */
};

static int holes_read(struct engine *engine, struct hole *holes, size_t *ret_num)
{
	struct db_iter it;
	size_t num = 0;
	int r;

	r = db_iter_first(&it, txn(engine), DB_GC, "h", 1, NULL, 0);
	while (r == 1 && num < PUNCH_STEP) {
		struct hole *hole = &holes[num];

		if (it.key_len != sizeof(hole->key) || it.value_len != 4 ||
			le32_get(it.value) < FRAME_OBJECT_HEAD) {
			r = -EUCLEAN;
			break;
		}
		memcpy(hole->key, it.key, sizeof(hole->key));
		hole->len = le32_get(it.value);
		hole->place.arena = be32_get(it.key + 1);
		hole->place.offset = be64_get(it.key + 5) + FRAME_SKIP;
		hole->place.len = hole->len - FRAME_OBJECT_HEAD;
		num++;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_num = num;
	return r < 0 ? r : 0;
}

int gc_punch_range(
	struct engine *engine, uint32_t arena, uint64_t from, uint64_t to, uint64_t *ret_bytes)
{
	int fd = arenas_fd(&engine->arenas, arena), r;

	uint64_t bytes = gc_blocks(from, to);

	*ret_bytes = 0;
	if (bytes == 0 || fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	from = (from + GC_BLOCK - 1) / GC_BLOCK * GC_BLOCK;
	do
		r = engine->io->fallocate(engine->io->ctx, fd,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, bytes);
	while (r == -EINTR);
	if (r == 0)
		*ret_bytes = bytes;
	/* A file system that cannot do it. */
	return r == -EOPNOTSUPP || r == -ENOSYS ? 0 : r;
}

static int punch(struct engine *engine, struct gc *gc, const struct hole *hole)
{
	uint64_t bytes, from = hole->place.offset;
	int r;

	r = gc_punch_range(engine, hole->place.arena, from, from + hole->place.len, &bytes);
	if (r < 0)
		return r;
	/* What was moved counts for compacting. */
	if (gc->phase == GC_PUNCH) {
		gc->report.punched += bytes;
		gc->report.unpunched += frame_size(hole->len) - bytes;
	}
	changed(engine, gc, 1);
	return db_delete(txn(engine), DB_GC, hole->key, sizeof(hole->key));
}

int gc_punch_step(struct engine *engine, struct gc *gc)
{
	struct hole holes[PUNCH_STEP];
	size_t num = 0;
	int r = 0;

	/* Nothing is punched that a crash could bring back. */
	if (gc->at_len == 0) {
		r = BROKEN(BROKEN_PUNCH_FIRST) ? 0 : engine_checkpoint(engine);
		gc->at_len = 1;
	}
	if (r == 0)
		r = holes_read(engine, holes, &num);
	if (r < 0)
		return r;
	sealer_run(engine);
	for (size_t i = 0; r == 0 && i < num; i++) {
		/* Whoever seals it reads it. */
		if (sealer_is_due(engine, holes[i].place.arena))
			return 1;
		r = punch(engine, gc, &holes[i]);
	}
	if (r < 0)
		return r;
	if (num == 0) {
		bool may_compact = gc->phase == GC_PUNCH && gc->options.is_final;

		gc->phase = may_compact ? GC_COMPACT : GC_DONE;
		gc->at_len = 0;
	}
	return 1;
}
