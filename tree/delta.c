#include "tree/delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STAMP_SIZE 12

static void put_le(uint8_t *p, uint64_t v, int len)
{
	for (int i = 0; i < len; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get_le(const uint8_t *p, int len)
{
	uint64_t v = 0;

	for (int i = 0; i < len; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static void put_stamp(uint8_t *p, struct tree_stamp stamp)
{
	put_le(p, stamp.replica, 4);
	put_le(p + 4, stamp.epoch, 8);
}

static int get_stamp(const uint8_t *p, struct tree_stamp *ret)
{
	ret->replica = (uint32_t)get_le(p, 4);
	ret->epoch = get_le(p + 4, 8);
	return ret->replica && ret->epoch ? 0 : -EBADMSG;
}

/* Length of an entry behind its type byte; of a record without its bytes. */
static size_t fixed_len(enum tree_delta_type type)
{
	switch (type) {
	case TREE_DELTA_UNIT:
		return TREE_UNIT_SIZE;
	case TREE_DELTA_ELEMENT:
		return TREE_KEY_SIZE + STAMP_SIZE;
	case TREE_DELTA_RECORD:
		return 4;
	case TREE_DELTA_DEAD:
		return TREE_UNIT_SIZE + STAMP_SIZE;
	case TREE_DELTA_INODE:
		return 8;
	}
	return 0;
}

int tree_delta_put(const struct tree_delta_entry *entry, uint8_t *buf, size_t cap)
{
	size_t size = 1 + fixed_len(entry->type);

	if (entry->type == TREE_DELTA_RECORD)
		size += entry->packed_len;
	if (cap < size)
		return -ENOBUFS;
	*buf++ = (uint8_t)entry->type;
	switch (entry->type) {
	case TREE_DELTA_UNIT:
		tree_unit_pack(&entry->unit, buf);
		break;
	case TREE_DELTA_ELEMENT:
		tree_key_pack(&entry->key, buf);
		put_stamp(buf + TREE_KEY_SIZE, entry->stamp);
		break;
	case TREE_DELTA_RECORD:
		put_le(buf, entry->packed_len, 4);
		memcpy(buf + 4, entry->packed, entry->packed_len);
		break;
	case TREE_DELTA_DEAD:
		tree_unit_pack(&entry->unit, buf);
		put_stamp(buf + TREE_UNIT_SIZE, entry->stamp);
		break;
	case TREE_DELTA_INODE:
		put_le(buf, entry->oid, 8);
		break;
	}
	return (int)size;
}

static int parse(const uint8_t *p, struct tree_delta_entry *e)
{
	int r = 0;

	switch (e->type) {
	case TREE_DELTA_UNIT:
		return tree_unit_unpack(p, &e->unit);
	case TREE_DELTA_ELEMENT:
		r = tree_key_unpack(p, &e->key);
		return r < 0 ? r : get_stamp(p + TREE_KEY_SIZE, &e->stamp);
	case TREE_DELTA_RECORD:
		e->packed = p + 4;
		return tree_record_parse(e->packed, e->packed_len, &e->rec);
	case TREE_DELTA_DEAD:
		r = tree_unit_unpack(p, &e->unit);
		return r < 0 ? r : get_stamp(p + TREE_UNIT_SIZE, &e->stamp);
	case TREE_DELTA_INODE:
		e->oid = get_le(p, 8);
		return e->oid ? 0 : -EBADMSG;
	}
	return -EBADMSG;
}

int tree_delta_next(const uint8_t *data, size_t len, size_t *pos, struct tree_delta_entry *ret)
{
	struct tree_delta_entry e = { 0 };
	size_t left = len - *pos, size;
	const uint8_t *p = data + *pos;
	int r;

	if (left == 0)
		return 0;
	if (p[0] < TREE_DELTA_UNIT || p[0] > TREE_DELTA_INODE)
		return -EBADMSG;
	e.type = p[0];
	size = 1 + fixed_len(e.type);
	if (left < size)
		return -EBADMSG;
	if (e.type == TREE_DELTA_RECORD) {
		e.packed_len = get_le(p + 1, 4);
		if (left - size < e.packed_len)
			return -EBADMSG;
		size += e.packed_len;
	}
	r = parse(p + 1, &e);
	if (r < 0)
		return r;
	*pos += size;
	*ret = e;
	return 1;
}

static int compare_units(const void *a, const void *b)
{
	return tree_unit_compare(a, b);
}

void tree_delta_units_sort(struct tree_delta_units *set)
{
	size_t n = 0;

	if (set->num_units == 0)
		return;
	qsort(set->units, set->num_units, sizeof(*set->units), compare_units);
	for (size_t i = 1; i < set->num_units; i++) {
		if (tree_unit_compare(&set->units[n], &set->units[i]) != 0)
			set->units[++n] = set->units[i];
	}
	set->num_units = n + 1;
}

int tree_delta_units_add(struct tree_delta_units *set, const struct tree_unit *unit)
{
	if (set->num_units == set->cap) {
		struct tree_unit *units;
		size_t cap;
		/* Squeezing first keeps many additions of few units small; growing when that frees
		 * less than half keeps the sorting amortised. */
		tree_delta_units_sort(set);
		if (set->num_units >= set->cap / 2) {
			cap = set->cap ? set->cap * 2 : 64;
			units = realloc(set->units, cap * sizeof(*units));
			if (!units)
				return -ENOMEM;
			set->units = units;
			set->cap = cap;
		}
	}
	set->units[set->num_units++] = *unit;
	return 0;
}

void tree_delta_units_release(struct tree_delta_units *set)
{
	free(set->units);
	*set = (struct tree_delta_units){ 0 };
}
