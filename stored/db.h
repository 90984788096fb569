/*
 * The index: LMDB, with its error codes turned into ours here and nowhere else, and over it the
 * rows that it does not have yet (stored/fresh.h). Reads see both, so what was written a moment
 * ago.
 *
 * A commit has three steps, so that who writes need not wait for it: db_freeze sets aside what was
 * written until now, as one; db_apply, in another thread, puts it into LMDB in one transaction, in
 * the order of the keys; db_applied lets go of it. Meanwhile writing goes on over that. At most one
 * is frozen. One that could not be applied stays so, is read, and can be applied again.
 *
 * Replaying a log writes straight into LMDB instead, which needs no memory for it: from db_begin to
 * db_commit nothing is laid over it.
 *
 * Snapshots (read transactions) are for serving pulls: of what was applied last. An open one keeps
 * every page that it sees from being reused.
 *
 * Durability is LMDB's default: no NOSYNC, no WRITEMAP, no MAPASYNC.
 *
 * Calling order: db_open; db_begin, replay, db_commit; then db_freeze, db_apply, db_applied again
 * and again; db_close. db_abort at any time but during db_apply: what was not applied is gone, and
 * db_begin is next. Bytes returned are valid until the next write through the same transaction, and
 * until any of these.
 *
 * Each row of LMDB carries a CRC-32C of its key and value, checked whenever it is read: LMDB itself
 * trusts its pages.
 *
 * Errors: -ENOENT not there; -EOVERFLOW the map is full: db_grow, then db_apply again, or between
 * db_begin and db_commit db_abort first and everything since the last commit again; -EUCLEAN the
 * index is damaged: it can be rebuilt from the arenas; -ENOSPC, -EIO, -ENOMEM.
 */
#ifndef BAZIL_STORED_DB_H
#define BAZIL_STORED_DB_H

#include "stored/fresh.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Tables; the rows are described in stored/rows.h. */
enum db_table {
	DB_META,
	DB_SETTINGS,
	DB_OBJECTS,
	DB_TAGS,
	DB_RECORDS,
	DB_NAMES,
	DB_DIRS,
	DB_TARGETS,
	DB_COUNTS,
	DB_STAMPS,
	DB_DEAD,
	DB_LABELS,
	DB_FALLEN,
	DB_GC,
	DB_HIST,
	DB_HNAMES,
	DB_HDIRS,
	DB_HTARGETS,
	DB_HFALLEN,
	DB_TIMES,
	DB_SNAPSHOTS,
	DB_PULLS,
	DB_NUM,
};

#define DB_KEY_MAX 511

struct db;
struct db_txn;

struct db_iter {
	const uint8_t *key;
	size_t key_len;
	const uint8_t *value;
	size_t value_len;
	/* private */
	struct {
		const uint8_t *key; /* NULL: no more */
		size_t key_len;
		const uint8_t *value;
		size_t value_len;
	} lmdb;
	struct fresh_at over[2]; /* the same of what lies over it */
	unsigned num_skipped;
	const uint8_t *skipped; /* the last one */
	size_t skipped_len;
	void *cursor;
	uint8_t prefix[64];
	size_t prefix_len;
	struct db *db;
	struct db_txn *owner; /* whose spare cursor it is; NULL: its own */
	int table;
};

/* path: of the index file (the lock is path-lock). map_size: to start with; grows by db_grow.
 * -EUCLEAN: also when the file is shorter than it says, which would be a SIGBUS later. */
int db_open(struct db **ret, const char *path, uint64_t map_size);
void db_close(struct db *db);

int db_begin(struct db *db); /* nothing if it was called already */
int db_commit(struct db *db);
/* Between these two. */
bool db_is_direct(const struct db *db);
void db_abort(struct db *db);

int db_freeze(struct db *db);
/* For another thread. Only once there was a db_freeze, and until it returned 0. */
int db_apply(struct db *db);
int db_applied(struct db *db);
/* Bytes of memory of what was written since the last db_freeze. */
size_t db_pending(const struct db *db);
/* Rows deleted since then that LMDB has: iterating steps over each of them. */
size_t db_hidden(const struct db *db);

/* Doubles the map; not during db_apply, nor between db_begin and db_commit. */
int db_grow(struct db *db);
struct db_txn *db_write(struct db *db);
/* A row with a wrong sum or a malformed page was met: nothing of it can be trusted. */
bool db_is_damaged(const struct db *db);

struct db_usage {
	uint64_t page_size;
	uint64_t pages; /* of the file */
	uint64_t free_pages;
};
/* As of the last commit. */
int db_usage(struct db *db, struct db_usage *ret);
/* A compact copy of the last commit into fd, not synced. For another thread; db_grow waits for it.
 */
int db_copy(struct db *db, int fd);

int db_snapshot(struct db *db, struct db_txn **ret);
void db_snapshot_close(struct db_txn *txn);

int db_get(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const uint8_t **ret_value, size_t *ret_len);
bool db_has(struct db_txn *txn, enum db_table table, const void *key, size_t key_len);
int db_put(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	const void *value, size_t len);
int db_delete(struct db_txn *txn, enum db_table table, const void *key, size_t key_len);
/* Deletes the row and gives its value, which has exactly len bytes; -EUCLEAN: another length. */
int db_take(struct db_txn *txn, enum db_table table, const void *key, size_t key_len,
	void *ret_value, size_t len);
uint64_t db_rows(struct db_txn *txn, enum db_table table);

/*
 * Rows whose key starts with a prefix, from the first key that is not below start (NULL: from the
 * prefix). 1: a row, 0: the end, or -errno; db_iter_close always. While iterating in the write
 * transaction nothing may be written to that table.
 */
int db_iter_first(struct db_iter *it, struct db_txn *txn, enum db_table table, const void *prefix,
	size_t prefix_len, const void *start, size_t start_len);
int db_iter_next(struct db_iter *it);
void db_iter_close(struct db_iter *it);

/* Deletes rows with the prefix, at most max of them: the number deleted or -errno. */
int db_delete_prefix(
	struct db_txn *txn, enum db_table table, const void *prefix, size_t prefix_len, int max);

#endif
