/*
 * What the index has besides a register, so that it need not be looked for: where a link is shown
 * and points to (names, dirs, targets), how much is in a directory (counts), who has which stamp
 * (stamps), and the volume's own numbers. The rows are in stored/rows.h.
 */
#ifndef BAZIL_STORED_DERIVED_H
#define BAZIL_STORED_DERIVED_H

#include "stored/engine_state.h"

/* All of it, from old to new; new is already in `records`. Looks at what their elements say, not at
 * their bytes, which writing may have moved. */
int derived_write(struct engine *engine, struct volume *vol, const struct tree_key *key,
	const struct reg *old, const struct reg *new);

#endif
