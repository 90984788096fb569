/*
 * Commits of the index beside serving: one thread, which puts what is frozen into LMDB
 * (stored/db.h) while changes go on in memory. Without threads it is done by the next call of
 * indexer_poll or indexer_wait, so that others may come in between all the same.
 *
 * Whoever needs the rows to be in LMDB, and not only going to be, waits: for holes in the arenas,
 * for a snapshot of the index, for the end. A full disk leaves them frozen; they are read from
 * memory, and tried again now and then.
 *
 * Calling order: indexer_start when idle; indexer_poll now and then; indexer_stop. All of them
 * between operations of the engine: what db_get returned is not valid afterwards.
 */
#ifndef BAZIL_STORED_INDEXER_H
#define BAZIL_STORED_INDEXER_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

/* Freezes what was written until now. It is put into LMDB once its log is durable, which the ticket
 * tells (engine_sync_start). */
int indexer_start(struct engine *engine, uint64_t ticket);
/* Nothing is frozen. */
bool indexer_is_idle(const struct engine *engine);
/* Nothing is under way, but the disk was full. */
bool indexer_is_stuck(const struct engine *engine);
/* Moves it on, and takes note of one that ended. 0, also when the disk was full, or -EIO: the
 * engine is broken. */
int indexer_poll(struct engine *engine);
/* Until it is idle. -ENOSPC: it is stuck. -EIO. */
int indexer_wait(struct engine *engine);
/* Until nothing is under way, whatever came of it: before db_abort, which forgets what is frozen.
 * -EIO. */
int indexer_settle(struct engine *engine);
/* Settles, and ends the thread. */
void indexer_stop(struct engine *engine);

#endif
