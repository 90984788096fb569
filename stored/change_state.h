/*
 * What is behind stored/change.h; for the files stored/change*.c: change.c has the frame, and the
 * changes of volumes and settings; change_register.c those of registers and units; change_replay.c
 * reads all of them back.
 */
#ifndef BAZIL_STORED_CHANGE_STATE_H
#define BAZIL_STORED_CHANGE_STATE_H

#include "stored/change.h"
#include "stored/rows.h"

/* A change in the frame is u8 type, then: */
enum change_type {
	CHANGE_PUT = 1,	    /* aside u8, seen u32, len u32, record */
	CHANGE_REMOVE = 2,  /* aside u8, seen u32, key */
	CHANGE_DELETE = 3,  /* key, stamp */
	CHANGE_RESTAMP = 4, /* key, old stamp, stamp, lamport u64 */
	/* arena u32, len u32, offset u64, stamp, lamport u64, arrived u32, crc u32 */
	CHANGE_TAKE = 5,
	CHANGE_DEAD = 6,      /* unit, stamp */
	CHANGE_MOVE = 7,      /* to_aside u8, unit, stamp, lamport u64 */
	CHANGE_DROP = 8,      /* aside u8, unit */
	CHANGE_STATE = 9,     /* len u32, volume state */
	CHANGE_ROW = 10,      /* delete u8, key len u16, value len u32, key, value */
	CHANGE_PRUNE = 11,    /* time u64, seq u32 */
	CHANGE_SNAPSHOT = 12, /* tag, len u16, name; len 0: deleted */
	CHANGE_PULLED = 13,   /* time u64, number of changes u64, undone u8, peer */
	CHANGE_RESTORE = 14,  /* as PUT, then arrived u32 */
};

#define STAMP_SIZE 12

/* Room for one change in the open frame behind its type; NULL with *ret_error 0 while replaying. */
uint8_t *change_entry(struct engine *engine, enum change_type type, size_t len, int *ret_error);

static inline uint8_t *stamp_put(uint8_t *p, struct tree_stamp stamp)
{
	le32_put(p, stamp.replica);
	le64_put(p + 4, stamp.epoch);
	return p + STAMP_SIZE;
}

static inline struct tree_stamp stamp_get(const uint8_t *p)
{
	return (struct tree_stamp){ .replica = le32_get(p), .epoch = le64_get(p + 4) };
}

/* change_put and change_restore (arrived is not 0 then) of a record that lies at this place of the
 * log; when not replaying, the place is found out here. */
int change_put_at(struct engine *engine, struct volume *vol, bool aside, uint32_t seen,
	uint32_t arrived, const uint8_t *rec, size_t len, struct place place);
/* change_take. crc: of the record as it was when it was taken first, which damage since then must
 * not change; NULL: now. */
int change_take_at(struct engine *engine, struct volume *vol, struct place place,
	struct tree_stamp stamp, uint64_t lamport, uint32_t arrived, const uint32_t *crc);

#endif
