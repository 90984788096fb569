#include "mountd/sealed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sodium.h>

#include "cas/bytes.h"
#include "cas/object.h"
#include "cas/pad.h"
#include "cas/zstd.h"

#define VERSION	    1
#define BODY_LATEST 2
#define LINK_HEAD   24
#define ATTR_HEAD   56
#define BODY_HEAD   32
#define INLINE_MIN  32u
#define FILLED_UNIT UINT64_C(65536)
#define XATTR_HEAD  8

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

/* latest: the newest version of this kind. */
static int open_sealed(const struct sealer *sealer, const struct tree_record *rec, uint8_t latest,
	size_t head, uint8_t *plain, size_t cap, size_t *ret_len)
{
	uint8_t aad[TREE_AAD_MAX];
	int r;

	if (rec->sealed_len < CAS_META_OVERHEAD + head || rec->sealed_len - CAS_META_OVERHEAD > cap)
		return -EBADMSG;
	r = cas_meta_open(&sealer->keys, aad, tree_record_aad(sealer->volume, &rec->e, aad),
		rec->sealed, rec->sealed_len, plain);
	if (r < 0)
		return r;
	if (plain[0] < VERSION || plain[0] > latest)
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

	le64_put(plain + 8, link->parent);
	le64_put(plain + 16, link->target);
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

	r = open_sealed(sealer, rec, VERSION, LINK_HEAD, plain, sizeof(plain), &len);
	if (r < 0)
		return r;
	r = cas_name_get(plain + LINK_HEAD, len - LINK_HEAD, &name, &name_len, &used);
	if (r < 0)
		return r;
	ret_link->lid = rec->e.key.id;
	ret_link->parent = le64_get(plain + 8);
	ret_link->target = le64_get(plain + 16);
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

	le16_put(plain + 2, attr->symlink_len);
	le32_put(plain + 4, attr->mode);
	le32_put(plain + 8, attr->uid);
	le32_put(plain + 12, attr->gid);
	le64_put(plain + 16, attr->rdev);
	le64_put(plain + 24, (uint64_t)attr->atime);
	le64_put(plain + 32, (uint64_t)attr->mtime);
	le64_put(plain + 40, (uint64_t)attr->ctime);
	le64_put(plain + 48, (uint64_t)attr->btime);
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

	r = open_sealed(sealer, rec, VERSION, ATTR_HEAD, plain, sizeof(plain), &len);
	if (r < 0)
		return r;
	attr = (struct sealed_attr){ .symlink_len = le16_get(plain + 2),
		.mode = le32_get(plain + 4),
		.uid = le32_get(plain + 8),
		.gid = le32_get(plain + 12),
		.rdev = le64_get(plain + 16),
		.atime = (int64_t)le64_get(plain + 24),
		.mtime = (int64_t)le64_get(plain + 32),
		.ctime = (int64_t)le64_get(plain + 40),
		.btime = (int64_t)le64_get(plain + 48) };
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

static size_t inline_room(size_t len)
{
	return len == 0 ? 0 : cas_padme(len < INLINE_MIN ? INLINE_MIN : len);
}

/* The contents of a version 1: what the value tag is made of, whatever version it becomes. Returns
 * its length. */
static size_t put_contents(const struct sealed_body *body, uint8_t *out)
{
	switch (body->form) {
	case SEALED_INLINE:
		if (body->size > 0)
			memcpy(out, body->data, body->size);
		return inline_room(body->size);
	case SEALED_CHUNKS:
		cas_node_emit_leaf(body->chunks, body->num_chunks, out);
		return CAS_NODE_HEADER + SEALED_FEW * CAS_LEAF_ENTRY;
	case SEALED_TREE:
		memcpy(out, body->root.id.b, CAS_ID_SIZE);
		return CAS_ID_SIZE;
	}
	abort();
}

size_t sealed_pack(struct cas_suite *suite, const void *contents, size_t len, uint8_t *out)
{
	size_t n;

	if (len <= INLINE_MIN)
		return 0;
	n = cas_zstd_pack(suite, cas_zstd_level(contents, len), contents, len, out, len - 1);
	return n > 0 && inline_room(n) < inline_room(len) ? n : 0;
}

/* Returns the length. */
static size_t pack_inline(
	const struct sealer *sealer, const struct sealed_body *body, uint8_t *plain, size_t len)
{
	uint8_t own[SEALED_INLINE_MAX], *contents = plain + BODY_HEAD;
	const uint8_t *packed = body->packed;
	size_t n = body->packed_len;

	if (packed == NULL) {
		n = sealed_pack(sealer->suite, contents, body->size, own);
		packed = own;
	}
	if (n == 0)
		return len;
	memcpy(contents, packed, n);
	memset(contents + n, 0, inline_room(n) - n);
	le32_put(plain + 4, (uint32_t)n);
	return BODY_HEAD + inline_room(n);
}

static uint8_t put_refs(const struct sealed_body *body, uint8_t *refs)
{
	uint8_t num = 0;

	if (body->form == SEALED_TREE)
		memcpy(refs + TREE_REF_SIZE * num++, body->root.id.b, TREE_REF_SIZE);
	for (uint32_t i = 0; body->form == SEALED_CHUNKS && i < body->num_chunks; i++)
		if (!cas_extent_is_hole(&body->chunks[i]))
			memcpy(refs + TREE_REF_SIZE * num++, body->chunks[i].id.b, TREE_REF_SIZE);
	return num;
}

size_t sealed_put_body(
	const struct sealer *sealer, uint64_t oid, const struct sealed_body *body, uint8_t *buf)
{
	uint8_t plain[BODY_HEAD + 6144] = { VERSION, (uint8_t)body->form };
	uint8_t refs[SEALED_FEW * TREE_REF_SIZE];
	struct tree_element e = { .key = { .id = oid, .kind = TREE_BODY },
		.flags = body->form == SEALED_INLINE ? TREE_INLINE : 0 };
	size_t len;

	plain[2] = body->form == SEALED_TREE ? body->root.level : 0;
	plain[3] = body->form == SEALED_CHUNKS ? (uint8_t)body->num_chunks : 0;
	le64_put(plain + 8, body->size);
	len = BODY_HEAD + put_contents(body, plain + BODY_HEAD);
	/* The times and what is filled are still zero. */
	cas_value_tag(&sealer->keys, plain, len, e.vtag);
	plain[0] = BODY_LATEST;
	le64_put(plain + 16, (uint64_t)body->mtime);
	le64_put(plain + 24, (uint64_t)body->ctime);
	if (body->form == SEALED_INLINE)
		len = pack_inline(sealer, body, plain, len);
	else if (body->form == SEALED_CHUNKS)
		len -= (SEALED_FEW - body->num_chunks) * (size_t)CAS_LEAF_ENTRY;
	else
		le32_put(plain + 4, filled_units(sealed_body_filled(body)));
	return seal(sealer, &e, refs, put_refs(body, refs), plain, len, buf);
}

static int get_inline(
	const struct sealer *sealer, struct sealed_body *body, const uint8_t *plain, size_t len)
{
	size_t packed = le32_get(plain + 4);
	int r = 0;

	if (body->size > SEALED_INLINE_MAX || packed > len - BODY_HEAD ||
		(packed == 0 && body->size > len - BODY_HEAD) || (packed > 0 && body->size == 0))
		return -EBADMSG;
	if (body->size == 0)
		return 0;
	body->data = malloc(body->size);
	if (body->data == NULL)
		return -ENOMEM;
	if (packed == 0)
		memcpy(body->data, plain + BODY_HEAD, body->size);
	else
		r = cas_zstd_unpack(
			sealer->suite, plain + BODY_HEAD, packed, body->data, body->size);
	if (r < 0)
		free(body->data);
	return r;
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

	r = open_sealed(sealer, rec, BODY_LATEST, BODY_HEAD, plain, sizeof(plain), &len);
	if (r < 0)
		return r;
	if (plain[1] > SEALED_TREE)
		return -EBADMSG;
	body.form = (enum sealed_form)plain[1];
	body.size = le64_get(plain + 8);
	body.mtime = (int64_t)le64_get(plain + 16);
	body.ctime = (int64_t)le64_get(plain + 24);
	if (body.size > INT64_MAX)
		return -EBADMSG;
	switch (body.form) {
	case SEALED_INLINE:
		r = get_inline(sealer, &body, plain, len);
		if (r < 0)
			return r;
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
		body.filled = le32_get(plain + 4) * FILLED_UNIT;
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

	le32_put(plain + 4, (uint32_t)len);
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

	r = open_sealed(sealer, rec, VERSION, XATTR_HEAD, buf, TREE_XATTR_SEALED_MAX, &len);
	if (r < 0)
		return r;
	value_len = le32_get(buf + 4);
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
