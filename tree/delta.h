/*
 * A delta: what q answers to a pull by p, and how q finds it.
 *
 * p asks with its knowledge S_p. q freezes its epoch and answers, out of one snapshot, with
 *   - its knowledge S_q and its horizon H_q;
 *   - whether this is a full listing: it is when S_p does not contain H_q;
 *   - the listed units, each complete: every element of it that is live at q, as a whole
 *     record where S_p does not cover the stamp, else as its key and stamp only. A listed
 *     unit with no element is one that q deleted. Listed are
 *       incremental   every unit with an element not covered by S_p, and
 *                     every unit of a logged deletion whose label S_p does not cover;
 *       full          every unit that has an element, and every unit of such a deletion;
 *   - the logged deletions whose label S_p does not cover.
 *
 * The deletion log. A local deletion has a stamp like a write: it raises S[me]. The unit and that
 * stamp (the label) go into q's log of deletions, at most one entry for each (unit, replica), the
 * newest. An entry travels with its label: who pulls it logs it unchanged, so a pull raises
 * nobody's epoch. An element that goes because a local write replaced it in its register needs no
 * entry, since the new element's own stamp makes the unit listed; neither does one removed by a
 * pull, since the entry that caused it arrives in the same pull.
 *
 * Why an unlisted unit needs no change at p: let x be an element on p, covered by S_q, not at q.
 * Some event (d, n) ended x. If S_p covered (d, n), p had taken in d's state and x were gone. If
 * the event was a deletion its label is in q's log, hence listed. If it was a write z in the same
 * register then either z is live at q, uncovered and listed, or z was ended by a later event, of
 * which the same holds.
 *
 * The log may be cut: drop every entry whose label a vector V (within S) covers, and let
 * H := max(H, V). A lost log is H := S. Correctness never depends on the log: beyond the horizon
 * the full listing tells.
 *
 * Packed, for the wire and for a staging file: a sequence of entries, each u8 type, then
 *   unit     1: TREE_UNIT_SIZE bytes; what the elements behind it belong to
 *   element  2: TREE_KEY_SIZE bytes, u32 replica, u64 epoch
 *   record   3: u32 length, then a packed record
 *   dead     4: TREE_UNIT_SIZE bytes, u32 replica, u64 epoch; the unit is listed, too
 *   inode    5: u64 oid; the units behind it answer a need for this inode, and all links to it
 *               are among them
 *
 * A writer may cut a delta into blobs between any two entries, repeating the unit or inode entry.
 * Answers to needs come after the answer itself. q may answer for inodes that it was not asked
 * for: the directories above one that came back are mostly needed next, and sending them along
 * saves a round trip for each level.
 */
#ifndef BAZIL_TREE_DELTA_H
#define BAZIL_TREE_DELTA_H

#include "tree/knowledge.h"

enum tree_delta_type {
	TREE_DELTA_UNIT = 1,
	TREE_DELTA_ELEMENT = 2,
	TREE_DELTA_RECORD = 3,
	TREE_DELTA_DEAD = 4,
	TREE_DELTA_INODE = 5,
};

struct tree_delta_entry {
	enum tree_delta_type type;
	struct tree_unit unit;	 /* unit, dead */
	struct tree_key key;	 /* element */
	struct tree_stamp stamp; /* element; dead: the label */
	uint64_t oid;		 /* inode */
	const uint8_t *packed;	 /* record: its bytes, a view */
	size_t packed_len;
	struct tree_record rec; /* record: parsed */
};

#define TREE_DELTA_ENTRY_MAX (5 + TREE_RECORD_MAX)

/* Writes one entry; returns its size, or -ENOBUFS. For a record only packed and packed_len are
 * used. */
int tree_delta_put(const struct tree_delta_entry *entry, uint8_t *buf, size_t cap);
/* Reads the entry at *pos and moves *pos behind it. 1 = an entry, 0 = the end, -EBADMSG,
 * -EPROTONOSUPPORT for a record of another version. */
int tree_delta_next(const uint8_t *data, size_t len, size_t *pos, struct tree_delta_entry *ret);

/*
 * The set of units to list: q adds the unit of everything that its stamp index and its deletion log
 * give, in any order and repeatedly; tree_delta_units_sort then leaves each once, in packed order.
 * 16 bytes for each addition, of which duplicates are squeezed out while it grows.
 */
struct tree_delta_units {
	struct tree_unit *units;
	size_t num_units;
	size_t cap;
};

int tree_delta_units_add(struct tree_delta_units *set, const struct tree_unit *unit);
void tree_delta_units_sort(struct tree_delta_units *set);
void tree_delta_units_release(struct tree_delta_units *set);

#endif
