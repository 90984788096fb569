/*
 * The file `superblocks`: a copy of every arena's superblock (stored/frame.h), that of arena N at
 * 64 * (N - 1). Without its superblock nothing in an arena can be checked, so that one bad sector
 * would cost a whole arena. Each copy has its own sum, and the arena's number; what is neither
 * right nor there is no copy. It is no part of format 2: a program that does not know the file
 * leaves it alone, and what is missing in it is added when the arenas are opened.
 */
#ifndef BAZIL_STORED_SUPERBLOCKS_H
#define BAZIL_STORED_SUPERBLOCKS_H

#include "stored/frame.h"
#include "stored/io.h"

#include <stddef.h>
#include <stdint.h>

struct superblocks {
	uint8_t *data;
	size_t len;
};

/* Calling order: superblocks_load, once; superblocks_get; superblocks_release. What cannot be read
 * is as if it were not there; so is the copy of an arena above number 1048576. */
void superblocks_load(struct superblocks *ret, const struct store_io *io, int dir_fd);
void superblocks_release(struct superblocks *s);
/* 0 or -ENOENT. */
int superblocks_get(const struct superblocks *s, uint32_t number, struct frame_super *ret);

/* The arena is durable with its name. Best effort. s: what is there already, for nothing to be
 * written again; NULL: not known. */
void superblocks_keep(const struct superblocks *s, const struct store_io *io, int dir_fd,
	const struct frame_super *super);

#endif
