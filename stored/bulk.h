/*
 * While the log is replayed, the rows of its objects are kept here for a while and then put into
 * the index in the order of its keys. Ids are random: put one by one in the order of the log, each
 * would change another page of an index of millions of rows, and every commit nearly all of them.
 *
 * Calling order: bulk_add any number of times; bulk_flush before anything reads the rows of objects
 * or tags, and before a commit; bulk_drop forgets. Of rows with one key the last added stays.
 */
#ifndef BAZIL_STORED_BULK_H
#define BAZIL_STORED_BULK_H

#include "stored/scan.h"

#include <stddef.h>
#include <stdint.h>

/* About 100 MB of memory; the replay commits at least this often. */
#define BULK_ROWS 1000000u

struct engine;

struct bulk_row {
	uint8_t id[32], tag[32];
	struct place sealed;
	uint32_t seq;
};

struct bulk {
	struct bulk_row *rows;
	size_t num, cap;
};

/* tag zero: none. sealed: as in the row. */
int bulk_add(
	struct engine *engine, const uint8_t id[32], const uint8_t tag[32], struct place sealed);
int bulk_flush(struct engine *engine);
void bulk_drop(struct bulk *bulk);
void bulk_release(struct bulk *bulk);

#endif
