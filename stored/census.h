/*
 * What lies in the arenas, counted for people: a walk over the footers, then over the rows of all
 * objects, in slices, with anything else of the engine in between; what changes meanwhile is
 * counted as it was or as it is.
 *
 * Calling order: census_begin; census_step until it returns 0; census_release, after an error too.
 */
#ifndef BAZIL_STORED_CENSUS_H
#define BAZIL_STORED_CENSUS_H

#include "stored/engine.h"

struct census_arena {
	uint32_t number;
	bool is_sealed;
	uint64_t size;	  /* bytes of the file, holes included */
	uint64_t disk;	  /* and of the disk */
	uint64_t objects; /* that the index has there */
	uint64_t live;	  /* their sealed bytes */
	uint64_t dead; /* of objects that are nobody's any more, punched or not; 0 unless sealed */
};

struct census {
	struct census_arena *arenas; /* ascending numbers */
	size_t num;
	size_t footers;	  /* of so many arenas were looked at */
	uint8_t next[32]; /* the id to go on with */
	/* Bytes of the log, in sealed arenas: frames of changes, of bases (stored/base.h). */
	uint64_t changes, bases;
};

int census_begin(struct engine *engine, struct census *ret);
/* Counts up to max objects, or looks at a footer. 1: there is more; 0: complete. */
int census_step(struct engine *engine, struct census *census, unsigned max);
void census_release(struct census *census);

/*
 * Ranges of the arenas that are no frames any more: those that footers list, and those that were
 * met since the engine was opened, by opening it or by a scrub. In the order of the arenas; returns
 * how many of them are in ret.
 */
struct census_range {
	uint32_t arena;
	uint64_t from, to;
};
size_t census_damage(struct engine *engine, struct census_range *ret, size_t max);

#endif
