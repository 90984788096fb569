#include "stored/db.h"

#include "stored/broken.h"
#include "stored/db_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- straight into LMDB */

/* What is written from now on is laid over what LMDB has. */
static int overlay_begin(struct db *db)
{
	int r;

	db->write.over[0] = fresh_new(DB_NUM);
	if (!db->write.over[0])
		return -ENOMEM;
	r = db_error(mdb_txn_begin(db->env, NULL, MDB_RDONLY, &db->write.txn));
	if (r == 0)
		return 0;
	db_abort(db);
	return r;
}

int db_begin(struct db *db)
{
	int r;

	if (db->is_direct)
		return 0;
	db_abort(db);
	r = db_error(mdb_txn_begin(db->env, NULL, 0, &db->write.txn));
	db->is_direct = r == 0;
	return r;
}

bool db_is_direct(const struct db *db)
{
	return db->is_direct;
}

int db_commit(struct db *db)
{
	int r;

	txn_cursors_close(&db->write);
	r = db_seen(db, db_error(mdb_txn_commit(db->write.txn)));
	db->write.txn = NULL;
	db->is_direct = false;
	return r < 0 ? r : overlay_begin(db);
}

void db_abort(struct db *db)
{
	txn_cursors_close(&db->write);
	if (db->write.txn)
		mdb_txn_abort(db->write.txn);
	db->write.txn = NULL;
	db->is_direct = false;
	memset(db->voids, 0, sizeof(db->voids));
	for (int i = 0; i < 2; i++) {
		fresh_free(db->write.over[i]);
		db->write.over[i] = NULL;
	}
}

/* ---- in the background */

size_t db_pending(const struct db *db)
{
	return db->write.over[0] ? fresh_bytes(db->write.over[0]) : 0;
}

size_t db_hidden(const struct db *db)
{
	return db->write.over[0] ? fresh_gone(db->write.over[0]) : 0;
}

int db_freeze(struct db *db)
{
	struct fresh *fresh = fresh_new(DB_NUM);

	if (!fresh)
		return -ENOMEM;
	db->write.over[1] = db->write.over[0];
	db->write.over[0] = fresh;
	return 0;
}

static int apply_table(struct db_txn *txn, const struct fresh *frozen, enum db_table table)
{
	struct fresh_at at;
	int r = 0;

	for (fresh_from(frozen, table, "", 0, &at); r == 0 && at.row; fresh_next(&at)) {
		const struct fresh_row *row = at.row;

		if (!row->is_gone)
			r = db_lmdb_put(txn, table, row->key, row->key_len, row->value, row->len);
		else
			r = db_lmdb_delete(txn, table, row->key, row->key_len);
		/* It came and went in between. */
		if (row->is_gone && r == -ENOENT)
			r = 0;
	}
	return r;
}

/* For the tests of the tests. */
static int commit_half(struct db_txn *txn)
{
	int r;

	txn_cursors_close(txn);
	r = mdb_txn_commit(txn->txn);
	txn->txn = NULL;
	return db_error(r ? r : mdb_txn_begin(txn->db->env, NULL, 0, &txn->txn));
}

static int apply_all(struct db_txn *txn, const struct fresh *frozen)
{
	int table, r = 0;

	for (table = 0; r == 0 && table < DB_NUM; table++) {
		r = apply_table(txn, frozen, (enum db_table)table);
		if (BROKEN(BROKEN_TWO_COMMITS) && r == 0 && table == DB_META)
			r = commit_half(txn);
	}
	return r;
}

int db_apply(struct db *db)
{
	struct db_txn txn = { .db = db };
	int r;

	r = db_error(mdb_txn_begin(db->env, NULL, 0, &txn.txn));
	if (r < 0)
		return r;
	r = apply_all(&txn, db->write.over[1]);
	txn_cursors_close(&txn);
	if (r == 0)
		return db_seen(db, db_error(mdb_txn_commit(txn.txn)));
	mdb_txn_abort(txn.txn);
	return r;
}

/* Reads on as of LMDB's last commit. */
static int read_again(struct db *db)
{
	txn_cursors_close(&db->write);
	mdb_txn_reset(db->write.txn);
	return db_error(mdb_txn_renew(db->write.txn));
}

int db_applied(struct db *db)
{
	fresh_free(db->write.over[1]);
	db->write.over[1] = NULL;
	return read_again(db);
}

bool db_is_damaged(const struct db *db)
{
	return db->is_damaged;
}

int db_seen(struct db *db, int r)
{
	if (r == -EUCLEAN)
		db->is_damaged = true;
	return r;
}

int db_grow(struct db *db)
{
	struct db_txn *txn;
	MDB_envinfo info;
	int r;

	/* LMDB takes a map at least as large as the file, whatever it was told. */
	if (mdb_env_info(db->env, &info) == 0 && info.me_mapsize > db->map_size)
		db->map_size = info.me_mapsize;
	db->map_size *= 2;
	/* Transactions that read find their pages by number, but cursors by address. */
	for (txn = db->snapshots; txn; txn = txn->next)
		txn_cursors_close(txn);
	txn_cursors_close(&db->write);
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
	txn->next = db->snapshots;
	db->snapshots = txn;
	*ret = txn;
	return 0;
}

void db_snapshot_close(struct db_txn *txn)
{
	struct db_txn **link;

	if (!txn)
		return;
	for (link = &txn->db->snapshots; *link != txn;)
		link = &(*link)->next;
	*link = txn->next;
	txn_cursors_close(txn);
	mdb_txn_abort(txn->txn);
	free(txn);
}
