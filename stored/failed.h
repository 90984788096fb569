/*
 * The file `failed`: something could not be made durable, and the process ended.
 *
 * After a failed fdatasync the kernel may hold the unwritten pages as clean ones: who opens the
 * file next reads what is not on the disk, and its fdatasync says that all is well (Rebello et al.:
 * Can Applications Recover from fsync Failures? USENIX ATC 2020). So the next opening writes what
 * may be concerned once more, the same bytes, which makes the pages dirty again, and makes the
 * index anew if it was LMDB that failed; only then is anything believed or promised.
 *
 * Text, a line for each failure; all of them count:
 *
 *   arena 3 4096      what lies behind this place; of arena 0: all of the last arena
 *   index
 *
 * Anything else, an empty file too: all of the last arena, and the index. Best effort: the disk is
 * failing. If the file does not reach it, the power went off, and then what was in memory only is
 * gone as well.
 *
 * Calling order: failed_note_* at the failure, from any thread; at the next opening failed_read,
 * failed_rewrite before the arenas are scanned, and failed_clear when everything is durable.
 */
#ifndef BAZIL_STORED_FAILED_H
#define BAZIL_STORED_FAILED_H

#include "stored/io.h"
#include "stored/scan.h"

#include <stdbool.h>

struct arenas;

struct failed {
	bool is_there;
	bool is_index;	   /* the index is to be made anew */
	struct place from; /* arena 0: all of the last arena */
};

/* durable: where what is known to be durable ends. */
void failed_note_arena(const struct store_io *io, int dir_fd, struct place durable);
void failed_note_index(const struct store_io *io, int dir_fd);
/* r: what a commit of the index returned. Notes it if there may be less on the disk than there
 * seems to be. Returns r. */
int failed_note_commit(const struct store_io *io, int dir_fd, int r);

void failed_read(const struct store_io *io, int dir_fd, struct failed *ret);
/* Durable when it returns 0. The arenas are open and not yet scanned. */
int failed_rewrite(struct arenas *a, const struct failed *failed);
void failed_clear(const struct store_io *io, int dir_fd);

#endif
