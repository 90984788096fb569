/*
 * Cutting the log of deletions (tree/delta.h), which would grow with every file that ever went.
 *
 * It only spares a peer the full listing. So what all peers know that still pull goes: those that
 * may, and have in the last GC_PEERS_DAYS, by the knowledge that they showed last. If a peer that
 * does not learn of anything lets the log grow beyond DEAD_TIMES of what it is let grow to anyway,
 * all of it goes. A peer that knows less than the horizon gets a full listing, and nothing is lost.
 *
 * The horizon is logged like any change of a volume; then the rows that it covers go, some at each
 * tick. A rebuild brings them back, and they go again. Never while a pull runs, which ends with the
 * horizon that it began with.
 */
#ifndef BAZIL_STORED_DEAD_H
#define BAZIL_STORED_DEAD_H

#include "stored/engine.h"

#define DEAD_ROWS  65536u
#define DEAD_TIMES 16

/* Some of the work there is; *ret_more: there is more. */
int dead_tick(struct engine *engine, bool *ret_more);

#endif
