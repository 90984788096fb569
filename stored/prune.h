/*
 * Retention at work: the policy of each volume, and the passes that drop what it does not keep.
 *
 * A pass moves the cuts (stored/retention.h), logs them as the row 'h' of the settings, and then
 * goes through `times` from its beginning to the cut, some rows at each tick: nobody waits for it,
 * and killed, it begins anew. What a row of `times` loses is logged, so that a replay, which has
 * the same cuts and pins then, loses the same.
 */
#ifndef BAZIL_STORED_PRUNE_H
#define BAZIL_STORED_PRUNE_H

#include "stored/engine.h"
#include "stored/retention.h"

/* ---- for everybody */

/* Durable when it returns; -EINVAL: a number is out of bounds. */
int prune_policy_set(
	struct engine *engine, struct volume *vol, const struct retention_policy *policy);
void prune_policy(const struct volume *vol, struct retention_policy *ret);
/* Every instant from there on can be read. */
uint64_t prune_oldest(struct engine *engine, const struct volume *vol);
/* The newest instant that can be read and is not later than at; 0: none. */
uint64_t prune_newest(struct engine *engine, const struct volume *vol, uint64_t at);
/* Some of the work there is; *ret_more: there is more. */
int prune_tick(struct engine *engine, bool *ret_more);
/* A pass begins with the next tick. */
void prune_want(struct volume *vol);

/* ---- for the log */

/* A row 'h' of the settings came. -EUCLEAN. */
int prune_row(struct engine *engine, struct volume *vol, const uint8_t *row, size_t len);
/* Drops what is not kept of a row of `times`; *ret_dropped: something was. */
int prune_times(
	struct engine *engine, struct volume *vol, uint64_t time, uint32_t seq, bool *ret_dropped);
/* The rows of the settings and of snapshots, when the index was opened. */
int prune_load(struct engine *engine, struct volume *vol);

#endif
