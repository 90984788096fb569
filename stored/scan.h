/*
 * Going through the frames of one arena file, from a place on: what opening, sealing and checking
 * have in common. Stops behind a FRAME_END. Nothing is written. What the disk cannot read (-EIO) is
 * damage: no frame, or an object that is not what its id says.
 *
 * Calling order: scan_init once; scan_start for a file; scan_next until it is 0 or fails
 * (scan_start again for another file); scan_release. Payloads are valid until the next call.
 *
 * Uses only its own memory and io, so that it may run in another thread than the engine.
 */
#ifndef BAZIL_STORED_SCAN_H
#define BAZIL_STORED_SCAN_H

#include "stored/frame.h"
#include "stored/io.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where bytes lie. arena 0 is nowhere. */
struct place {
	uint32_t arena;
	uint32_t len;
	uint64_t offset;
};

struct frame_view {
	enum frame_type type;
	bool is_hole; /* an OBJECT whose sealed bytes are not those of its id */
	uint64_t sequence;
	uint64_t synced;	/* frames before this sequence were durable then */
	struct place place;	/* of the payload */
	const uint8_t *payload; /* without SCAN_SEALED only 64 bytes of an OBJECT; none of a GAP */
	const uint8_t *head;	/* FRAME_HEAD_SIZE bytes */
};

enum scan_flags {
	SCAN_SEALED = 1, /* reads sealed bytes and verifies them by the id */
	/* An object that is not what its id says is a hole; without it, damage. */
	SCAN_HOLES = 2,
	/* What is missing and not known by a later frame to have been durable is the end, with all
	 * that follows: a tail. scan.next, the first sequence to come, is to be set. -EIO: some of
	 * that cannot be read, so that nobody knows. */
	SCAN_TORN = 4,
	/* What cannot be read is -EIO; without it, damage. */
	SCAN_STRICT = 8,
};

enum scan_kind {
	SCAN_FRAME = 1,
	SCAN_DAMAGE = 2, /* [from, to) is no frame; is_tail: and nothing valid follows */
};

struct scan_item {
	struct frame_view frame;
	uint64_t from, to;
	bool is_tail;
};

struct digest;

struct scan {
	const struct store_io *io;
	int fd;
	uint32_t arena;
	uint8_t id[16];
	unsigned flags;
	uint64_t offset; /* of the next frame; behind the last one after the end */
	uint64_t end;
	uint64_t next; /* sequence of the next frame */
	uint64_t bad;  /* where damage began, or 0 */
	uint64_t lost; /* where the last block ends that could not be read */
	bool has_ended;
	uint8_t *window;
	size_t cap, len, want;
	uint64_t at; /* offset of window[0] */
	uint8_t head[FRAME_HEAD_SIZE];
	struct digest *digest;
};

int scan_init(struct scan *s, const struct store_io *io);
void scan_release(struct scan *s);
/* end: of the file, or of what is of interest. */
void scan_start(struct scan *s, int fd, uint32_t arena, const uint8_t id[16], uint64_t offset,
	uint64_t end, unsigned flags);
/* enum scan_kind, 0 at the end, or -errno. */
int scan_next(struct scan *s, struct scan_item *ret);

#endif
