/*
 * Gaps: whole frames of a sealed arena that are dead and become one FRAME_GAP, so that all that
 * lies behind its head, the heads of the frames too, may be punched. Which are:
 * stored/gc_compact.c.
 *
 * Before: the index is committed without a place in any of the frames, as is what says so in the
 * log (engine_checkpoint). gap_write then takes the arena's footer away, which lists the frames;
 * the sealer makes a new one, without them. A head is written over the head of the first frame, and
 * is durable when gap_write returns: before that nothing may be punched, since the frames behind
 * are found by the heads only. Until it is there the old head is, as a write inside of one sector
 * is whole or not at all: gap_fits tells where a gap may begin.
 *
 * A crash in between leaves some gaps made and others not, and the arena without a footer.
 */
#ifndef BAZIL_STORED_GAP_H
#define BAZIL_STORED_GAP_H

#include "stored/arena.h"

struct gap {
	uint64_t offset; /* of the first frame */
	uint64_t last;	 /* of the last frame */
	uint64_t size; /* of all; 0 after gap_write: they are not what was thought, and were left */
};

/* A head at this offset lies in one sector. */
bool gap_fits(uint64_t offset);
/* All gaps of an arena that is sealed. -EIO: a failed fdatasync, as in stored/arena.h. */
int gap_write(struct arenas *a, uint32_t number, struct gap *gaps, size_t num);

#endif
