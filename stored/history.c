#include "stored/history.h"

#include "stored/retention.h"

#include <errno.h>
#include <string.h>

static const enum db_table tables[] = {
	[HISTORY_REGISTER] = DB_HIST,
	[HISTORY_NAME] = DB_HNAMES,
	[HISTORY_DIR] = DB_HDIRS,
	[HISTORY_TARGET] = DB_HTARGETS,
	[HISTORY_FALLEN] = DB_HFALLEN,
};

enum db_table history_table(enum history_entry type)
{
	return tables[type];
}

/* ---- the row of `times` of the open frame, in pieces that fit into a page of the index */

void history_start(struct engine *engine, struct volume *vol, uint64_t time)
{
	engine->time = time > vol->time ? time : vol->time + 1;
	history_drop(engine);
}

void history_drop(struct engine *engine)
{
	engine->noted.len = 0;
	engine->noted.seq = 0;
	engine->noted.last_len = 0;
}

static int flush(struct engine *engine, const struct volume *vol)
{
	struct row_key k;

	if (engine->noted.len == 0)
		return 0;
	row_times(&k, vol->number, engine->time, engine->noted.seq++);
	return db_put(txn(engine), DB_TIMES, k.b, k.len, engine->noted.b, engine->noted.len);
}

int history_end(struct engine *engine, struct volume *vol)
{
	int r = flush(engine, vol);

	history_drop(engine);
	vol->time = engine->time;
	vol->is_dirty = true;
	return r;
}

static int note(struct engine *engine, const struct volume *vol, enum history_entry type,
	const struct row_key *row)
{
	size_t len = row->len - 4;
	int r;

	if (engine->noted.len + 1 + len > sizeof(engine->noted.b)) {
		r = flush(engine, vol);
		if (r < 0)
			return r;
		engine->noted.len = 0;
		engine->noted.last_len = 0;
	}
	engine->noted.b[engine->noted.len] = (uint8_t)type;
	memcpy(engine->noted.b + engine->noted.len + 1, row->b + 4, len);
	engine->noted.last = engine->noted.len;
	engine->noted.last_len = 1 + len;
	engine->noted.len += 1 + len;
	return 0;
}

static int note_register(
	struct engine *engine, const struct volume *vol, const struct row_key *live)
{
	/* Several changes of one register in one frame mostly follow each other. */
	if (engine->noted.last_len == live->len - 3 &&
		engine->noted.b[engine->noted.last] == HISTORY_REGISTER &&
		memcmp(engine->noted.b + engine->noted.last + 1, live->b + 4, live->len - 4) == 0)
		return 0;
	return note(engine, vol, HISTORY_REGISTER, live);
}

static int entry_size(enum history_entry type, const uint8_t *p, size_t len)
{
	switch (type) {
	case HISTORY_REGISTER:
		if (len <= TREE_UNIT_SIZE)
			return 0;
		return TREE_UNIT_SIZE + 1 + (p[TREE_UNIT_SIZE] == TREE_XATTR ? TREE_TAG_SIZE : 0);
	case HISTORY_NAME:
		return 16 + ROWS_NAME_TAG;
	case HISTORY_DIR:
	case HISTORY_TARGET:
		return 16;
	case HISTORY_FALLEN:
		return 8;
	}
	return 0;
}

int history_next(struct history_cursor *c, uint32_t vol, enum history_entry *ret_type,
	struct row_key *ret_row, const uint8_t **ret_bytes, size_t *ret_len)
{
	size_t left = (size_t)(c->end - c->p);
	int len;

	if (left == 0)
		return 0;
	if (c->p[0] > HISTORY_FALLEN)
		return -EUCLEAN;
	*ret_type = c->p[0];
	len = entry_size(*ret_type, c->p + 1, left - 1);
	if (len <= 0 || (size_t)len > left - 1)
		return -EUCLEAN;
	row_start(ret_row, vol);
	memcpy(ret_row->b + 4, c->p + 1, (size_t)len);
	ret_row->len = 4 + (size_t)len;
	*ret_bytes = c->p;
	*ret_len = 1 + (size_t)len;
	c->p += *ret_len;
	return 1;
}

/* ---- writing */

void history_row(
	struct row_key *ret, enum history_entry type, const struct row_key *live, uint64_t until)
{
	bool is_behind = type == HISTORY_NAME || type == HISTORY_TARGET;

	*ret = *live;
	/* Where the question is "which link then", the time comes before the link. */
	if (is_behind)
		ret->len -= 8;
	row_u64(ret, until);
	if (!is_behind)
		return;
	memcpy(ret->b + ret->len, live->b + live->len - 8, 8);
	ret->len += 8;
}

int history_put(struct engine *engine, struct volume *vol, const struct tree_key *key,
	const uint8_t *row, size_t len)
{
	struct row_key live, k;
	int r;

	row_record(&live, vol->number, key);
	r = note_register(engine, vol, &live);
	if (r < 0 || len == 0)
		return r;
	history_row(&k, HISTORY_REGISTER, &live, engine->time);
	vol->num_history++;
	return db_put(txn(engine), DB_HIST, k.b, k.len, row, len);
}

/* 1: another link that had the name before has it still. */
static int shares_name(struct engine *engine, const struct row_key *row)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_NAMES, row->b, row->len - 8, NULL, 0);
	while (r == 1) {
		if (it.value_len != HISTORY_PLACE_SIZE)
			r = -EUCLEAN;
		else if (le64_get(it.value) < engine->time)
			break;
		else
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static enum history_entry entry_of(enum db_table live)
{
	return live == DB_NAMES	    ? HISTORY_NAME
	       : live == DB_DIRS    ? HISTORY_DIR
	       : live == DB_TARGETS ? HISTORY_TARGET
				    : HISTORY_FALLEN;
}

int history_place(struct engine *engine, const struct volume *vol, enum db_table live,
	const struct row_key *row, const uint8_t *value)
{
	enum history_entry type = entry_of(live);
	uint8_t past[HISTORY_DIR_SIZE];
	struct row_key k;
	int r;

	if (le64_get(value) >= engine->time)
		return 0;
	memcpy(past, value, 8);
	past[8] = 0;
	if (type == HISTORY_DIR) {
		past[8] = value[8];
	} else if (type == HISTORY_NAME) {
		r = shares_name(engine, row);
		if (r < 0)
			return r;
		past[8] = r == 0 ? HISTORY_NAME_ALONE : 0;
	}
	r = note(engine, vol, type, row);
	if (r < 0)
		return r;
	history_row(&k, type, row, engine->time);
	return db_put(txn(engine), tables[type], k.b, k.len, past,
		type == HISTORY_DIR || type == HISTORY_NAME ? 9 : 8);
}

/* ---- reading */

int history_load(struct reg *ret, struct db_txn *t, const struct volume *vol,
	const struct tree_key *key, uint64_t at)
{
	struct row_key live, start;
	struct db_iter it;
	int r;

	r = reg_load(ret, t, vol->number, key);
	if (r < 0 || at == 0 || (ret->num > 0 && ret->since <= at))
		return r;
	ret->num = 0;
	if (at == UINT64_MAX)
		return 0;
	row_record(&live, vol->number, key);
	history_row(&start, HISTORY_REGISTER, &live, at + 1);
	r = db_iter_first(&it, t, DB_HIST, live.b, live.len, start.b, start.len);
	if (r == 1 && it.key_len == start.len) {
		r = reg_parse(ret, it.value, it.value_len);
		if (r == 0 && ret->since > at)
			ret->num = 0;
	}
	db_iter_close(&it);
	return r < 0 ? r : 0;
}

bool history_fallen(struct engine *engine, const struct volume *vol, uint64_t oid, uint64_t at)
{
	struct row_key k, start;
	const uint8_t *value;
	struct db_iter it;
	bool found;
	size_t len;

	row_one(&k, vol->number, oid);
	if (vol->num_fallen > 0 && db_get(txn(engine), DB_FALLEN, k.b, k.len, &value, &len) == 0 &&
		len == 8 && (at == 0 || le64_get(value) <= at))
		return true;
	if (at == 0 || db_rows(txn(engine), DB_HFALLEN) == 0 || at == UINT64_MAX)
		return false;
	start = k;
	row_u64(&start, at + 1);
	found = db_iter_first(&it, txn(engine), DB_HFALLEN, k.b, k.len, start.b, start.len) == 1 &&
		it.value_len == 8 && le64_get(it.value) <= at;
	db_iter_close(&it);
	return found;
}

static int each_fallen(struct engine *engine, const struct volume *vol, enum db_table table,
	uint64_t at, history_fallen_fn *fn, void *arg)
{
	bool is_past = table == DB_HFALLEN;
	struct row_key k;
	struct db_iter it;
	int r;

	row_start(&k, vol->number);
	r = db_iter_first(&it, txn(engine), table, k.b, k.len, NULL, 0);
	for (; r == 1; r = r < 0 ? r : db_iter_next(&it)) {
		if (it.value_len != HISTORY_PLACE_SIZE)
			r = -EUCLEAN;
		else if (at == 0 || (le64_get(it.value) <= at &&
					    (!is_past || be64_get(it.key + it.key_len - 8) > at)))
			r = fn(arg, be64_get(it.key + 4));
	}
	db_iter_close(&it);
	return r;
}

int history_each_fallen(struct engine *engine, const struct volume *vol, uint64_t at,
	history_fallen_fn *fn, void *arg)
{
	int r = vol->num_fallen > 0 ? each_fallen(engine, vol, DB_FALLEN, at, fn, arg) : 0;

	if (r == 0 && at != 0 && db_rows(txn(engine), DB_HFALLEN) > 0)
		r = each_fallen(engine, vol, DB_HFALLEN, at, fn, arg);
	return r;
}

int history_check(const struct volume *vol, uint64_t at)
{
	if (at == 0 || at >= vol->kept.all || retention_keeps(&vol->kept, at, at + 1))
		return 0;
	return -ESTALE;
}

int history_each(struct engine *engine, history_fn *fn, void *arg)
{
	struct reg *reg = &engine->old;
	struct tree_key key;
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_HIST, "", 0, NULL, 0);
	while (r == 1) {
		uint8_t packed[TREE_KEY_SIZE] = { 0 };

		if (it.key_len < 4 + TREE_UNIT_SIZE + 1 + 8 || it.key_len > 12 + TREE_KEY_SIZE) {
			r = -EUCLEAN;
			break;
		}
		memcpy(packed, it.key + 4, it.key_len - 12);
		r = tree_key_unpack(packed, &key) < 0 ? -EUCLEAN
						      : reg_parse(reg, it.value, it.value_len);
		if (r == 0)
			r = fn(arg, be32_get(it.key), &key, be64_get(it.key + it.key_len - 8), reg);
		if (r != 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}
