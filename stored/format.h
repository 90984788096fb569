/*
 * The file `format` of a store: text, one setting a line, looked at before anything is opened for
 * writing, so that a newer store is not touched by an older program.
 *
 *   bazil store
 *   version 2
 *   hash sha256
 *
 * Version 1 has neither sealed arenas nor FRAME_FREED and FRAME_END (stored/frame.h). Opening makes
 * it version 2, and its arenas are sealed one after another while it is in use.
 */
#ifndef BAZIL_STORED_FORMAT_H
#define BAZIL_STORED_FORMAT_H

#include "stored/io.h"

/* 0 with the version, this or an older; -ENOENT, -EBADMSG (not a store), -EPROTONOSUPPORT with the
 * version: newer. */
int format_check(const struct store_io *io, int dir_fd, unsigned *ret_version);
/* Durable when it returns. The last step of making a store. */
int format_write(const struct store_io *io, int dir_fd);

#endif
