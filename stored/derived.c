#include "stored/derived.h"

#include "stored/fallen.h"
#include "stored/history.h"

#include <errno.h>
#include <string.h>

/* ---- how much is in a directory */

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

/* ---- where a link is */

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

/* The rows of one table that only old has go; begin: those that only new has come. */
static int place_rows_of(struct engine *engine, const struct volume *vol, enum place_row row,
	const struct reg *of, const struct reg *other, bool begin)
{
	struct row_key k;
	int r = 0;

	for (size_t i = 0; r == 0 && i < of->num; i++) {
		const struct tree_element *e = &of->e[i].e;

		if (place_row_in(of, i, row, e) || place_stays(of, other, row, e) ||
			!place_row_key(&k, vol, row, e))
			continue;
		r = begin ? place_begin(engine, of, row, &k, e->parent)
			  : place_end(engine, vol, row, &k);
	}
	return r;
}

/* names, dirs and targets have a row for each place that some element of the link gives it. */
static int place_rows(struct engine *engine, const struct volume *vol, const struct reg *old,
	const struct reg *new)
{
	int row, r = 0;

	for (row = PLACE_NAME; r == 0 && row <= PLACE_TARGET; row++) {
		r = place_rows_of(engine, vol, row, old, new, false);
		if (r == 0)
			r = place_rows_of(engine, vol, row, new, old, true);
	}
	return r;
}

/* ---- stamps */

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
	struct row_key k;
	struct db_iter it;
	int r, found = 0;

	row_start(&k, vol->number);
	row_unit(&k, unit);
	r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1 && found == 0) {
		found = row_has_stamp(it.value, it.value_len, stamp);
		if (found == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : found;
}

static int stamp_put(struct engine *engine, const struct row_key *k)
{
	int r;

	if (k->len == engine->last_stamp_len && memcmp(k->b, engine->last_stamp, k->len) == 0)
		return 0;
	r = db_put(txn(engine), DB_STAMPS, k->b, k->len, NULL, 0);
	if (r < 0)
		return r;
	memcpy(engine->last_stamp, k->b, k->len);
	engine->last_stamp_len = k->len;
	return 0;
}

static int stamp_drop(struct engine *engine, const struct row_key *k)
{
	int r;

	engine->last_stamp_len = 0;
	r = db_delete(txn(engine), DB_STAMPS, k->b, k->len);
	return r == -ENOENT ? 0 : r;
}

/* new is already in `records`. */
static int stamp_rows(struct engine *engine, const struct volume *vol, const struct tree_key *key,
	const struct reg *old, const struct reg *new)
{
	struct tree_unit unit = tree_key_unit(key);
	struct row_key k;
	int r = 0;

	for (size_t i = 0; r == 0 && i < new->num; i++) {
		if (reg_has_stamp(old, new->e[i].e.stamp))
			continue;
		row_stamp(&k, vol->number, new->e[i].e.stamp, &unit);
		r = stamp_put(engine, &k);
	}
	for (size_t i = 0; r == 0 && i < old->num; i++) {
		if (reg_has_stamp(new, old->e[i].e.stamp))
			continue;
		r = unit.is_link ? 0 : unit_has_stamp(engine, vol, &unit, old->e[i].e.stamp);
		row_stamp(&k, vol->number, old->e[i].e.stamp, &unit);
		if (r == 0)
			r = stamp_drop(engine, &k);
		else if (r == 1)
			r = 0;
	}
	return r;
}

/* ---- all of it */

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

int derived_write(struct engine *engine, struct volume *vol, const struct tree_key *key,
	const struct reg *old, const struct reg *new)
{
	int r = 0;

	if (key->kind == TREE_LINK) {
		r = place_rows(engine, vol, old, new);
		if (r == 0)
			r = count_winner(engine, vol, old, new);
	}
	if (r < 0)
		return r;
	count_register(vol, key, old, new);
	return stamp_rows(engine, vol, key, old, new);
}
