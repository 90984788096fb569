/*
 * Rows of the index that LMDB does not have yet: an ordered table in memory for each of its tables,
 * deletions included. stored/db.h lays them over LMDB and hands them to it many at a time, in the
 * order of their keys.
 *
 * Each table is a B+ tree of pointers to rows. Its nodes are never joined, and a deletion is a row
 * that hides one, so it only grows: all memory comes from one arena and goes with it.
 *
 * Calling order: fresh_new; anything; fresh_free. One thread changes it; once it does not any more,
 * any number of threads may read. Rows stay where they are until fresh_free, but a value is written
 * over by the next change of its row, and a place (struct fresh_at) is valid until the next change
 * of its table.
 */
#ifndef BAZIL_STORED_FRESH_H
#define BAZIL_STORED_FRESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fresh;
struct fresh_node;

struct fresh_row {
	const struct fresh_row *older; /* the one that the table got before it */
	uint8_t *value;
	uint32_t len, cap;
	uint16_t key_len;
	bool is_gone; /* the row is deleted; what lies below is hidden */
	uint8_t key[];
};

/* A place in the order of a table. */
struct fresh_at {
	const struct fresh_row *row; /* NULL: behind the last one */
	/* private */
	const struct fresh_node *leaf;
	unsigned i;
};

/* As LMDB orders them. */
int fresh_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

/* num_tables: they are numbered from 0. NULL: no memory. */
struct fresh *fresh_new(unsigned num_tables);
void fresh_free(struct fresh *fresh);
/* Bytes of memory that it holds. */
size_t fresh_bytes(const struct fresh *fresh);

/* NULL: not there. A row that is gone is there. */
const struct fresh_row *fresh_find(
	const struct fresh *fresh, unsigned table, const void *key, size_t key_len);
/* 0 or -ENOMEM; then nothing has changed. The value may be that of the row itself. */
int fresh_put(struct fresh *fresh, unsigned table, const void *key, size_t key_len,
	const void *value, size_t len);
/* is_below: there is a row below, to be hidden. Else the row goes, if there is one. */
int fresh_delete(
	struct fresh *fresh, unsigned table, const void *key, size_t key_len, bool is_below);
/* Rows that hide one below. Whoever goes through a table steps over them one by one. */
size_t fresh_gone(const struct fresh *fresh);

/* The first row whose key is not below this one, and on from there. */
void fresh_from(const struct fresh *fresh, unsigned table, const void *key, size_t key_len,
	struct fresh_at *ret);
void fresh_next(struct fresh_at *at);

/* How many rows more than those below the table has, which may be less than 0. has tells whether
 * there is a row below; it is asked once for each key. */
int64_t fresh_count(struct fresh *fresh, unsigned table,
	bool (*has)(void *arg, const void *key, size_t len), void *arg);

#endif
