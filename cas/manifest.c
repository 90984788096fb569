#include "cas/manifest.h"

#include "cas/bytes.h"
#include "cas/object.h"

#include <errno.h>

static const uint8_t magic[4] = { 'B', 'Z', 'M', '1' };

struct cas_extent cas_extent_hole(uint64_t len)
{
	return (struct cas_extent){ .len = len };
}

bool cas_extent_is_hole(const struct cas_extent *extent)
{
	return cas_id_is_zero(&extent->id);
}

bool cas_extent_is_valid(const struct cas_extent *extent)
{
	if (extent->len < 1 || extent->len > INT64_MAX)
		return false;
	if (cas_extent_is_hole(extent))
		return extent->chunk_off == 0 && extent->chunk_len == 0 &&
		       cas_all_zero(extent->h.b, sizeof(extent->h.b));
	return extent->chunk_len <= CAS_CHUNK_PLAIN_MAX && extent->chunk_off < extent->chunk_len &&
	       extent->len <= extent->chunk_len - extent->chunk_off;
}

void cas_node_extent(const struct cas_node *node, size_t i, struct cas_extent *ret_extent)
{
	const uint8_t *p = node->entries + i * CAS_LEAF_ENTRY;

	ret_extent->len = le64_get(p);
	ret_extent->chunk_off = le32_get(p + 8);
	ret_extent->chunk_len = le32_get(p + 12);
	memcpy(ret_extent->id.b, p + 16, 32);
	memcpy(ret_extent->h.b, p + 48, 32);
}

void cas_node_child(const struct cas_node *node, size_t i, struct cas_child *ret_child)
{
	const uint8_t *p = node->entries + i * CAS_INNER_ENTRY;

	ret_child->len = le64_get(p);
	memcpy(ret_child->id.b, p + 8, 32);
}

static bool entry_is_valid(const struct cas_node *node, size_t i, uint64_t *ret_len)
{
	if (node->level == 0) {
		struct cas_extent extent;

		cas_node_extent(node, i, &extent);
		*ret_len = extent.len;
		return cas_extent_is_valid(&extent) &&
		       le64_get(node->entries + i * CAS_LEAF_ENTRY + 80) == 0;
	} else {
		struct cas_child child;

		cas_node_child(node, i, &child);
		*ret_len = child.len;
		return child.len >= 1 && child.len <= INT64_MAX && !cas_id_is_zero(&child.id);
	}
}

int cas_node_parse(const void *data, size_t len, struct cas_node *ret_node)
{
	const uint8_t *p = data;
	struct cas_node node;

	if (len < CAS_NODE_HEADER || memcmp(p, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (p[4] != 1)
		return -EPROTONOSUPPORT;
	node = (struct cas_node){
		.entries = p + CAS_NODE_HEADER, .level = p[5], .count = le16_get(p + 6)
	};
	if (node.level > CAS_NODE_LEVEL_MAX || node.count < 1 || node.count > CAS_NODE_FANOUT)
		return -EBADMSG;
	if (len - CAS_NODE_HEADER !=
		(size_t)node.count * (node.level == 0 ? CAS_LEAF_ENTRY : CAS_INNER_ENTRY))
		return -EBADMSG;
	for (size_t i = 0; i < node.count; i++) {
		uint64_t n;

		if (!entry_is_valid(&node, i, &n) || n > INT64_MAX - node.len)
			return -EBADMSG;
		node.len += n;
	}
	*ret_node = node;
	return 0;
}

static void put_header(uint8_t *buf, uint8_t version, uint8_t level, size_t count)
{
	memcpy(buf, magic, sizeof(magic));
	buf[4] = version;
	buf[5] = level;
	le16_put(buf + 6, (uint16_t)count);
}

size_t cas_node_emit_leaf(const struct cas_extent *extents, size_t count, uint8_t *buf)
{
	uint8_t *p = buf + CAS_NODE_HEADER;

	put_header(buf, 1, 0, count);
	for (size_t i = 0; i < count; i++, p += CAS_LEAF_ENTRY) {
		le64_put(p, extents[i].len);
		le32_put(p + 8, extents[i].chunk_off);
		le32_put(p + 12, extents[i].chunk_len);
		memcpy(p + 16, extents[i].id.b, 32);
		memcpy(p + 48, extents[i].h.b, 32);
		le64_put(p + 80, 0);
	}
	return (size_t)(p - buf);
}

size_t cas_node_emit_inner(
	const struct cas_child *children, size_t count, uint8_t level, uint8_t *buf)
{
	uint8_t *p = buf + CAS_NODE_HEADER;

	put_header(buf, 1, level, count);
	for (size_t i = 0; i < count; i++, p += CAS_INNER_ENTRY) {
		le64_put(p, children[i].len);
		memcpy(p + 8, children[i].id.b, 32);
	}
	return (size_t)(p - buf);
}

/* The number of an id in the list, which it joins when it is new. */
static uint32_t list_number(struct cas_id *ids, size_t *num, const struct cas_id *id)
{
	for (size_t i = *num; i > 0; i--)
		if (cas_id_equal(&ids[i - 1], id))
			return (uint32_t)i;
	ids[(*num)++] = *id;
	return (uint32_t)*num;
}

size_t cas_node_split(
	const struct cas_node *node, struct cas_id *ids, size_t *ret_num, uint8_t *sparse)
{
	uint8_t *p = sparse + CAS_NODE_HEADER;
	size_t num = 0;

	put_header(sparse, 2, node->level, node->count);
	for (size_t i = 0; i < node->count; i++) {
		struct cas_extent extent;
		struct cas_child child;

		if (node->level > 0) {
			cas_node_child(node, i, &child);
			le64_put(p, child.len);
			le32_put(p + 8, list_number(ids, &num, &child.id));
			p += CAS_SPARSE_INNER_ENTRY;
			continue;
		}
		cas_node_extent(node, i, &extent);
		le64_put(p, extent.len);
		le32_put(p + 8, extent.chunk_off);
		le32_put(p + 12, extent.chunk_len);
		le32_put(p + 16,
			cas_extent_is_hole(&extent) ? 0 : list_number(ids, &num, &extent.id));
		memcpy(p + 20, extent.h.b, 32);
		p += CAS_SPARSE_LEAF_ENTRY;
	}
	*ret_num = num;
	return (size_t)(p - sparse);
}

/* One entry with its id put in. *used: numbers seen so far. */
static int join_entry(
	const uint8_t *p, uint8_t level, const uint8_t *ids, size_t num, size_t *used, uint8_t *out)
{
	uint32_t number = le32_get(p + (level == 0 ? 16 : 8));
	uint8_t *id = out + (level == 0 ? 16 : 8);

	if (number > num || number > *used + 1)
		return -EBADMSG;
	if (number == *used + 1)
		++*used;
	memcpy(out, p, level == 0 ? 16 : 8);
	if (number == 0)
		memset(id, 0, 32);
	else
		memcpy(id, ids + (number - 1) * (size_t)CAS_ID_SIZE, 32);
	if (level == 0) {
		memcpy(out + 48, p + 20, 32);
		memset(out + 80, 0, 8);
	}
	return 0;
}

int cas_node_join(const void *sparse, size_t len, const uint8_t *ids, size_t num, uint8_t *buf,
	size_t *ret_len)
{
	size_t used = 0, count, in, out;
	const uint8_t *p = sparse;
	struct cas_node node;
	uint8_t *at = buf + CAS_NODE_HEADER;

	if (len < CAS_NODE_HEADER || memcmp(p, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (p[4] != 2)
		return -EPROTONOSUPPORT;
	count = le16_get(p + 6);
	in = p[5] == 0 ? CAS_SPARSE_LEAF_ENTRY : CAS_SPARSE_INNER_ENTRY;
	out = p[5] == 0 ? CAS_LEAF_ENTRY : CAS_INNER_ENTRY;
	if (count > CAS_NODE_FANOUT || len - CAS_NODE_HEADER != count * in)
		return -EBADMSG;
	put_header(buf, 1, p[5], count);
	for (size_t i = 0; i < count; i++, at += out)
		if (join_entry(p + CAS_NODE_HEADER + i * in, p[5], ids, num, &used, at) < 0)
			return -EBADMSG;
	if (used != num)
		return -EBADMSG;
	*ret_len = (size_t)(at - buf);
	return cas_node_parse(buf, *ret_len, &node);
}
