/*
 * A change: the only ways in which the state of the store moves. Each function writes itself into
 * the open frame and into the index; replaying a frame calls the same functions with
 * the same state, so a log replayed is exactly the state that wrote it.
 *
 * Calling order: change_begin; any of the others; change_end. After an error change_fail, since the
 * index may have a part of it.
 *
 * Payload of a frame of changes: struct change_head as little-endian u64s, then changes, each u8
 * type and its fields (stored/change_state.h).
 */
#ifndef BAZIL_STORED_CHANGE_H
#define BAZIL_STORED_CHANGE_H

#include "stored/engine_state.h"

#define CHANGE_HEAD_SIZE 72
#define CHANGE_SEEN_NONE UINT32_MAX

enum change_flags {
	CHANGE_WROTE = 1, /* the open epoch holds a write */
	CHANGE_TIMED = 2, /* of a frame of settings: time is an instant of the volume */
};

struct change_head {
	uint32_t vol; /* 0: none */
	uint32_t flags;
	uint64_t time; /* ns since 1970, ascending within a volume (stored/history.h) */
	uint64_t incarnation;
	uint64_t position;
	uint64_t epoch;
	uint64_t lamport;
	uint64_t unique;
	uint64_t view;
	uint64_t reserved;
};

int change_begin(struct engine *engine);
/* The time of the frame just begun: later than all before it in this volume. Whoever calls it calls
 * history_end before change_end. */
uint64_t change_time(struct engine *engine, struct volume *vol);
/* The same while replaying; the parts of a pull have the time of its commit. */
void change_replay_time(struct engine *engine, const struct frame_view *frame);
int change_end(struct engine *engine, enum frame_type type, const struct change_head *head,
	struct place *ret_place);
void change_cancel(struct engine *engine);
/* After an error: change_cancel, and the index forgets what it has of the frame. err, or -EIO. */
int change_fail(struct engine *engine, int err);
/* Between the changes of a pull or an undo: ends the frame when it is large (options.part_size) and
 * begins the next part. What the parts hold counts from the FRAME_PULL_COMMIT on only. */
int change_cut(struct engine *engine, const struct volume *vol);
/* Their end: all parts count, durable, or none does. r: how it went so far. */
int change_commit_parts(
	struct engine *engine, struct volume *vol, const struct change_head *head, int r);

/*
 * Puts a record. It replaces the element of equal stamp, and every element that arrived up to seen.
 * -ESTALE, with nothing done: an element that stays has the record's own stamp.
 */
int change_put(struct engine *engine, struct volume *vol, bool aside, uint32_t seen,
	const uint8_t *rec, size_t len);
/* Removes the elements that arrived up to seen. ret_left and ret_removed may be NULL. */
int change_remove(struct engine *engine, struct volume *vol, bool aside, const struct tree_key *key,
	uint32_t seen, size_t *ret_removed, size_t *ret_left);
/* Removes the element with this stamp. */
int change_delete(struct engine *engine, struct volume *vol, const struct tree_key *key,
	struct tree_stamp stamp);
/* The element continues under a new stamp. */
int change_restamp(struct engine *engine, struct volume *vol, const struct tree_key *key,
	struct tree_stamp old, struct tree_stamp stamp, uint64_t lamport);
/* Puts the record at a place of an arena (out of a pull), restamped. */
int change_take(struct engine *engine, struct volume *vol, struct place place,
	struct tree_stamp stamp, uint64_t lamport, uint32_t arrived);
/* Logs the deletion of a unit. */
int change_dead(struct engine *engine, struct volume *vol, const struct tree_unit *unit,
	struct tree_stamp label);
/* Moves all of a unit between the live registers and those set aside. Coming back, all is
 * restamped. */
int change_move(struct engine *engine, struct volume *vol, const struct tree_unit *unit,
	bool to_aside, struct tree_stamp stamp, uint64_t lamport);
/* Drops all of a unit. */
int change_drop(
	struct engine *engine, struct volume *vol, bool aside, const struct tree_unit *unit);
/* Drops what is not kept of a row of `times` (stored/prune.h). */
int change_prune(
	struct engine *engine, struct volume *vol, uint64_t time, uint32_t seq, bool *ret_dropped);
/* Names the instant of this frame; name NULL: drops the snapshot. */
int change_snapshot(struct engine *engine, struct volume *vol, const uint8_t tag[16],
	const uint8_t *name, size_t len);
/* Notes what this frame did in `pulls`, or that it was undone. */
int change_pulled(struct engine *engine, struct volume *vol, uint64_t time, const uint8_t peer[32],
	uint64_t num_changed, bool is_undone);
/* Puts a record in place of all elements of its register, as if it came with this pull. -ESTALE as
 * change_put. */
int change_restore(struct engine *engine, struct volume *vol, bool aside, uint32_t arrived,
	const uint8_t *rec, size_t len);
/* Records the volume's clock, knowledge, horizon, view and counters as they are now. */
int change_state(struct engine *engine, struct volume *vol);
/* Writes (value NULL: deletes) a row of the settings, and keeps the volumes in memory in line. */
int change_row(struct engine *engine, const uint8_t *key, size_t key_len, const uint8_t *value,
	size_t len);

/* Applies a frame of changes while replaying. -EBADMSG: malformed although its sum is right, or a
 * record that it takes is not what it was; a part of it is applied then. */
int change_replay(struct engine *engine, const struct frame_view *frame);

#endif
