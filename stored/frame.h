/*
 * The format of an arena: a superblock, then frames. Pure: bytes in, bytes out.
 *
 * Superblock, 64 bytes, little-endian:
 *    0 "BZA1"      4 u32 version = 1     8 u32 arena number   12 u32 zero
 *   16 u8 id[16]  32 u64 sequence of the first frame          40 u64 created, ns since 1970
 *   48 u8 zero[12]                      60 u32 CRC-32C of the 60 bytes before
 *
 * Frame, at a multiple of 8, zero-padded to one:
 *    0 "BZF1"      4 u8 type             5 u8 version = 1      6 u16 zero
 *    8 u32 len of the payload           12 u32 CRC-32C of arena id | u64 offset of the frame | this
 *                                              header with 0 here
 *   16 u64 sequence                     24 u32 CRC-32C of the payload; of an OBJECT of its first 64
 *   28 u32 unsynced (below)                    bytes, the rest being verified by the id; of a GAP
 *                                              of none
 *   32 payload
 *
 * The header's sum is bound to the arena's random id and the place, so that an old block of a
 * reused disk, a frame inside an object and a misplaced write are not taken for frames of this log.
 * Sequences ascend by one over all arenas.
 *
 * unsynced is one more than the number of frames before this one that were not known to be durable
 * when it was made; 0 is not told. A power failure may keep a frame and lose the one before it, if
 * neither was durable: then both go. A frame that was durable once and is gone is damage, and what
 * follows it stays. Without this the two look the same.
 *
 * Payload of FRAME_OBJECT: id[32] | tag[32] | sealed bytes. FRAME_PULL_PART: what a peer sent, as
 * it came (tree/delta.h). FRAME_FREED: u32 version = 1 | u32 number, then for each object given up:
 * u32 arena | u32 len of the payload | u64 offset of the frame | id[32] | tag[32], zero (once it
 * was the object's). FRAME_END: nothing; the arena has no frame behind it, what follows is its
 * footer, whole or torn (stored/sealed_arena.h). Its sequence is that of the next arena's first
 * frame. FRAME_GAP: len bytes that mean nothing, where dead frames were (stored/gap.h); its
 * sequence is that of the last of them. FRAME_ROWS and FRAME_BASE: rows of the index, and which of
 * these belong together (stored/base.h). All others: struct change_head and changes
 * (stored/change.h).
 *
 * A hole is an OBJECT whose sealed bytes were punched out (they read as zeros). The head and the
 * first 64 bytes of the payload, which have the id, stay: so the frames behind it are found, the
 * sums still hold, and so does the digest of a sealed arena. A hole is no damage iff a FRAME_FREED
 * names it; that frame must be durable, and the index committed without the object, before the
 * first byte is punched.
 */
#ifndef BAZIL_STORED_FRAME_H
#define BAZIL_STORED_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_SUPER_SIZE  64
#define FRAME_HEAD_SIZE	  32
#define FRAME_OBJECT_HEAD 64
#define FRAME_LEN_MAX	  (64u << 20)
#define FRAME_VERSION	  1

enum frame_type {
	FRAME_OBJECT = 1,
	FRAME_BATCH = 2,
	FRAME_SETTINGS = 3,
	FRAME_PULL_PART = 4,
	FRAME_PULL_CHANGES = 5, /* of a pull; apply when its FRAME_PULL_COMMIT follows */
	FRAME_PULL_COMMIT = 6,
	FRAME_FREED = 7, /* objects that are dead */
	FRAME_END = 8,
	FRAME_GAP = 9,
	FRAME_ROWS = 10, /* of a base */
	FRAME_BASE = 11, /* which is complete with it */
};

/* One object of a FRAME_FREED. offset is the frame's, not the payload's. */
struct frame_freed {
	uint32_t arena;
	uint32_t len;
	uint64_t offset;
	uint8_t id[32];
	uint8_t tag[32];
};
#define FRAME_FREED_HEAD 8
#define FRAME_FREED_SIZE 80

struct frame_super {
	uint32_t arena;
	uint8_t id[16];
	uint64_t sequence;
	uint64_t created;
};

struct frame_head {
	enum frame_type type;
	uint32_t len;
	uint64_t sequence;
	uint32_t payload_crc;
	uint32_t unsynced;
};

/* It moves the state of the store; all others are objects, and what the log says of itself. */
static inline bool frame_is_change(uint32_t type)
{
	return type >= FRAME_BATCH && type <= FRAME_PULL_COMMIT;
}

/* Bytes of a whole frame with its padding. */
static inline uint64_t frame_size(uint32_t len)
{
	return (FRAME_HEAD_SIZE + (uint64_t)len + 7) & ~UINT64_C(7);
}

void frame_super_emit(const struct frame_super *super, uint8_t ret_data[FRAME_SUPER_SIZE]);
/* 0, -EBADMSG, or -EPROTONOSUPPORT: a version that this program does not know. */
int frame_super_parse(const uint8_t data[FRAME_SUPER_SIZE], struct frame_super *ret);

void frame_head_emit(const struct frame_head *head, const uint8_t arena_id[16], uint64_t offset,
	uint8_t ret_data[FRAME_HEAD_SIZE]);
/* 0 or -EBADMSG. */
int frame_head_parse(const uint8_t data[FRAME_HEAD_SIZE], const uint8_t arena_id[16],
	uint64_t offset, struct frame_head *ret);

/* Payload of a FRAME_FREED: its head, then one entry after another. */
void frame_freed_head_emit(uint32_t num, uint8_t ret_data[FRAME_FREED_HEAD]);
void frame_freed_emit(const struct frame_freed *freed, uint8_t ret_data[FRAME_FREED_SIZE]);
/* The number of entries in a payload, or -EBADMSG. */
int frame_freed_num(const uint8_t *payload, size_t len);
void frame_freed_parse(const uint8_t *payload, int i, struct frame_freed *ret);

/* Bytes of the payload that the head's sum covers. */
uint32_t frame_summed(enum frame_type type, uint32_t len);
/* The payload's sum as the head has it. */
uint32_t frame_payload_crc(enum frame_type type, const uint8_t *payload, size_t len);

#endif
