/*
 * The objects of a collection, numbered: the ids in ascending order, and some bits for each. Pure.
 *
 * Calling order: gc_table_add for every object in the order of the ids; gc_table_end; then
 * gc_table_mark as often as needed. Memory: 4 bytes an object (40 MB for ten million), and one
 * cache line for a mark: an id is kept as 44 of its bits, the upper 16 by the place, the others
 * beside the marks. Objects that have those bits in common (somebody may have tried hard) are
 * marked together, so that this costs garbage kept and never an object lost.
 *
 * One bit an object, by the perfect hashes of the sealed arenas, would ask the index first in which
 * arena an id lies: that is a look-up in a tree of gigabytes for every reference, where this is a
 * look at a page that is in memory.
 *
 * Errors: -ENOMEM; -EINVAL for ids out of order.
 */
#ifndef BAZIL_STORED_GC_TABLE_H
#define BAZIL_STORED_GC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GC_TABLE_BUCKETS 65536u

struct gc_table {
	uint32_t *entries; /* 28 bits of the id, enum gc_bits */
	size_t num, cap;
	uint32_t last_bucket;
	uint32_t starts[GC_TABLE_BUCKETS + 1];
};

enum gc_bits {
	GC_BIT_MARKED = 1, /* reached in any way */
	GC_BIT_LIVE = 2,   /* reached from what is there now, not from history alone */
	GC_BIT_LEAF = 4,   /* refers to nothing */
	GC_BIT_DOOMED = 8, /* was freed, or a dry run would free it */
};

/* expect: how many there will be, about. */
int gc_table_init(struct gc_table *table, size_t expect);
void gc_table_release(struct gc_table *table);
int gc_table_add(struct gc_table *table, const uint8_t id[32], bool is_leaf);
void gc_table_end(struct gc_table *table);

/* Sets bits of an id's entries; true if what it refers to must be looked at: it was not marked
 * before and is no leaf. An id that is not in the table changes nothing. */
bool gc_table_mark(struct gc_table *table, const uint8_t id[32], bool is_live);
/* Sets GC_BIT_DOOMED. */
void gc_table_doom(struct gc_table *table, const uint8_t id[32]);
/* The bits of an id, of all its entries together; -1: not in the table. */
int gc_table_bits(const struct gc_table *table, const uint8_t id[32]);

#endif
