/*
 * Writing under the rules for local writers (tree/merge.h): a batch of mountd by engine_apply
 * (stored/engine.h), or whatever an undo brings back, here.
 */
#ifndef BAZIL_STORED_BATCH_H
#define BAZIL_STORED_BATCH_H

#include "stored/engine_state.h"

/* Number of link registers that point to an inode. */
int links_count(struct db_txn *txn, uint32_t vol, uint64_t oid, uint32_t *ret);

/* A register to bring back, or that goes. */
struct batch_op {
	struct tree_key key;
	uint64_t target; /* of a link that is brought back */
	uint32_t depth;	 /* the caller's */
	bool is_put;
};

/* The record to bring back: into buf, TREE_RECORD_MAX bytes. */
typedef int batch_load_fn(void *arg, const struct tree_key *key, uint8_t *buf, size_t *ret_len);

/* Within an open frame, which it cuts (change_cut), all of it under the rules for a writer that has
 * seen everything; what is put counts as brought by the next pull. Directories that go: the deepest
 * first. */
int batch_restore(struct engine *engine, struct volume *vol, const struct batch_op *ops, size_t num,
	batch_load_fn *load, void *arg, struct engine_changes *changes);

#endif
