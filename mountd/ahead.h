/*
 * Chunks that a sequential reader will want next, read and opened by the helpers (sealers.h) while
 * requests are answered: AHEAD_GROUP of them at a time, so that they are hashed together
 * (cas/sha256.h). A ring of AHEAD_GROUPS groups, the oldest gives way: two for each of two readers,
 * what they read and what they will. It serves reads of parts of a chunk as a small cache, too.
 *
 * A descriptor given to ahead_start must stay open until ahead_settle or ahead_drop.
 */
#ifndef BAZIL_MOUNTD_AHEAD_H
#define BAZIL_MOUNTD_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/id.h"
#include "cas/kdf.h"

struct ahead;
struct sealers;

#define AHEAD_GROUPS 4u
#define AHEAD_GROUP  32u
#define AHEAD_BYTES  (2u << 20) /* of a file, that a group is for */

/* Where a sealed chunk lies, and what opens it. */
struct ahead_chunk {
	struct cas_id id;
	struct cas_hash h;
	uint8_t key[CAS_KEY_SIZE];
	int fd;
	uint64_t offset;
	uint32_t len, plain_len;
};

/* sealers outlive it. -ENOMEM. */
int ahead_new(struct ahead **ret, struct sealers *sealers);

bool ahead_has(const struct ahead *ahead, const struct cas_id *id);
/* A group of num chunks, all different. Those that do not fit into AHEAD_BYTES, and some more, are
 * left out; all are when there is no memory. */
void ahead_start(struct ahead *ahead, const struct ahead_chunk *chunks, size_t num);
/* The chunk's bytes, plain_len of them, valid until the next ahead_start; waits for its group if a
 * helper is at it. NULL: not there, or it failed: the caller reads it and learns why. */
const uint8_t *ahead_find(struct ahead *ahead, const struct cas_id *id, uint32_t plain_len);
/* Waits for the helpers: none reads from a descriptor any more. */
void ahead_settle(struct ahead *ahead);
/* The same, and forgets all. */
void ahead_drop(struct ahead *ahead);

#endif
