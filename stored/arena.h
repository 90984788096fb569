/*
 * The arenas: append-only files of frames (stored/frame.h) that hold all objects and are the redo
 * log of everything else.
 *
 * Calling order: arenas_open; arenas_scan from where the index ends (this also cuts a torn tail);
 * then any number of  arenas_begin, arenas_add..., arenas_end  (or arenas_cancel)  which only fill
 * a buffer; arenas_flush writes the buffer with one pwrite; arenas_sync makes everything flushed
 * durable. arenas_read reads what was flushed. A frame's place is known from arenas_begin on.
 *
 * Errors: after -ENOSPC from arenas_flush the file is as it was before and the buffer is kept: the
 * caller makes room and flushes again, or drops it and goes back to the state that the log has. A
 * failed fdatasync is final (-EIO for ever after) and noted for the next opening (stored/failed.h):
 * the kernel may have marked the pages clean; the process must end.
 *
 * The last arena is open; of the others only some are, those used of late, and all are opened again
 * when they are needed: so there may be more arenas than descriptors.
 *
 * Not for use from several threads.
 */
#ifndef BAZIL_STORED_ARENA_H
#define BAZIL_STORED_ARENA_H

#include "stored/frame.h"
#include "stored/io.h"
#include "stored/scan.h"
#include "stored/sealed_arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena {
	uint32_t number;
	int fd;	       /* -1: not open now */
	uint64_t used; /* when, by the clock of struct arenas */
	uint8_t id[16];
	uint64_t sequence; /* of its first frame */
	uint64_t size;	   /* end of the last frame written */
	bool has_ended;	   /* by FRAME_END: nothing is appended any more */
	bool is_sealed;	   /* it has a footer (stored/sealed_arena.h) behind size */
	bool is_left;	   /* sealing failed; not tried again before the next opening */
};

/* Who has the descriptor of an arena for longer than a call: it stays open meanwhile. */
enum arenas_borrower {
	ARENAS_SCAN,
	ARENAS_SEALER, /* stored/sealer.h */
	ARENAS_SYNCER, /* stored/syncer.h */
	ARENAS_GC,     /* stored/gc_walk.c */
	ARENAS_NUM_BORROWERS,
};

#define ARENAS_OPEN_MAX	  256
#define ARENAS_FRAMES_MAX (1u << 20)

struct arenas {
	const struct store_io *io;
	int dir_fd;
	uint64_t arena_size; /* a new arena is begun behind this size, */
	uint64_t frames_max; /* or behind so many frames: sealing keeps 88 bytes for each */
	struct arena *list;  /* ascending numbers; the last is appended to */
	size_t num;
	size_t num_open, open_max; /* descriptors: more are closed, the longest unused first */
	uint64_t clock;
	uint32_t lent[ARENAS_NUM_BORROWERS]; /* numbers of arenas; 0: none */
	uint64_t next_sequence;
	uint64_t flushed; /* frames before this sequence are written */
	uint64_t synced;  /* and before this one durable */
	uint64_t scanned; /* and before this one were there at arenas_scan */
	uint8_t *buf;	  /* frames not written yet, for offset list[num - 1].size */
	size_t len, cap;
	size_t frame; /* where the open frame starts in buf */
	bool is_open;
	uint64_t written;	 /* counts writes, and */
	uint64_t durable;	 /* how many of them are durable */
	struct place durable_at; /* frames before are; arena 0: not known */
	bool has_failed;
	struct arenas_note *notes; /* what was wrong with superblocks */
	size_t num_notes;
	bool skips_unreadable; /* arenas_scan takes what the disk cannot read for damage */
	uint32_t num_aside;    /* arenas set aside, now or earlier */
	uint32_t max_aside;    /* and the highest number of one; it is not given again */
};

/* A superblock that was written again from its copy (stored/superblocks.h), or an arena without
 * either, which was renamed to arena.NNNNNNNN.bad and is not looked into. */
struct arenas_note {
	uint32_t number;
	bool is_aside;
};

/* Returns 0 to go on. */
typedef int arenas_frame_fn(void *arg, const struct frame_view *frame);
/* Bytes that are no frame although valid ones follow, or a cut tail. */
typedef void arenas_damage_fn(void *arg, uint32_t arena, uint64_t from, uint64_t to, bool is_tail);

/* Opens the arenas that there are; makes the first when there is none and create is set. open_max:
 * descriptors to keep, 0: ARENAS_OPEN_MAX. Damaged
 * superblocks are mended, or their arenas set aside, as a->notes tells. -EBADMSG with *ret_bad set:
 * none would be left; -EPROTONOSUPPORT: one is of a newer program. */
int arenas_open(struct arenas *a, const struct store_io *io, int dir_fd, uint64_t arena_size,
	size_t open_max, bool create, uint32_t *ret_bad);
void arenas_release(struct arenas *a);

/*
 * Visits every valid frame from (arena, offset) on; arena 0 means from the start. Of a sealed arena
 * the footer is read, and the frames that are no objects; of another all, and objects are verified:
 * those whose bytes are not what the id says are visited as holes. An object's payload may be its
 * first 64 bytes only. Damage in the middle of what was durable is skipped and told; what cannot be
 * read is -EIO, or such damage (skips_unreadable). The last arena
 * is cut where the first frame is missing that no later one knows to have been durable: a crash
 * lost it, and what came after it never was without it. Afterwards appending continues at the end.
 */
int arenas_scan(struct arenas *a, uint32_t arena, uint64_t offset, arenas_frame_fn *fn,
	arenas_damage_fn *damage, void *arg);

/*
 * Visits and verifies the frames from *at on (arena 0: from the start), about max bytes of them,
 * and moves *at behind them. Changes nothing; nothing may be unflushed. 1: there is more; 0: the
 * end.
 */
int arenas_verify(struct arenas *a, struct place *at, uint64_t max, uint64_t *ret_bytes,
	arenas_frame_fn *fn, arenas_damage_fn *damage, void *arg);
/* Bytes of all arenas. */
uint64_t arenas_size(const struct arenas *a);

/* Begins a frame; rolls over to a new arena first when the last is full (flushing and syncing). */
int arenas_begin(struct arenas *a);
/* Room for len more bytes of payload, uninitialised; valid until the next call. NULL: no memory. */
uint8_t *arenas_add(struct arenas *a, size_t len);
/* Place that the next byte added will have. */
struct place arenas_next(const struct arenas *a);
uint8_t *arenas_payload(struct arenas *a, size_t *ret_len);
/* Ends the frame; ret_place may be NULL. */
int arenas_end(struct arenas *a, enum frame_type type, struct place *ret_place);
void arenas_cancel(struct arenas *a);

/* Begins a new arena now, flushing and syncing the last. */
int arenas_roll(struct arenas *a);

int arenas_flush(struct arenas *a);
void arenas_drop(struct arenas *a); /* forgets what was not flushed */
int arenas_sync(struct arenas *a);
/*
 * The same in pieces: begin, wait in another thread (appending may go on), end with its result. It
 * covers what was flushed when it began. The arenas are not released in between.
 */
struct arenas_sync {
	const struct store_io *io;
	int dir_fd, fd;
	uint64_t written, flushed;
	struct place at, durable_at;
};
void arenas_sync_begin(const struct arenas *a, struct arenas_sync *ret);
int arenas_sync_wait(const struct arenas_sync *sync);
int arenas_sync_end(struct arenas *a, const struct arenas_sync *sync, int result);
/* Whether everything is durable that was flushed when a->written had this value. */
bool arenas_is_durable(const struct arenas *a, uint64_t written);
/* Where the next frame will be: what a checkpoint records. Nothing may be unflushed. */
struct place arenas_position(const struct arenas *a);
bool arenas_is_before(struct place x, struct place y);

/* NULL: there is none of this number. Valid until one is begun or unlinked. */
struct arena *arenas_find(const struct arenas *a, uint32_t number);
/* -EBADMSG: its arena is not there; -EIO: past its end. */
int arenas_read(struct arenas *a, struct place place, void *data);
/* A descriptor for reading and punching, good until the next call; -ENOENT. */
int arenas_fd(struct arenas *a, uint32_t number);
/* The same, good until it is given back; a borrower has one at a time. */
int arenas_lend(struct arenas *a, uint32_t number, enum arenas_borrower who);
void arenas_give_back(struct arenas *a, enum arenas_borrower who);
/* The arena's footer, to be closed by sealed_arena_close. It has the descriptor of arenas_fd.
 * -ENOENT, -ENODATA: not sealed; -EBADMSG: its footer is damaged. */
int arenas_open_sealed(struct arenas *a, uint32_t number, struct sealed_arena *ret);
/*
 * Removes a sealed arena, durable when it returns: -EBUSY if it is not sealed, or lent; a name that
 * may come back is final as a failed fdatasync is. The index must be
 * committed without any place in it and with a position behind it (engine_checkpoint), and all of
 * its frames that are no objects must be of no use any more: a rebuild will not see them.
 */
int arenas_unlink(struct arenas *a, uint32_t number);
/* A new read-only descriptor of the arena, the caller's; -ENOENT. */
int arenas_open_one(const struct arenas *a, uint32_t number);

#endif
