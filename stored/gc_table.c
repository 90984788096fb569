#include "stored/gc_table.h"

#include "cas/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t bucket_of(const uint8_t *id)
{
	return (uint32_t)id[0] << 8 | id[1];
}

static int reserve(struct gc_table *table, size_t cap)
{
	uint32_t *keys = realloc(table->keys, cap * sizeof(*keys));
	uint8_t *bits;

	if (!keys)
		return -ENOMEM;
	table->keys = keys;
	bits = realloc(table->bits, cap);
	if (!bits)
		return -ENOMEM;
	table->bits = bits;
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
	free(table->keys);
	free(table->bits);
	memset(table, 0, sizeof(*table));
}

int gc_table_add(struct gc_table *table, const uint8_t id[32], bool is_leaf)
{
	uint32_t bucket = bucket_of(id), key = be32_get(id + 2);
	int r;

	if (bucket < table->last_bucket ||
		(bucket == table->last_bucket && table->num > table->starts[bucket] &&
			key < table->keys[table->num - 1]))
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
	table->keys[table->num] = key;
	table->bits[table->num++] = is_leaf ? GC_BIT_LEAF : 0;
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

		if (table->keys[mid] < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool gc_table_mark(struct gc_table *table, const uint8_t id[32], bool is_live)
{
	uint32_t bucket = bucket_of(id), key = be32_get(id + 2);
	uint8_t set = is_live ? GC_BIT_MARKED | GC_BIT_LIVE : GC_BIT_MARKED;
	size_t first = first_of(table, bucket, key), i;
	bool walk = false, is_new = false;

	for (i = first; i < table->starts[bucket + 1] && table->keys[i] == key; i++) {
		walk |= !(table->bits[i] & GC_BIT_LEAF);
		is_new |= !(table->bits[i] & GC_BIT_MARKED);
		table->bits[i] |= set;
	}
	/* Of several with one key it is not known which was walked. */
	return walk && (is_new || i - first > 1);
}

void gc_table_doom(struct gc_table *table, const uint8_t id[32])
{
	uint32_t bucket = bucket_of(id), key = be32_get(id + 2);
	size_t i = first_of(table, bucket, key);

	for (; i < table->starts[bucket + 1] && table->keys[i] == key; i++)
		table->bits[i] |= GC_BIT_DOOMED;
}

int gc_table_bits(const struct gc_table *table, const uint8_t id[32])
{
	uint32_t bucket = bucket_of(id), key = be32_get(id + 2);
	size_t i = first_of(table, bucket, key);
	int bits = -1;

	for (; i < table->starts[bucket + 1] && table->keys[i] == key; i++)
		bits = (bits < 0 ? 0 : bits) | table->bits[i];
	return bits;
}
