/*
 * What the engine holds, for its own files. Everything else goes through stored/engine.h.
 *
 * The index, with what lies over it, is always the sum of the arena's frames up to the buffer's
 * end; the volumes here are a cache of their state rows, written back at each checkpoint.
 */
#ifndef BAZIL_STORED_ENGINE_STATE_H
#define BAZIL_STORED_ENGINE_STATE_H

#include "stored/arena.h"
#include "stored/bulk.h"
#include "stored/census.h"
#include "stored/db.h"
#include "stored/digest.h"
#include "stored/element.h"
#include "stored/engine.h"
#include "stored/failed.h"
#include "stored/format.h"
#include "stored/retention.h"
#include "tree/merge.h"

#define ENGINE_RANGES_MAX 64

struct gc;
struct indexer;
struct pull;
struct sealer;
struct serve;
struct shrink;
struct syncer;

/* Where the pass of retention over `times` is (stored/prune.c). */
struct prune {
	bool is_running, is_wanted;
	uint64_t time, next_pass;
	uint32_t seq;
};

/* Where the pass over the log of deletions is (stored/dead.c). */
#define DEAD_LABEL_KEY (16 + TREE_UNIT_SIZE)
struct dead_cut {
	bool is_running;
	uint64_t next_pass;
	uint8_t at[DEAD_LABEL_KEY + 1];
	size_t at_len;
};

struct volume {
	uint32_t number;
	uint8_t id[16];
	uint8_t keyid[8];
	char name[ENGINE_NAME_MAX + 1];
	char sharing[ENGINE_NAME_MAX + 1];
	struct tree_state state;
	uint32_t reserved;    /* inode counters below are given out or lost */
	uint32_t next;	      /* the next inode counter, <= reserved */
	uint32_t fresh_from;  /* counters from here on were never shown to a peer */
	uint32_t view;	      /* pulls applied */
	uint64_t incarnation; /* of the ring last taken from */
	uint64_t position;    /* and how far */
	uint64_t num_links, num_inodes, num_conflicts, num_fallen;
	uint64_t num_history; /* rows of `history` */
	uint64_t time;	      /* of the newest change */
	struct retention_policy policy;
	struct retention_kept kept;
	struct prune prune;
	struct dead_cut cut;
	bool is_dirty;	   /* against its state row */
	bool is_live;	   /* false while a replay has not come to its creation */
	bool keep_removed; /* a mount is attached: what pulls remove is set aside */
	struct pull *pull;
};

struct engine {
	const struct store_io *io;
	struct engine_options options;
	struct format format;
	struct arenas arenas;
	struct db *db;
	struct digest *digest;
	char db_path[4096];
	int lock_fd;
	int reserve_fd; /* the reserve file, -1 when it is used up */
	struct volume **volumes;
	size_t num_volumes;
	uint64_t object_bytes;
	struct place committed;	   /* what the last checkpoint covers */
	uint64_t ops;		   /* changes since then */
	uint64_t committed_at;	   /* ns */
	struct place from;	   /* changes before are none of this index's (stored/base.h) */
	struct place based;	   /* the newest base when all of them were read back */
	struct place replay_start; /* arena 0: of an index that began with nothing */
	bool is_replaying;
	bool was_rebuilt;     /* the index was made anew at opening */
	struct failed failed; /* as it was found at opening */
	bool is_old;	      /* the format was of an earlier version when it was opened */
	bool is_broken;	      /* only closing is left */
	uint64_t num_damaged;
	bool has_lost_changes;	/* not noted yet: settings_lost_note */
	uint64_t lost_at;	/* ns since 1970, row "lost": stored/rows.h; 0: never */
	uint64_t num_noted;	/* notes of damaged objects made since the opening */
	uint64_t applied;	/* checkpoints that LMDB has, since the opening */
	uint64_t noted_applied; /* of them, those that LMDB has */
	uint64_t num_losses; /* times that something which may refer to objects changed or went */
	uint64_t num_gone;   /* times that an index of before would miss some of the log */
	struct census_range ranges[ENGINE_RANGES_MAX]; /* known to be damaged */
	size_t num_ranges;
	uint64_t told_at, num_replayed; /* ns, the last progress of opening; frames */
	struct serve *serves;
	struct gc *gc; /* NULL: no collection runs */
	uint64_t next_handle;
	/* Scratch of reg_write and change_*: too large for a stack, and never nested. */
	struct reg old, new;
	uint8_t *value;
	size_t value_cap;
	uint8_t *past;
	size_t past_cap;
	uint8_t *record;
	size_t record_cap;
	struct { /* frames of an uncommitted pull, met while replaying */
		struct place *places;
		size_t num;
	} parts;
	struct { /* objects without their bytes, met while replaying; len 0: given up */
		struct place *list;
		size_t num, cap;
	} holes;
	struct { /* notes of garbage taken back since the last commit (stored/gc_state.h) */
		uint8_t (*ids)[32];
		size_t num, cap;
	} promised;
	struct bulk bulk; /* rows of objects, while replaying */
	struct sealer *sealer;
	struct syncer *syncer;
	struct indexer *indexer;
	struct shrink *shrink;
	uint64_t sync_wanted; /* the highest ticket */
	uint64_t time;	      /* of the open frame, or the one being replayed */
	struct {	      /* what goes into `times` for it (stored/history.h) */
		uint8_t b[1800];
		size_t len, last, last_len;
		uint32_t seq;
	} noted;
	/* Directories whose place changed in the open frame: a cycle may have closed. */
	uint64_t *moved;
	size_t num_moved, moved_cap;
	uint8_t last_stamp[32]; /* row put last into `stamps`, to not put it again */
	size_t last_stamp_len;
	char error[512];
};

/* What the index is read and changed through. */
static inline struct db_txn *txn(struct engine *engine)
{
	return db_write(engine->db);
}

void engine_log(struct engine *engine, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Sets engine_error's text and returns err. */
int engine_fail(struct engine *engine, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A damaged index ends the engine, and the next one makes it anew. 0, or -EIO: it is broken. */
int engine_check_index(struct engine *engine);

/* For who needs all that was changed until now to be in LMDB, and has other things to do meanwhile:
 * a ticket, and whether LMDB has it: 0, or 1: not yet, the commit was moved on. -ENOSPC, -EIO. */
uint64_t engine_commit_ticket(const struct engine *engine);
int engine_commit_poll(struct engine *engine, uint64_t ticket);
/* Before one operation that changes so many rows that they should not all be in memory: until the
 * next checkpoint they go straight into LMDB. Not on a full disk. */
int engine_go_straight(struct engine *engine);
/* The same if it makes more changes than a frame has room for (options.part_size), about. */
int engine_expect(struct engine *engine, uint64_t num_changes);
/* No more changes fit into memory, nor the index on the disk. */
bool engine_is_full(const struct engine *engine);

/* As arenas_begin() and arenas_roll(), at last on the reserve: an arena that follows needs room. */
int engine_begin_frame(struct engine *engine);
int engine_roll(struct engine *engine);

/* Damage, for the list of what is known (stored/census.c). Whether it was not in it, and is now. */
bool engine_note_range(struct engine *engine, uint32_t arena, uint64_t from, uint64_t to);
/* The same of a record that cannot be read back, and logged. */
void engine_note_record(struct engine *engine, struct place place);

/* At least len bytes of scratch. */
int scratch_grow(uint8_t **buf, size_t *cap, size_t len);

#endif
