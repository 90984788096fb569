/*
 * What is behind stored/db.h; for the files stored/db*.c.
 */
#ifndef BAZIL_STORED_DB_STATE_H
#define BAZIL_STORED_DB_STATE_H

#include "stored/db.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

/* Nothing lives in [from, to) of a table: what was stepped over once is not stepped over again. */
struct db_void {
	uint8_t from[DB_KEY_MAX + 1], to[DB_KEY_MAX + 1];
	size_t from_len, to_len; /* to_len 0: nothing is known */
};

struct db_txn {
	struct db *db;
	MDB_txn *txn;
	/* Laid over it, the newest first; NULL: none. With the first one, changes go there. */
	struct fresh *over[2];
	/* Kept at their last place: the next row is mostly on the same page, and then it is found
	 * without going down the tree. */
	MDB_cursor *cursors[DB_NUM];
	MDB_cursor *iters[DB_NUM];
	bool iter_used[DB_NUM];
	struct db_txn *next; /* of the snapshots */
};

struct db {
	MDB_env *env;
	MDB_dbi dbi[DB_NUM];
	struct db_txn write;
	bool is_direct; /* write has LMDB's write transaction, and nothing over it */
	struct db_txn *snapshots;
	struct db_void voids[DB_NUM]; /* of write, with something over it */
	uint64_t map_size;
	atomic_bool is_damaged;
	pthread_mutex_t copying; /* the map must not move while it is copied */
};

int db_error(int code);
/* Whatever says -EUCLEAN: nothing of it can be trusted. Returns r. */
int db_seen(struct db *db, int r);

/* The same in LMDB's own transaction alone. */
int db_lmdb_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const void *value, size_t len);
int db_lmdb_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len);

#endif
