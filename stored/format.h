/*
 * The file `format` of a store: text, one setting a line, looked at before anything is opened for
 * writing, so that a newer store is not touched by an older program.
 *
 *   bazil store
 *   version 1
 *   hash sha256
 */
#ifndef BAZIL_STORED_FORMAT_H
#define BAZIL_STORED_FORMAT_H

#include "stored/io.h"

/* 0, -ENOENT, -EBADMSG (not a store), -EPROTONOSUPPORT with *ret_version. */
int format_check(const struct store_io *io, int dir_fd, unsigned *ret_version);
/* Durable when it returns. The last step of making a store. */
int format_write(const struct store_io *io, int dir_fd);

#endif
