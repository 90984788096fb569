/*
 * The file `format` of a store: text, one setting a line, looked at before anything is opened for
 * writing, so that a newer store is not touched by an older program.
 *
 *   bazil store
 *   version 4
 *   hash sha256
 *   arena-size 1073741824     bytes behind which a new arena is begun, FORMAT_ARENA_MIN to
 *                             FORMAT_ARENA_MAX; 1 GiB when it is missing; may be edited while no
 *                             server runs
 *
 * Version 1 has neither sealed arenas nor FRAME_FREED and FRAME_END (stored/frame.h), and its log
 * no snapshots and nothing of retention (stored/change.h). Its arenas are
 * sealed one after another while it is in use. Version 2 has no FRAME_GAP. Version 3 has no bases
 * (stored/base.h), and all arenas from the first on. Opening makes either version 4.
 *
 * The files `superblocks` and `failed`, and arenas that were set aside, are no part of the version:
 * a program of version 2 that does not know them works without.
 *
 * Other lines are of a program that knows more, and are kept out: -EBADMSG.
 */
#ifndef BAZIL_STORED_FORMAT_H
#define BAZIL_STORED_FORMAT_H

#include "stored/io.h"

#define FORMAT_ARENA_MIN (4u << 10)
#define FORMAT_ARENA_MAX (2u << 30)

struct format {
	unsigned version;
	uint64_t arena_size; /* 0: the default */
};

/* Of this version or an older: 0. -ENOENT; -EBADMSG (not a store, or a setting that makes no
 * sense); -EPROTONOSUPPORT with the version, which is newer. */
int format_read(const struct store_io *io, int dir_fd, struct format *ret);
/* In the version of this program. Durable when it returns. The last step of making a store. */
int format_write(const struct store_io *io, int dir_fd, const struct format *format);

#endif
