/*
 * A set of oids that a peer may choose: a crit-bit tree (D. J. Bernstein), whose depth is at most
 * 64 whatever is put in, where a hash table without a secret could be made to degenerate.
 * Zero-initialised is empty. Private to tree/.
 */
#ifndef BAZIL_TREE_OIDSET_H
#define BAZIL_TREE_OIDSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree_oidset_node;

struct tree_oidset {
	struct tree_oidset_node *nodes; /* num of them; node 0 is the root of the tree */
	size_t num;
	size_t cap;
};

bool tree_oidset_has(const struct tree_oidset *set, uint64_t oid);
/* 0, also if it is there already; -ENOMEM. */
int tree_oidset_add(struct tree_oidset *set, uint64_t oid);
void tree_oidset_release(struct tree_oidset *set);

#endif
