#include "cas/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Entries of a node before it is split; one with more comes from a store that filled them to
 * CAS_NODE_FANOUT. A file that is written as a stream is flushed every 4 MiB, which is about 64
 * chunks, and each flush writes the last path anew: with nodes of 256 those were most of what the
 * nodes of such a file took.
 */
#define FILL	 64
/* Changed neighbours are joined when both fit into this many entries: room is left to insert. */
#define JOIN_MAX (FILL * 3 / 4)

/* Where a node hangs: in its parent, or as the tree's root. node NULL: not in memory, only stored.
 */
struct slot {
	uint64_t len;
	struct cas_id id; /* valid while the node is clean or not in memory */
	struct node *node;
};

/* A dirty node's ancestors are dirty, so a clean node has nothing below it that must be kept. */
struct node {
	uint8_t level;
	bool is_dirty;
	uint32_t count, room;
	uint64_t used; /* the tree's clock when last visited */
	union {
		struct cas_extent *extents; /* level 0 */
		struct slot *kids;
	};
};

struct cas_tree {
	const struct cas_tree_ops *ops;
	void *ctx;
	struct slot root; /* len 0: empty, then no node and no id */
	uint8_t level;
	bool is_changed;
	size_t num_nodes, num_dirty;
	uint64_t clock; /* visits of leaves so far */
	const struct node *last_leaf;
	uint8_t buf[CAS_NODE_MAX];
	struct cas_child children[CAS_NODE_FANOUT];
};

/* ---- nodes in memory ---- */

static void *grow(void *array, size_t num, size_t size)
{
	void *p = reallocarray(array, num, size);

	if (!p)
		abort();
	return p;
}

/* Room for one entry more than is stored: a node may be one too long until it is split. */
static void node_reserve(struct node *node, uint32_t count)
{
	if (count <= node->room)
		return;
	node->room = count < 8 ? 8 : 2 * count;
	if (node->room > CAS_NODE_FANOUT + 1)
		node->room = CAS_NODE_FANOUT + 1;
	if (node->level == 0)
		node->extents = grow(node->extents, node->room, sizeof(*node->extents));
	else
		node->kids = grow(node->kids, node->room, sizeof(*node->kids));
}

static struct node *node_new(struct cas_tree *tree, uint8_t level, uint32_t count)
{
	struct node *node = grow(NULL, 1, sizeof(*node));

	*node = (struct node){ .level = level, .used = tree->clock };
	node_reserve(node, count);
	tree->num_nodes++;
	return node;
}

static void node_touch(struct cas_tree *tree, struct node *node)
{
	if (!node->is_dirty)
		tree->num_dirty++;
	node->is_dirty = true;
}

/* The node alone, or with all that is loaded below it. */
static void node_free(struct cas_tree *tree, struct node *node)
{
	tree->num_nodes--;
	tree->num_dirty -= node->is_dirty;
	if (tree->last_leaf == node)
		tree->last_leaf = NULL;
	if (node->level == 0)
		free(node->extents);
	else
		free(node->kids);
	free(node);
}

static void subtree_free(struct cas_tree *tree, struct node *node)
{
	if (!node)
		return;
	for (uint32_t i = 0; node->level > 0 && i < node->count; i++)
		subtree_free(tree, node->kids[i].node);
	node_free(tree, node);
}

/* Loads the node of a slot unless it is there. What the store gave is checked against the parent.
 */
static int slot_load(struct cas_tree *tree, struct slot *slot, uint8_t level)
{
	struct cas_node parsed;
	struct node *node;
	size_t len = 0;
	int r;

	if (slot->node)
		return 0;
	r = tree->ops->load(tree->ctx, &slot->id, tree->buf, &len);
	if (r < 0)
		return r;
	if (len > sizeof(tree->buf))
		return -EBADMSG;
	r = cas_node_parse(tree->buf, len, &parsed);
	if (r < 0)
		return r;
	if (parsed.level != level || parsed.len != slot->len)
		return -EBADMSG;
	node = node_new(tree, level, parsed.count);
	node->count = parsed.count;
	for (uint32_t i = 0; i < node->count; i++) {
		struct cas_child child;

		if (level == 0) {
			cas_node_extent(&parsed, i, &node->extents[i]);
			continue;
		}
		cas_node_child(&parsed, i, &child);
		node->kids[i] = (struct slot){ .len = child.len, .id = child.id };
	}
	slot->node = node;
	return 0;
}

/* ---- finding ---- */

/* The child that covers *offset, which becomes relative to it. */
static uint32_t kid_at(const struct node *node, uint64_t *offset)
{
	uint32_t i = 0;

	while (*offset >= node->kids[i].len)
		*offset -= node->kids[i++].len;
	return i;
}

static uint32_t extent_at(const struct node *node, uint64_t *offset)
{
	uint32_t i = 0;

	while (*offset >= node->extents[i].len)
		*offset -= node->extents[i++].len;
	return i;
}

/* Loads all nodes down to the leaf of an offset below the length; *ret_offset is relative to it. */
static int path_load(
	struct cas_tree *tree, uint64_t offset, struct node **ret_leaf, uint64_t *ret_offset)
{
	struct slot *slot = &tree->root;
	int r;

	for (uint8_t level = tree->level;; level--) {
		r = slot_load(tree, slot, level);
		if (r < 0)
			return r;
		slot->node->used = tree->clock;
		if (level == 0)
			break;
		slot = &slot->node->kids[kid_at(slot->node, &offset)];
	}
	if (tree->last_leaf != slot->node) {
		tree->last_leaf = slot->node;
		slot->node->used = ++tree->clock;
	}
	if (ret_leaf)
		*ret_leaf = slot->node;
	if (ret_offset)
		*ret_offset = offset;
	return 0;
}

int cas_tree_find(
	struct cas_tree *tree, uint64_t offset, struct cas_extent *ret_extent, uint64_t *ret_start)
{
	struct node *leaf;
	uint64_t within;
	uint32_t i;
	int r;

	if (offset >= tree->root.len)
		return -ENXIO;
	r = path_load(tree, offset, &leaf, &within);
	if (r < 0)
		return r;
	i = extent_at(leaf, &within);
	*ret_extent = leaf->extents[i];
	*ret_start = offset - within;
	return 0;
}

/* Leaves of an extent what lies in [front, front + len) of it. */
static void extent_cut(struct cas_extent *extent, uint64_t front, uint64_t len)
{
	if (!cas_extent_is_hole(extent))
		extent->chunk_off += (uint32_t)front;
	extent->len = len;
}

int cas_tree_slice(struct cas_tree *tree, uint64_t offset, uint64_t len, struct cas_extent *extents,
	size_t max, size_t *ret_num)
{
	size_t num = 0;
	uint64_t end;

	if (offset >= tree->root.len)
		len = 0;
	else if (len > tree->root.len - offset)
		len = tree->root.len - offset;
	end = offset + len;
	while (offset < end && num < max) {
		struct node *leaf;
		uint64_t within;
		uint32_t i;
		int r = path_load(tree, offset, &leaf, &within);

		if (r < 0)
			return r;
		for (i = extent_at(leaf, &within); i < leaf->count && offset < end && num < max;
			i++) {
			uint64_t n = leaf->extents[i].len - within;

			if (n > end - offset)
				n = end - offset;
			extents[num] = leaf->extents[i];
			extent_cut(&extents[num++], within, n);
			offset += n;
			within = 0;
		}
	}
	*ret_num = num;
	return 0;
}

int cas_tree_seek(struct cas_tree *tree, uint64_t offset, bool hole, uint64_t *ret_offset)
{
	if (offset >= tree->root.len)
		return -ENXIO;
	while (offset < tree->root.len) {
		struct cas_extent extent;
		uint64_t start;
		int r = cas_tree_find(tree, offset, &extent, &start);

		if (r < 0)
			return r;
		if (cas_extent_is_hole(&extent) == hole) {
			*ret_offset = offset;
			return 0;
		}
		offset = start + extent.len;
	}
	if (!hole)
		return -ENXIO;
	*ret_offset = offset;
	return 0;
}

/* ---- editing: all nodes that are touched are loaded before the first change ---- */

static bool can_merge(const struct cas_extent *a, const struct cas_extent *b)
{
	if (!cas_id_equal(&a->id, &b->id))
		return false;
	if (cas_extent_is_hole(a))
		return true;
	return a->chunk_len == b->chunk_len && (uint64_t)a->chunk_off + a->len == b->chunk_off &&
	       memcmp(a->h.b, b->h.b, sizeof(a->h.b)) == 0;
}

static void remove_extents(struct node *leaf, uint32_t i, uint32_t num)
{
	memmove(leaf->extents + i, leaf->extents + i + num,
		(leaf->count - i - num) * sizeof(*leaf->extents));
	leaf->count -= num;
}

static void remove_kids(struct node *node, uint32_t i, uint32_t num)
{
	memmove(node->kids + i, node->kids + i + num,
		(node->count - i - num) * sizeof(*node->kids));
	node->count -= num;
}

static void insert_kid(struct node *node, uint32_t i, const struct slot *kid)
{
	node_reserve(node, node->count + 1);
	memmove(node->kids + i + 1, node->kids + i, (node->count - i) * sizeof(*node->kids));
	node->kids[i] = *kid;
	node->count++;
}

/*
 * offset is a boundary between extents, or an end of the leaf. Merges to the left only: what
 * follows must keep its start, as the next insertion comes before it.
 */
static uint32_t leaf_insert(struct node *leaf, uint64_t offset, const struct cas_extent *extent)
{
	uint32_t i = 0;

	for (; offset > 0; i++)
		offset -= leaf->extents[i].len;
	if (i > 0 && can_merge(&leaf->extents[i - 1], extent)) {
		leaf->extents[i - 1].len += extent->len;
		return i - 1;
	}
	node_reserve(leaf, leaf->count + 1);
	memmove(leaf->extents + i + 1, leaf->extents + i,
		(leaf->count - i) * sizeof(*leaf->extents));
	leaf->extents[i] = *extent;
	leaf->count++;
	return i;
}

/* Moves the entries from `at` on into a new node to the right. */
static void slot_split(
	struct cas_tree *tree, struct slot *slot, uint32_t at, struct slot *ret_right)
{
	struct node *node = slot->node;
	uint32_t num = node->count - at;
	struct node *right = node_new(tree, node->level, num);
	uint64_t len = 0;

	for (uint32_t i = 0; i < num; i++) {
		if (node->level == 0) {
			right->extents[i] = node->extents[at + i];
			len += right->extents[i].len;
		} else {
			right->kids[i] = node->kids[at + i];
			len += right->kids[i].len;
		}
	}
	right->count = num;
	node->count = at;
	node_touch(tree, right);
	slot->len -= len;
	*ret_right = (struct slot){ .len = len, .node = right };
}

/*
 * Inserts at a boundary; between two children the left one takes it, so that who writes on fills
 * it. True: the node became too long and *ret_right must be put after it. A full node that
 * something is put behind is left full: halves would waste the room of all nodes of a file that is
 * written, or written over, from its start to its end.
 */
static bool slot_insert(struct cas_tree *tree, struct slot *slot, uint64_t offset,
	const struct cas_extent *extent, struct slot *ret_right)
{
	struct node *node = slot->node;
	uint32_t i;

	node_touch(tree, node);
	slot->len += extent->len;
	if (node->level == 0) {
		i = leaf_insert(node, offset, extent);
	} else {
		struct slot right;

		for (i = 0; offset > node->kids[i].len; i++)
			offset -= node->kids[i].len;
		if (slot_insert(tree, &node->kids[i], offset, extent, &right))
			insert_kid(node, ++i, &right);
	}
	if (node->count <= FILL)
		return false;
	slot_split(tree, slot, i == FILL && node->count == FILL + 1 ? FILL : node->count / 2,
		ret_right);
	return true;
}

static void tree_insert(struct cas_tree *tree, uint64_t offset, const struct cas_extent *extent)
{
	struct slot right;
	struct node *root;

	if (!tree->root.node) {
		/* Only an empty tree has an unloaded root here. */
		tree->root = (struct slot){ .node = node_new(tree, 0, 1) };
		tree->level = 0;
	}
	if (!slot_insert(tree, &tree->root, offset, extent, &right))
		return;
	root = node_new(tree, ++tree->level, 2);
	root->count = 2;
	root->kids[0] = tree->root;
	root->kids[1] = right;
	node_touch(tree, root);
	tree->root = (struct slot){ .len = root->kids[0].len + right.len, .node = root };
}

/* Removes [from, to) of a leaf; extents at the edges are cut. Not all of the leaf. */
static void leaf_delete(struct node *leaf, uint64_t from, uint64_t to)
{
	uint64_t start = 0;
	uint32_t i = 0, first, end;

	for (; start + leaf->extents[i].len <= from; i++)
		start += leaf->extents[i].len;
	first = i;
	if (start < from) {
		start += leaf->extents[i].len;
		leaf->extents[i].len -= (start < to ? start : to) - from;
		first++;
		i++;
	}
	for (end = first; end < leaf->count && start < to; end++) {
		uint64_t len = leaf->extents[end].len;

		if (start + len > to) {
			extent_cut(&leaf->extents[end], to - start, start + len - to);
			break;
		}
		start += len;
	}
	remove_extents(leaf, first, end - first);
}

/* As leaf_delete(), for a subtree. What is covered as a whole is dropped without being loaded. */
static void slot_delete(struct cas_tree *tree, struct slot *slot, uint64_t from, uint64_t to)
{
	struct node *node = slot->node;
	uint64_t start = 0;
	uint32_t kept = 0;

	node_touch(tree, node);
	slot->len -= to - from;
	if (node->level == 0) {
		leaf_delete(node, from, to);
		return;
	}
	for (uint32_t i = 0; i < node->count; i++) {
		struct slot *kid = &node->kids[i];
		uint64_t end = start + kid->len;
		uint64_t low = from > start ? from : start, high = to < end ? to : end;

		if (low == start && high == end) {
			subtree_free(tree, kid->node);
		} else {
			if (low < high)
				slot_delete(tree, kid, low - start, high - start);
			node->kids[kept++] = *kid;
		}
		start = end;
	}
	node->count = kept;
}

static void tree_delete(struct cas_tree *tree, uint64_t from, uint64_t to)
{
	if (from >= to)
		return;
	tree->is_changed = true;
	if (from == 0 && to == tree->root.len) {
		subtree_free(tree, tree->root.node);
		tree->root = (struct slot){ 0 };
		tree->level = 0;
		return;
	}
	slot_delete(tree, &tree->root, from, to);
}

/* Removes the end of the one extent that covers [offset, ..), starting before offset. */
static struct cas_extent tree_cut_tail(struct cas_tree *tree, uint64_t offset)
{
	struct cas_extent *extent, tail;
	struct slot *slot = &tree->root;
	uint64_t len, within = offset;

	(void)cas_tree_find(tree, offset, &tail, &len);
	len = len + tail.len - offset;
	for (;; slot = &slot->node->kids[kid_at(slot->node, &within)]) {
		node_touch(tree, slot->node);
		slot->len -= len;
		if (slot->node->level == 0)
			break;
	}
	extent = &slot->node->extents[extent_at(slot->node, &within)];
	tail = *extent;
	extent_cut(&tail, within, len);
	extent->len = within;
	return tail;
}

/* Merges the extents on both sides of an offset where something was inserted last. */
static void tree_merge(struct cas_tree *tree, uint64_t offset)
{
	struct slot *slot = &tree->root;
	uint64_t within = offset - 1;
	struct node *leaf;
	uint32_t i;

	while (slot->node->level > 0)
		slot = &slot->node->kids[kid_at(slot->node, &within)];
	leaf = slot->node;
	i = extent_at(leaf, &within);
	if (within + 1 < leaf->extents[i].len || i + 1 == leaf->count ||
		!can_merge(&leaf->extents[i], &leaf->extents[i + 1]))
		return;
	leaf->extents[i].len += leaf->extents[i + 1].len;
	remove_extents(leaf, i + 1, 1);
}

/* Joins kid i with the next one when both were changed and are small. */
static void join_kids(struct cas_tree *tree, struct node *node, uint32_t i)
{
	struct node *left = node->kids[i].node, *right = node->kids[i + 1].node;

	if (!left || !right || !left->is_dirty || !right->is_dirty ||
		left->count + right->count > JOIN_MAX)
		return;
	node_reserve(left, left->count + right->count);
	if (left->level == 0)
		memcpy(left->extents + left->count, right->extents,
			right->count * sizeof(*left->extents));
	else
		memcpy(left->kids + left->count, right->kids, right->count * sizeof(*left->kids));
	left->count += right->count;
	node->kids[i].len += node->kids[i + 1].len;
	node_free(tree, right);
	remove_kids(node, i + 1, 1);
}

static void slot_join(struct cas_tree *tree, struct slot *slot, uint64_t offset)
{
	struct node *node = slot->node;
	uint32_t i;

	if (!node || !node->is_dirty || node->level == 0)
		return;
	i = kid_at(node, &offset);
	slot_join(tree, &node->kids[i], offset);
	if (i + 1 < node->count)
		join_kids(tree, node, i);
	if (i > 0)
		join_kids(tree, node, i - 1);
}

/* After an edit around an offset: no needlessly small nodes, no root with one child. */
static void tree_settle(struct cas_tree *tree, uint64_t from, uint64_t to)
{
	if (tree->root.len == 0)
		return;
	slot_join(tree, &tree->root, from < tree->root.len ? from : tree->root.len - 1);
	slot_join(tree, &tree->root, to < tree->root.len ? to : tree->root.len - 1);
	while (tree->level > 0 && tree->root.node && tree->root.node->count == 1) {
		struct slot only = tree->root.node->kids[0];

		node_free(tree, tree->root.node);
		tree->root = only;
		tree->level--;
	}
}

/* Insertion may split the root; the deepest tree there can be must not get deeper. */
static bool has_room(const struct cas_tree *tree, size_t num)
{
	return tree->level < CAS_NODE_LEVEL_MAX || !tree->root.node ||
	       (num < FILL && tree->root.node->count + num + 2 <= FILL);
}

/* The edit proper: [offset, end) goes, extents come. A gap before offset was inserted already. */
static void tree_splice(struct cas_tree *tree, uint64_t offset, uint64_t end,
	const struct cas_extent *extents, size_t num)
{
	struct cas_extent tail = { 0 };
	uint64_t at = offset;

	tree->is_changed = true;
	if (offset < end) {
		struct cas_extent extent;
		uint64_t start;

		/* Loaded already if it starts before offset; else of no interest. */
		if (offset > 0 && cas_tree_find(tree, offset - 1, &extent, &start) == 0 &&
			start + extent.len > end)
			tail = tree_cut_tail(tree, offset);
		else
			tree_delete(tree, offset, end);
	}
	if (tail.len > 0)
		extent_cut(&tail, end - offset, tail.len - (end - offset));
	for (size_t i = 0; i < num; i++) {
		tree_insert(tree, at, &extents[i]);
		at += extents[i].len;
	}
	if (tail.len > 0)
		tree_insert(tree, at, &tail);
	tree_merge(tree, at);
	tree_settle(tree, offset, at);
}

/* The nodes that an edit of [offset, end) within the file touches. Errors come from here only. */
static int edges_load(struct cas_tree *tree, uint64_t offset, uint64_t end)
{
	int r = 0;

	if (offset > 0)
		r = path_load(tree, offset - 1, NULL, NULL);
	if (r == 0 && end < tree->root.len)
		r = path_load(tree, end, NULL, NULL);
	return r;
}

int cas_tree_replace(struct cas_tree *tree, uint64_t offset, uint64_t len,
	const struct cas_extent *extents, size_t num)
{
	struct cas_extent gap, hole;
	uint64_t end, sum = 0;
	int r;

	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	for (size_t i = 0; i < num; i++) {
		if (!cas_extent_is_valid(&extents[i]) || extents[i].len > len - sum)
			return -EINVAL;
		sum += extents[i].len;
	}
	if (num > 0 && sum != len)
		return -EINVAL;
	if (len == 0)
		return 0;
	if (num == 0) {
		hole = cas_extent_hole(len);
		extents = &hole;
		num = 1;
	}
	end = offset + len < tree->root.len ? offset + len : tree->root.len;
	r = edges_load(tree, offset < tree->root.len ? offset : tree->root.len, end);
	if (r < 0)
		return r;
	if (!has_room(tree, num + 2))
		return -EFBIG;
	if (offset > tree->root.len) {
		gap = cas_extent_hole(offset - tree->root.len);
		tree_insert(tree, tree->root.len, &gap);
		end = offset;
	}
	tree_splice(tree, offset, end, extents, num);
	return 0;
}

int cas_tree_resize(struct cas_tree *tree, uint64_t len)
{
	int r;

	if (len > INT64_MAX)
		return -EFBIG;
	if (len == tree->root.len)
		return 0;
	if (len > tree->root.len)
		return cas_tree_replace(tree, tree->root.len, len - tree->root.len, NULL, 0);
	r = edges_load(tree, len, tree->root.len);
	if (r < 0)
		return r;
	tree_delete(tree, len, tree->root.len);
	tree_settle(tree, len, len);
	return 0;
}

/* ---- a tree's life ---- */

int cas_tree_open(struct cas_tree **ret_tree, const struct cas_tree_root *root,
	const struct cas_tree_ops *ops, void *ctx)
{
	struct cas_tree *tree;

	if (root && (root->len > INT64_MAX || root->level > CAS_NODE_LEVEL_MAX ||
			    (root->len == 0) != cas_id_is_zero(&root->id) ||
			    (root->len == 0 && root->level > 0)))
		return -EINVAL;
	tree = calloc(1, sizeof(*tree));
	if (!tree)
		return -ENOMEM;
	tree->ops = ops;
	tree->ctx = ctx;
	if (root) {
		tree->root.len = root->len;
		tree->root.id = root->id;
		tree->level = root->level;
	}
	*ret_tree = tree;
	return 0;
}

void cas_tree_free(struct cas_tree *tree)
{
	if (!tree)
		return;
	subtree_free(tree, tree->root.node);
	free(tree);
}

uint64_t cas_tree_len(const struct cas_tree *tree)
{
	return tree->root.len;
}

bool cas_tree_is_dirty(const struct cas_tree *tree)
{
	return tree->is_changed;
}

size_t cas_tree_num_nodes(const struct cas_tree *tree)
{
	return tree->num_nodes;
}

size_t cas_tree_num_dirty(const struct cas_tree *tree)
{
	return tree->num_dirty;
}

static int slot_flush(struct cas_tree *tree, struct slot *slot)
{
	struct node *node = slot->node;
	struct cas_id id;
	size_t len;
	int r;

	if (!node || !node->is_dirty)
		return 0;
	for (uint32_t i = 0; node->level > 0 && i < node->count; i++) {
		r = slot_flush(tree, &node->kids[i]);
		if (r < 0)
			return r;
	}
	if (node->level == 0) {
		len = cas_node_emit_leaf(node->extents, node->count, tree->buf);
	} else {
		/* Filled after the children are done: they use the same memory. */
		for (uint32_t i = 0; i < node->count; i++)
			tree->children[i] = (struct cas_child){ .len = node->kids[i].len,
				.id = node->kids[i].id };
		len = cas_node_emit_inner(tree->children, node->count, node->level, tree->buf);
	}
	r = tree->ops->emit(tree->ctx, tree->buf, len, &id);
	if (r < 0)
		return r;
	slot->id = id;
	node->is_dirty = false;
	tree->num_dirty--;
	return 0;
}

int cas_tree_flush(struct cas_tree *tree, struct cas_tree_root *ret_root)
{
	int r = slot_flush(tree, &tree->root);

	if (r < 0)
		return r;
	tree->is_changed = false;
	*ret_root = (struct cas_tree_root){
		.id = tree->root.id, .len = tree->root.len, .level = tree->level
	};
	return 0;
}

static void slot_trim(struct cas_tree *tree, struct slot *slot, size_t keep)
{
	struct node *node = slot->node;
	bool is_bare = true;

	if (!node)
		return;
	for (uint32_t i = 0; node->level > 0 && i < node->count; i++) {
		slot_trim(tree, &node->kids[i], keep);
		is_bare = is_bare && !node->kids[i].node;
	}
	if (is_bare && !node->is_dirty && tree->clock - node->used >= keep) {
		node_free(tree, node);
		slot->node = NULL;
	}
}

void cas_tree_trim(struct cas_tree *tree, size_t keep)
{
	slot_trim(tree, &tree->root, keep);
}

/* ---- walking a stored tree ---- */

struct walk {
	const struct cas_tree_ops *ops;
	void *ctx;
	cas_tree_visit_fn *visit;
	void *arg;
};

static int walk_node(const struct walk *walk, const struct cas_id *id, uint64_t len, uint8_t level);

static int walk_entries(const struct walk *walk, const struct cas_node *node)
{
	int r = 0;

	for (size_t i = 0; i < node->count && r >= 0; i++) {
		struct cas_extent extent;
		struct cas_child child;

		if (node->level > 0) {
			cas_node_child(node, i, &child);
			r = walk_node(walk, &child.id, child.len, node->level - 1);
			continue;
		}
		cas_node_extent(node, i, &extent);
		if (!cas_extent_is_hole(&extent))
			r = walk->visit(walk->arg, &extent.id, false, &extent);
	}
	return r < 0 ? r : 0;
}

static int walk_node(const struct walk *walk, const struct cas_id *id, uint64_t len, uint8_t level)
{
	struct cas_node node;
	size_t size = 0;
	uint8_t *buf;
	int r = walk->visit(walk->arg, id, true, NULL);

	if (r != 0)
		return r < 0 ? r : 0;
	buf = malloc(CAS_NODE_MAX);
	if (!buf)
		return -ENOMEM;
	r = walk->ops->load(walk->ctx, id, buf, &size);
	if (r == 0)
		r = size <= CAS_NODE_MAX ? cas_node_parse(buf, size, &node) : -EBADMSG;
	if (r == 0 && (node.level != level || node.len != len))
		r = -EBADMSG;
	if (r == 0)
		r = walk_entries(walk, &node);
	free(buf);
	return r;
}

int cas_tree_walk(const struct cas_tree_root *root, const struct cas_tree_ops *ops, void *ctx,
	cas_tree_visit_fn *visit, void *arg)
{
	const struct walk walk = { ops, ctx, visit, arg };

	if (root->len == 0)
		return 0;
	if (root->level > CAS_NODE_LEVEL_MAX)
		return -EINVAL;
	return walk_node(&walk, &root->id, root->len, root->level);
}
