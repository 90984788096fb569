/*
 * Manifest nodes: the contents of a large file are a tree of them. This file is the format of one
 * node, the plaintext of a manifest object (cas/object.h); cas/tree.h edits whole trees. All
 * numbers little-endian.
 *
 *	off len
 *	0   4   magic "BZM1"
 *	4   1   version, 1
 *	5   1   level: 0 leaf; a child of level n has level n - 1; at most CAS_NODE_LEVEL_MAX
 *	6   2   count, 1 to 256
 *	8   .   count entries, nothing after them
 *
 *	leaf entry, 88 bytes: u64 len | u32 chunk_off | u32 chunk_len | id 32 | h 32 | u64 0
 *	interior entry, 40 bytes: u64 len | id 32
 *
 * len is the number of bytes of the file that the entry covers, never 0; the sum of a node is at
 * most INT64_MAX. A leaf entry is a slice [chunk_off, chunk_off + len) of a chunk of chunk_len
 * plain bytes, so overwriting, cutting or cloning a file never needs the bytes of its chunks; or
 * it is a hole: id, h, chunk_off and chunk_len all 0, any len. An empty file has no node.
 *
 * A node stands for itself: the parser believes nothing and answers -EBADMSG, or -EPROTONOSUPPORT
 * for a version of the future. Parse returns a view into data; the entries are read out one by
 * one.
 *
 * That is how a node travels inside mountd. A manifest object keeps it split in two (version 2), so
 * that the ids can lie in clear beside the sealed rest: a list of the different ids in the order of
 * their first use, and the sparse node, whose entries name an id by its number in the list from 1
 * on, 0 for a hole. There is one spelling only: every id of the list is used, the first uses are in
 * order.
 *
 *	off len
 *	0   4   magic "BZM1"
 *	4   1   version, 2
 *	5   1   level
 *	6   2   count
 *	8   .   leaf entry, 52 bytes: u64 len | u32 chunk_off | u32 chunk_len | u32 number | h 32
 *		interior entry, 12 bytes: u64 len | u32 number
 */
#ifndef BAZIL_CAS_MANIFEST_H
#define BAZIL_CAS_MANIFEST_H

#include "cas/id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAS_NODE_HEADER	   8
#define CAS_NODE_FANOUT	   256
#define CAS_NODE_LEVEL_MAX 7
#define CAS_LEAF_ENTRY	   88
#define CAS_INNER_ENTRY	   40
#define CAS_NODE_MAX	   (CAS_NODE_HEADER + CAS_NODE_FANOUT * CAS_LEAF_ENTRY) /* 22,536 bytes */

#define CAS_SPARSE_LEAF_ENTRY  52
#define CAS_SPARSE_INNER_ENTRY 12
#define CAS_SPARSE_MAX	       (CAS_NODE_HEADER + CAS_NODE_FANOUT * CAS_SPARSE_LEAF_ENTRY) /* 13,320 */

/* A stretch of a file. */
struct cas_extent {
	uint64_t len;
	uint32_t chunk_off;
	uint32_t chunk_len;
	struct cas_id id;
	struct cas_hash h;
};

/* A child of an interior node. */
struct cas_child {
	uint64_t len;
	struct cas_id id;
};

struct cas_node {
	const uint8_t *entries;
	uint64_t len; /* bytes of the file covered */
	uint16_t count;
	uint8_t level;
};

int cas_node_parse(const void *data, size_t len, struct cas_node *ret_node);

/* i < count; the node is a leaf, or is not. */
void cas_node_extent(const struct cas_node *node, size_t i, struct cas_extent *ret_extent);
void cas_node_child(const struct cas_node *node, size_t i, struct cas_child *ret_child);

/* Writes a node into buf of CAS_NODE_MAX bytes; returns its length. The entries must be valid. */
size_t cas_node_emit_leaf(const struct cas_extent *extents, size_t count, uint8_t *buf);
size_t cas_node_emit_inner(
	const struct cas_child *children, size_t count, uint8_t level, uint8_t *buf);

/* Splits a node into CAS_SPARSE_MAX bytes and up to CAS_NODE_FANOUT ids; returns the length of the
 * sparse node. The node must have been parsed. */
size_t cas_node_split(
	const struct cas_node *node, struct cas_id *ids, size_t *ret_num, uint8_t *sparse);
/* The other way round, into CAS_NODE_MAX bytes: what comes out parses. -EBADMSG, -EPROTONOSUPPORT.
 */
int cas_node_join(const void *sparse, size_t len, const uint8_t *ids, size_t num, uint8_t *buf,
	size_t *ret_len);

bool cas_extent_is_hole(const struct cas_extent *extent);
/* A hole, or a slice within its chunk; len not 0. */
bool cas_extent_is_valid(const struct cas_extent *extent);
/* A hole of len bytes. */
struct cas_extent cas_extent_hole(uint64_t len);

#endif
