/*
 * Manifest nodes from somebody who has the volume's keys. What parses must be written back as the
 * same bytes; and a tree whose every node is this input must neither crash nor loop under edits.
 */
#include "cas/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
	unsigned int loads;
};

static int load(void *ctx, const struct cas_id *id, uint8_t *buf, size_t *ret_len)
{
	struct input *input = ctx;

	if (++input->loads > 100)
		return -EAGAIN;
	memcpy(buf, input->data, input->size);
	*ret_len = input->size;
	return 0;
}

static int emit(void *ctx, const uint8_t *node, size_t len, struct cas_id *ret_id)
{
	struct cas_node parsed;

	if (cas_node_parse(node, len, &parsed) < 0)
		abort();
	*ret_id = (struct cas_id){ { 1 } };
	return 0;
}

static int visit(void *arg, const struct cas_id *id, bool is_node, const struct cas_extent *extent)
{
	return 0;
}

static void write_back(const struct cas_node *node, const uint8_t *data, size_t size)
{
	static struct cas_extent extents[CAS_NODE_FANOUT];
	static struct cas_child children[CAS_NODE_FANOUT];
	static uint8_t buf[CAS_NODE_MAX];
	size_t len;

	for (size_t i = 0; i < node->count; i++) {
		if (node->level == 0)
			cas_node_extent(node, i, &extents[i]);
		else
			cas_node_child(node, i, &children[i]);
	}
	if (node->level == 0)
		len = cas_node_emit_leaf(extents, node->count, buf);
	else
		len = cas_node_emit_inner(children, node->count, node->level, buf);
	if (len != size || memcmp(buf, data, len) != 0)
		abort();
}

/* What was split joins to the same bytes. */
static void split(const struct cas_node *node, const uint8_t *data, size_t size)
{
	static uint8_t sparse[CAS_SPARSE_MAX], buf[CAS_NODE_MAX];
	static struct cas_id ids[CAS_NODE_FANOUT];
	size_t num, len;

	len = cas_node_split(node, ids, &num, sparse);
	if (cas_node_join(sparse, len, ids[0].b, num, buf, &len) < 0 || len != size ||
		memcmp(buf, data, size) != 0)
		abort();
}

/* A sparse node from somebody with the keys, under a list of three. */
static void join(const uint8_t *data, size_t size)
{
	static const uint8_t ids[96] = { [0] = 1, [32] = 2, [64] = 3 };
	static uint8_t buf[CAS_NODE_MAX];
	struct cas_node node;
	size_t len;

	if (cas_node_join(data, size, ids, 3, buf, &len) == 0 &&
		cas_node_parse(buf, len, &node) < 0)
		abort();
}

static void edit(const struct cas_node *node, struct input *input)
{
	static const struct cas_tree_ops ops = { load, emit };
	struct cas_tree_root root = { .id = { { 1 } }, .len = node->len, .level = node->level };
	struct cas_extent extents[8];
	struct cas_tree *tree;
	uint64_t at;
	size_t num;

	(void)cas_tree_walk(&root, &ops, input, visit, NULL);
	input->loads = 0;
	if (cas_tree_open(&tree, &root, &ops, input) < 0)
		abort();
	(void)cas_tree_slice(tree, root.len / 3, root.len, extents, 8, &num);
	(void)cas_tree_seek(tree, root.len / 5, true, &at);
	for (unsigned int i = 1; i < 20; i++) {
		at = root.len / 20 * i;
		if (cas_tree_replace(tree, at, 1 + i % 3, NULL, 0) == 0 && i % 7 == 0)
			(void)cas_tree_resize(tree, at);
	}
	(void)cas_tree_flush(tree, &root);
	cas_tree_free(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size, 0 };
	struct cas_node node;

	join(data, size);
	if (cas_node_parse(data, size, &node) < 0)
		return 0;
	split(&node, data, size);
	write_back(&node, data, size);
	edit(&node, &input);
	return 0;
}
