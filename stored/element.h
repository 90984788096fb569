/*
 * The elements of a register as the index keeps them, and the one function that changes a register
 * together with everything derived from it.
 *
 * A row of `records` holds u64 since (when the register got its present value), and for each
 * element: u32 arrived | u32 length, top bit: far | packed
 * record | far only: u32 arena, u64 offset, u32 CRC-32C of the sealed part. arrived is the number
 * of the pull that brought the element, 0 for one written here. A record with a sealed part above
 * ELEMENT_NEAR is kept far: the row has its clear part (head and references) and the place of its
 * sealed part in the arena.
 */
#ifndef BAZIL_STORED_ELEMENT_H
#define BAZIL_STORED_ELEMENT_H

#include "stored/arena.h"
#include "stored/db.h"
#include "tree/record.h"

#define ELEMENT_NEAR 1024
#define REGISTER_MAX 256

struct element {
	struct tree_element e;
	uint32_t arrived;
	bool is_far;
	uint32_t raw_len;    /* bytes at raw */
	uint32_t sealed_len; /* of the whole record */
	const uint8_t *raw;  /* near: the packed record; far: its head and references */
	struct place sealed; /* far: of the sealed part */
	uint32_t sealed_crc;
};

struct reg {
	size_t num;
	uint64_t since;
	struct element e[REGISTER_MAX];
};

struct engine;
struct volume;

/* A packed record as an element; place: where the record lies in the arena. -EBADMSG. */
int element_of(
	struct element *ret, const uint8_t *data, size_t len, struct place place, uint32_t arrived);

/* Reads a row's value; views into it. -EUCLEAN. */
int reg_parse(struct reg *ret, const uint8_t *value, size_t len);
/* 1: an element of the row has this stamp. -EUCLEAN. */
int row_has_stamp(const uint8_t *value, size_t len, struct tree_stamp stamp);
/* An absent register is an empty one. */
int reg_load(struct reg *ret, struct db_txn *txn, uint32_t space, const struct tree_key *key);

/* The index of the winner; num >= 1. */
size_t reg_winner(const struct reg *reg);
/* Number of different values. */
size_t reg_values(const struct reg *reg);

/* Replaces old (as loaded, nothing written since) by new, and brings what is derived from it
 * (stored/derived.h) and the volume's history (stored/history.h) in line. */
int reg_write(struct engine *engine, struct volume *vol, bool aside, const struct tree_key *key,
	const struct reg *old, const struct reg *new);

/* A row's value into a buffer as of scratch_grow. */
int reg_emit(const struct reg *reg, uint64_t since, uint8_t **buf, size_t *cap, size_t *ret_len);

/* The size of the whole record, and the record itself (size bytes) read back; -EBADMSG: damaged. */
static inline size_t element_size(const struct element *e)
{
	return e->is_far ? e->raw_len + (size_t)e->sealed_len : e->raw_len;
}
int element_read(struct arenas *arenas, const struct element *e, uint8_t *ret_data);
/* The record of a far element with nothing sealed in it, which is none that anybody wrote: for one
 * that cannot be read back. Its size. */
size_t element_bare(const struct element *e, uint8_t *ret_data);

#endif
