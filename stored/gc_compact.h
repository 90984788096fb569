/*
 * Compacting one arena after another; for its two files.
 */
#ifndef BAZIL_STORED_GC_COMPACT_H
#define BAZIL_STORED_GC_COMPACT_H

#include "stored/gap.h"
#include "stored/gc_state.h"

/* What becomes of a frame. */
enum fate {
	FATE_LIVES, /* an object that is needed; it may be moved */
	FATE_STAYS,
	FATE_HELD, /* needed by another frame of this arena, and no longer than that */
	FATE_DEAD,
	FATE_GAP,
	FATE_END, /* of the arena */
};

/* A run of frames that are free, and the sum of what the runs so far would give back. */
struct run {
	struct gap gap;	 /* size 0: none */
	uint64_t before; /* bytes of it that are punched already */
	uint64_t more;	 /* what all would give back besides those */
};

enum stage {
	STAGE_PICK,
	STAGE_FREED,
	STAGE_JUDGE,
	STAGE_MOVE,
	STAGE_LIST,
	STAGE_WRITE,
	STAGE_COMMIT,
	STAGE_PUNCH,
	STAGE_REMOVE,
};

struct compact {
	enum stage stage;
	bool can_punch;
	uint32_t number; /* of the arena */
	bool is_marked;	 /* it has a row 'a' */
	uint64_t extent; /* bytes of its frames */
	struct gc_walk walk;
	struct gc_freed freed;
	struct run stay, move; /* as it is; as if all that lives had been moved */
	struct gc_count lives; /* their sealed bytes */
	uint64_t live;	       /* bytes of their frames */
	uint64_t num_stay;     /* frames that stay whatever is moved */
	uint64_t num_held;
	uint64_t punched; /* bytes */
	struct gap *gaps;
	size_t num_gaps, cap_gaps, at;
};

/* ---- stored/gc_judge.c */
enum fate gc_judge(struct engine *engine, const struct gc *gc, const struct sealed_entry *entry);
/* Judges some frames of the walk, and adds them up; in STAGE_LIST the gaps are kept. 1: there are
 * more; 0: that was all; -EBADMSG: the footer is damaged. */
int gc_judge_some(struct engine *engine, struct gc *gc);
/* Nothing in it is of use to anybody. */
bool gc_is_empty(const struct compact *c);

#endif
