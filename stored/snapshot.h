/*
 * Snapshots: instants of a volume with a name, which retention keeps (stored/retention.h). Making
 * one writes one row, whatever the size of the tree. The name is sealed; its keyed tag is the key.
 *
 * Row of `snapshots`: vol tag[16] -> u64 time | sealed name.
 */
#ifndef BAZIL_STORED_SNAPSHOT_H
#define BAZIL_STORED_SNAPSHOT_H

#include "stored/engine.h"

#define SNAPSHOT_NAME_MAX 400
#define SNAPSHOTS_MAX	  65536 /* of one volume */

struct snapshot {
	uint8_t tag[16];
	uint64_t time;
	const uint8_t *name; /* in the index: valid until the next change */
	size_t name_len;
};

/* Durable when it returns. -EEXIST, -EMLINK: too many. */
int snapshot_create(struct engine *engine, struct volume *vol, const uint8_t tag[16],
	const uint8_t *name, size_t len, uint64_t *ret_time);
/* -ENOENT. */
int snapshot_remove(struct engine *engine, struct volume *vol, const uint8_t tag[16]);
int snapshot_list(struct engine *engine, struct volume *vol, const uint8_t after[16],
	struct snapshot *ret, size_t max, size_t *ret_num, bool *ret_end);

#endif
