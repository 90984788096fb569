#include "stored/db.h"

#include "cas/bytes.h"
#include "stored/broken.h"
#include "stored/crc32c.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

struct db_txn {
	struct db *db;
	MDB_txn *txn;
	/* Kept at their last place: the next row is mostly on the same page, and then it is found
	 * without going down the tree. */
	MDB_cursor *cursors[DB_NUM];
	MDB_cursor *iters[DB_NUM];
	bool iter_used[DB_NUM];
};

struct db {
	MDB_env *env;
	MDB_dbi dbi[DB_NUM];
	struct db_txn write;
	uint64_t map_size;
	bool is_damaged;
	pthread_mutex_t copying; /* the map must not move while it is copied */
};

static const char *const table_names[DB_NUM] = {
	[DB_META] = "meta",
	[DB_SETTINGS] = "settings",
	[DB_OBJECTS] = "objects",
	[DB_TAGS] = "tags",
	[DB_RECORDS] = "records",
	[DB_NAMES] = "names",
	[DB_DIRS] = "dirs",
	[DB_TARGETS] = "targets",
	[DB_COUNTS] = "counts",
	[DB_STAMPS] = "stamps",
	[DB_DEAD] = "dead",
	[DB_LABELS] = "labels",
	[DB_FALLEN] = "fallen",
	[DB_GC] = "gc",
	[DB_HIST] = "history",
	[DB_HNAMES] = "history-names",
	[DB_HDIRS] = "history-dirs",
	[DB_HTARGETS] = "history-targets",
	[DB_HFALLEN] = "history-fallen",
	[DB_TIMES] = "times",
	[DB_SNAPSHOTS] = "snapshots",
	[DB_PULLS] = "pulls",
};

static int db_error(int code)
{
	if (code == 0)
		return 0;
	if (code > 0)
		return -code;
	switch (code) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_MAP_RESIZED:
	case MDB_TXN_FULL:
		return -EOVERFLOW;
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_READERS_FULL:
		return -EBUSY;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EUCLEAN;
	case MDB_PANIC:
	case MDB_BAD_TXN:
		return -EIO;
	default:
		return -EINVAL;
	}
}

/* As large as the address space allows: the file is sparse and grows with what is in it. */
static uint64_t map_limit(uint64_t want)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		while (want > limit.rlim_cur / 4 && want > (16u << 20))
			want /= 2;
	return want;
}

static int db_tables(struct db *db)
{
	MDB_txn *txn;
	int i, r;

	r = mdb_txn_begin(db->env, NULL, 0, &txn);
	if (r != 0)
		return db_error(r);
	for (i = 0; i < DB_NUM; i++) {
		r = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &db->dbi[i]);
		if (r != 0) {
			mdb_txn_abort(txn);
			return db_error(r);
		}
	}
	return db_error(mdb_txn_commit(txn));
}

/* Pages that the file does not have end the process when they are read. */
static int db_check_size(struct db *db)
{
	MDB_envinfo info;
	MDB_stat stat;
	struct stat st;
	int fd, r;

	r = mdb_env_info(db->env, &info);
	if (r == 0)
		r = mdb_env_stat(db->env, &stat);
	if (r == 0)
		r = mdb_env_get_fd(db->env, &fd);
	if (r != 0)
		return db_error(r);
	if (fstat(fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size / stat.ms_psize <= info.me_last_pgno ? -EUCLEAN : 0;
}

int db_open(struct db **ret, const char *path, uint64_t map_size)
{
	struct db *db = calloc(1, sizeof(*db));
	int dead, r;

	if (!db)
		return -ENOMEM;
	r = db_error(mdb_env_create(&db->env));
	if (r < 0) {
		free(db);
		return r;
	}
	db->write.db = db;
	db->map_size = map_limit(map_size);
	pthread_mutex_init(&db->copying, NULL);
	mdb_env_set_maxdbs(db->env, DB_NUM);
	do {
		r = mdb_env_set_mapsize(db->env, db->map_size);
		if (r == 0)
			r = mdb_env_open(db->env, path, MDB_NOSUBDIR | MDB_NOTLS, 0600);
		if (r != ENOMEM || db->map_size <= (64u << 20))
			break;
		/* Less address space than hoped. A failed open leaves an env that must go. */
		mdb_env_close(db->env);
		db->map_size /= 4;
		r = mdb_env_create(&db->env);
		if (r != 0) {
			free(db);
			return db_error(r);
		}
		mdb_env_set_maxdbs(db->env, DB_NUM);
		r = ENOMEM;
	} while (r == ENOMEM);
	r = db_error(r);
	/* Slots of readers that were killed would pin their pages for ever. */
	if (r == 0)
		r = db_error(mdb_reader_check(db->env, &dead));
	if (r == 0)
		r = db_check_size(db);
	if (r == 0)
		r = db_tables(db);
	if (r < 0) {
		mdb_env_close(db->env);
		free(db);
		return r;
	}
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	db_abort(db);
	mdb_env_close(db->env);
	free(db);
}

static void txn_cursors_close(struct db_txn *txn)
{
	int i;

	for (i = 0; i < DB_NUM; i++) {
		if (txn->cursors[i])
			mdb_cursor_close(txn->cursors[i]);
		if (txn->iters[i])
			mdb_cursor_close(txn->iters[i]);
		txn->cursors[i] = txn->iters[i] = NULL;
		txn->iter_used[i] = false;
	}
}

int db_begin(struct db *db)
{
	if (db->write.txn)
		return 0;
	return db_error(mdb_txn_begin(db->env, NULL, 0, &db->write.txn));
}

int db_commit(struct db *db)
{
	int r;

	if (!db->write.txn)
		return 0;
	txn_cursors_close(&db->write);
	r = mdb_txn_commit(db->write.txn);
	db->write.txn = NULL;
	db->is_damaged |= db_error(r) == -EUCLEAN;
	return db_error(r);
}

void db_abort(struct db *db)
{
	if (!db->write.txn)
		return;
	txn_cursors_close(&db->write);
	mdb_txn_abort(db->write.txn);
	db->write.txn = NULL;
}

bool db_is_damaged(const struct db *db)
{
	return db->is_damaged;
}

int db_grow(struct db *db)
{
	MDB_envinfo info;
	int r;

	/* LMDB takes a map at least as large as the file, whatever it was told. */
	if (mdb_env_info(db->env, &info) == 0 && info.me_mapsize > db->map_size)
		db->map_size = info.me_mapsize;
	db->map_size *= 2;
	pthread_mutex_lock(&db->copying);
	r = mdb_env_set_mapsize(db->env, db->map_size);
	pthread_mutex_unlock(&db->copying);
	return db_error(r);
}

int db_copy(struct db *db, int fd)
{
	int r;

	pthread_mutex_lock(&db->copying);
	r = mdb_env_copyfd2(db->env, fd, MDB_CP_COMPACT);
	pthread_mutex_unlock(&db->copying);
	return db_error(r);
}

int db_usage(struct db *db, struct db_usage *ret)
{
	MDB_val k, v;
	MDB_cursor *cursor = NULL;
	MDB_envinfo info;
	MDB_stat stat;
	MDB_txn *txn;
	size_t num;
	int r;

	*ret = (struct db_usage){ 0 };
	if (mdb_env_info(db->env, &info) != 0 || mdb_env_stat(db->env, &stat) != 0)
		return -EIO;
	ret->page_size = stat.ms_psize;
	ret->pages = info.me_last_pgno + 1;
	r = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
	if (r != 0)
		return db_error(r);
	/* Table 0 is LMDB's list of free pages: lists of page numbers, each with its length first.
	 */
	r = mdb_cursor_open(txn, 0, &cursor);
	while (r == 0 && (r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
		if (v.mv_size < sizeof(num))
			continue;
		memcpy(&num, v.mv_data, sizeof(num));
		ret->free_pages += num;
	}
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	return r == MDB_NOTFOUND ? 0 : db_error(r);
}

struct db_txn *db_write(struct db *db)
{
	return &db->write;
}

int db_snapshot(struct db *db, struct db_txn **ret)
{
	struct db_txn *txn = calloc(1, sizeof(*txn));
	int r;

	if (!txn)
		return -ENOMEM;
	txn->db = db;
	r = db_error(mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn->txn));
	if (r < 0) {
		free(txn);
		return r;
	}
	*ret = txn;
	return 0;
}

void db_snapshot_close(struct db_txn *txn)
{
	if (!txn)
		return;
	txn_cursors_close(txn);
	mdb_txn_abort(txn->txn);
	free(txn);
}

/* Whatever says so: nothing of it can be trusted. */
static int seen(struct db *db, int r)
{
	db->is_damaged |= r == -EUCLEAN;
	return r;
}

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

int db_get(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const uint8_t **ret_value, size_t *ret_len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	MDB_cursor *cursor;
	int r;

	r = txn_cursor(txn, table, &cursor);
	if (r == 0)
		r = db_error(mdb_cursor_get(cursor, &k, &v, MDB_SET));
	if (r < 0)
		return seen(txn->db, r);
	*ret_value = v.mv_data;
	return seen(txn->db, row_check(key, key_len, &v, ret_len));
}

bool db_has(struct db_txn *txn, enum db_table table, const void *key, size_t key_len)
{
	const uint8_t *value;
	size_t len;

	return db_get(txn, table, key, key_len, &value, &len) == 0;
}

int db_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
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
		return seen(txn->db, r);
	if (len > 0)
		memcpy(v.mv_data, value, len);
	le32_put((uint8_t *)v.mv_data + len, sum);
	return 0;
}

int db_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	MDB_cursor *cursor;
	int r;

	r = txn_cursor(txn, table, &cursor);
	if (r == 0)
		r = db_error(mdb_cursor_get(cursor, &k, &v, MDB_SET));
	if (r == 0)
		r = db_error(mdb_cursor_del(cursor, 0));
	return seen(txn->db, r);
}

int db_take(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	void *ret_value, size_t len)
{
	MDB_val k = { key_len, (void *)(uintptr_t)key }, v;
	MDB_cursor *cursor;
	size_t has;
	int r;

	r = txn_cursor(txn, table, &cursor);
	if (r == 0)
		r = db_error(mdb_cursor_get(cursor, &k, &v, MDB_SET));
	if (r == 0)
		r = row_check(key, key_len, &v, &has);
	if (r < 0)
		return seen(txn->db, r);
	if (has != len)
		return -EUCLEAN;
	memcpy(ret_value, v.mv_data, len);
	return seen(txn->db, db_error(mdb_cursor_del(cursor, 0)));
}

uint64_t db_rows(struct db_txn *txn, enum db_table table)
{
	MDB_stat stat;

	return mdb_stat(txn->txn, txn->db->dbi[table], &stat) == 0 ? stat.ms_entries : 0;
}

static int iter_row(struct db_iter *it, int r, const MDB_val *k, const MDB_val *v)
{
	if (r == MDB_NOTFOUND)
		return 0;
	if (r != 0)
		return seen(it->db, db_error(r));
	if (k->mv_size < it->prefix_len || memcmp(k->mv_data, it->prefix, it->prefix_len) != 0)
		return 0;
	it->key = k->mv_data;
	it->key_len = k->mv_size;
	it->value = v->mv_data;
	r = row_check(k->mv_data, k->mv_size, v, &it->value_len);
	return r < 0 ? seen(it->db, r) : 1;
}

int db_iter_first(struct db_iter *it, struct db_txn *txn, enum db_table table, const void *prefix,
	size_t prefix_len, const void *start, size_t start_len)
{
	MDB_val k = { start ? start_len : prefix_len, NULL }, v;
	MDB_cursor *cursor;
	int r;

	it->cursor = NULL;
	it->owner = NULL;
	it->db = txn->db;
	if (prefix_len > sizeof(it->prefix))
		return -EINVAL;
	if (!txn->iter_used[table]) {
		if (!txn->iters[table]) {
			r = mdb_cursor_open(txn->txn, txn->db->dbi[table], &txn->iters[table]);
			if (r != 0)
				return db_error(r);
		}
		cursor = txn->iters[table];
		txn->iter_used[table] = true;
		it->owner = txn;
		it->table = (int)table;
	} else {
		r = mdb_cursor_open(txn->txn, txn->db->dbi[table], &cursor);
		if (r != 0)
			return db_error(r);
	}
	it->cursor = cursor;
	if (prefix_len > 0)
		memcpy(it->prefix, prefix, prefix_len);
	it->prefix_len = prefix_len;
	k.mv_data = (void *)(uintptr_t)(start ? start : prefix);
	if (k.mv_size == 0)
		return iter_row(it, mdb_cursor_get(cursor, &k, &v, MDB_FIRST), &k, &v);
	return iter_row(it, mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE), &k, &v);
}

int db_iter_next(struct db_iter *it)
{
	MDB_val k, v;
	int r;

	r = mdb_cursor_get(it->cursor, &k, &v, MDB_NEXT);
	return iter_row(it, r, &k, &v);
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
	MDB_val k = { prefix_len, (void *)(uintptr_t)prefix }, v;
	MDB_cursor *cursor;
	int num = 0, r;

	r = mdb_cursor_open(txn->txn, txn->db->dbi[table], &cursor);
	if (r != 0)
		return db_error(r);
	r = mdb_cursor_get(cursor, &k, &v, prefix_len ? MDB_SET_RANGE : MDB_FIRST);
	while (r == 0 && num < max) {
		if (k.mv_size < prefix_len || memcmp(k.mv_data, prefix, prefix_len) != 0)
			break;
		r = mdb_cursor_del(cursor, 0);
		if (r != 0)
			break;
		num++;
		/* Behind a deletion this is the row that took its place. */
		r = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	return r == 0 || r == MDB_NOTFOUND ? num : seen(txn->db, db_error(r));
}
