/*
 * A collection at work; for the files of gc, and its hooks in the rest of the engine.
 *
 * Rows of the table `gc`, none of them in the log (a lost index only makes garbage wait longer):
 *   'd' id[32]                -> u64 ns since 1970: found dead first
 *   'h' u32be arena u64be offset -> u32 len    an OBJECT frame of a whole block, freed and not
 *                                punched yet
 *   'p' peer[32] u32be volume -> u64 time up to which it has pulled | u64 time, u64 epoch it was
 *                                served last
 *   't' -> nothing: there may be tags of objects that are gone. Tags are random, and each lies on
 *          another page: they go in the order of their table, not with their objects
 *   'a' u32be arena -> nothing: it is being compacted, and gaps may not be punched yet
 *   'k' peer[32] u32be volume -> what it knew then (tree/knowledge.h)
 *   's'                       -> u64 end of the last collection | u64 objects, u64 bytes freed ever
 */
#ifndef BAZIL_STORED_GC_STATE_H
#define BAZIL_STORED_GC_STATE_H

#include "stored/base.h"
#include "stored/engine_state.h"
#include "stored/gc.h"

#define GC_STACK_MAX (1u << 20)
#define GC_ROWS_MAX  1000 /* rows of a table in one step */
#define GC_BLOCK     4096u
/* From a frame to its object's sealed bytes. */
#define GC_TO_SEALED (FRAME_HEAD_SIZE + FRAME_OBJECT_HEAD)

/* Bytes in the whole blocks of [from, to). */
static inline uint64_t gc_blocks(uint64_t from, uint64_t to)
{
	from = (from + GC_BLOCK - 1) / GC_BLOCK * GC_BLOCK;
	to = to / GC_BLOCK * GC_BLOCK;
	return from < to ? to - from : 0;
}

/* In the order in which they run. */
enum gc_phase {
	GC_TABLE,   /* numbering the objects */
	GC_LIVE,    /* marking from registers */
	GC_HISTORY, /* marking from history */
	GC_NOTES,   /* forgetting the notes about what was reached */
	GC_VERDICT, /* looking at every object */
	GC_TAGS,    /* of what was freed */
	GC_PUNCH,
	GC_BASE, /* writing a base, when it is time (stored/base.h) */
	GC_COMPACT,
	GC_PUNCH_MOVED, /* what compacting has freed and no gap covers */
	GC_DONE,
};

struct gc_peer {
	uint8_t key[32];
	uint64_t passed; /* the oldest of its volumes */
};

struct gc_node {
	uint8_t id[32];
	bool is_new; /* put while this runs: else somebody refers to it */
};

/* One that was there when the collection began. */
struct gc_arena {
	uint32_t number;
	uint64_t live; /* sealed bytes that stay */
	/* Known behind GC_BASE, of one that is sealed. */
	uint64_t extent; /* bytes of its frames; 0: not known, it is left */
	uint64_t bytes;	 /* sealed bytes, dead ones too */
	uint64_t loose;	 /* bytes of frames that are no objects and may go some day, */
	uint64_t freed;	 /* and of them of FRAME_FREEDs */
	uint8_t *far;	 /* a bit for each GC_BLOCK with sealed parts of records; NULL: in none */
	size_t num_far;
};

/* A sealed arena, gone through in slices. */
struct gc_walk {
	bool is_open;
	struct sealed_arena sealed;
	struct sealed_walk walk;
};

struct compact;
struct gc_base;

struct gc {
	struct gc_options options;
	struct gc_report report;
	enum gc_phase phase;
	/* Where the log ended. What was there then is in the table; of what came later, and of all
	 * in the arena of that, nothing is freed. */
	struct place begin;
	struct gc_table table;
	enum gc_why why; /* what is reached now stays */
	uint32_t whys;	 /* bits of those that there are in history, in a dry run */
	/* Where a phase goes on in its table: the last key seen. */
	uint8_t at[DB_KEY_MAX];
	size_t at_len;
	uint64_t ticket;	/* of the commit that it waits for */
	uint8_t (*damaged)[32]; /* that may refer to others, ascending: nobody can tell to which */
	size_t num_damaged;
	struct gc_node *stack; /* whose references are to be marked */
	size_t num_stack, cap_stack;
	int failed;	  /* of a hook, told by the next step */
	struct place old; /* everything before it stays: a manifest of version 1 lies there */
	uint8_t *object;  /* of CAS_OBJECT_MAX bytes */
	struct gc_peer *peers;
	size_t num_peers;
	struct gc_arena *arenas; /* ascending */
	size_t num_arenas;
	bool was_serving; /* a pull when it began, out of a snapshot with what has gone since */
	struct gc_base *base;
	struct base bases[BASE_KEPT]; /* those that there are, the newest first */
	int num_bases;
	struct place cut; /* changes before are in two bases that are whole; arena 0: none are */
	struct compact *compact;
	uint64_t now;
};

/* ---- hooks */

/* These objects are going to be referred to: somebody was told that they are here. */
int gc_promise(struct engine *engine, const uint8_t id[32]);
/* The transaction was begun anew: what was promised in the one that is gone is promised still. A
 * crash needs no such thing: before anything is freed every writer hands in what it asked for. */
int gc_promise_again(struct engine *engine);
/* Elements are written, or leave a register. */
void gc_note_register(struct engine *engine, const struct reg *reg);
/* An object is given up, now or while replaying: its bytes are to be punched. */
int gc_note_freed(struct engine *engine, const struct frame_freed *freed);
/* Some were given up indeed, and their tags are there still. */
int gc_note_tags(struct engine *engine);
/* An object was put that was not there. */
void gc_note_object(struct engine *engine, const uint8_t id[32], bool is_leaf);

/* As gc_step: 2 until the commit of gc->ticket is done. */
int gc_wait(struct engine *engine, struct gc *gc);

/* ---- stored/gc_mark.c */
int gc_mark_step(struct engine *engine, struct gc *gc);

int gc_mark_register(struct gc *gc, const struct reg *reg);

/* ---- stored/gc_history.c */
/*
 * History is gone through once, or in a dry run several times: first for what snapshots keep, then
 * for what goes last, and so on, so that each object is marked by the last of the past that has it.
 */
void gc_history_begin(struct gc *gc);
/* A row of the table. */
int gc_history_row(struct engine *engine, struct gc *gc, const struct db_iter *it);
/* The table was gone through; true: it is once more. */
bool gc_history_again(struct gc *gc);

/* ---- stored/gc_sweep.c */
int gc_notes_step(struct engine *engine, struct gc *gc);
int gc_verdict_step(struct engine *engine, struct gc *gc);
int gc_tags_step(struct engine *engine, struct gc *gc);

/* ---- stored/gc_punch.c */
/* Of an OBJECT frame with a payload of len bytes; of a smaller one nothing can be punched. */
bool gc_holds_block(uint64_t frame, uint32_t len);
int gc_punch_step(struct engine *engine, struct gc *gc);
/* The whole blocks of [from, to); *ret_bytes of them, 0 where it cannot be done. */
int gc_punch_range(
	struct engine *engine, uint32_t arena, uint64_t from, uint64_t to, uint64_t *ret_bytes);

/* ---- stored/gc_walk.c */
/* NULL: it was not there when the collection began. */
struct gc_arena *gc_arena(const struct gc *gc, uint32_t number);
/* An object is there; or it goes after all. */
void gc_count_live(struct gc *gc, struct place place, bool is_live);
/* Opens what is not open. 1: open; 0: it is not sealed, or its footer is damaged: leave it. A walk
 * is the only one at a time, and closed before anything else is done to the arena. */
int gc_walk_open(struct engine *engine, struct gc_walk *w, uint32_t number, bool with_objects);
void gc_walk_close(struct engine *engine, struct gc_walk *w);

/* ---- stored/gc_far.c */
/* The register has elements now, or had some since the collection began: the frames with their far
 * parts stay. -ENOMEM. */
int gc_far_note(struct gc *gc, const struct reg *reg);
/* Whether there may be one in this payload. */
bool gc_far_has(const struct gc *gc, struct place payload);

/* ---- stored/gc_base.c */
int gc_base_step(struct engine *engine, struct gc *gc);
void gc_base_end(struct engine *engine, struct gc *gc);

/* ---- stored/gc_freed.c */
/*
 * Which FRAME_FREEDs of an arena are still needed: as long as the frame of one of their objects is
 * where it says, a rebuild would take the object for one that is there.
 */
struct gc_freed_frame {
	uint64_t offset; /* of the payload */
	bool is_needed;	 /* by another arena */
	bool is_needed_here;
};
struct gc_freed {
	struct gc_freed_frame *frames; /* ascending */
	size_t num, cap;
	struct gc_freed_name *names;
	size_t num_names, cap_names, at;
	bool is_full;
	struct gc_walk walk;
};
void gc_freed_release(struct engine *engine, struct gc_freed *f);
/* Adds one, ascending; one that was added is left out. With is_full it was not: the others are to
 * be looked up, and it added again. */
int gc_freed_add(struct engine *engine, struct gc_freed *f, struct place payload);
/* Looks some of them up. 1: there is more; 0: the frames are known, and there is room again. */
int gc_freed_step(struct engine *engine, struct gc *gc, struct gc_freed *f, uint32_t arena);
/* NULL: it is none of those. */
const struct gc_freed_frame *gc_freed_find(const struct gc_freed *f, uint64_t offset);

/* ---- stored/gc_compact.c */
/* Whether the disk has room for so many bytes more. */
bool gc_has_room(struct engine *engine, uint64_t bytes);
int gc_compact_step(struct engine *engine, struct gc *gc);
void gc_compact_end(struct engine *engine, struct gc *gc);

/* ---- stored/gc_peers.c */
int gc_peers_load(struct engine *engine, struct gc *gc);
/* Lowers known to what all peers know that pull from this volume. */
int gc_peers_known(struct engine *engine, const struct volume *vol, uint64_t now,
	struct tree_knowledge *known);
/* A peer holds what was found dead at this time. Notes it in the report. */
bool gc_peers_hold(struct gc *gc, uint64_t dead);

#endif
