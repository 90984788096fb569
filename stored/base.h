/*
 * Bases. The index's rows as of a place of the log, written into the log: with them a rebuild needs
 * no changes from before that place, and those may go. Without them a log would keep every change
 * for ever, since nothing else in it says what all of them came to.
 *
 * A base is some FRAME_ROWS, with anything between them, and the FRAME_BASE that names them. It is
 * there when its FRAME_BASE is; what was begun and not ended is dead. Its rows are those of every
 * table that changes make (stored/rows.h): not objects and tags, which the frames of objects and
 * FRAME_FREED say, and not the collector's. Sealed parts that are far (stored/element.h) stay where
 * they were first written, so that the frames they lie in stay too.
 *
 * Two generations: a change goes only when two bases have it, which were both read back whole. So a
 * rebuild that meets damage in the newest takes the one before it, and the changes since that; and
 * the first base ever is not taken at all, for nothing has gone yet and the changes say everything.
 *
 * Payload of FRAME_ROWS: rows, one behind the other, each u8 table (base.c) | u8 zero | u16 length
 * of the key | u32 length of the value | key | value.
 *
 * Payload of FRAME_BASE, little-endian:
 *    0 u32 version = 1    4 u32 ROWS_VERSION    8 u32 generation, from 1    12 u32 FRAME_ROWS
 *   16 u32 arena         24 u64 offset: the log before this place is in it
 *   20 u32 arena         32 u64 offset: changes before this place may be gone, once it is there
 *   40 u64 rows          48 u64 their bytes
 *   56 u8 digest[32]: SHA-256 of the payloads of the FRAME_ROWS, and of all of this one but itself
 *   88 for each FRAME_ROWS: u32 arena | u32 length, u64 offset of the payload
 *
 * Whoever changes the rows of the index must go on reading bases with the old ones. Rows of `meta`:
 * "bases" -> u32 the highest generation there ever was | u32 arena, u64 offset before which its
 * FRAME_BASE says that changes may be gone | the places of the FRAME_BASEs, the newest first, at
 * most BASE_KEPT, each u32 arena | u32 length | u64 offset; "from" -> u32 arena | u64 offset: this
 * index began with a base, and changes before that place are none of its business.
 */
#ifndef BAZIL_STORED_BASE_H
#define BAZIL_STORED_BASE_H

#include "stored/db.h"
#include "stored/scan.h"

#define BASE_KEPT     2
#define BASE_HEAD     88
/* What one base may name; it is far above what fits into an index. */
#define BASE_ROWS_MAX ((FRAME_LEN_MAX - BASE_HEAD) / 16)

struct digest;
struct engine;

struct base {
	struct place frame; /* payload of its FRAME_BASE */
	struct place at;    /* changes before are in it, */
	struct place cut;   /* and before this may be gone */
	uint32_t generation;
	uint64_t num_rows, bytes;
	struct place *rows; /* payloads of its FRAME_ROWS, ascending */
	uint32_t num, cap;
	uint8_t digest[32];
};

void base_release(struct base *base);
/* The same with room for one more place. */
int base_add(struct base *base, struct place rows);
size_t base_size(const struct base *base); /* of the payload of its FRAME_BASE */
void base_emit(const struct base *base, uint8_t *ret_payload);
/* The digest that it should have; to `digest` the payloads of its FRAME_ROWS were added. */
int base_digest(const struct base *base, struct digest *digest, uint8_t ret[32]);
/* Whether it has this FRAME_ROWS, or is this FRAME_BASE. */
bool base_has(const struct base *base, struct place payload);

/* ---- rows */

/* The tables of a base, by the number that is written. The first BASE_TWICE, which say what volumes
 * there are, come once more at the end, in a frame of their own: nothing is of use without them. */
#define BASE_TABLES 19
#define BASE_TWICE  2
enum db_table base_table(unsigned number);
/* Of `meta` only those of volumes. */
const char *base_prefix(unsigned number);

size_t base_row_size(size_t key_len, size_t value_len);
void base_row_emit(unsigned number, const struct db_iter *row, uint8_t *ret);

/* ---- those that there are */

/* Those that the index knows. */
struct base_list {
	uint32_t generation; /* the highest there ever was; 0: none */
	struct place cut;    /* of that one */
	int num;
	struct place frames[BASE_KEPT]; /* the newest first */
};
int base_list(struct engine *engine, struct base_list *ret);
/* Of the payload of a FRAME_BASE, BASE_HEAD bytes: changes before that place may be gone. */
struct place base_cut(const uint8_t *payload);
/* A FRAME_BASE with this payload was written or is replayed; -EBADMSG: it is none. */
int base_note(struct engine *engine, struct place frame, const uint8_t *payload);
/* It is damaged. */
int base_forget(struct engine *engine, struct place frame);

/* ---- reading */

struct base_reader {
	struct engine *engine;
	struct scan scan;
	struct digest *digest;
	struct base base;
	uint32_t next;
};

/* Reads a FRAME_BASE: 0, -EBADMSG, or an error. base_reader_end always. */
int base_reader_begin(struct base_reader *r, struct engine *engine, struct place frame);
/* Reads the next of its FRAME_ROWS back. 1: there are more; 0: all of it is as it was written;
 * -EBADMSG: not. */
int base_reader_check(struct base_reader *r);
/* Puts all rows into the index's transaction, and commits it now and then. is_partial: leaves out
 * what is damaged. */
int base_reader_load(struct base_reader *r, bool is_partial);
void base_reader_end(struct base_reader *r);

/* For an index with nothing in it, before the log is replayed: finds the newest base that is whole
 * and loads it; engine->from tells. */
int base_load(struct engine *engine);

#endif
