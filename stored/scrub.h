/*
 * Scrub: everything in the arenas is read and verified, in the order in which it lies on the disk.
 * What is damaged is noted (stored/damage.h). The engine only reads; who runs it decides how fast,
 * and brings damaged objects back from elsewhere (stored/serve_scrub.c).
 *
 * Calling order: scrub_start; scrub_step until it returns 0, or no more. The state is a row of meta
 * ("scrub", by scrub_save) and is committed with the checkpoints, so that a scrub goes on where it
 * was after a restart (scrub_load). What is written behind the beginning is verified too, up to the
 * log's end at the moment when the walk gets there.
 */
#ifndef BAZIL_STORED_SCRUB_H
#define BAZIL_STORED_SCRUB_H

#include "stored/engine.h"

struct scrub {
	bool is_running;
	uint32_t rate;		    /* bytes a second / 2^20; 0: as fast as it goes */
	uint64_t started, finished; /* ns since 1970; finished: the last one that got to its end */
	struct place at;	    /* where it goes on */
	uint64_t bytes, objects;    /* verified so far */
	uint64_t damaged;	    /* objects found damaged by this scrub */
	uint64_t lost_bytes; /* in ranges that are no objects any more: changes of the log, or
				unreadable heads */
	uint64_t healed;     /* brought back, by this scrub */
};

int scrub_load(struct engine *engine, struct scrub *ret);
int scrub_save(struct engine *engine, const struct scrub *scrub);
int scrub_start(struct engine *engine, struct scrub *scrub, uint32_t rate);
/* Verifies about max bytes. 1: there is more; 0: this was the end. */
int scrub_step(struct engine *engine, struct scrub *scrub, uint64_t max);
/* Bytes that a whole scrub reads, as of now. */
uint64_t scrub_total(const struct engine *engine);

#endif
