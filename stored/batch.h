/* Helpers of batches that reading and pulls need as well. See stored/engine.h for engine_apply. */
#ifndef BAZIL_STORED_BATCH_H
#define BAZIL_STORED_BATCH_H

#include "stored/engine_state.h"

/* Number of link registers that point to an inode. */
int links_count(struct db_txn *txn, uint32_t vol, uint64_t oid, uint32_t *ret);
/* Adds one, or sets `all` when there are too many. */
int engine_changes_add(struct engine_changes *changes, const struct engine_change *change);

#endif
