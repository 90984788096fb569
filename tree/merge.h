/*
 * The merge: a pull p <- q, without I/O, so that it can be tested by the million. It runs in
 * stored and sees clear parts only.
 *
 * Calling order:
 *   tree_pull_new    with the knowledge that p asked with and the head of q's answer
 *                    (tree/delta.h).
 *   tree_pull_unit, tree_pull_element, tree_pull_record, tree_pull_dead
 *                    in the order of the answer; or tree_pull_feed, which reads a packed blob
 *                    and calls them.
 *   tree_pull_step   inside the write transaction that will apply the result, against p as it is
 *                    now.
 *                    TREE_PULL_NEED: abort the transaction, ask q for the inodes in
 *                    pull->needs, feed the answers (tree_pull_inode, then units and records) and
 *                    step again.
 *                    TREE_PULL_DONE: apply pull->effects, deaths and state in this one
 *                    transaction and commit; then tell mountd pull->changes.
 *   tree_pull_free   at any time.
 *
 * p may change between the steps; each step starts afresh from what was fed. Nothing is applied
 * half: a pull that is dropped anywhere before the commit leaves p as it was.
 *
 * Rule for each element x (an optimized OR-set, which is Tra's rule for each version): x stays if
 * it is on both sides; or on p and S_q does not cover it; or on q and S_p does not cover it. Then
 * S_p := max.
 *
 * Closure, "an edit beats a deletion". A state is closed when
 *   C1  every link element has its target's attr, and its parent's attr (unless the parent is
 *       TREE_ROOT);
 *   C2  every inode but the root that has any element (attr, body, xattr) has its attr and a
 *       link to it.
 * Both sides are closed before; the rules for local writers below keep it. What the element rule
 * would leave open is re-created out of the side that still has it, with a fresh stamp of p: with
 * its old stamp it would be "known and absent" to whoever saw the deletion, and the replicas
 * would diverge. So:
 *   - an inode that one side deleted while the other edited it, linked it or put something into
 *     it comes back whole (attr, body, xattrs), with the links of that other side if none is left;
 *   - an inode whose last two links were removed one on each side keeps the greater of the two.
 * What p deleted is gone from p and may be covered by S_p, hence not in the delta: this is what
 * needs are for.
 *
 * Rules for local writers (stored, on behalf of mountd), each in one transaction:
 *   L1  Every change, deletions included, takes tree_clock_write's stamp. A write puts one element
 *       and removes those elements of the register that its writer has seen (normally all). If
 *       one that stays has the same stamp, freeze the clock first: stamps are unique within a
 *       register.
 *   L2  A deletion removes all elements of the register and logs the deletion of its unit
 *       (tree/delta.h). removexattr logs the inode's unit; unlink, and rename over a file, the
 *       link's unit; if that was the last link also the inode's, and attr, body and xattrs go in
 *       the same transaction. An inode that is still open lives on outside the registers. A body
 *       or attr never goes without the inode.
 *   L3  A new name is only given below a directory that has an attr, to an inode that has one.
 *   L4  rmdir of d first makes every other link element whose parent is d go away: a link
 *       register that has losing elements below d is rewritten with its winner alone; a directory
 *       that is below d by its winner but shown in the root (it closed a cycle) is linked in the
 *       root explicitly.
 *   L5  Whoever shows state to others freezes the clock first (tree_clock_freeze).
 *   L6  A restored, cloned or copied store takes a new replica number before its first write.
 *
 * Errors of every function:
 *   -ENOMEM
 *   -EBADMSG   q's answer is not one an honest q gives (an element outside its unit, or one that
 *              S_q does not cover, ...)
 *   -EAGAIN    q changed between its answers; pull again
 *   -ENOTUNIQ  q knows epochs of p's replica number that p never wrote: a cloned or restored
 *              store uses the same number; p must take a new one
 *   -ESTALE    p's knowledge is less than what was asked with
 *   -E2BIG     too many elements, or too many replicas in the joined knowledge
 * A negative value returned by a callback is passed through.
 *
 * Memory: about 140 bytes for each listed element, 16 for each unit, about 300 for each element
 * that changes. Time: n log n of what is listed, and one callback for each listed unit.
 */
#ifndef BAZIL_TREE_MERGE_H
#define BAZIL_TREE_MERGE_H

#include "tree/delta.h"
#include "tree/knowledge.h"
#include "tree/record.h"

#define TREE_PULL_ELEMENTS_MAX (64u << 20)

/* Returns 0 to go on. The element is valid during the call only. */
typedef int tree_visit_fn(void *arg, const struct tree_element *e);

/* The local store, as the merge asks for it. Each calls visit for each element found, in any order,
 * and returns 0, what visit returned, or -errno. */
struct tree_local {
	void *ctx;
	int (*unit)(void *ctx, const struct tree_unit *unit, tree_visit_fn *visit, void *arg);
	/* Link elements with this target, winners or not. */
	int (*links_to)(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg);
	/* Link elements with this parent, winners or not. */
	int (*links_under)(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg);
	/* Every element; asked for full listings only. */
	int (*all)(void *ctx, tree_visit_fn *visit, void *arg);
};

enum tree_effect_type {
	TREE_TAKE,	     /* put q's record as it is */
	TREE_TAKE_RESTAMPED, /* put q's record under a new stamp */
	TREE_RESTAMP,	     /* p's own element old continues as the same value under a new stamp */
	TREE_REMOVE,	     /* p's element old goes */
};

/* Effects are independent of each other: each (register, stamp) appears once on either side. */
struct tree_effect {
	enum tree_effect_type type;
	struct tree_element e; /* as it is after the effect (TREE_REMOVE: before) */
	struct tree_stamp
		old;	 /* TREE_RESTAMP: the stamp that goes; else that of e or of q's record */
	uint64_t handle; /* TREE_TAKE*: as given to tree_pull_record */
};

struct tree_death {
	struct tree_unit unit;
	struct tree_stamp label;
};

/* Something that a reader may have cached: an inode, and for links the directory with the name. A
 * link that moved gives one for each directory. Duplicates are possible. */
struct tree_change {
	uint8_t kind;
	uint8_t flags;
	uint64_t id;	 /* lid or oid */
	uint64_t oid;	 /* the inode: link's target or id */
	uint64_t parent; /* link: oid, else 0 */
};

/* What p keeps for one volume besides its elements and its deletion log. */
struct tree_state {
	struct tree_clock clock;
	struct tree_knowledge known;
	struct tree_knowledge horizon;
};

enum tree_pull_result {
	TREE_PULL_DONE = 0,
	TREE_PULL_NEED = 1,
};

struct tree_pull {
	/* TREE_PULL_NEED: ask q for these inodes: their unit and all link units with an element
	 * that has this target, everything as whole records. */
	const uint64_t *needs;
	size_t num_needs;
	/* TREE_PULL_DONE. Valid until the next step or tree_pull_free. */
	const struct tree_effect *effects;
	size_t num_effects;
	const struct tree_death *deaths; /* to log, newest label wins for each (unit, replica) */
	size_t num_deaths;
	const struct tree_change *changes;
	size_t num_changes;
	struct tree_state state; /* p's after the pull */
	size_t num_revived;	 /* elements that closure brought back */
	bool is_full;
};

/* Copies what it is given. -ENOMEM. */
int tree_pull_new(struct tree_pull **ret, const struct tree_knowledge *asked,
	const struct tree_knowledge *remote, const struct tree_knowledge *horizon, bool is_full);
void tree_pull_free(struct tree_pull *pull);

/* The unit that the elements and records fed next belong to. */
int tree_pull_unit(struct tree_pull *pull, const struct tree_unit *unit);
int tree_pull_element(struct tree_pull *pull, const struct tree_key *key, struct tree_stamp stamp);
/* handle: where the caller keeps the record's bytes, returned in effects. */
int tree_pull_record(struct tree_pull *pull, const struct tree_record *rec, uint64_t handle);
int tree_pull_dead(struct tree_pull *pull, const struct tree_unit *unit, struct tree_stamp label);
/* What is fed next answers the need for oid. Feeding it with no unit behind it says that q has
 * none. */
int tree_pull_inode(struct tree_pull *pull, uint64_t oid);

/* Feeds every entry of a packed blob (tree/delta.h); a record's handle is base + its offset in the
 * blob. */
int tree_pull_feed(struct tree_pull *pull, const uint8_t *data, size_t len, uint64_t base);

/* TREE_PULL_DONE, TREE_PULL_NEED or -errno. me and local are not changed. */
int tree_pull_step(
	struct tree_pull *pull, const struct tree_state *me, const struct tree_local *local);

void tree_state_release(struct tree_state *state);

#endif
