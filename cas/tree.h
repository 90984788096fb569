/*
 * A file's contents as an editable tree of extents over stored manifest nodes (cas/manifest.h).
 *
 * Nodes are loaded when an operation first needs them and written by cas_tree_flush(), changed
 * ones only, bottom-up: an overwrite in a file of a million chunks rewrites a leaf and its two
 * ancestors. Subtrees that are cut away or replaced as a whole are never loaded.
 *
 *	cas_tree_open(&tree, root, ops, ctx)      root NULL: an empty file
 *	cas_tree_slice / find / seek              reading
 *	cas_tree_replace / resize                 editing, in memory
 *	cas_tree_flush(tree, &root)               emits the changed nodes; root goes into the record
 *	cas_tree_trim(tree, keep)                 drops clean nodes when memory is wanted
 *	cas_tree_free(tree)
 *
 * load() may answer -EAGAIN: the node is not here. The operation then returns -EAGAIN and has had
 * no effect; the caller fetches the id that load() was asked for, and repeats the same call. Any
 * error of load() is passed on the same way; a node that is malformed, or does not have the level
 * and length that its parent says, is -EBADMSG.
 *
 * Shape: nodes are filled to 64 entries by writing on, though the format allows 256; a full one
 * that something is inserted into before its end is split in halves; small neighbours are joined
 * when both were changed since the last flush. So the shape depends on the sequence of edits and
 * flushes only, never on what happens to be loaded. Offsets and lengths are bytes of the file, at
 * most INT64_MAX (-EFBIG beyond).
 *
 * Not thread-safe. Allocation of a node (about 5 KiB) that fails aborts the process.
 */
#ifndef BAZIL_CAS_TREE_H
#define BAZIL_CAS_TREE_H

#include "cas/manifest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a record must keep to find the contents again. An empty file: len 0, level 0, id zero. */
struct cas_tree_root {
	struct cas_id id;
	uint64_t len;
	uint8_t level;
};

struct cas_tree_ops {
	/* The node's plaintext into buf of CAS_NODE_MAX bytes. -EAGAIN: not here yet. */
	int (*load)(void *ctx, const struct cas_id *id, uint8_t *buf, size_t *ret_len);
	/* Seals and stores a node, says its id. */
	int (*emit)(void *ctx, const uint8_t *node, size_t len, struct cas_id *ret_id);
};

struct cas_tree;

/* Loads nothing yet. ops and ctx must outlive the tree. -EINVAL: a root that cannot be. -ENOMEM. */
int cas_tree_open(struct cas_tree **ret_tree, const struct cas_tree_root *root,
	const struct cas_tree_ops *ops, void *ctx);
/* Changes that were not flushed are gone. NULL is allowed. */
void cas_tree_free(struct cas_tree *tree);

uint64_t cas_tree_len(const struct cas_tree *tree);
/* Something to flush? */
bool cas_tree_is_dirty(const struct cas_tree *tree);
/* Nodes in memory: all of them, and those that only cas_tree_flush() can release. */
size_t cas_tree_num_nodes(const struct cas_tree *tree);
size_t cas_tree_num_dirty(const struct cas_tree *tree);

/* The whole extent that covers offset, and where it starts. -ENXIO: offset is not below the length.
 */
int cas_tree_find(
	struct cas_tree *tree, uint64_t offset, struct cas_extent *ret_extent, uint64_t *ret_start);

/*
 * The extents of [offset, offset + len), cut to that range and to the end of the file, max at
 * most: fewer than the range needs when max is reached; 0 when offset is at or beyond the end.
 * They may be given to cas_tree_replace() of another tree: that is a reflink.
 */
int cas_tree_slice(struct cas_tree *tree, uint64_t offset, uint64_t len, struct cas_extent *extents,
	size_t max, size_t *ret_num);

/* lseek's SEEK_DATA (hole false) and SEEK_HOLE (true), with the hole at the end. -ENXIO as lseek.
 */
int cas_tree_seek(struct cas_tree *tree, uint64_t offset, bool hole, uint64_t *ret_offset);

/*
 * Puts extents in place of [offset, offset + len); their lengths must sum to len (-EINVAL).
 * Beyond the end the file grows; a gap becomes a hole. num 0 with len > 0 is a hole as well.
 */
int cas_tree_replace(struct cas_tree *tree, uint64_t offset, uint64_t len,
	const struct cas_extent *extents, size_t num);

/* Cuts the file, or extends it by a hole. */
int cas_tree_resize(struct cas_tree *tree, uint64_t len);

/*
 * Emits the changed nodes, children before parents, and says the new root. When emit() fails its
 * error is returned, the tree stays as it was, and flush may be repeated.
 */
int cas_tree_flush(struct cas_tree *tree, struct cas_tree_root *ret_root);

/* Drops clean nodes but those that the last `keep` visits of leaves used. */
void cas_tree_trim(struct cas_tree *tree, size_t keep);

/*
 * Every object that a stored tree refers to, parents before children, without building a tree:
 * for garbage collection and verification. visit() is called with each node's id (is_node) before
 * it is loaded and with each chunk's id; a positive answer skips what is below (seen already), a
 * negative one ends the walk and is returned. Errors of load() are returned: after -EAGAIN start
 * again, with visit() skipping what is done.
 */
typedef int cas_tree_visit_fn(
	void *arg, const struct cas_id *id, bool is_node, const struct cas_extent *extent);
int cas_tree_walk(const struct cas_tree_root *root, const struct cas_tree_ops *ops, void *ctx,
	cas_tree_visit_fn *visit, void *arg);

#endif
