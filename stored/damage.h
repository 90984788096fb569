/*
 * Objects whose bytes on the disk are not theirs any more. Such an object is noted and its row in
 * the index goes, so that it is simply not here: nobody is given its place, who writes its content
 * again stores it again, and a peer that has it can bring it back. Its note says since when, until
 * it is here again (damage_settle).
 *
 * Notes are rows of meta: "bad" id[32] -> u64 time found (ns since 1970) | u32 arena | u32 length |
 * u64 offset | u8 1: it may refer to other objects. Those of an older program end before that byte,
 * and are taken for chunks, as it did. They are not in the log: after a replay the disk says it
 * again to whoever reads.
 */
#ifndef BAZIL_STORED_DAMAGE_H
#define BAZIL_STORED_DAMAGE_H

#include "stored/engine.h"

struct damage {
	uint8_t id[32];
	uint64_t found; /* ns since 1970 */
	struct place place;
};

/* Reads and verifies an object. -ENOENT: not here; -EBADMSG: it was damaged, and is noted now.
 * Another error says nothing about it. */
int damage_check(struct engine *engine, const uint8_t id[32]);

/* Whether the index has the object at this place. */
bool damage_is_expected(struct engine *engine, const uint8_t id[32], struct place place);

/* Notes an object that is known to be damaged at this place; nothing if it lies elsewhere. */
int damage_note(struct engine *engine, const uint8_t id[32], struct place place);
bool damage_is_noted(struct engine *engine, const uint8_t id[32]);

/* Takes back the notes of objects that are here again; the number of them. */
int damage_settle(struct engine *engine);

/* Up to max notes behind the id `after` (NULL: from the first); returns how many. */
int damage_list(struct engine *engine, const uint8_t *after, struct damage *ret_list, size_t max);

/* The ids, ascending, of what is not here and may have referred to others. The caller frees *ret.
 */
int damage_nodes(struct engine *engine, uint8_t (**ret)[32], size_t *ret_num);

#endif
