/* Helpers of batches that reading and pulls need as well. See stored/engine.h for engine_apply. */
#ifndef BAZIL_STORED_BATCH_H
#define BAZIL_STORED_BATCH_H

#include "stored/engine_state.h"

/* Number of link registers that point to an inode. */
int links_count(struct db_txn *txn, uint32_t vol, uint64_t oid, uint32_t *ret);
/* Adds one, or sets `all` when there are too many. */
int engine_changes_add(struct engine_changes *changes, const struct engine_change *change);

/* A register to bring back: its record (stamped anew in place), or data NULL: it goes. */
struct batch_op {
	struct tree_key key;
	uint8_t *data;
	size_t len;
};

/* Within an open frame, all of it under the rules for a writer that has seen everything; what is
 * put counts as brought by the next pull. Directories that go: the deepest first. */
int batch_restore(struct engine *engine, struct volume *vol, const struct batch_op *ops, size_t num,
	struct engine_changes *changes);

#endif
