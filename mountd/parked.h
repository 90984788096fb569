/*
 * Requests of the kernel that wait without holding up others: reads of chunks that are in another
 * store, fsyncs, and fsyncs of files that cannot be stored without nodes that are in another store
 * (flush.h).
 *
 * A far read asks stored to fetch (store_fetch) and is tried again when the objects are here. It
 * ends at the latest after PARKED_DEADLINE_MS: EHOSTUNREACH when no storage that may have the
 * chunk can be reached, ETIMEDOUT when it was too slow, EIO when no known storage has it; and at
 * once with EINTR when the reader gets a signal.
 *
 * An fsync of such a file waits as long and ends by the same errors. The file stays dirty then:
 * what was written is where it was before the fsync, in memory that outlives mountd but no power
 * loss, and is stored when a peer can be reached, for which its nodes are asked for again and
 * again, or refused to be given up by an unmount (unmount.h).
 *
 * A restart of stored loses nothing: edges_open_store() calls parked_resume().
 */
#ifndef BAZIL_MOUNTD_PARKED_H
#define BAZIL_MOUNTD_PARKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

struct mountd;

#define PARKED_DEADLINE_MS 20000
#define PARKED_PAUSE_S	   10.0

/* After contents_read said -EAGAIN. */
void parked_read(fuse_req_t req, uint64_t oid, uint64_t offset, size_t len);
/* Answers when everything published so far is durable. */
void parked_sync(fuse_req_t req);
/* An fsync whose flush_inode() said -EAGAIN. */
void parked_store(fuse_req_t req, uint64_t oid);
/* The same of nobody, for a file that is stored by age: one at a time, and after a failure not
 * again for PARKED_PAUSE_S. */
void parked_store_aside(struct mountd *m, uint64_t oid);
/* For any of the files that are so. false: none, or it is such a pause. */
bool parked_store_far(struct mountd *m);
/* stored is back: asks again for all of them. */
void parked_resume(struct mountd *m);
/* The kernel is gone: forgets all. */
void parked_drop(struct mountd *m);

#endif
