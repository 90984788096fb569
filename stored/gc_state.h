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

#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/gc_table.h"

#define GC_STACK_MAX (1u << 20)
#define GC_ROWS_MAX  1000 /* rows of a table in one step */
#define GC_BLOCK     4096u

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
	GC_COMPACT,
	GC_PUNCH_MOVED, /* what compacting has freed and no gap covers */
	GC_DONE,
};

struct gc_peer {
	uint8_t key[32];
	uint64_t passed; /* the oldest of its volumes */
};

/* Of a sealed arena. */
struct gc_arena {
	uint32_t number;
	uint64_t live; /* sealed bytes that stay */
};

struct compact;

struct gc {
	struct gc_options options;
	struct gc_report report;
	enum gc_phase phase;
	uint32_t tail; /* objects from this arena on are not looked at */
	struct gc_table table;
	/* Where a phase goes on in its table: the last key seen. */
	uint8_t at[DB_KEY_MAX];
	size_t at_len;
	uint64_t ticket; /* of the commit that it waits for */
	/* Ids whose references are to be marked. */
	uint8_t (*stack)[32];
	size_t num_stack, cap_stack;
	int failed;	  /* of a hook, told by the next step */
	struct place old; /* everything before it stays: a manifest of version 1 lies there */
	uint8_t *object;  /* of CAS_OBJECT_MAX bytes */
	struct gc_peer *peers;
	size_t num_peers;
	struct gc_arena *arenas; /* ascending */
	size_t num_arenas;
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

/* ---- stored/gc_compact.c */
/* An object is there; or it goes after all. */
void gc_count_live(struct gc *gc, struct place place, bool is_live);
int gc_compact_step(struct engine *engine, struct gc *gc);
void gc_compact_end(struct gc *gc);

/* ---- stored/gc_peers.c */
int gc_peers_load(struct engine *engine, struct gc *gc);
/* Lowers known to what all peers know that pull from this volume. */
int gc_peers_known(struct engine *engine, const struct volume *vol, uint64_t now,
	struct tree_knowledge *known);
/* A peer holds what was found dead at this time. Notes it in the report. */
bool gc_peers_hold(struct gc *gc, uint64_t dead);

#endif
