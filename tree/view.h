/*
 * The view: what the registers look like as a tree. A pure function of the registers, hence the
 * same on every replica that holds the same elements, whatever the order of their arrival;
 * nothing of it is stored.
 *
 *   one register    The greatest element by (lamport, replica, epoch, vtag) is the winner and is
 *                   what is shown. Renamed two ways, a link is seen at the winner's place only;
 *                   of attr and xattr the winner counts. The further different values of a body
 *                   are shown as conflict siblings of the file. Elements with equal vtag count
 *                   once, as the greatest of them. They stay apart in the store: a deletion that
 *                   knew only one of them must not end the other.
 *   one directory   Links with equal tags have equal names: the greatest winner keeps the name,
 *                   the others get conflict names.
 *   directories     Each winner gives its directory one parent. Concurrent moves can close a
 *                   cycle: attached in ascending order the greatest link of the cycle would close
 *                   it, so that one, and no other, is shown in the root under a conflict name
 *                   until somebody moves it.
 *
 * Conflict names are `NAME.conflict-REPLICA-N`: REPLICA is the stamp's, N the rank given here
 * (1, 2, ...). mountd builds them, and takes the next N where a name is in use already, be it by
 * a person or by another conflict.
 */
#ifndef BAZIL_TREE_VIEW_H
#define BAZIL_TREE_VIEW_H

#include "tree/record.h"

/* The winner's index; num >= 1. */
size_t tree_view_winner(const struct tree_element *elements, size_t num);

/*
 * Different values of one register, greatest first: writes their indexes to ret_order (room for
 * num) and returns how many there are; more than 1 is a conflict. ret_order[0] is the winner;
 * ret_order[n] is the conflict sibling of rank n.
 */
size_t tree_view_values(const struct tree_element *elements, size_t num, size_t *ret_order);

/*
 * Names in one directory: elements are the winners of all link registers shown there by their own
 * parent. Sorts them by (tag, greatest first) and writes each one's rank: 0 has the name itself,
 * others get a conflict name. With links of one tag only it answers a lookup.
 */
void tree_view_names(struct tree_element *links, size_t num, uint32_t *ret_ranks);

/* How the view reads the directories. winner: the winning link element of directory oid: 0 and
 * *ret, -ENOENT if it has none, or another -errno, which is passed through. */
struct tree_dirs {
	void *ctx;
	int (*winner)(void *ctx, uint64_t oid, struct tree_element *ret);
};

/*
 * The directory that oid is shown in; *ret_fallen says that this is the root because it would close
 * a cycle (or because its parent does not exist, which a closed state never has). The root is its
 * own parent. Costs one lookup for each level up to the root. -ENOENT: oid has no link. At most
 * num_dirs_max lookups are made, -ELOOP beyond (a bound for damaged stores; the number of
 * directories will do).
 */
int tree_view_parent(const struct tree_dirs *dirs, uint64_t oid, uint64_t num_dirs_max,
	uint64_t *ret_parent, bool *ret_fallen);

/*
 * The one directory whose place depends on oid's link besides oid itself: the fallen member of the
 * cycle that oid is in, or 0. When links of directories change, those whose place changes are: the
 * changed ones, what this gave for each before, and what it gives for each after.
 */
int tree_view_fallen(
	const struct tree_dirs *dirs, uint64_t oid, uint64_t num_dirs_max, uint64_t *ret_oid);

#endif
