/*
 * The objects that come next in a ring, copied and hashed together (cas/sha256.h), where the
 * processor is faster with many at once.
 *
 *	staged_fill()    at an object: copies it and those that follow it, as far as it pays
 *	staged_find()    the copy of the entry that begins at a position, or NULL: nothing is staged
 *	staged_drop()    before the ring may have changed
 *
 * The bytes that are hashed are the copy: what the ring says may change meanwhile, and then it says
 * nothing to us.
 */
#ifndef BAZIL_STORED_STAGED_H
#define BAZIL_STORED_STAGED_H

#include <stddef.h>
#include <stdint.h>

struct ipc_ring;

#define STAGED_MAX 32 /* two for each lane */

struct staged_object {
	uint64_t at; /* of its entry in the ring */
	const void *source;
	uint8_t *entry; /* tag[32], sealed bytes */
	uint32_t len;	/* of the entry */
	uint8_t id[32];
};

struct staged {
	struct staged_object list[STAGED_MAX];
	size_t num;
	uint8_t *buf;
	size_t cap;
};

/* Entries that begin before upto. No memory: nothing is staged. */
void staged_fill(struct staged *staged, struct ipc_ring *ring, uint64_t from, uint64_t upto);
const struct staged_object *staged_find(const struct staged *staged, uint64_t at);
void staged_drop(struct staged *staged);

#endif
