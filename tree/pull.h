/*
 * Inside of a pull: what q has sent, as the merge reads it. Private to tree/; others use
 * tree/merge.h.
 *
 * The elements of the answer and of the answers to needs are kept apart. The answer is one snapshot
 * that goes with S_q, so what is absent in it says something; an answer to a need is taken later
 * and is only a source to re-create from.
 */
#ifndef BAZIL_TREE_PULL_H
#define BAZIL_TREE_PULL_H

#include "tree/merge.h"

struct tree_item {
	struct tree_element e; /* key and stamp only, unless has_record */
	uint64_t handle;
	uint64_t need; /* answers to needs: the oid asked for */
	bool has_record;
	bool on_p;  /* found at p in this step */
	bool taken; /* goes to p in this step */
};

struct tree_items {
	struct tree_item *items;
	size_t num;
	size_t cap;
	bool is_sorted;
};

struct tree_oids {
	uint64_t *oids;
	size_t num;
	size_t cap;
};

struct tree_pulled {
	struct tree_pull pull; /* first, so that either points to the other */
	struct tree_knowledge asked;
	struct tree_knowledge remote;
	struct tree_knowledge horizon;
	struct tree_items listed;  /* by key, stamp */
	struct tree_items sources; /* by need, key, stamp */
	struct tree_delta_units units;
	struct tree_oids answered;
	struct tree_death *deaths;
	size_t num_deaths, cap_deaths;
	struct tree_unit unit;
	uint64_t need; /* 0 while the answer itself is fed */
	bool has_unit;
};

/* Room for one more element of size in *array; doubles *cap. -ENOMEM. */
int tree_grow(void *array, size_t *cap, size_t num, size_t size);
int tree_oids_add(struct tree_oids *set, uint64_t oid);
/* Leaves each once, ascending. */
void tree_oids_sort(struct tree_oids *set);
bool tree_oids_has(const struct tree_oids *sorted, uint64_t oid);

/* Sorts everything fed so far and drops repetitions. */
void tree_pulled_sort(struct tree_pulled *pulled);
struct tree_item *tree_pulled_find(
	const struct tree_pulled *pulled, const struct tree_key *key, struct tree_stamp stamp);
/* Whether an element of an inode came with the answer to the need for that inode. */
bool tree_pulled_has_source(
	const struct tree_pulled *pulled, const struct tree_key *key, struct tree_stamp stamp);
bool tree_pulled_is_listed(const struct tree_pulled *pulled, const struct tree_unit *unit);
/* The listed elements of a unit, and all that came for a need; *ret_num of them. */
struct tree_item *tree_pulled_unit(
	const struct tree_pulled *pulled, const struct tree_unit *unit, size_t *ret_num);
struct tree_item *tree_pulled_need(const struct tree_pulled *pulled, uint64_t oid, size_t *ret_num);

#endif
