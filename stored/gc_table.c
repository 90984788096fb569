#include "stored/gc_table.h"

#include "cas/bytes.h"
#include "stored/mph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The upper half of an id says which bucket, and is much the same for all that are in it. */
#define KEY_AT	16
#define KEY_LEN 16

#define WHY  7u /* of the four bits of a place: enum gc_why, */
#define LEAF 8u /* and that it refers to nothing */

/* One allocation; the bits of two places share a byte. */
struct gc_bucket {
	uint32_t num;
	uint32_t hash_len; /* 0: no hash, the ids are there in their order */
	uint8_t data[];	   /* hash | fingerprints, or ids; then bits */
};

/* The ids of a bucket that is not complete. */
struct gc_filling {
	uint32_t num, cap;
	uint8_t (*ids)[32];
	bool *leafs;
};

static uint8_t *behind_hash(struct gc_bucket *b)
{
	return b->data + b->hash_len;
}

static uint8_t *bits_of(struct gc_bucket *b)
{
	return behind_hash(b) + (size_t)b->num * (b->hash_len ? 1 : 32);
}

static void bits_set(struct gc_bucket *b, uint32_t place, unsigned bits)
{
	bits_of(b)[place / 2] |= (uint8_t)(bits << place % 2 * 4);
}

static unsigned bits_get(struct gc_bucket *b, uint32_t place)
{
	return bits_of(b)[place / 2] >> place % 2 * 4 & 15u;
}

static uint8_t fingerprint(const struct gc_table *table, const uint8_t *id)
{
	return (uint8_t)(((be64_get(id + 8) ^ table->salt) * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

/* ---- filling */

static int filling_reserve(struct gc_filling *f, uint32_t cap)
{
	void *ids = realloc(f->ids, cap * sizeof(*f->ids)), *leafs;

	if (ids)
		f->ids = ids;
	leafs = ids ? realloc(f->leafs, cap * sizeof(*f->leafs)) : NULL;
	if (!leafs)
		return -ENOMEM;
	f->leafs = leafs;
	f->cap = cap;
	return 0;
}

static void filling_free(struct gc_filling *f)
{
	if (!f)
		return;
	free(f->ids);
	free(f->leafs);
	free(f);
}

int gc_table_init(struct gc_table *table, uint64_t salt, uint32_t bucket)
{
	memset(table, 0, sizeof(*table));
	table->salt = salt;
	table->bucket = bucket;
	table->filling = calloc(1, sizeof(*table->filling));
	return table->filling ? filling_reserve(table->filling, bucket) : -ENOMEM;
}

void gc_table_release(struct gc_table *table)
{
	for (size_t i = 0; i < table->num; i++)
		free(table->buckets[i]);
	free(table->buckets);
	free(table->firsts);
	filling_free(table->filling);
	memset(table, 0, sizeof(*table));
}

static struct gc_bucket *bucket_new(uint32_t num, uint32_t hash_len, size_t place_size)
{
	struct gc_bucket *b = calloc(1, sizeof(*b) + hash_len + num * place_size + (num + 1) / 2);

	if (b) {
		b->num = num;
		b->hash_len = hash_len;
	}
	return b;
}

/* Places in the order of the ids. */
static int make_sorted(const struct gc_filling *f, struct gc_bucket **ret)
{
	struct gc_bucket *b = bucket_new(f->num, 0, 32);

	if (!b)
		return -ENOMEM;
	memcpy(b->data, f->ids, f->num * sizeof(*f->ids));
	for (uint32_t i = 0; i < f->num; i++)
		bits_set(b, i, f->leafs[i] ? LEAF : 0);
	*ret = b;
	return 0;
}

static int place_all(const struct gc_table *table, const uint8_t *hash, uint32_t hash_len,
	const uint32_t *places, struct gc_bucket **ret)
{
	const struct gc_filling *f = table->filling;
	struct gc_bucket *b = bucket_new(f->num, hash_len, 1);

	if (!b)
		return -ENOMEM;
	memcpy(b->data, hash, hash_len);
	for (uint32_t i = 0; i < f->num; i++) {
		behind_hash(b)[places[i]] = fingerprint(table, f->ids[i]);
		bits_set(b, places[i], f->leafs[i] ? LEAF : 0);
	}
	*ret = b;
	return 0;
}

/* -ERANGE: there is no hash for these. */
static int make_hashed(const struct gc_table *table, struct gc_bucket **ret)
{
	const struct gc_filling *f = table->filling;
	const uint8_t **ids = calloc(f->num, sizeof(*ids));
	uint32_t *places = calloc(f->num, sizeof(*places)), len;
	struct mph_keys keys = { .keys = ids, .num = f->num, .len = KEY_LEN };
	int r = ids && places ? 0 : -ENOMEM;
	void *hash = NULL;

	for (uint32_t i = 0; r == 0 && i < f->num; i++)
		ids[i] = f->ids[i] + KEY_AT;
	if (r == 0)
		r = mph_make(MPH_BDZ, &keys, places, &hash, &len);
	if (r == 0) {
		r = place_all(table, hash, len, places, ret);
		free(hash);
	}
	free(places);
	free(ids);
	return r;
}

static int table_reserve(struct gc_table *table)
{
	size_t cap = table->cap ? table->cap * 2 : 64;
	void *firsts, *buckets;

	if (table->num < table->cap)
		return 0;
	firsts = realloc(table->firsts, cap * sizeof(*table->firsts));
	if (firsts)
		table->firsts = firsts;
	buckets = firsts ? realloc(table->buckets, cap * sizeof(*table->buckets)) : NULL;
	if (!buckets)
		return -ENOMEM;
	table->buckets = buckets;
	table->cap = cap;
	return 0;
}

/* What was gathered becomes a bucket. */
static int complete(struct gc_table *table)
{
	struct gc_filling *f = table->filling;
	struct gc_bucket *bucket = NULL;
	int r = table_reserve(table);

	if (r == 0)
		r = f->num < table->bucket ? -ERANGE : make_hashed(table, &bucket);
	if (r == -ERANGE)
		r = make_sorted(f, &bucket);
	if (r < 0)
		return r;
	table->firsts[table->num] = be64_get(f->ids[0]);
	table->buckets[table->num++] = bucket;
	f->num = 0;
	return 0;
}

int gc_table_add(struct gc_table *table, const uint8_t id[32], bool is_leaf)
{
	struct gc_filling *f = table->filling;
	const uint8_t *last = f->num > 0 ? f->ids[f->num - 1] : NULL;
	int r = 0;

	if (last && memcmp(last, id, 32) >= 0)
		return -EINVAL;
	/* Of buckets eight bytes are compared: so many ids that have those in common nobody finds.
	 */
	if (f->num >= table->bucket && be64_get(last) != be64_get(id))
		r = complete(table);
	if (r == 0 && f->num == f->cap)
		r = filling_reserve(f, f->cap * 2);
	if (r < 0)
		return r;
	memcpy(f->ids[f->num], id, 32);
	f->leafs[f->num++] = is_leaf;
	return 0;
}

int gc_table_end(struct gc_table *table)
{
	int r = table->filling->num > 0 ? complete(table) : 0;

	filling_free(table->filling);
	table->filling = NULL;
	return r;
}

/* ---- finding */

/* The only one in which it may be. */
static struct gc_bucket *bucket_of(const struct gc_table *table, const uint8_t *id)
{
	uint64_t upper = be64_get(id);
	size_t low = 0, high = table->num;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (table->firsts[mid] <= upper)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 ? table->buckets[low - 1] : NULL;
}

static bool find_sorted(struct gc_bucket *b, const uint8_t *id, uint32_t *ret_place)
{
	uint32_t low = 0, high = b->num;
	int r;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		r = memcmp(b->data + 32 * (size_t)mid, id, 32);
		if (r == 0) {
			*ret_place = mid;
			return true;
		}
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* The bucket with its place; NULL: surely not in the table. */
static struct gc_bucket *find(const struct gc_table *table, const uint8_t *id, uint32_t *ret_place)
{
	struct gc_bucket *b = bucket_of(table, id);

	if (!b)
		return NULL;
	if (b->hash_len == 0)
		return find_sorted(b, id, ret_place) ? b : NULL;
	*ret_place = mph_find(b->data, id + KEY_AT, KEY_LEN);
	if (*ret_place >= b->num || behind_hash(b)[*ret_place] != fingerprint(table, id))
		return NULL;
	return b;
}

static bool is_marked(struct gc_bucket *b, uint32_t place)
{
	return (bits_get(b, place) & WHY) != GC_WHY_NONE;
}

static void mark_first(struct gc_bucket *b, uint32_t place, enum gc_why why)
{
	if (!is_marked(b, place))
		bits_set(b, place, why);
}

bool gc_table_mark(struct gc_table *table, const uint8_t id[32], enum gc_why why)
{
	uint32_t place;
	struct gc_bucket *b = find(table, id, &place);

	if (!b)
		return false;
	if (!(bits_get(b, place) & LEAF))
		return !is_marked(b, place);
	mark_first(b, place, why);
	return false;
}

void gc_table_walk(struct gc_table *table, const uint8_t id[32], enum gc_why why)
{
	uint32_t place;
	struct gc_bucket *b = find(table, id, &place);

	if (b)
		mark_first(b, place, why);
}

void gc_table_doom(struct gc_table *table, const uint8_t id[32])
{
	gc_table_walk(table, id, GC_WHY_DOOMED);
}

int gc_table_why(const struct gc_table *table, const uint8_t id[32])
{
	uint32_t place;
	struct gc_bucket *b = find(table, id, &place);

	return b ? (int)(bits_get(b, place) & WHY) : -1;
}
