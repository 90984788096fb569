/*
 * Getting bytes of stored chunks and manifest nodes: where they lie (store_locate), the arena's
 * descriptor, pread, the chunk's key (keyd), open and check.
 *
 * Two caches: what is known of a chunk (place and key; asked for in batches, 256 at a time), and
 * a few plain chunks, bounded in bytes, for reads that take less than a whole chunk; the kernel's
 * page cache is the real cache above it.
 *
 * -EAGAIN: not in this store. chunks_missing then lists what to fetch (mountd/parked.h).
 */
#ifndef BAZIL_MOUNTD_CHUNKS_H
#define BAZIL_MOUNTD_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/manifest.h"

struct mountd;
struct chunks;

#define CHUNKS_CACHE_BYTES (24u << 20)
#define CHUNKS_BATCH	   256

int chunks_new(struct chunks **ret);

/* Whether chunks_prepare would have to ask. */
bool chunks_are_unknown(struct mountd *m, const struct cas_extent *extents, size_t num);
/* Finds places and keys of those extents that are not known yet, in one question each. */
int chunks_prepare(struct mountd *m, const struct cas_extent *extents, size_t num);
/* The bytes of the extent (its slice of the chunk), from skip on, len of them. */
int chunks_read(
	struct mountd *m, const struct cas_extent *extent, uint64_t skip, uint8_t *out, size_t len);
/* These will be wanted next: those that lie here are opened by the helpers meanwhile, as many as
 * AHEAD_GROUP. */
void chunks_read_ahead(struct mountd *m, const struct cas_extent *extents, size_t num);
/* A manifest node, opened: CAS_NODE_MAX bytes. For struct cas_tree_ops. */
int chunks_read_node(struct mountd *m, const struct cas_id *id, uint8_t *buf, size_t *ret_len);

/* What the last -EAGAIN missed. At most 64. */
size_t chunks_missing(const struct mountd *m, const struct cas_id **ret_ids);
/* Has it fetched, and waits for that until then (ev_time()). 0, or as parked.h says. */
int chunks_fetch_missing(struct mountd *m, double until);
/* They are here, but cannot be opened: damaged on the disk, or not ours. */
bool chunks_damaged(const struct mountd *m);
/* A key is known already from sealing: spares keyd the question when it is read back. */
void chunks_learn(struct mountd *m, const struct cas_id *id, const uint8_t key[32]);
/* Places may have changed: stored was restarted. */
void chunks_forget_places(struct mountd *m);

#endif
