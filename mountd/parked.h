/*
 * Requests of the kernel that wait without holding up others: reads of chunks that are in another
 * store, and fsyncs.
 *
 * A far read asks stored to fetch (store_fetch) and is tried again when the objects are here. It
 * ends at the latest after PARKED_DEADLINE_MS: EHOSTUNREACH when no storage that may have the
 * chunk can be reached, ETIMEDOUT when it was too slow, EIO when no known storage has it; and at
 * once with EINTR when the reader gets a signal.
 *
 * A restart of stored loses nothing: edges_open_store() calls parked_resume().
 */
#ifndef BAZIL_MOUNTD_PARKED_H
#define BAZIL_MOUNTD_PARKED_H

#include <stddef.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

struct mountd;

#define PARKED_DEADLINE_MS 20000

/* After contents_read said -EAGAIN. */
void parked_read(fuse_req_t req, uint64_t oid, uint64_t offset, size_t len);
/* Answers when everything published so far is durable. */
void parked_sync(fuse_req_t req);
/* stored is back: asks again for all of them. */
void parked_resume(struct mountd *m);
/* The kernel is gone: forgets all. */
void parked_drop(struct mountd *m);

#endif
