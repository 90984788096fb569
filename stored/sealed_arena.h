/*
 * Sealed arenas: a full arena gets a footer behind its FRAME_END, by which an object is found
 * without the index, by which the index is made anew without reading the objects, and which proves
 * that nothing was changed since.
 *
 * Footer, little-endian, from the end of the FRAME_END on:
 *
 *   objects  80 bytes each, in the order of the file:
 *              id[32] | tag[32] | u64 offset of the sealed bytes | u32 their length |
 *              u32 CRC-32C of arena id | the 76 bytes before
 *   others   16 bytes each, in the order of the file: every frame that is no object, and damage:
 *              u64 offset of the payload, or of the damage | u32 length | u32 type, 0: damage
 *   slots    u32 each: slot -> number of the object; zero-padded to a multiple of 8
 *   mph      kind 1: a minimal perfect hash, id -> slot: CHD (Belazzougui, Botelho, Dietzfelbinger:
 *            Hash, displace, and compress, ESA 2009) as packed by CMPH 2; kind 0: nothing, the
 *            slots are sorted by id; zero-padded to a multiple of 8
 *   trailer  SEALED_TRAILER_SIZE bytes at the very end of the file:
 *     0 "BZS1"             4 u32 version = 1      8 u32 arena number    12 u32 kind
 *    16 u8 arena id[16]   32 u64 offset of the footer                   40 u64 size of the file
 *    48 u32 objects       52 u32 slots found by id                      56 u32 others
 *    60 u32 bytes of mph  64 u64 sealed bytes    72 u64 last sequence
 *    80 u32 CRC-32C of others, slots, mph, as they follow each other    84 u32 damaged ranges
 *    88 u8 digest[32]    120 u8 zero[36]        156 u32 CRC-32C of the 156 bytes before
 *
 * When an arena has an id twice, the later is found by id; the earlier has a slot above those.
 *
 * digest: SHA-256 over the frames in the order of the file, each its head and its payload, but of
 * an OBJECT only the id and the tag. An object's bytes are named by its id, so the digest covers
 * every byte; and it stays true when dead objects are punched, which keeps their heads and ids.
 *
 * The trailer is written when the rest is durable, so that a valid trailer is a whole footer. A
 * crash in between leaves FRAME_END and rubbish: not sealed yet, to be sealed again.
 *
 * Uses only its own memory and io: building may run in a thread. All is read by pread as needed; an
 * open sealed arena has about 4 bits for each object in memory.
 */
#ifndef BAZIL_STORED_SEALED_ARENA_H
#define BAZIL_STORED_SEALED_ARENA_H

#include "stored/io.h"
#include "stored/scan.h"

#include <stdbool.h>
#include <stdint.h>

#define SEALED_TRAILER_SIZE 160
#define SEALED_OBJECTS_MAX  (8u << 20) /* an arena with more stays unsealed: -E2BIG */

struct sealed_trailer {
	uint32_t kind;
	uint64_t footer;
	uint64_t size; /* of the file */
	uint32_t num_objects, num_found, num_others, mph_len;
	uint64_t object_bytes;
	uint64_t last_sequence;
	uint32_t crc;
	uint32_t num_damaged;
	uint8_t digest[32];
};

/* The trailer of a file of this size, if it has one: 0, -ENODATA, or an error of reading. */
int sealed_trailer_read(const struct store_io *io, int fd, uint32_t number, const uint8_t id[16],
	uint64_t size, struct sealed_trailer *ret);

/*
 * Seals the arena of this file, from its superblock to size (the end of its frames, or of the
 * file): FRAME_END if there is none, footer, trailer, durable when it returns. fd: read and write.
 * The file must not change meanwhile. is_cancelled (NULL: never) is asked now and then: -ECANCELED.
 * After any error the file is unsealed, and it can be tried again.
 */
int sealed_arena_build(const struct store_io *io, int fd, uint32_t number, const uint8_t id[16],
	uint64_t size, bool (*is_cancelled)(void *arg), void *arg, struct sealed_trailer *ret);

struct sealed_arena {
	const struct store_io *io;
	int fd; /* borrowed */
	uint32_t number;
	uint8_t id[16];
	struct sealed_trailer trailer;
	void *mph; /* NULL: the slots are sorted */
};

struct sealed_object {
	uint8_t id[32];
	uint8_t tag[32];
	struct place place; /* of the sealed bytes; the frame is FRAME_HEAD_SIZE +
			       FRAME_OBJECT_HEAD before */
};

/* Checks the footer but for the objects, which are checked one by one. -EBADMSG: damaged; -ENODATA:
 * not sealed. */
int sealed_arena_open(struct sealed_arena *ret, const struct store_io *io, int fd, uint32_t number,
	const uint8_t id[16]);
void sealed_arena_close(struct sealed_arena *s);

/* Slots go from 0 to trailer.num_objects; those below num_found are what find gives. */
int sealed_arena_find(
	const struct sealed_arena *s, const uint8_t id[32], uint32_t *ret_slot, struct place *ret);
int sealed_arena_slot(const struct sealed_arena *s, uint32_t slot, struct sealed_object *ret);

/*
 * All in the order of the file, piece by piece. sealed_walk_begin; sealed_walk_next until it is 0
 * (the end) or an error: -EBADMSG, the footer is damaged, perhaps after some were visited; check
 * first when that matters; sealed_walk_end, after an error too. The arena stays open meanwhile.
 */
struct sealed_entry {
	uint32_t type; /* enum frame_type, 0: damage */
	/* Of an object all; of others the place of the payload, or of the damage. */
	struct sealed_object object;
};

struct sealed_section { /* private: one section, read in batches */
	uint64_t at;
	uint32_t left, size, batch, have, used;
	uint8_t *buf;
};

struct sealed_walk {
	const struct sealed_arena *sealed;
	struct sealed_section objects, others;
};

int sealed_walk_begin(struct sealed_walk *ret, const struct sealed_arena *s, bool with_objects);
int sealed_walk_next(struct sealed_walk *w, struct sealed_entry *ret);
void sealed_walk_end(struct sealed_walk *w);

/* All at once. object NULL: one of the others, with its type and place. A value other than 0 stops
 * and is returned. */
typedef int sealed_arena_fn(
	void *arg, const struct sealed_object *object, uint32_t type, struct place place);
int sealed_arena_walk(const struct sealed_arena *s, sealed_arena_fn *fn, void *arg);
/* Reads all of the footer: 0 or -EBADMSG. */
int sealed_arena_check(const struct sealed_arena *s);
/*
 * Reads all heads, ids and changes of the arena and compares: -EBADMSG when something is not as it
 * was sealed. Objects themselves are not read: they are verified by their ids.
 */
int sealed_arena_verify(const struct sealed_arena *s);

#endif
