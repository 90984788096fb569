/*
 * The past of a volume: what a register held before, and what stood in a directory before, so that
 * the tree can be read as it was at any instant.
 *
 * Times are nanoseconds since 1970 that ascend strictly within a volume: each frame of changes has
 * one (struct change_head), all that it does happens at that time, and the instant T shows every
 * change with a time <= T. A clock that was set back only makes the steps small.
 *
 * A register whose value changes leaves its old set of elements as a row with the range [since,
 * until) in which it was so. The ranges of a register never overlap, so its state at T is in the
 * first row with until > T or in the live row: one look-up. A new stamp for the same single value
 * is no change. A name, a place in a directory and a link's target that go leave rows with their
 * ranges as well. What begins and ends in one frame leaves nothing, nor does what was set aside.
 *
 * `times` says for each time which registers changed and which of the rows above ended then: for
 * retention (history_prune), differences and undoing a sync. All of it is derived from the log of
 * changes by the code that applies them, so replaying the log, or all of it after the loss of the
 * index, makes the same rows. What retention removes is logged (change_prune).
 *
 * History is what keeps objects and far records (stored/element.h) from being garbage;
 * history_each gives every set of elements that it holds: rows of the table `history`, nothing
 * else of the past refers to objects or arenas.
 */
#ifndef BAZIL_STORED_HISTORY_H
#define BAZIL_STORED_HISTORY_H

#include "stored/engine_state.h"
#include "stored/rows.h"

/* The frame being applied happens at this time. */
void history_start(struct engine *engine, struct volume *vol, uint64_t time);
/* Writes the rest of its row of `times`. */
int history_end(struct engine *engine, struct volume *vol);
/* Nothing of what was noted since history_start will be. */
void history_drop(struct engine *engine);

/* ---- writing; called where the live rows change */

/* The register is another one from now on; the value of its row before, len 0 where there was
 * none, or none that began before this frame. */
int history_put(struct engine *engine, struct volume *vol, const struct tree_key *key,
	const uint8_t *row, size_t len);
/* A live row of names, dirs, targets or fallen with this value is gone. */
int history_place(struct engine *engine, const struct volume *vol, enum db_table live,
	const struct row_key *row, const uint8_t *value);

/* ---- reading */

/* reg_load as of an instant; at 0: now. */
int history_load(struct reg *ret, struct db_txn *t, const struct volume *vol,
	const struct tree_key *key, uint64_t at);
/* The directory was shown in the root at that instant. */
bool history_fallen(struct engine *engine, const struct volume *vol, uint64_t oid, uint64_t at);
/* Each that was. fn: 0, or -errno, which ends it. */
typedef int history_fallen_fn(void *arg, uint64_t oid);
int history_each_fallen(struct engine *engine, const struct volume *vol, uint64_t at,
	history_fallen_fn *fn, void *arg);
/* 0, or -ESTALE: retention let go of it. */
int history_check(const struct volume *vol, uint64_t at);

/* Every set of elements of the past, of all volumes, and until when it was so; a value other than 0
 * ends it and is returned. fn must not write. */
typedef int history_fn(
	void *arg, uint32_t vol, const struct tree_key *key, uint64_t until, const struct reg *reg);
int history_each(struct engine *engine, history_fn *fn, void *arg);

/* ---- rows */

/* The range of a row of names, targets, fallen, or dirs, live or past: its value begins with since.
 */
#define HISTORY_PLACE_SIZE 8
#define HISTORY_DIR_SIZE   9
enum history_dir_flags {
	HISTORY_DIR_SHOWN = 1, /* the winning link is there */
	HISTORY_DIR_SUBDIR = 2,
};
#define HISTORY_NAME_ALONE 1 /* in hnames: nothing else had the name when this ended */

/* An entry of a row of `times`: u8 type, then what the row's key has behind the volume. */
enum history_entry {
	HISTORY_REGISTER,
	HISTORY_NAME,
	HISTORY_DIR,
	HISTORY_TARGET,
	HISTORY_FALLEN,
};
#define HISTORY_TIMES_MAX sizeof(((struct engine *)0)->noted.b)
struct history_cursor {
	const uint8_t *p, *end;
};
/* 1: an entry, 0: the end, -EUCLEAN. ret_row: the key of the live row. */
int history_next(struct history_cursor *c, uint32_t vol, enum history_entry *ret_type,
	struct row_key *ret_row, const uint8_t **ret_bytes, size_t *ret_len);

static inline void row_times(struct row_key *k, uint32_t vol, uint64_t time, uint32_t seq)
{
	row_one(k, vol, time);
	be32_put(k->b + k->len, seq);
	k->len += 4;
}

enum db_table history_table(enum history_entry type);
/* The key of the past row of a live one that ended then. */
void history_row(
	struct row_key *ret, enum history_entry type, const struct row_key *live, uint64_t until);

#endif
