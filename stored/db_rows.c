#include "stored/db_state.h"

#include "cas/bytes.h"
#include "stored/broken.h"
#include "stored/crc32c.h"

#include <errno.h>
#include <string.h>

/* Hidden rows in a row that are worth to be remembered. */
#define SKIPPED_MANY 16

/* ---- LMDB */

static int txn_cursor(struct db_txn *txn, enum db_table table, MDB_cursor **ret)
{
	int r = 0;

	if (!txn->cursors[table])
		r = mdb_cursor_open(txn->txn, txn->db->dbi[table], &txn->cursors[table]);
	*ret = txn->cursors[table];
	return db_error(r);
}

/* Behind each value: the sum of key and value, since LMDB has none of its pages. */
#define SUM_SIZE 4

static uint32_t row_sum(const void *key, size_t key_len, const void *value, size_t len)
{
	return crc32c(crc32c(0, key, key_len), value, len);
}

static int row_check(const void *key, size_t key_len, const MDB_val *v, size_t *ret_len)
{
	const uint8_t *value = v->mv_data;
	size_t len = v->mv_size - SUM_SIZE;

	if (v->mv_size < SUM_SIZE)
		return -EUCLEAN;
	*ret_len = len;
	if (BROKEN(BROKEN_NO_ROW_SUM))
		return 0;
	return le32_get(value + len) == row_sum(key, key_len, value, len) ? 0 : -EUCLEAN;
}

static int lmdb_get(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const uint8_t **ret_value, size_t *ret_len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	MDB_cursor *cursor;
	int r;

	r = txn_cursor(txn, table, &cursor);
	if (r == 0)
		r = db_error(mdb_cursor_get(cursor, &k, &v, MDB_SET));
	if (r == 0)
		r = row_check(key, key_len, &v, ret_len);
	if (r == 0)
		*ret_value = v.mv_data;
	return db_seen(txn->db, r);
}

int db_lmdb_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const void *value, size_t len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v = { len + SUM_SIZE, NULL };
	uint32_t sum = row_sum(key, key_len, value, len);
	MDB_cursor *cursor;
	int r;

	r = txn_cursor(txn, table, &cursor);
	if (r == 0)
		r = db_error(mdb_cursor_put(cursor, &k, &v, MDB_RESERVE));
	if (r < 0)
		return db_seen(txn->db, r);
	if (len > 0)
		memcpy(v.mv_data, value, len);
	le32_put((uint8_t *)v.mv_data + len, sum);
	return 0;
}

int db_lmdb_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	MDB_cursor *cursor;
	int r;

	r = txn_cursor(txn, table, &cursor);
	if (r == 0)
		r = db_error(mdb_cursor_get(cursor, &k, &v, MDB_SET));
	if (r == 0)
		r = db_error(mdb_cursor_del(cursor, 0));
	return db_seen(txn->db, r);
}

/* ---- rows */

/* From over[level] down. */
static int get_below(struct db_txn *txn, int level, enum db_table table, const void *key,
	size_t key_len, const uint8_t **ret_value, size_t *ret_len)
{
	const struct fresh_row *row;

	for (; level < 2; level++) {
		row = txn->over[level] ? fresh_find(txn->over[level], table, key, key_len) : NULL;
		if (!row)
			continue;
		*ret_value = row->value;
		*ret_len = row->len;
		return row->is_gone ? -ENOENT : 0;
	}
	return lmdb_get(txn, table, key, key_len, ret_value, ret_len);
}

int db_get(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const uint8_t **ret_value, size_t *ret_len)
{
	return get_below(txn, 0, table, key, key_len, ret_value, ret_len);
}

bool db_has(struct db_txn *txn, enum db_table table, const void *key, size_t key_len)
{
	const uint8_t *value;
	size_t len;

	return db_get(txn, table, key, key_len, &value, &len) == 0;
}

static bool is_in_void(const struct db_void *v, const void *key, size_t len)
{
	return v->to_len > 0 && fresh_compare(key, len, v->from, v->from_len) >= 0 &&
	       fresh_compare(key, len, v->to, v->to_len) < 0;
}

int db_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const void *value, size_t len)
{
	if (key_len == 0 || key_len > DB_KEY_MAX)
		return -EINVAL;
	if (!txn->over[0])
		return db_lmdb_put(txn, table, key, key_len, value, len);
	if (is_in_void(&txn->db->voids[table], key, key_len))
		txn->db->voids[table].to_len = 0;
	return fresh_put(txn->over[0], table, key, key_len, value, len);
}

int db_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len)
{
	const uint8_t *value;
	bool is_over;
	size_t len;
	int r;

	if (!txn->over[0])
		return db_lmdb_delete(txn, table, key, key_len);
	r = db_get(txn, table, key, key_len, &value, &len);
	if (r < 0)
		return r;
	is_over = fresh_find(txn->over[0], table, key, key_len);
	r = is_over ? get_below(txn, 1, table, key, key_len, &value, &len) : 0;
	if (r < 0 && r != -ENOENT)
		return r;
	return fresh_delete(txn->over[0], table, key, key_len, r == 0);
}

int db_take(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	void *ret_value, size_t len)
{
	const uint8_t *value;
	size_t has;
	int r;

	r = db_get(txn, table, key, key_len, &value, &has);
	if (r < 0)
		return r;
	if (has != len)
		return -EUCLEAN;
	memcpy(ret_value, value, len);
	return db_delete(txn, table, key, key_len);
}

struct below {
	struct db_txn *txn;
	enum db_table table;
	int level;
};

static bool has_below(void *arg, const void *key, size_t len)
{
	const struct below *below = arg;
	const uint8_t *value;

	return get_below(below->txn, below->level, below->table, key, len, &value, &len) == 0;
}

uint64_t db_rows(struct db_txn *txn, enum db_table table)
{
	struct below below = { txn, table, 1 };
	MDB_stat stat;
	uint64_t rows;

	rows = mdb_stat(txn->txn, txn->db->dbi[table], &stat) == 0 ? stat.ms_entries : 0;
	for (; below.level <= 2; below.level++)
		if (txn->over[below.level - 1])
			rows += (uint64_t)fresh_count(
				txn->over[below.level - 1], table, has_below, &below);
	return rows;
}

/* ---- going through them */

static int lmdb_row(struct db_iter *it, int r, const MDB_val *k, const MDB_val *v)
{
	it->lmdb.key = NULL;
	if (r == MDB_NOTFOUND)
		return 0;
	if (r != 0)
		return db_seen(it->db, db_error(r));
	if (k->mv_size < it->prefix_len || memcmp(k->mv_data, it->prefix, it->prefix_len) != 0)
		return 0;
	it->lmdb.key = k->mv_data;
	it->lmdb.key_len = k->mv_size;
	it->lmdb.value = v->mv_data;
	return db_seen(it->db, row_check(k->mv_data, k->mv_size, v, &it->lmdb.value_len));
}

static int lmdb_cursor(struct db_iter *it, struct db_txn *txn, enum db_table table)
{
	MDB_cursor *cursor;
	int r;

	if (txn->iter_used[table]) {
		r = mdb_cursor_open(txn->txn, txn->db->dbi[table], &cursor);
		it->cursor = r == 0 ? cursor : NULL;
		return db_error(r);
	}
	if (!txn->iters[table]) {
		r = mdb_cursor_open(txn->txn, txn->db->dbi[table], &txn->iters[table]);
		if (r != 0)
			return db_error(r);
	}
	it->cursor = txn->iters[table];
	txn->iter_used[table] = true;
	it->owner = txn;
	it->table = (int)table;
	return 0;
}

static int lmdb_first(struct db_iter *it, const void *key, size_t len)
{
	MDB_val k = { len, (void *)(uintptr_t)key }, v;
	int r = mdb_cursor_get(it->cursor, &k, &v, len ? MDB_SET_RANGE : MDB_FIRST);

	return lmdb_row(it, r, &k, &v);
}

static int lmdb_next(struct db_iter *it)
{
	MDB_val k, v;
	int r;

	r = mdb_cursor_get(it->cursor, &k, &v, MDB_NEXT);
	return lmdb_row(it, r, &k, &v);
}

static void within_prefix(const struct db_iter *it, struct fresh_at *at)
{
	if (at->row && (at->row->key_len < it->prefix_len ||
			       memcmp(at->row->key, it->prefix, it->prefix_len) != 0))
		at->row = NULL;
}

/* The least key of all; of those that have it the newest, which hides the others. */
static const struct fresh_row *least(struct db_iter *it)
{
	const struct fresh_row *found = NULL, *row;

	it->key = it->lmdb.key;
	it->key_len = it->lmdb.key_len;
	for (int i = 1; i >= 0; i--) {
		row = it->over[i].row;
		if (!row || (it->key && fresh_compare(
						row->key, row->key_len, it->key, it->key_len) > 0))
			continue;
		found = row;
		it->key = row->key;
		it->key_len = row->key_len;
	}
	return found;
}

/* Behind the key. */
static int step(struct db_iter *it)
{
	bool is_lmdbs = it->lmdb.key &&
			fresh_compare(it->lmdb.key, it->lmdb.key_len, it->key, it->key_len) == 0;

	for (int i = 0; i < 2; i++) {
		const struct fresh_row *row = it->over[i].row;

		if (!row || fresh_compare(row->key, row->key_len, it->key, it->key_len) != 0)
			continue;
		fresh_next(&it->over[i]);
		within_prefix(it, &it->over[i]);
	}
	return is_lmdbs ? lmdb_next(it) : 0;
}

static int next_row(struct db_iter *it)
{
	const struct fresh_row *row;
	int r;

	for (;;) {
		row = least(it);
		if (!it->key)
			return 0;
		if (!row || !row->is_gone)
			break;
		it->num_skipped++;
		it->skipped = it->key;
		it->skipped_len = it->key_len;
		r = step(it);
		if (r < 0)
			return r;
	}
	it->value = row ? row->value : it->lmdb.value;
	it->value_len = row ? row->len : it->lmdb.value_len;
	return 1;
}

/* Nothing lives from `from` to where it is now; r as of next_row. start: where it began. */
static void void_note(struct db_iter *it, struct db_void *v, const uint8_t *from, size_t from_len,
	const uint8_t *start, size_t start_len, int r)
{
	if (it->num_skipped < SKIPPED_MANY || from_len > sizeof(v->from))
		return;
	/* With another start rows of other prefixes may lie in between. */
	if (start_len < it->prefix_len || memcmp(start, it->prefix, it->prefix_len) != 0)
		return;
	memmove(v->from, from, from_len);
	v->from_len = from_len;
	/* At the end it is only known of those that were stepped over. */
	v->to_len = r == 1 ? it->key_len : it->skipped_len + 1;
	memcpy(v->to, r == 1 ? it->key : it->skipped, r == 1 ? it->key_len : it->skipped_len);
	if (r == 0)
		v->to[it->skipped_len] = 0;
}

/* At the first row not below start, in LMDB and over it. */
static int iter_start(
	struct db_iter *it, struct db_txn *txn, enum db_table table, const void *start, size_t len)
{
	int r;

	r = lmdb_cursor(it, txn, table);
	if (r == 0)
		r = lmdb_first(it, start, len);
	for (int i = 0; i < 2; i++) {
		it->over[i].row = NULL;
		if (r < 0 || !txn->over[i])
			continue;
		fresh_from(txn->over[i], table, start, len, &it->over[i]);
		within_prefix(it, &it->over[i]);
	}
	return r;
}

int db_iter_first(struct db_iter *it, struct db_txn *txn, enum db_table table, const void *prefix,
	size_t prefix_len, const void *start, size_t start_len)
{
	struct db_void *v = txn->over[0] ? &txn->db->voids[table] : NULL;
	const void *from = start ? start : prefix ? prefix : "";
	size_t len = start ? start_len : prefix_len;
	bool is_known = v && is_in_void(v, from, len);
	int r;

	it->cursor = NULL;
	it->owner = NULL;
	it->db = txn->db;
	if (prefix_len > sizeof(it->prefix))
		return -EINVAL;
	if (prefix_len > 0)
		memcpy(it->prefix, prefix, prefix_len);
	it->prefix_len = prefix_len;
	/* What is known grows with the first row more. */
	it->num_skipped = is_known ? SKIPPED_MANY - 1 : 0;
	if (is_known)
		r = iter_start(it, txn, table, v->to, v->to_len);
	else
		r = iter_start(it, txn, table, from, len);
	if (r == 0)
		r = next_row(it);
	if (r >= 0 && is_known)
		void_note(it, v, v->from, v->from_len, v->to, v->to_len, r);
	else if (r >= 0 && v)
		void_note(it, v, from, len, from, len, r);
	return r;
}

int db_iter_next(struct db_iter *it)
{
	int r = step(it);

	return r < 0 ? r : next_row(it);
}

void db_iter_close(struct db_iter *it)
{
	if (it->owner)
		it->owner->iter_used[it->table] = false;
	else if (it->cursor)
		mdb_cursor_close(it->cursor);
	it->cursor = NULL;
	it->owner = NULL;
}

int db_delete_prefix(
	struct db_txn *txn, enum db_table table, const void *prefix, size_t prefix_len, int max)
{
	uint8_t at[DB_KEY_MAX];
	struct db_iter it;
	size_t len = 0;
	int num, r;

	for (num = 0; num < max; num++) {
		r = db_iter_first(&it, txn, table, prefix, prefix_len, num ? at : NULL, len);
		if (r == 1) {
			len = it.key_len;
			memcpy(at, it.key, len);
		}
		db_iter_close(&it);
		if (r == 1)
			r = db_delete(txn, table, at, len);
		else
			return r < 0 ? r : num;
		if (r < 0)
			return r;
	}
	return num;
}
