/*
 * Storing a file while it is being written: a window of its dirty extents is copied, sealed by the
 * helpers (sealers.h), and published when they are done, while requests are answered. One window
 * at a time in the whole process.
 *
 * The window is a copy: what is written into the file meanwhile is newer (its seq) and stays dirty.
 * A file that is cut, or that gets a hole, is no longer what was copied: stream_cancel. Whoever
 * stores the rest itself settles first: stream_settle. The order for a death anywhere is that of
 * flush.h.
 *
 * Steps that publish run only from the event loop, never while a handler waits in a nested one, or
 * by stream_settle and stream_finish.
 */
#ifndef BAZIL_MOUNTD_STREAM_H
#define BAZIL_MOUNTD_STREAM_H

#include <stdbool.h>
#include <stdint.h>

struct inode;
struct mountd;
struct stream;

int stream_new(struct stream **ret, struct mountd *m);

/* Begins with a window of the file. True: nothing is to be done now. False: this file is not
 * written in long stretches, it is for flush_inode. */
bool stream_start(struct stream *stream, struct inode *inode);
/* Goes on with what the helpers are done with. Cheap when there is nothing. */
void stream_poll(struct stream *stream);
bool stream_is_busy(const struct stream *stream);
bool stream_is_of(const struct stream *stream, uint64_t oid);

/* Ends the window of this inode, if it has one: stored, or still dirty when that failed. */
void stream_settle(struct stream *stream, uint64_t oid);
/* Its window is of no use any more. */
void stream_cancel(struct stream *stream, uint64_t oid);
/* Ends the window of whichever file; true: something was stored, more may be. */
bool stream_finish(struct stream *stream);

#endif
