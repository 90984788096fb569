#include "tree/record.h"

#include <errno.h>
#include <string.h>

static const uint8_t zero_tag[TREE_TAG_SIZE];

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

static void put64_big(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get64_big(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static bool is_zero_tag(const uint8_t tag[TREE_TAG_SIZE])
{
	return memcmp(tag, zero_tag, TREE_TAG_SIZE) == 0;
}

static int check_link(const struct tree_record *rec)
{
	const struct tree_element *e = &rec->e;

	if (!e->parent || !e->target || e->target == TREE_ROOT || e->key.id == TREE_ROOT)
		return -EBADMSG;
	if ((e->flags & TREE_DIRECTORY) && e->key.id != e->target)
		return -EBADMSG;
	/* A link of a file with the lid of an inode would share the key of a directory's only link.
	 */
	if (!(e->flags & TREE_DIRECTORY) && e->key.id == e->target)
		return -EBADMSG;
	if ((e->flags & TREE_DIRECTORY) && e->parent == e->target)
		return -EBADMSG;
	return 0;
}

int tree_record_check(const struct tree_record *rec)
{
	const struct tree_element *e = &rec->e;
	bool is_link = e->key.kind == TREE_LINK;
	bool is_xattr = e->key.kind == TREE_XATTR;
	unsigned flags_allowed = 0;

	if (e->key.kind < TREE_LINK || e->key.kind > TREE_XATTR || !e->key.id)
		return -EBADMSG;
	if (!e->stamp.replica || !e->stamp.epoch || !e->lamport || e->lamport > TREE_LAMPORT_MAX)
		return -EBADMSG;
	if (is_link || e->key.kind == TREE_ATTR)
		flags_allowed = TREE_DIRECTORY;
	else if (e->key.kind == TREE_BODY)
		flags_allowed = TREE_INLINE;
	if (e->flags & ~flags_allowed)
		return -EBADMSG;
	if (rec->num_refs > (e->key.kind == TREE_BODY ? TREE_REFS_MAX : 0))
		return -EBADMSG;
	if (rec->sealed_len > (is_xattr ? TREE_XATTR_SEALED_MAX : TREE_SEALED_MAX))
		return -EBADMSG;
	if (!is_link && (e->parent || e->target))
		return -EBADMSG;
	if (!is_link && !is_xattr && !is_zero_tag(e->tag))
		return -EBADMSG;
	if (memcmp(e->key.tag, is_xattr ? e->tag : zero_tag, TREE_TAG_SIZE) != 0)
		return -EBADMSG;
	return is_link ? check_link(rec) : 0;
}

int tree_record_parse(const uint8_t *data, size_t len, struct tree_record *ret)
{
	struct tree_record rec = { 0 };
	struct tree_element *e = &rec.e;
	int r;

	if (len < TREE_RECORD_HEAD)
		return -EBADMSG;
	if (data[0] != TREE_RECORD_VERSION)
		return -EPROTONOSUPPORT;
	e->key.kind = data[1];
	e->flags = data[2];
	rec.num_refs = data[3];
	rec.sealed_len = get32(data + 4);
	e->key.id = get64(data + 8);
	e->stamp.epoch = get64(data + 16);
	e->stamp.replica = get32(data + 24);
	if (get32(data + 28) != 0)
		return -EBADMSG;
	e->lamport = get64(data + 32);
	e->parent = get64(data + 40);
	e->target = get64(data + 48);
	memcpy(e->tag, data + 56, TREE_TAG_SIZE);
	memcpy(e->vtag, data + 72, TREE_TAG_SIZE);
	if (e->key.kind == TREE_XATTR)
		memcpy(e->key.tag, e->tag, TREE_TAG_SIZE);
	r = tree_record_check(&rec);
	if (r < 0)
		return r;
	if (len != tree_record_size(&rec))
		return -EBADMSG;
	rec.refs = data + TREE_RECORD_HEAD;
	rec.sealed = rec.refs + (size_t)rec.num_refs * TREE_REF_SIZE;
	*ret = rec;
	return 0;
}

size_t tree_record_size(const struct tree_record *rec)
{
	return TREE_RECORD_HEAD + (size_t)rec->num_refs * TREE_REF_SIZE + rec->sealed_len;
}

int tree_record_emit(const struct tree_record *rec, uint8_t *buf, size_t cap)
{
	const struct tree_element *e = &rec->e;
	size_t refs_len = (size_t)rec->num_refs * TREE_REF_SIZE;
	int r = tree_record_check(rec);

	if (r < 0)
		return r;
	if (cap < tree_record_size(rec))
		return -ENOBUFS;
	buf[0] = TREE_RECORD_VERSION;
	buf[1] = e->key.kind;
	buf[2] = e->flags;
	buf[3] = rec->num_refs;
	put32(buf + 4, rec->sealed_len);
	put64(buf + 8, e->key.id);
	put32(buf + 28, 0);
	put64(buf + 40, e->parent);
	put64(buf + 48, e->target);
	memcpy(buf + 56, e->tag, TREE_TAG_SIZE);
	memcpy(buf + 72, e->vtag, TREE_TAG_SIZE);
	tree_record_restamp(buf, e->stamp, e->lamport);
	if (refs_len)
		memcpy(buf + TREE_RECORD_HEAD, rec->refs, refs_len);
	if (rec->sealed_len)
		memcpy(buf + TREE_RECORD_HEAD + refs_len, rec->sealed, rec->sealed_len);
	return (int)tree_record_size(rec);
}

void tree_record_restamp(uint8_t *data, struct tree_stamp stamp, uint64_t lamport)
{
	put64(data + 16, stamp.epoch);
	put32(data + 24, stamp.replica);
	put64(data + 32, lamport);
}

size_t tree_record_aad(
	const uint8_t volume[16], const struct tree_element *e, uint8_t ret_aad[TREE_AAD_MAX])
{
	size_t len = 16;

	memcpy(ret_aad, volume, len);
	ret_aad[len++] = TREE_RECORD_VERSION;
	ret_aad[len++] = e->key.kind;
	put64(ret_aad + len, e->key.id);
	len += 8;
	if (e->key.kind == TREE_XATTR) {
		memcpy(ret_aad + len, e->key.tag, TREE_TAG_SIZE);
		len += TREE_TAG_SIZE;
	}
	return len;
}

void tree_unit_pack(const struct tree_unit *unit, uint8_t ret_packed[TREE_UNIT_SIZE])
{
	ret_packed[0] = unit->is_link ? 0 : 1;
	put64_big(ret_packed + 1, unit->id);
}

int tree_unit_unpack(const uint8_t packed[TREE_UNIT_SIZE], struct tree_unit *ret)
{
	if (packed[0] > 1)
		return -EBADMSG;
	ret->is_link = packed[0] == 0;
	ret->id = get64_big(packed + 1);
	return ret->id && !(ret->is_link && ret->id == TREE_ROOT) ? 0 : -EBADMSG;
}

void tree_key_pack(const struct tree_key *key, uint8_t ret_packed[TREE_KEY_SIZE])
{
	struct tree_unit unit = tree_key_unit(key);

	tree_unit_pack(&unit, ret_packed);
	ret_packed[TREE_UNIT_SIZE] = key->kind;
	memcpy(ret_packed + TREE_UNIT_SIZE + 1, key->tag, TREE_TAG_SIZE);
}

int tree_key_unpack(const uint8_t packed[TREE_KEY_SIZE], struct tree_key *ret)
{
	struct tree_unit unit;
	int r = tree_unit_unpack(packed, &unit);

	if (r < 0)
		return r;
	ret->id = unit.id;
	ret->kind = packed[TREE_UNIT_SIZE];
	memcpy(ret->tag, packed + TREE_UNIT_SIZE + 1, TREE_TAG_SIZE);
	if (ret->kind < TREE_LINK || ret->kind > TREE_XATTR)
		return -EBADMSG;
	if ((ret->kind == TREE_LINK) != unit.is_link)
		return -EBADMSG;
	return ret->kind == TREE_XATTR || is_zero_tag(ret->tag) ? 0 : -EBADMSG;
}

struct tree_unit tree_key_unit(const struct tree_key *key)
{
	return (struct tree_unit){ .id = key->id, .is_link = key->kind == TREE_LINK };
}

int tree_unit_compare(const struct tree_unit *a, const struct tree_unit *b)
{
	if (a->is_link != b->is_link)
		return a->is_link ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

int tree_key_compare(const struct tree_key *a, const struct tree_key *b)
{
	struct tree_unit ua = tree_key_unit(a), ub = tree_key_unit(b);
	int c = tree_unit_compare(&ua, &ub);

	if (c == 0)
		c = (a->kind > b->kind) - (a->kind < b->kind);
	return c ? c : memcmp(a->tag, b->tag, TREE_TAG_SIZE);
}

int tree_stamp_compare(struct tree_stamp a, struct tree_stamp b)
{
	if (a.replica != b.replica)
		return a.replica < b.replica ? -1 : 1;
	return (a.epoch > b.epoch) - (a.epoch < b.epoch);
}

int tree_element_compare(const struct tree_element *a, const struct tree_element *b)
{
	int c = (a->lamport > b->lamport) - (a->lamport < b->lamport);

	if (c == 0)
		c = tree_stamp_compare(a->stamp, b->stamp);
	return c ? c : memcmp(a->vtag, b->vtag, TREE_TAG_SIZE);
}
