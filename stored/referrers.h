/*
 * Which files need given objects: for telling people what is lost with a damaged one. A file as it
 * is now comes before one as it was: history is told of only for objects that nothing needs now.
 * Walks all records and the manifests that they refer to, so it takes time in proportion to the
 * store; it is for rare occasions.
 */
#ifndef BAZIL_STORED_REFERRERS_H
#define BAZIL_STORED_REFERRERS_H

#include "stored/engine.h"

struct referrer {
	uint8_t volume[16];
	uint64_t oid;	/* the file */
	uint64_t until; /* ns since 1970: as it was before, the latest; 0: as it is now */
	uint8_t id[32];
};

/* Finds up to max of those that refer to any of ids, a file once for each object. */
int engine_referrers(struct engine *engine, const uint8_t (*ids)[32], size_t num,
	struct referrer *ret_list, size_t max, size_t *ret_num);

#endif
