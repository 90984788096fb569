/*
 * The rows of the index (stored/db.h). Numbers in keys are big-endian, so that rows sort by them;
 * in values little-endian. vol is a volume's number in this store, space is vol, or vol |
 * ROWS_ASIDE for what was set aside: inodes without a link that somebody may still have open, which
 * peers never see. key is unit[9] kind (tag[16]), the tag for extended attributes only. since and
 * until are times of changes (stored/history.h).
 *
 * - meta: "checkpoint" -> u32 version | u32 arena | u64 offset | u64 sequence
 * - meta: "lost" -> u64 ns since 1970: when a replay last stepped over damage, so that changes or
 *   objects may be missing here; not in the log, but a rebuild meets the damage again
 * - meta: "bases", "from" -> stored/base.h
 * - meta: "scrub" -> where one is (stored/scrub.c)
 * - meta: "bad" id[32] -> a damaged object (stored/damage.c)
 * - meta: "vol" vol -> volume state (stored/volume.c)
 * - meta: "objects" -> u64 bytes of all objects
 * - settings: u8 kind ... -> stored/settings.h
 * - objects: id[32] -> u32 arena | u32 sealed length, top bit: refers to nothing | u64 offset
 * - tags: tag[32] -> id[32], for a while also of an object that is not there any more; those that
 *   are told when an object has been put (engine_learn_tag) are not in the log
 * - records: space key -> u64 since | elements of a register (stored/element.h)
 * - names: vol parent tag[8] lid -> u64 since: every link element below parent
 * - dirs: vol parent lid -> u64 since | u8 flags: the same by link id
 * - targets: vol target lid -> u64 since: links to an inode, but for lid == target
 * - counts: vol oid -> u64 entries | u32 subdirs, by winning links
 * - stamps: vol replica epoch unit[9] -> nothing: units with an element of that stamp
 * - dead: vol unit[9] replica -> u64 epoch: the log of deletions (tree/delta.h), cut now and
 *   then (stored/dead.h)
 * - labels: vol replica epoch unit[9] -> nothing: the same by label
 * - fallen: vol oid -> u64 since: directories shown in the root (tree/view.h)
 * - gc: u8 kind ... -> notes of the collector (stored/gc_state.h)
 * - history: vol key until -> a value of records
 * - history-names: vol parent tag[8] until lid -> u64 since | u8 flags
 * - history-dirs: vol parent lid until -> u64 since | u8 flags
 * - history-targets: vol target until lid -> u64 since
 * - history-fallen: vol oid until -> u64 since
 * - times: vol time u32 number -> what changed then
 * - snapshots: vol tag[16] -> u64 time | sealed name (stored/snapshot.h)
 * - pulls: vol time -> u64 number of changes | u8 undone | peer[32] (stored/undo.h)
 */
#ifndef BAZIL_STORED_ROWS_H
#define BAZIL_STORED_ROWS_H

#include "cas/bytes.h"
#include "tree/record.h"

/* Of these rows. An index with other ones is made anew from the arenas, whose bases may have older
 * ones (stored/base.h). */
#define ROWS_VERSION 2

#define ROWS_ASIDE    0x80000000u
#define ROWS_KEY_MAX  64
#define ROWS_NAME_TAG 8

struct row_key {
	size_t len;
	uint8_t b[ROWS_KEY_MAX];
};

static inline void row_start(struct row_key *k, uint32_t space)
{
	be32_put(k->b, space);
	k->len = 4;
}

static inline void row_u64(struct row_key *k, uint64_t v)
{
	be64_put(k->b + k->len, v);
	k->len += 8;
}

static inline void row_unit(struct row_key *k, const struct tree_unit *unit)
{
	tree_unit_pack(unit, k->b + k->len);
	k->len += TREE_UNIT_SIZE;
}

static inline void row_record(struct row_key *k, uint32_t space, const struct tree_key *key)
{
	row_start(k, space);
	tree_key_pack(key, k->b + 4);
	k->len = 4 + TREE_UNIT_SIZE + 1 + (key->kind == TREE_XATTR ? TREE_TAG_SIZE : 0);
}

/* dirs, targets: two numbers; counts, fallen: one (b left out by row_one). */
static inline void row_two(struct row_key *k, uint32_t vol, uint64_t a, uint64_t b)
{
	row_start(k, vol);
	row_u64(k, a);
	row_u64(k, b);
}

static inline void row_one(struct row_key *k, uint32_t vol, uint64_t a)
{
	row_start(k, vol);
	row_u64(k, a);
}

static inline void row_name(
	struct row_key *k, uint32_t vol, uint64_t parent, const uint8_t *tag, uint64_t lid)
{
	row_one(k, vol, parent);
	memcpy(k->b + k->len, tag, ROWS_NAME_TAG);
	k->len += ROWS_NAME_TAG;
	row_u64(k, lid);
}

/* stamps and labels. */
static inline void row_stamp(
	struct row_key *k, uint32_t vol, struct tree_stamp stamp, const struct tree_unit *unit)
{
	row_start(k, vol);
	be32_put(k->b + 4, stamp.replica);
	k->len = 8;
	row_u64(k, stamp.epoch);
	row_unit(k, unit);
}

static inline void row_dead(
	struct row_key *k, uint32_t vol, const struct tree_unit *unit, uint32_t replica)
{
	row_start(k, vol);
	row_unit(k, unit);
	be32_put(k->b + k->len, replica);
	k->len += 4;
}

#endif
