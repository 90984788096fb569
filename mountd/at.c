#include "mountd/at.h"

#include <errno.h>

#include "mountd/figures.h"
#include "mountd/mountd.h"
#include "tree/record.h"

static uint64_t node_of(uint32_t instant, uint32_t replica, uint32_t counter)
{
	return AT_BIT | (uint64_t)instant << 48 | (uint64_t)replica << 32 | counter;
}

uint64_t at_time(const struct mountd *m, uint64_t node)
{
	return at_is_history(node) ? state_instant_time(&m->state, at_index(node)) : m->at;
}

uint64_t at_oid(const struct mountd *m, uint64_t node)
{
	if (!at_is_history(node))
		return node;
	return tree_oid(state_replica(&m->state, (uint32_t)(node >> 32) & 0xffff), (uint32_t)node);
}

uint64_t at_node(struct mountd *m, uint64_t beside, uint64_t oid)
{
	uint32_t replica;

	if (!at_is_history(beside))
		return oid;
	if (state_replica_take(&m->state, (uint32_t)(oid >> 32), &replica) < 0)
		return 0;
	return node_of(at_index(beside), replica, (uint32_t)oid);
}

/* Another instant gets the number: what is cached of the old one would be taken for it. */
static void drop_instant(struct mountd *m, uint32_t index)
{
	struct inode *inode = m->inodes.newest.newer, *next;

	for (; inode != &m->inodes.newest; inode = next) {
		next = inode->newer;
		if (at_is_history(inode->oid) && at_index(inode->oid) == index)
			inode_drop(&m->inodes, inode);
	}
	figures_forget_all(m->figures);
}

int at_root(struct mountd *m, uint64_t time, uint64_t *ret_node)
{
	uint32_t index = state_instant_find(&m->state, time);
	bool reused = false;
	int r = 0;

	if (index == 0)
		r = state_instant_take(&m->state, time, &index, &reused);
	if (r < 0)
		return r;
	if (reused)
		drop_instant(m, index);
	*ret_node = at_node(m, node_of(index, 0, 0), TREE_ROOT);
	return *ret_node != 0 ? 0 : -ENFILE;
}
