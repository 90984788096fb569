/*
 * What is behind stored/undo.h; for the files stored/undo*.c: undo_list.c has the list of syncs,
 * undo_plan.c finds what one changed and what is to be written, undo.c writes it.
 */
#ifndef BAZIL_STORED_UNDO_STATE_H
#define BAZIL_STORED_UNDO_STATE_H

#include "stored/batch.h"
#include "stored/undo.h"

struct plan {
	struct engine *engine;
	struct volume *vol;
	uint64_t time;
	struct tree_key *keys; /* of the registers that changed then, ascending */
	size_t num_keys, cap_keys;
	struct batch_op *ops; /* depth: of a directory that goes */
	size_t num_ops;
	uint64_t *held; /* inodes that the sync brought and that somebody changed since */
	size_t num_held, cap_held;
	struct undo_result *result;
};

/* The sync of that time; 0: the newest that was a sync and is not undone. -ENOENT. */
int undo_find(struct engine *engine, const struct volume *vol, uint64_t time, struct pulled *ret);

/* engine, vol, time and result are set. The ops are in the order that batch_restore asks for; what
 * mountd is to look at and what stays is in the result. */
int undo_plan(struct plan *p);
void undo_plan_release(struct plan *p);
/* The register before the sync. */
int undo_before(struct plan *p, const struct tree_key *key, struct reg *ret);

#endif
