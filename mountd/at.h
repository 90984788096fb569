/*
 * Node ids of history: what the kernel calls the file oid as it was at an instant.
 *
 *	bit 63 | number of the instant (15 bits) | number of the replica (16 bits) | counter (32
 *bits)
 *
 * oid is replica << 32 | counter. Instants and replicas are numbered in the state memfd
 * (mountd/state.h), so a node id means the same to the mountd after this one; there is no table of
 * nodes. A number of an instant is given out again only when the kernel holds no node of it.
 *
 * In a mount of an instant (m->at) node ids are oids, as in a live one.
 *
 * st_ino of a node of history is the node id, not the oid: with the same device and number cp, diff
 * and tar take the file of now and that of then for one file.
 */
#ifndef BAZIL_MOUNTD_AT_H
#define BAZIL_MOUNTD_AT_H

#include <stdbool.h>
#include <stdint.h>

#include "mountd/state.h"

struct mountd;

#define AT_BIT	    (UINT64_C(1) << 63)
/* The directory .snap, which is at no instant. */
#define AT_SNAP_DIR (AT_BIT | 1)

static inline bool at_is_history(uint64_t node)
{
	return node & AT_BIT;
}

static inline uint32_t at_index(uint64_t node)
{
	return (uint32_t)(node >> 48) & 0x7fff;
}

/* ns since the epoch, 0: now. */
uint64_t at_time(const struct mountd *m, uint64_t node);
uint64_t at_oid(const struct mountd *m, uint64_t node);
/* The node of oid at the instant of another node. 0: too many replicas. */
uint64_t at_node(struct mountd *m, uint64_t beside, uint64_t oid);
/* The root at an instant. -ENFILE: the kernel holds nodes of too many instants. */
int at_root(struct mountd *m, uint64_t time, uint64_t *ret_node);

#endif
