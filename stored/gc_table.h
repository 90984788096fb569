/*
 * The objects of a collection and why each of them stays, without their ids. Pure.
 *
 * Ids come in ascending order and are gathered in buckets, of 4096. Of a full one a minimal perfect
 * hash is made (stored/mph.h), by which each object has a place in it, and the ids are forgotten:
 * so an object takes 14.8 bits (2.8 of the hash, 8 of a fingerprint, 4 of marks: 19 MB for ten
 * million), and building takes the memory of one bucket. What is left over at the end keeps its
 * ids, as does a bucket for which there is no hash: ids that somebody has made for that cost
 * memory, nothing else.
 *
 * An object of the table has its place for itself, so of it all answers are exact. But any other id
 * has a place too, which is another's. A fingerprint of 8 bits tells 255 of 256 such strangers: the
 * objects that records refer to and that are far. One that is not told marks somebody else. It may
 * mark a leaf, which then stays until the next collection: with as many strangers as objects that
 * is 1 of 256 of the garbage, and it is another one each time, for fingerprints are salted. It must
 * not mark what refers to others, for those were never looked at, and would be lost. Therefore
 * gc_table_mark only says of a node that it may have been reached, and it is marked by
 * gc_table_walk, for which the caller has to know that the id is one of the table.
 *
 * Calling order: gc_table_init; gc_table_add for every object in the order of the ids;
 * gc_table_end; then the others as often as needed.
 *
 * Errors: -ENOMEM; -EINVAL for ids out of order.
 */
#ifndef BAZIL_STORED_GC_TABLE_H
#define BAZIL_STORED_GC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GC_TABLE_BUCKET 4096u /* ids */

/* Why an object stays, or goes; what history alone has, by when it may go: only a dry run tells
 * these. They are marked in this order from the end, so that the first to come is the last to go.
 */
enum gc_why {
	GC_WHY_NONE,   /* not reached */
	GC_WHY_DOOMED, /* was freed, or a dry run would free it */
	GC_WHY_DAY,    /* history has it for one more day at most */
	GC_WHY_WEEK,
	GC_WHY_MONTH,
	GC_WHY_LATER,
	GC_WHY_SNAPSHOT, /* as long as there is a snapshot */
	GC_WHY_LIVE,	 /* it is reached from what is there now */
};

struct gc_bucket;
struct gc_filling;

struct gc_table {
	uint64_t salt;
	uint32_t bucket;  /* ids in each, but for the last */
	uint64_t *firsts; /* of each bucket the upper 8 bytes of its first id */
	struct gc_bucket **buckets;
	size_t num, cap;
	struct gc_filling *filling; /* the last bucket, until the end */
};

/* salt: another one for each collection. bucket: GC_TABLE_BUCKET, or fewer in tests. */
int gc_table_init(struct gc_table *table, uint64_t salt, uint32_t bucket);
void gc_table_release(struct gc_table *table);
int gc_table_add(struct gc_table *table, const uint8_t id[32], bool is_leaf);
int gc_table_end(struct gc_table *table);

/* Somebody refers to an id. A leaf is marked. True: it may be a node (not a leaf) that is not
 * marked yet, so the caller finds out whether it is one of the table, and calls gc_table_walk. */
bool gc_table_mark(struct gc_table *table, const uint8_t id[32], enum gc_why why);
/* Marks a node of the table; what it refers to is looked at next. */
void gc_table_walk(struct gc_table *table, const uint8_t id[32], enum gc_why why);
/* Marks an object of the table that was not reached GC_WHY_DOOMED. */
void gc_table_doom(struct gc_table *table, const uint8_t id[32]);
/* The enum gc_why of an object of the table. Of any other id -1, or (1 of 256) that of some object.
 */
int gc_table_why(const struct gc_table *table, const uint8_t id[32]);

#endif
