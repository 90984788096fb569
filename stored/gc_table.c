#include "stored/gc_table.h"

#include "cas/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BITS 15u /* of an entry: enum gc_bits */

static uint32_t bucket_of(const uint8_t *id)
{
	return (uint32_t)id[0] << 8 | id[1];
}

/* The bits of an id behind its bucket, above those of its marks. */
static uint32_t key_of(const uint8_t *id)
{
	return be32_get(id + 2) & ~BITS;
}

static int reserve(struct gc_table *table, size_t cap)
{
	uint32_t *entries = realloc(table->entries, cap * sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	table->entries = entries;
	table->cap = cap;
	return 0;
}

int gc_table_init(struct gc_table *table, size_t expect)
{
	memset(table, 0, sizeof(*table));
	return reserve(table, expect + 1024);
}

void gc_table_release(struct gc_table *table)
{
	free(table->entries);
	memset(table, 0, sizeof(*table));
}

int gc_table_add(struct gc_table *table, const uint8_t id[32], bool is_leaf)
{
	uint32_t bucket = bucket_of(id), key = key_of(id);
	int r;

	if (bucket < table->last_bucket ||
		(bucket == table->last_bucket && table->num > table->starts[bucket] &&
			key < (table->entries[table->num - 1] & ~BITS)))
		return -EINVAL;
	if (table->num == UINT32_MAX)
		return -E2BIG;
	if (table->num == table->cap) {
		r = reserve(table, table->cap + table->cap / 4);
		if (r < 0)
			return r;
	}
	while (table->last_bucket < bucket)
		table->starts[++table->last_bucket] = (uint32_t)table->num;
	table->entries[table->num++] = key | (is_leaf ? GC_BIT_LEAF : 0);
	return 0;
}

void gc_table_end(struct gc_table *table)
{
	while (table->last_bucket < GC_TABLE_BUCKETS)
		table->starts[++table->last_bucket] = (uint32_t)table->num;
}

/* The first entry of an id, or where it would be. */
static size_t first_of(const struct gc_table *table, uint32_t bucket, uint32_t key)
{
	size_t low = table->starts[bucket], high = table->starts[bucket + 1];

	while (low < high) {
		size_t mid = (low + high) / 2;

		if ((table->entries[mid] & ~BITS) < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Whether there is an i-th entry, and it is one of the id. */
static bool is_of(const struct gc_table *table, size_t i, uint32_t bucket, uint32_t key)
{
	return i < table->starts[bucket + 1] && (table->entries[i] & ~BITS) == key;
}

bool gc_table_mark(struct gc_table *table, const uint8_t id[32], bool is_live)
{
	uint32_t bucket = bucket_of(id), key = key_of(id);
	uint32_t set = is_live ? GC_BIT_MARKED | GC_BIT_LIVE : GC_BIT_MARKED;
	size_t first = first_of(table, bucket, key), i;
	bool walk = false, is_new = false;

	for (i = first; is_of(table, i, bucket, key); i++) {
		walk |= !(table->entries[i] & GC_BIT_LEAF);
		is_new |= !(table->entries[i] & GC_BIT_MARKED);
		table->entries[i] |= set;
	}
	/* Of several with one key it is not known which was walked. */
	return walk && (is_new || i - first > 1);
}

void gc_table_doom(struct gc_table *table, const uint8_t id[32])
{
	uint32_t bucket = bucket_of(id), key = key_of(id);
	size_t i = first_of(table, bucket, key);

	for (; is_of(table, i, bucket, key); i++)
		table->entries[i] |= GC_BIT_DOOMED;
}

int gc_table_bits(const struct gc_table *table, const uint8_t id[32])
{
	uint32_t bucket = bucket_of(id), key = key_of(id);
	size_t i = first_of(table, bucket, key);
	int bits = -1;

	for (; is_of(table, i, bucket, key); i++)
		bits = (bits < 0 ? 0 : bits) | (int)(table->entries[i] & BITS);
	return bits;
}
