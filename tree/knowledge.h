/*
 * Knowledge: what a replica has taken into account of everybody's history, as a vector replica ->
 * epoch (the synchronization time of Cox and Josephson, "File Synchronization with Vector Time
 * Pairs", kept once for a whole volume as WinFS did). An element with a covered stamp that a
 * replica does not have was deleted there: this is why no tombstone is needed.
 *
 * The vector is sorted by replica, an absent replica is epoch 0, no entry has replica 0 or epoch 0.
 * At most TREE_KNOWLEDGE_MAX entries, one for each replica (and incarnation) that ever wrote.
 *
 * Encoded: u8 version = 1, u24 count, then count times u32 replica, u64 epoch; little-endian,
 * strictly ascending. A volume that nobody wrote is the four bytes 01 00 00 00.
 *
 * Ownership: the struct owns its array; zero-initialised is empty; tree_knowledge_release frees. On
 * failure (-ENOMEM, -E2BIG beyond the bound) the vector is unchanged.
 */
#ifndef BAZIL_TREE_KNOWLEDGE_H
#define BAZIL_TREE_KNOWLEDGE_H

#include "tree/record.h"

#define TREE_KNOWLEDGE_MAX  4096
#define TREE_KNOWLEDGE_HEAD 4
#define TREE_KNOWLEDGE_PAIR 12
#define TREE_KNOWLEDGE_SIZE (TREE_KNOWLEDGE_HEAD + TREE_KNOWLEDGE_MAX * TREE_KNOWLEDGE_PAIR)

struct tree_knowledge {
	struct tree_stamp *stamps;
	size_t num_stamps;
};

enum tree_knowledge_order {
	TREE_EQUAL,
	TREE_LESS, /* the first knows nothing that the second does not */
	TREE_GREATER,
	TREE_CONCURRENT,
};

void tree_knowledge_release(struct tree_knowledge *k);
int tree_knowledge_copy(struct tree_knowledge *dst, const struct tree_knowledge *src);

/* The epoch of replica, 0 if it is not there. */
uint64_t tree_knowledge_epoch(const struct tree_knowledge *k, uint32_t replica);
bool tree_knowledge_covers(const struct tree_knowledge *k, struct tree_stamp stamp);

/* Raises one entry; never lowers. */
int tree_knowledge_raise(struct tree_knowledge *k, struct tree_stamp stamp);
/* k := the greater of both, entry by entry. */
int tree_knowledge_join(struct tree_knowledge *k, const struct tree_knowledge *other);
/* k := the smaller of both, entry by entry: what both know. */
void tree_knowledge_meet(struct tree_knowledge *k, const struct tree_knowledge *other);
enum tree_knowledge_order tree_knowledge_compare(
	const struct tree_knowledge *a, const struct tree_knowledge *b);
/* Whether a <= b: a pull by b from a brings nothing. */
bool tree_knowledge_within(const struct tree_knowledge *a, const struct tree_knowledge *b);

size_t tree_knowledge_size(const struct tree_knowledge *k);
/* Returns the bytes written or -ENOBUFS. */
int tree_knowledge_encode(const struct tree_knowledge *k, uint8_t *buf, size_t cap);
/* ret must be initialised; its old content is replaced. -EBADMSG, -EPROTONOSUPPORT, -E2BIG,
 * -ENOMEM. */
int tree_knowledge_decode(struct tree_knowledge *ret, const uint8_t *data, size_t len);

/*
 * A replica's own clock for one volume. epoch is the open epoch, in which the next write is
 * stamped; when the knowledge has reached it the epoch holds a write. Whoever shows this replica's
 * state to anybody else (answers a pull, takes a backup, clones) freezes the epoch first: two
 * different states must never be seen under one epoch. A restored or copied store takes a new
 * replica number.
 */
struct tree_clock {
	uint32_t replica;
	uint64_t epoch;
	uint64_t lamport; /* the greatest seen anywhere */
};

/* The stamp of a local change (write or deletion), and the knowledge raised to it. Changes between
 * two freezes share a stamp. ret_lamport may be NULL (a deletion needs none). */
int tree_clock_write(struct tree_clock *clock, struct tree_knowledge *known,
	struct tree_stamp *ret_stamp, uint64_t *ret_lamport);
/* True if the epoch moved, so that clock and knowledge must be durable before the answer leaves. */
bool tree_clock_freeze(struct tree_clock *clock, const struct tree_knowledge *known);

#endif
