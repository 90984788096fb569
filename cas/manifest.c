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

	ret_extent->len = cas_get_le64(p);
	ret_extent->chunk_off = cas_get_le32(p + 8);
	ret_extent->chunk_len = cas_get_le32(p + 12);
	memcpy(ret_extent->id.b, p + 16, 32);
	memcpy(ret_extent->h.b, p + 48, 32);
}

void cas_node_child(const struct cas_node *node, size_t i, struct cas_child *ret_child)
{
	const uint8_t *p = node->entries + i * CAS_INNER_ENTRY;

	ret_child->len = cas_get_le64(p);
	memcpy(ret_child->id.b, p + 8, 32);
}

static bool entry_is_valid(const struct cas_node *node, size_t i, uint64_t *ret_len)
{
	if (node->level == 0) {
		struct cas_extent extent;

		cas_node_extent(node, i, &extent);
		*ret_len = extent.len;
		return cas_extent_is_valid(&extent) &&
		       cas_get_le64(node->entries + i * CAS_LEAF_ENTRY + 80) == 0;
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
		.entries = p + CAS_NODE_HEADER, .level = p[5], .count = cas_get_le16(p + 6)
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

static void put_header(uint8_t *buf, uint8_t level, size_t count)
{
	memcpy(buf, magic, sizeof(magic));
	buf[4] = 1;
	buf[5] = level;
	cas_put_le16(buf + 6, (uint16_t)count);
}

size_t cas_node_emit_leaf(const struct cas_extent *extents, size_t count, uint8_t *buf)
{
	uint8_t *p = buf + CAS_NODE_HEADER;

	put_header(buf, 0, count);
	for (size_t i = 0; i < count; i++, p += CAS_LEAF_ENTRY) {
		cas_put_le64(p, extents[i].len);
		cas_put_le32(p + 8, extents[i].chunk_off);
		cas_put_le32(p + 12, extents[i].chunk_len);
		memcpy(p + 16, extents[i].id.b, 32);
		memcpy(p + 48, extents[i].h.b, 32);
		cas_put_le64(p + 80, 0);
	}
	return (size_t)(p - buf);
}

size_t cas_node_emit_inner(
	const struct cas_child *children, size_t count, uint8_t level, uint8_t *buf)
{
	uint8_t *p = buf + CAS_NODE_HEADER;

	put_header(buf, level, count);
	for (size_t i = 0; i < count; i++, p += CAS_INNER_ENTRY) {
		cas_put_le64(p, children[i].len);
		memcpy(p + 8, children[i].id.b, 32);
	}
	return (size_t)(p - buf);
}
