#include "mountd/sealed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sodium.h>

#include "cas/pad.h"

#define VERSION	    1
#define LINK_HEAD   24
#define ATTR_HEAD   56
#define BODY_HEAD   32
#define FILLED_UNIT UINT64_C(65536)
#define XATTR_HEAD  8

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static size_t seal(const struct sealer *sealer, struct tree_element *e, const uint8_t *refs,
	uint8_t num_refs, const uint8_t *plain, size_t len, uint8_t *buf)
{
	uint8_t sealed[TREE_XATTR_SEALED_MAX], aad[TREE_AAD_MAX];
	struct tree_record rec = { .num_refs = num_refs,
		.sealed_len = (uint32_t)(len + CAS_META_OVERHEAD),
		.refs = refs,
		.sealed = sealed };
	int r;

	e->stamp = (struct tree_stamp){ .epoch = 1, .replica = 1 };
	e->lamport = 1;
	rec.e = *e;
	cas_meta_seal(
		&sealer->keys, aad, tree_record_aad(sealer->volume, e, aad), plain, len, sealed);
	r = tree_record_emit(&rec, buf, TREE_RECORD_MAX);
	if (r < 0)
		abort(); /* a record that we made ourselves does not fit its own format */
	return (size_t)r;
}

static int open_sealed(const struct sealer *sealer, const struct tree_record *rec, size_t head,
	uint8_t *plain, size_t cap, size_t *ret_len)
{
	uint8_t aad[TREE_AAD_MAX];
	int r;

	if (rec->sealed_len < CAS_META_OVERHEAD + head || rec->sealed_len - CAS_META_OVERHEAD > cap)
		return -EBADMSG;
	r = cas_meta_open(&sealer->keys, aad, tree_record_aad(sealer->volume, &rec->e, aad),
		rec->sealed, rec->sealed_len, plain);
	if (r < 0)
		return r;
	if (plain[0] != VERSION)
		return -EPROTONOSUPPORT;
	*ret_len = rec->sealed_len - CAS_META_OVERHEAD;
	return 0;
}

size_t sealed_put_link(const struct sealer *sealer, const struct sealed_link *link, uint8_t *buf)
{
	uint8_t plain[LINK_HEAD + CAS_NAME_ROOM] = { VERSION, link->type };
	struct tree_element e = { .key = { .id = link->lid, .kind = TREE_LINK },
		.flags = link->type == S_IFDIR >> 12 ? TREE_DIRECTORY : 0,
		.parent = link->parent,
		.target = link->target };
	size_t len;

	put64(plain + 8, link->parent);
	put64(plain + 16, link->target);
	len = LINK_HEAD + cas_name_put(link->name, link->name_len, plain + LINK_HEAD);
	cas_name_tag(&sealer->keys, link->parent, link->name, link->name_len, e.tag);
	cas_value_tag(&sealer->keys, plain, len, e.vtag);
	return seal(sealer, &e, NULL, 0, plain, len, buf);
}

int sealed_get_link(
	const struct sealer *sealer, const struct tree_record *rec, struct sealed_link *ret_link)
{
	uint8_t plain[LINK_HEAD + CAS_NAME_ROOM], tag[TREE_TAG_SIZE];
	size_t len, name_len, used;
	const char *name;
	int r;

	r = open_sealed(sealer, rec, LINK_HEAD, plain, sizeof(plain), &len);
	if (r < 0)
		return r;
	r = cas_name_get(plain + LINK_HEAD, len - LINK_HEAD, &name, &name_len, &used);
	if (r < 0)
		return r;
	ret_link->lid = rec->e.key.id;
	ret_link->parent = get64(plain + 8);
	ret_link->target = get64(plain + 16);
	ret_link->type = plain[1];
	if (ret_link->parent != rec->e.parent || ret_link->target != rec->e.target ||
		(ret_link->type == S_IFDIR >> 12) != !!(rec->e.flags & TREE_DIRECTORY))
		return -EBADMSG;
	if (name_len == 0 || memchr(name, '/', name_len) || memchr(name, '\0', name_len) ||
		(name[0] == '.' && (name_len == 1 || (name_len == 2 && name[1] == '.'))))
		return -EBADMSG;
	cas_name_tag(&sealer->keys, ret_link->parent, name, name_len, tag);
	if (sodium_memcmp(tag, rec->e.tag, sizeof(tag)) != 0)
		return -EBADMSG;
	memcpy(ret_link->name, name, name_len);
	ret_link->name[name_len] = '\0';
	ret_link->name_len = (uint16_t)name_len;
	return 0;
}

size_t sealed_put_attr(
	const struct sealer *sealer, uint64_t oid, const struct sealed_attr *attr, uint8_t *buf)
{
	uint8_t plain[ATTR_HEAD + SEALED_SYMLINK_MAX + 64] = { VERSION };
	struct tree_element e = { .key = { .id = oid, .kind = TREE_ATTR },
		.flags = S_ISDIR(attr->mode) ? TREE_DIRECTORY : 0 };
	size_t len = ATTR_HEAD;

	put16(plain + 2, attr->symlink_len);
	put32(plain + 4, attr->mode);
	put32(plain + 8, attr->uid);
	put32(plain + 12, attr->gid);
	put64(plain + 16, attr->rdev);
	put64(plain + 24, (uint64_t)attr->atime);
	put64(plain + 32, (uint64_t)attr->mtime);
	put64(plain + 40, (uint64_t)attr->ctime);
	put64(plain + 48, (uint64_t)attr->btime);
	if (attr->symlink_len > 0) {
		memcpy(plain + ATTR_HEAD, attr->symlink, attr->symlink_len);
		len = (ATTR_HEAD + attr->symlink_len + 63u) / 64u * 64u;
	}
	cas_value_tag(&sealer->keys, plain, len, e.vtag);
	return seal(sealer, &e, NULL, 0, plain, len, buf);
}

int sealed_get_attr(
	const struct sealer *sealer, const struct tree_record *rec, struct sealed_attr *ret_attr)
{
	uint8_t plain[ATTR_HEAD + SEALED_SYMLINK_MAX + 64];
	struct sealed_attr attr;
	size_t len;
	int r;

	r = open_sealed(sealer, rec, ATTR_HEAD, plain, sizeof(plain), &len);
	if (r < 0)
		return r;
	attr = (struct sealed_attr){ .symlink_len = get16(plain + 2),
		.mode = get32(plain + 4),
		.uid = get32(plain + 8),
		.gid = get32(plain + 12),
		.rdev = get64(plain + 16),
		.atime = (int64_t)get64(plain + 24),
		.mtime = (int64_t)get64(plain + 32),
		.ctime = (int64_t)get64(plain + 40),
		.btime = (int64_t)get64(plain + 48) };
	if (attr.symlink_len > len - ATTR_HEAD || attr.symlink_len > SEALED_SYMLINK_MAX ||
		S_ISDIR(attr.mode) != !!(rec->e.flags & TREE_DIRECTORY) ||
		S_ISLNK(attr.mode) != (attr.symlink_len > 0))
		return -EBADMSG;
	if (attr.symlink_len > 0) {
		attr.symlink = malloc(attr.symlink_len + 1u);
		if (attr.symlink == NULL)
			return -ENOMEM;
		memcpy(attr.symlink, plain + ATTR_HEAD, attr.symlink_len);
		attr.symlink[attr.symlink_len] = '\0';
	}
	*ret_attr = attr;
	return 0;
}

uint64_t sealed_body_filled(const struct sealed_body *body)
{
	uint64_t filled = 0;

	if (body->form == SEALED_INLINE)
		return body->size;
	if (body->form == SEALED_TREE)
		return body->filled < body->size ? body->filled : body->size;
	for (uint32_t i = 0; i < body->num_chunks; i++)
		if (!cas_extent_is_hole(&body->chunks[i]))
			filled += body->chunks[i].len;
	return filled;
}

static uint32_t filled_units(uint64_t filled)
{
	uint64_t units = (filled + FILLED_UNIT - 1) / FILLED_UNIT;

	return units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

size_t sealed_put_body(
	const struct sealer *sealer, uint64_t oid, const struct sealed_body *body, uint8_t *buf)
{
	uint8_t plain[BODY_HEAD + 6144] = { VERSION, (uint8_t)body->form };
	uint8_t refs[SEALED_FEW * TREE_REF_SIZE];
	struct tree_element e = { .key = { .id = oid, .kind = TREE_BODY } };
	size_t len = BODY_HEAD, room;
	uint8_t num_refs = 0;

	put64(plain + 8, body->size);
	switch (body->form) {
	case SEALED_INLINE:
		e.flags = TREE_INLINE;
		if (body->size > 0)
			memcpy(plain + len, body->data, body->size);
		room = cas_padme(body->size < 32 ? (body->size ? 32 : 0) : body->size);
		len += room;
		break;
	case SEALED_CHUNKS:
		plain[3] = (uint8_t)body->num_chunks;
		cas_node_emit_leaf(body->chunks, body->num_chunks, plain + len);
		len += CAS_NODE_HEADER + SEALED_FEW * CAS_LEAF_ENTRY;
		for (uint32_t i = 0; i < body->num_chunks; i++)
			if (!cas_extent_is_hole(&body->chunks[i]))
				memcpy(refs + TREE_REF_SIZE * num_refs++, body->chunks[i].id.b,
					TREE_REF_SIZE);
		break;
	case SEALED_TREE:
		plain[2] = body->root.level;
		memcpy(plain + len, body->root.id.b, CAS_ID_SIZE);
		len += CAS_ID_SIZE;
		memcpy(refs, body->root.id.b, CAS_ID_SIZE);
		num_refs = 1;
		break;
	}
	/* The times and what is filled are still zero. */
	cas_value_tag(&sealer->keys, plain, len, e.vtag);
	if (body->form == SEALED_TREE)
		put32(plain + 4, filled_units(sealed_body_filled(body)));
	put64(plain + 16, (uint64_t)body->mtime);
	put64(plain + 24, (uint64_t)body->ctime);
	return seal(sealer, &e, refs, num_refs, plain, len, buf);
}

static int get_chunks(struct sealed_body *body, const uint8_t *plain, size_t len, uint8_t num)
{
	size_t node_len = CAS_NODE_HEADER + (size_t)num * CAS_LEAF_ENTRY;
	struct cas_node node;
	int r;

	if (num == 0 || num > SEALED_FEW || len < BODY_HEAD + node_len)
		return -EBADMSG;
	r = cas_node_parse(plain + BODY_HEAD, node_len, &node);
	if (r < 0)
		return r;
	if (node.level != 0 || node.count != num || node.len != body->size)
		return -EBADMSG;
	for (size_t i = 0; i < num; i++)
		cas_node_extent(&node, i, &body->chunks[i]);
	body->num_chunks = num;
	return 0;
}

int sealed_get_body(
	const struct sealer *sealer, const struct tree_record *rec, struct sealed_body *ret_body)
{
	uint8_t plain[BODY_HEAD + 6144];
	struct sealed_body body = { 0 };
	size_t len;
	int r;

	r = open_sealed(sealer, rec, BODY_HEAD, plain, sizeof(plain), &len);
	if (r < 0)
		return r;
	if (plain[1] > SEALED_TREE)
		return -EBADMSG;
	body.form = (enum sealed_form)plain[1];
	body.size = get64(plain + 8);
	body.mtime = (int64_t)get64(plain + 16);
	body.ctime = (int64_t)get64(plain + 24);
	if (body.size > INT64_MAX)
		return -EBADMSG;
	switch (body.form) {
	case SEALED_INLINE:
		if (body.size > len - BODY_HEAD || body.size > SEALED_INLINE_MAX)
			return -EBADMSG;
		if (body.size > 0) {
			body.data = malloc(body.size);
			if (body.data == NULL)
				return -ENOMEM;
			memcpy(body.data, plain + BODY_HEAD, body.size);
		}
		break;
	case SEALED_CHUNKS:
		r = get_chunks(&body, plain, len, plain[3]);
		if (r < 0)
			return r;
		break;
	case SEALED_TREE:
		if (len < BODY_HEAD + CAS_ID_SIZE || plain[2] > CAS_NODE_LEVEL_MAX)
			return -EBADMSG;
		body.root.level = plain[2];
		body.root.len = body.size;
		body.filled = get32(plain + 4) * FILLED_UNIT;
		memcpy(body.root.id.b, plain + BODY_HEAD, CAS_ID_SIZE);
		break;
	}
	*ret_body = body;
	return 0;
}

size_t sealed_put_xattr(const struct sealer *sealer, uint64_t oid, const char *name,
	size_t name_len, const void *value, size_t len, uint8_t *buf)
{
	static const size_t room = TREE_XATTR_SEALED_MAX - CAS_META_OVERHEAD;
	uint8_t plain[TREE_XATTR_SEALED_MAX] = { VERSION };
	struct tree_element e = { .key = { .id = oid, .kind = TREE_XATTR } };
	size_t used = XATTR_HEAD, padded;

	put32(plain + 4, (uint32_t)len);
	used += cas_name_put(name, name_len, plain + used);
	if (len > 0)
		memcpy(plain + used, value, len);
	padded = cas_padme(used + len);
	padded = padded > room ? room : padded;
	cas_xattr_tag(&sealer->keys, oid, name, name_len, e.tag);
	memcpy(e.key.tag, e.tag, sizeof(e.tag));
	cas_value_tag(&sealer->keys, plain, used + len, e.vtag);
	return seal(sealer, &e, NULL, 0, plain, padded, buf);
}

int sealed_get_xattr(const struct sealer *sealer, const struct tree_record *rec, uint8_t *buf,
	const char **ret_name, size_t *ret_name_len, const uint8_t **ret_value, size_t *ret_len)
{
	uint8_t tag[TREE_TAG_SIZE];
	size_t len, used, value_len;
	int r;

	r = open_sealed(sealer, rec, XATTR_HEAD, buf, TREE_XATTR_SEALED_MAX, &len);
	if (r < 0)
		return r;
	value_len = get32(buf + 4);
	r = cas_name_get(buf + XATTR_HEAD, len - XATTR_HEAD, ret_name, ret_name_len, &used);
	if (r < 0)
		return r;
	if (value_len > SEALED_XATTR_MAX || value_len > len - XATTR_HEAD - used)
		return -EBADMSG;
	cas_xattr_tag(&sealer->keys, rec->e.key.id, *ret_name, *ret_name_len, tag);
	if (sodium_memcmp(tag, rec->e.tag, sizeof(tag)) != 0)
		return -EBADMSG;
	*ret_value = buf + XATTR_HEAD + used;
	*ret_len = value_len;
	return 0;
}
