/*
 * A ring of entries in shared memory: one process writes (producer), another reads (consumer), and
 * either may be killed at any instruction and replaced by a new process that maps the same memory.
 *
 * The memory is a memfd of fixed, sealed size: a header and a data area of a power of two, which is
 * mapped twice in a row, so that an entry that wraps around is in one piece for both. Positions are
 * counts of bytes since the ring was made, they never wrap: head is where the producer writes next,
 * tail where the consumer reads next, head - tail what is in between. An entry is { u32 len, u32
 * type, len bytes, padding to 8 }. It becomes visible by the store of head after it is complete;
 * what was not published when a producer dies never was. A new producer goes on at head, a new
 * consumer at tail: it sees again what its predecessor had not released. (Lamport's single-producer
 * single-consumer queue; the mirror as in Linux' perf and io rings' user-space readers.)
 *
 * Producer: ipc_ring_reserve(), fill in, ipc_ring_publish(). Several entries that must become
 * visible together: ipc_ring_reserve(), fill in, ipc_ring_stage() for each, then ipc_ring_commit()
 * (or ipc_ring_abort()). Then: if ipc_ring_must_kick(), wake the consumer by other means (a
 * notice). Consumer: ipc_ring_peek(), copy, use, ipc_ring_release(); then if ipc_ring_must_kick(),
 * tell the producer that there is room. To be done with entries later than they are read, walk by
 * ipc_ring_peek_at().
 *
 * Sleeping, either side: nothing there (or no room): ipc_ring_sleep_begin(), LOOK AGAIN, sleep if
 * still nothing, ipc_ring_sleep_end(). A process that maps the ring kicks the other side once,
 * since its predecessor may have died between must_kick and the kick, and looks at the ring before
 * its first sleep.
 *
 * The consumer trusts nothing: lengths are checked against head and the size (-EBADMSG), its tail
 * is its own. But data is shared memory and may change while one looks: COPY BEFORE CHECKING, use
 * only the copy.
 *
 * Sizes in bytes. Nothing here is thread-safe, each side belongs to one thread.
 */
#ifndef BAZIL_IPC_RING_H
#define BAZIL_IPC_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IPC_RING_SIZE_MIN  (64u << 10)
#define IPC_RING_SIZE_MAX  (1u << 30)
#define IPC_RING_USER_SIZE 256

struct ipc_ring;

enum ipc_ring_side {
	IPC_RING_PRODUCER,
	IPC_RING_CONSUMER,
};

/* A new ring; data_size is a power of two between the bounds. The descriptor is the caller's. */
int ipc_ring_create(size_t data_size, int *ret_fd);

/*
 * Maps a ring; fd stays the caller's and may be closed. -EBADMSG: no ring, damaged, or not sealed;
 * -EPROTONOSUPPORT: of another version; -ENOMEM.
 */
int ipc_ring_map(struct ipc_ring **ret, int fd, enum ipc_ring_side side);
/* NULL is allowed. */
void ipc_ring_unmap(struct ipc_ring *ring);

size_t ipc_ring_size(const struct ipc_ring *ring);
/* 256 bytes, 64-byte aligned, zero in a new ring, that both sides may use as they agree. */
void *ipc_ring_user(struct ipc_ring *ring);
/* Where the last published entry ends, and where the first unreleased one begins. Either side may
 * ask. */
uint64_t ipc_ring_head(const struct ipc_ring *ring);
uint64_t ipc_ring_tail(const struct ipc_ring *ring);
/* What an entry of len bytes takes. At most ipc_ring_size() in all fit at a time. */
uint64_t ipc_ring_entry_size(uint32_t len);

/* --- producer --- */

/*
 * Room for an entry of up to len bytes behind what is staged, 8-byte aligned; the same room again
 * until it is staged or published. NULL: there is none now (or never, when it exceeds the ring).
 */
void *ipc_ring_reserve(struct ipc_ring *ring, uint32_t len);
/* The entry reserved is complete; len may be less than what was reserved. */
void ipc_ring_stage(struct ipc_ring *ring, uint32_t type, uint32_t len);
/* All that is staged becomes visible at once; returns the new head. */
uint64_t ipc_ring_commit(struct ipc_ring *ring);
/* Forgets what is staged. */
void ipc_ring_abort(struct ipc_ring *ring);
/* Stage and commit. */
void ipc_ring_publish(struct ipc_ring *ring, uint32_t type, uint32_t len);
/* Reserve, copy, stage. -EAGAIN: no room. */
int ipc_ring_append(struct ipc_ring *ring, uint32_t type, const void *data, uint32_t len);

/* --- consumer --- */

/*
 * The first unreleased entry: 1, 0 when there is none, -EBADMSG. ret_end is where it ends: what
 * ipc_ring_release() takes, or ipc_ring_peek_at() to go on.
 */
int ipc_ring_peek(struct ipc_ring *ring, uint64_t *ret_end, uint32_t *ret_type,
	const void **ret_data, uint32_t *ret_len);
/* The same of the entry that begins at pos, between tail and head. -EINVAL: not between them. */
int ipc_ring_peek_at(struct ipc_ring *ring, uint64_t pos, uint64_t *ret_end, uint32_t *ret_type,
	const void **ret_data, uint32_t *ret_len);
/* Everything before this position may be overwritten. Positions only go up. */
void ipc_ring_release(struct ipc_ring *ring, uint64_t upto);

/* --- both --- */

/* After publishing or releasing: did the other side announce that it sleeps? Says so once. */
bool ipc_ring_must_kick(struct ipc_ring *ring);
void ipc_ring_sleep_begin(struct ipc_ring *ring);
void ipc_ring_sleep_end(struct ipc_ring *ring);

#endif
