/*
 * What is behind the pulls of stored/engine.h; for the files stored/pull*.c: pull.c stages what
 * comes and merges it, pull_local.c shows the merge what is here, pull_apply.c does what it says.
 */
#ifndef BAZIL_STORED_PULL_STATE_H
#define BAZIL_STORED_PULL_STATE_H

#include "stored/engine_state.h"
#include "stored/volume.h"

#define PULL_HANDLE_SHIFT 40 /* a handle is arena << 40 | offset of the record */

struct pull {
	struct volume *vol;
	struct tree_pull *merge; /* made by the first step */
	struct tree_knowledge asked;
	uint8_t peer[32];    /* who is pulled from */
	struct place *blobs; /* staged and not fed yet */
	size_t num_blobs, cap_blobs;
};

struct pull_local {
	struct engine *engine;
	struct volume *vol;
};

/* How tree/merge.h asks for what is here; valid as long as local. Uses engine->old. */
struct tree_local pull_callbacks(struct pull_local *local);

/* All that the merge has found, as one change: logged, durable and in the index, or not at all.
 * -ERESTART: the index has grown, and nothing happened; merge and apply again. */
int pull_apply(struct engine *engine, struct pull *pull, struct pull_result *result);

#endif
