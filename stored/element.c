#include "stored/element.h"

#include "stored/crc32c.h"
#include "stored/engine_state.h"
#include "stored/fallen.h"
#include "stored/gc_state.h"
#include "stored/history.h"
#include "stored/rows.h"
#include "tree/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FAR_BIT	     0x80000000u
#define ELEM_HEAD    8
#define REG_HEAD     8
/* Of a packed record, where its stamp and Lamport counter lie. */
#define RECORD_STAMP 16
#define RECORD_PLACE 40
#define FAR_SIZE     16

int element_of(
	struct element *ret, const uint8_t *data, size_t len, struct place place, uint32_t arrived)
{
	struct tree_record rec;
	int r;

	r = tree_record_parse(data, len, &rec);
	if (r < 0)
		return r;
	ret->e = rec.e;
	ret->arrived = arrived;
	ret->raw = data;
	ret->raw_len = (uint32_t)len;
	ret->sealed_len = rec.sealed_len;
	ret->is_far = rec.sealed_len > ELEMENT_NEAR;
	if (ret->is_far) {
		ret->raw_len = (uint32_t)(len - rec.sealed_len);
		ret->sealed = place;
		ret->sealed.offset += ret->raw_len;
		ret->sealed.len = rec.sealed_len;
		ret->sealed_crc = crc32c(0, data + ret->raw_len, rec.sealed_len);
	}
	return 0;
}

static int element_parse(struct element *ret, const uint8_t **p, const uint8_t *end)
{
	struct tree_record rec;
	uint32_t len;
	size_t whole;
	bool is_far;

	if (end - *p < ELEM_HEAD + TREE_RECORD_HEAD)
		return -EUCLEAN;
	len = le32_get(*p + 4);
	is_far = len & FAR_BIT;
	len &= ~FAR_BIT;
	if (len < TREE_RECORD_HEAD ||
		(size_t)(end - *p) < ELEM_HEAD + len + (is_far ? FAR_SIZE : 0))
		return -EUCLEAN;
	ret->arrived = le32_get(*p);
	ret->raw = *p + ELEM_HEAD;
	ret->raw_len = len;
	ret->is_far = is_far;
	/* Parsing looks at nothing of the sealed part, so it may be told that it is there. */
	whole = len + (is_far ? (size_t)le32_get(ret->raw + 4) : 0);
	if (tree_record_parse(ret->raw, whole, &rec) < 0)
		return -EUCLEAN;
	ret->e = rec.e;
	ret->sealed_len = rec.sealed_len;
	*p += ELEM_HEAD + len;
	if (is_far) {
		ret->sealed.arena = le32_get(*p);
		ret->sealed.offset = le64_get(*p + 4);
		ret->sealed_crc = le32_get(*p + 12);
		ret->sealed.len = rec.sealed_len;
		*p += FAR_SIZE;
	}
	return 0;
}

int reg_parse(struct reg *ret, const uint8_t *value, size_t len)
{
	const uint8_t *p = value + REG_HEAD, *end = value + len;
	int r;

	ret->num = 0;
	if (len < REG_HEAD)
		return -EUCLEAN;
	ret->since = le64_get(value);
	while (p < end) {
		if (ret->num == REGISTER_MAX)
			return -EUCLEAN;
		r = element_parse(&ret->e[ret->num], &p, end);
		if (r < 0)
			return r;
		ret->num++;
	}
	return 0;
}

int reg_load(struct reg *ret, struct db_txn *t, uint32_t space, const struct tree_key *key)
{
	const uint8_t *value;
	struct row_key k;
	size_t len;
	int r;

	ret->num = 0;
	ret->since = 0;
	row_record(&k, space, key);
	r = db_get(t, DB_RECORDS, k.b, k.len, &value, &len);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : reg_parse(ret, value, len);
}

size_t reg_winner(const struct reg *reg)
{
	size_t best = 0, i;

	for (i = 1; i < reg->num; i++)
		if (tree_element_compare(&reg->e[i].e, &reg->e[best].e) > 0)
			best = i;
	return best;
}

size_t reg_values(const struct reg *reg)
{
	size_t num = 0, i, j;

	if (reg->num <= 1)
		return reg->num;
	for (i = 0; i < reg->num; i++) {
		for (j = 0; j < i; j++)
			if (memcmp(reg->e[i].e.vtag, reg->e[j].e.vtag, TREE_TAG_SIZE) == 0)
				break;
		num += j == i;
	}
	return num;
}

int element_read(struct arenas *arenas, const struct element *e, uint8_t *ret_data)
{
	int r;

	memcpy(ret_data, e->raw, e->raw_len);
	if (!e->is_far)
		return 0;
	r = arenas_read(arenas, e->sealed, ret_data + e->raw_len);
	if (r < 0)
		return r;
	return crc32c(0, ret_data + e->raw_len, e->sealed_len) == e->sealed_crc ? 0 : -EBADMSG;
}

/* ---- what is derived */

static int counts_add(
	struct engine *engine, const struct volume *vol, uint64_t oid, int entries, int subdirs)
{
	const uint8_t *value;
	uint8_t row[12] = { 0 };
	struct row_key k;
	size_t len;
	int r;

	row_one(&k, vol->number, oid);
	r = db_get(txn(engine), DB_COUNTS, k.b, k.len, &value, &len);
	if (r == 0 && len == sizeof(row))
		memcpy(row, value, sizeof(row));
	else if (r < 0 && r != -ENOENT)
		return r;
	le64_put(row, le64_get(row) + (uint64_t)(int64_t)entries);
	le32_put(row + 8, le32_get(row + 8) + (uint32_t)subdirs);
	if (le64_get(row) == 0)
		return r == 0 ? db_delete(txn(engine), DB_COUNTS, k.b, k.len) : 0;
	return db_put(txn(engine), DB_COUNTS, k.b, k.len, row, sizeof(row));
}

static int count_winner(struct engine *engine, const struct volume *vol, const struct reg *old,
	const struct reg *new)
{
	const struct tree_element *was = old->num ? &old->e[reg_winner(old)].e : NULL;
	const struct tree_element *is = new->num ? &new->e[reg_winner(new)].e : NULL;
	int r = 0;

	if (was && is && was->parent == is->parent &&
		((was->flags ^ is->flags) & TREE_DIRECTORY) == 0)
		return 0;
	/* A directory made here is new and empty: nothing can be in a cycle with it. */
	if (is && (is->flags & TREE_DIRECTORY) && (was || new->e[reg_winner(new)].arrived > 0))
		r = fallen_moved(engine, is->key.id);
	if (r < 0)
		return r;
	if (was)
		r = counts_add(engine, vol, was->parent, -1, was->flags & TREE_DIRECTORY ? -1 : 0);
	if (r == 0 && is)
		r = counts_add(engine, vol, is->parent, 1, is->flags & TREE_DIRECTORY ? 1 : 0);
	return r;
}

enum place_row {
	PLACE_NAME,
	PLACE_DIR,
	PLACE_TARGET,
};

static const enum db_table place_tables[] = {
	[PLACE_NAME] = DB_NAMES,
	[PLACE_DIR] = DB_DIRS,
	[PLACE_TARGET] = DB_TARGETS,
};

static bool place_row_key(struct row_key *k, const struct volume *vol, enum place_row row,
	const struct tree_element *e)
{
	switch (row) {
	case PLACE_NAME:
		row_name(k, vol->number, e->parent, e->tag, e->key.id);
		return true;
	case PLACE_DIR:
		row_two(k, vol->number, e->parent, e->key.id);
		return true;
	case PLACE_TARGET:
		row_two(k, vol->number, e->target, e->key.id);
		return e->target != e->key.id;
	}
	return false;
}

static bool place_row_in(
	const struct reg *reg, size_t num, enum place_row row, const struct tree_element *e)
{
	size_t i;

	for (i = 0; i < num; i++) {
		const struct tree_element *x = &reg->e[i].e;

		if (row == PLACE_TARGET ? x->target == e->target
					: x->parent == e->parent &&
						  (row == PLACE_DIR || memcmp(x->tag, e->tag,
									       ROWS_NAME_TAG) == 0))
			return true;
	}
	return false;
}

/* enum history_dir_flags of a row of dirs. */
static uint8_t dir_flags(const struct reg *reg, uint64_t parent)
{
	const struct tree_element *winner = &reg->e[reg_winner(reg)].e;

	if (winner->parent != parent)
		return 0;
	return HISTORY_DIR_SHOWN | (winner->flags & TREE_DIRECTORY ? HISTORY_DIR_SUBDIR : 0);
}

/* The row is in both, and the same. */
static bool place_stays(
	const struct reg *a, const struct reg *b, enum place_row row, const struct tree_element *e)
{
	return place_row_in(b, b->num, row, e) &&
	       (row != PLACE_DIR || dir_flags(a, e->parent) == dir_flags(b, e->parent));
}

static int place_end(struct engine *engine, const struct volume *vol, enum place_row row,
	const struct row_key *k)
{
	uint8_t value[HISTORY_DIR_SIZE];
	int r;

	r = db_take(txn(engine), place_tables[row], k->b, k->len, value,
		row == PLACE_DIR ? HISTORY_DIR_SIZE : HISTORY_PLACE_SIZE);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : history_place(engine, vol, place_tables[row], k, value);
}

static int place_begin(struct engine *engine, const struct reg *reg, enum place_row row,
	const struct row_key *k, uint64_t parent)
{
	uint8_t value[HISTORY_DIR_SIZE];

	le64_put(value, engine->time);
	if (row == PLACE_DIR)
		value[8] = dir_flags(reg, parent);
	return db_put(txn(engine), place_tables[row], k->b, k->len, value,
		row == PLACE_DIR ? HISTORY_DIR_SIZE : HISTORY_PLACE_SIZE);
}

/* names, dirs and targets have a row for each place that some element of the link gives it. */
static int place_rows(struct engine *engine, const struct volume *vol, const struct reg *old,
	const struct reg *new)
{
	struct row_key k;
	size_t i;
	int row, r;

	for (row = PLACE_NAME; row <= PLACE_TARGET; row++) {
		for (i = 0; i < old->num; i++) {
			const struct tree_element *e = &old->e[i].e;

			if (place_row_in(old, i, row, e) || place_stays(old, new, row, e) ||
				!place_row_key(&k, vol, row, e))
				continue;
			r = place_end(engine, vol, row, &k);
			if (r < 0)
				return r;
		}
		for (i = 0; i < new->num; i++) {
			const struct tree_element *e = &new->e[i].e;

			if (place_row_in(new, i, row, e) || place_stays(new, old, row, e) ||
				!place_row_key(&k, vol, row, e))
				continue;
			r = place_begin(engine, new, row, &k, e->parent);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static bool reg_has_stamp(const struct reg *reg, struct tree_stamp stamp)
{
	size_t i;

	for (i = 0; i < reg->num; i++)
		if (tree_stamp_compare(reg->e[i].e.stamp, stamp) == 0)
			return true;
	return false;
}

/* 1: another register of the inode has an element with this stamp. */
static int unit_has_stamp(struct engine *engine, const struct volume *vol,
	const struct tree_unit *unit, struct tree_stamp stamp)
{
	const uint8_t *p, *end;
	struct element e;
	struct row_key k;
	struct db_iter it;
	int r, found = 0;

	row_start(&k, vol->number);
	row_unit(&k, unit);
	r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1 && !found) {
		p = it.value + REG_HEAD;
		end = it.value + it.value_len;
		while (p < end && !found) {
			r = element_parse(&e, &p, end);
			if (r < 0)
				break;
			found = tree_stamp_compare(e.e.stamp, stamp) == 0;
		}
		if (r >= 0 && !found)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : found;
}

/* new is already in `records`. */
static int stamp_rows(struct engine *engine, const struct volume *vol, const struct tree_key *key,
	const struct reg *old, const struct reg *new)
{
	struct tree_unit unit = tree_key_unit(key);
	struct row_key k;
	size_t i;
	int r;

	for (i = 0; i < new->num; i++) {
		if (reg_has_stamp(old, new->e[i].e.stamp))
			continue;
		row_stamp(&k, vol->number, new->e[i].e.stamp, &unit);
		if (k.len == engine->last_stamp_len && memcmp(k.b, engine->last_stamp, k.len) == 0)
			continue;
		r = db_put(txn(engine), DB_STAMPS, k.b, k.len, NULL, 0);
		if (r < 0)
			return r;
		memcpy(engine->last_stamp, k.b, k.len);
		engine->last_stamp_len = k.len;
	}
	for (i = 0; i < old->num; i++) {
		if (reg_has_stamp(new, old->e[i].e.stamp))
			continue;
		r = unit.is_link ? 0 : unit_has_stamp(engine, vol, &unit, old->e[i].e.stamp);
		if (r < 0)
			return r;
		if (r == 1)
			continue;
		row_stamp(&k, vol->number, old->e[i].e.stamp, &unit);
		engine->last_stamp_len = 0;
		r = db_delete(txn(engine), DB_STAMPS, k.b, k.len);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static void count_register(struct volume *vol, const struct tree_key *key, const struct reg *old,
	const struct reg *new)
{
	uint64_t change = (uint64_t)(new->num > 0) - (uint64_t)(old->num > 0);
	uint64_t conflicts = (uint64_t)(reg_values(new) > 1) - (uint64_t)(reg_values(old) > 1);

	switch ((enum tree_kind)key->kind) {
	case TREE_LINK:
		vol->num_links += change;
		vol->num_conflicts += conflicts;
		break;
	case TREE_BODY:
		vol->num_conflicts += conflicts;
		break;
	case TREE_ATTR:
		vol->num_inodes += change;
		break;
	case TREE_XATTR:
		break;
	}
	vol->is_dirty = true;
}

/* ---- writing */

int reg_emit(const struct reg *reg, uint64_t since, uint8_t **buf, size_t *cap, size_t *ret_len)
{
	size_t len = REG_HEAD, i;
	uint8_t *p;
	int r;

	for (i = 0; i < reg->num; i++)
		len += ELEM_HEAD + reg->e[i].raw_len + FAR_SIZE;
	r = scratch_grow(buf, cap, len);
	if (r < 0)
		return r;
	p = *buf;
	le64_put(p, since);
	p += REG_HEAD;
	for (i = 0; i < reg->num; i++) {
		const struct element *e = &reg->e[i];

		le32_put(p, e->arrived);
		le32_put(p + 4, e->raw_len | (e->is_far ? FAR_BIT : 0));
		memcpy(p + ELEM_HEAD, e->raw, e->raw_len);
		/* A renewed stamp is in e, not in the bytes that it was read from. */
		tree_record_restamp(p + ELEM_HEAD, e->e.stamp, e->e.lamport);
		p += ELEM_HEAD + e->raw_len;
		if (e->is_far) {
			le32_put(p, e->sealed.arena);
			le64_put(p + 4, e->sealed.offset);
			le32_put(p + 12, e->sealed_crc);
			p += FAR_SIZE;
		}
	}
	*ret_len = (size_t)(p - *buf);
	return 0;
}

/* One element each, which differ in their stamps at most: nobody who reads sees a change. */
static bool is_same(const struct reg *old, const struct reg *new)
{
	const struct element *a = &old->e[0], *b = &new->e[0];

	return old->num == 1 && new->num == 1 && a->raw_len == b->raw_len &&
	       a->is_far == b->is_far && a->sealed_len == b->sealed_len &&
	       (!a->is_far || a->sealed_crc == b->sealed_crc) &&
	       memcmp(a->raw, b->raw, RECORD_STAMP) == 0 &&
	       memcmp(a->raw + RECORD_PLACE, b->raw + RECORD_PLACE, a->raw_len - RECORD_PLACE) == 0;
}

int reg_write(struct engine *engine, struct volume *vol, bool aside, const struct tree_key *key,
	const struct reg *old, const struct reg *new)
{
	uint32_t space = vol->number | (aside ? ROWS_ASIDE : 0);
	bool stays = aside || is_same(old, new);
	size_t len, past_len = 0;
	struct row_key k;
	int r = 0;

	if (old->num == 0 && new->num == 0)
		return 0;
	gc_note_register(engine, old);
	gc_note_register(engine, new);
	row_record(&k, space, key);
	/* Both are views into the index, which writing moves. */
	if (!stays && old->num > 0 && old->since < engine->time)
		r = reg_emit(old, old->since, &engine->past, &engine->past_cap, &past_len);
	if (r == 0 && new->num > 0) {
		r = reg_emit(new, stays && !aside ? old->since : engine->time, &engine->value,
			&engine->value_cap, &len);
		if (r == 0)
			r = db_put(txn(engine), DB_RECORDS, k.b, k.len, engine->value, len);
	} else if (r == 0) {
		r = db_delete(txn(engine), DB_RECORDS, k.b, k.len);
	}
	if (r < 0 || aside)
		return r;
	if (!stays)
		r = history_put(engine, vol, key, engine->past, past_len);
	if (r == 0 && key->kind == TREE_LINK) {
		r = place_rows(engine, vol, old, new);
		if (r == 0)
			r = count_winner(engine, vol, old, new);
	}
	if (r < 0)
		return r;
	count_register(vol, key, old, new);
	return stamp_rows(engine, vol, key, old, new);
}
