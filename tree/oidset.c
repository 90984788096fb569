#include "tree/oidset.h"

#include "tree/pull.h"

#include <errno.h>
#include <stdlib.h>

/* A leaf (mask 0) holds an oid; an inner node sends an oid with the mask's bit set to the right. */
struct tree_oidset_node {
	uint64_t oid;
	uint64_t mask;
	size_t child[2];
};

static size_t descend(const struct tree_oidset *set, uint64_t oid)
{
	size_t at = 0;

	while (set->nodes[at].mask)
		at = set->nodes[at].child[(oid & set->nodes[at].mask) != 0];
	return at;
}

bool tree_oidset_has(const struct tree_oidset *set, uint64_t oid)
{
	return set->num && set->nodes[descend(set, oid)].oid == oid;
}

static int new_leaf(struct tree_oidset *set, uint64_t oid)
{
	int r = tree_grow(&set->nodes, &set->cap, set->num, sizeof(*set->nodes));

	if (r < 0)
		return r;
	set->nodes[set->num++] = (struct tree_oidset_node){ .oid = oid };
	return 0;
}

int tree_oidset_add(struct tree_oidset *set, uint64_t oid)
{
	struct tree_oidset_node *node;
	uint64_t differ, mask;
	size_t at = 0;
	int r;

	if (set->num == 0)
		return new_leaf(set, oid);
	differ = set->nodes[descend(set, oid)].oid ^ oid;
	if (!differ)
		return 0;
	mask = UINT64_C(1) << (63 - __builtin_clzll(differ));
	while (set->nodes[at].mask > mask)
		at = set->nodes[at].child[(oid & set->nodes[at].mask) != 0];
	/* The node at that place moves to a new index and an inner node takes its index over. */
	r = new_leaf(set, oid);
	if (r < 0)
		return r;
	r = new_leaf(set, 0);
	if (r < 0) {
		set->num--;
		return r;
	}
	set->nodes[set->num - 1] = set->nodes[at];
	node = &set->nodes[at];
	*node = (struct tree_oidset_node){ .mask = mask };
	node->child[(oid & mask) != 0] = set->num - 2;
	node->child[(oid & mask) == 0] = set->num - 1;
	return 0;
}

void tree_oidset_release(struct tree_oidset *set)
{
	free(set->nodes);
	*set = (struct tree_oidset){ 0 };
}
