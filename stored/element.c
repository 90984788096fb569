#include "stored/element.h"

#include "stored/crc32c.h"
#include "stored/derived.h"
#include "stored/engine_state.h"
#include "stored/gc_state.h"
#include "stored/history.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FAR_BIT	      0x80000000u
#define ELEM_HEAD     8
#define REG_HEAD      8
/* Of a packed record, where the length of its sealed part, its stamp and Lamport counter lie. */
#define RECORD_SEALED 4
#define RECORD_STAMP  16
#define RECORD_PLACE  40
#define FAR_SIZE      16

int element_of(
	struct element *ret, const uint8_t *data, size_t len, struct place place, uint32_t arrived)
{
	struct tree_record rec;
	int r;

	r = tree_record_parse(data, len, &rec);
	if (r < 0)
		return r;
	ret->e = rec.e;
	ret->arrived = arrived;
	ret->raw = data;
	ret->raw_len = (uint32_t)len;
	ret->sealed_len = rec.sealed_len;
	ret->is_far = rec.sealed_len > ELEMENT_NEAR;
	if (ret->is_far) {
		ret->raw_len = (uint32_t)(len - rec.sealed_len);
		ret->sealed = place;
		ret->sealed.offset += ret->raw_len;
		ret->sealed.len = rec.sealed_len;
		ret->sealed_crc = crc32c(0, data + ret->raw_len, rec.sealed_len);
	}
	return 0;
}

static int element_parse(struct element *ret, const uint8_t **p, const uint8_t *end)
{
	struct tree_record rec;
	uint32_t len;
	size_t whole;
	bool is_far;

	if (end - *p < ELEM_HEAD + TREE_RECORD_HEAD)
		return -EUCLEAN;
	len = le32_get(*p + 4);
	is_far = len & FAR_BIT;
	len &= ~FAR_BIT;
	if (len < TREE_RECORD_HEAD ||
		(size_t)(end - *p) < ELEM_HEAD + len + (is_far ? FAR_SIZE : 0))
		return -EUCLEAN;
	ret->arrived = le32_get(*p);
	ret->raw = *p + ELEM_HEAD;
	ret->raw_len = len;
	ret->is_far = is_far;
	/* Parsing looks at nothing of the sealed part, so it may be told that it is there. */
	whole = len + (is_far ? (size_t)le32_get(ret->raw + RECORD_SEALED) : 0);
	if (tree_record_parse(ret->raw, whole, &rec) < 0)
		return -EUCLEAN;
	ret->e = rec.e;
	ret->sealed_len = rec.sealed_len;
	*p += ELEM_HEAD + len;
	if (is_far) {
		ret->sealed.arena = le32_get(*p);
		ret->sealed.offset = le64_get(*p + 4);
		ret->sealed_crc = le32_get(*p + 12);
		ret->sealed.len = rec.sealed_len;
		*p += FAR_SIZE;
	}
	return 0;
}

int reg_parse(struct reg *ret, const uint8_t *value, size_t len)
{
	const uint8_t *p = value + REG_HEAD, *end = value + len;
	int r;

	ret->num = 0;
	if (len < REG_HEAD)
		return -EUCLEAN;
	ret->since = le64_get(value);
	while (p < end) {
		if (ret->num == REGISTER_MAX)
			return -EUCLEAN;
		r = element_parse(&ret->e[ret->num], &p, end);
		if (r < 0)
			return r;
		ret->num++;
	}
	return 0;
}

int row_has_stamp(const uint8_t *value, size_t len, struct tree_stamp stamp)
{
	const uint8_t *p = value + REG_HEAD, *end = value + len;
	struct element e;
	int r;

	while (len > REG_HEAD && p < end) {
		r = element_parse(&e, &p, end);
		if (r < 0)
			return r;
		if (tree_stamp_compare(e.e.stamp, stamp) == 0)
			return 1;
	}
	return 0;
}

int reg_load(struct reg *ret, struct db_txn *t, uint32_t space, const struct tree_key *key)
{
	const uint8_t *value;
	struct row_key k;
	size_t len;
	int r;

	ret->num = 0;
	ret->since = 0;
	row_record(&k, space, key);
	r = db_get(t, DB_RECORDS, k.b, k.len, &value, &len);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : reg_parse(ret, value, len);
}

size_t reg_winner(const struct reg *reg)
{
	size_t best = 0, i;

	for (i = 1; i < reg->num; i++)
		if (tree_element_compare(&reg->e[i].e, &reg->e[best].e) > 0)
			best = i;
	return best;
}

size_t reg_values(const struct reg *reg)
{
	size_t num = 0, i, j;

	if (reg->num <= 1)
		return reg->num;
	for (i = 0; i < reg->num; i++) {
		for (j = 0; j < i; j++)
			if (memcmp(reg->e[i].e.vtag, reg->e[j].e.vtag, TREE_TAG_SIZE) == 0)
				break;
		num += j == i;
	}
	return num;
}

int element_read(struct arenas *arenas, const struct element *e, uint8_t *ret_data)
{
	int r;

	memcpy(ret_data, e->raw, e->raw_len);
	if (!e->is_far)
		return 0;
	r = arenas_read(arenas, e->sealed, ret_data + e->raw_len);
	if (r < 0)
		return r;
	return crc32c(0, ret_data + e->raw_len, e->sealed_len) == e->sealed_crc ? 0 : -EBADMSG;
}

size_t element_bare(const struct element *e, uint8_t *ret_data)
{
	memcpy(ret_data, e->raw, e->raw_len);
	le32_put(ret_data + RECORD_SEALED, 0);
	return e->raw_len;
}

/* ---- writing */

int reg_emit(const struct reg *reg, uint64_t since, uint8_t **buf, size_t *cap, size_t *ret_len)
{
	size_t len = REG_HEAD, i;
	uint8_t *p;
	int r;

	for (i = 0; i < reg->num; i++)
		len += ELEM_HEAD + reg->e[i].raw_len + FAR_SIZE;
	r = scratch_grow(buf, cap, len);
	if (r < 0)
		return r;
	p = *buf;
	le64_put(p, since);
	p += REG_HEAD;
	for (i = 0; i < reg->num; i++) {
		const struct element *e = &reg->e[i];

		le32_put(p, e->arrived);
		le32_put(p + 4, e->raw_len | (e->is_far ? FAR_BIT : 0));
		memcpy(p + ELEM_HEAD, e->raw, e->raw_len);
		/* A renewed stamp is in e, not in the bytes that it was read from. */
		tree_record_restamp(p + ELEM_HEAD, e->e.stamp, e->e.lamport);
		p += ELEM_HEAD + e->raw_len;
		if (e->is_far) {
			le32_put(p, e->sealed.arena);
			le64_put(p + 4, e->sealed.offset);
			le32_put(p + 12, e->sealed_crc);
			p += FAR_SIZE;
		}
	}
	*ret_len = (size_t)(p - *buf);
	return 0;
}

/* One element each, which differ in their stamps at most: nobody who reads sees a change. */
static bool is_same(const struct reg *old, const struct reg *new)
{
	const struct element *a = &old->e[0], *b = &new->e[0];

	return old->num == 1 && new->num == 1 && a->raw_len == b->raw_len &&
	       a->is_far == b->is_far && a->sealed_len == b->sealed_len &&
	       (!a->is_far || a->sealed_crc == b->sealed_crc) &&
	       memcmp(a->raw, b->raw, RECORD_STAMP) == 0 &&
	       memcmp(a->raw + RECORD_PLACE, b->raw + RECORD_PLACE, a->raw_len - RECORD_PLACE) == 0;
}

int reg_write(struct engine *engine, struct volume *vol, bool aside, const struct tree_key *key,
	const struct reg *old, const struct reg *new)
{
	uint32_t space = vol->number | (aside ? ROWS_ASIDE : 0);
	bool stays = aside || is_same(old, new);
	size_t len, past_len = 0;
	struct row_key k;
	int r = 0;

	if (old->num == 0 && new->num == 0)
		return 0;
	gc_note_register(engine, old);
	gc_note_register(engine, new);
	row_record(&k, space, key);
	/* Both are views into the index, which writing moves. */
	if (!stays && old->num > 0 && old->since < engine->time)
		r = reg_emit(old, old->since, &engine->past, &engine->past_cap, &past_len);
	if (r == 0 && new->num > 0) {
		r = reg_emit(new, stays && !aside ? old->since : engine->time, &engine->value,
			&engine->value_cap, &len);
		if (r == 0)
			r = db_put(txn(engine), DB_RECORDS, k.b, k.len, engine->value, len);
	} else if (r == 0) {
		r = db_delete(txn(engine), DB_RECORDS, k.b, k.len);
	}
	if (r < 0 || aside)
		return r;
	if (!stays)
		r = history_put(engine, vol, key, engine->past, past_len);
	return r < 0 ? r : derived_write(engine, vol, key, old, new);
}
