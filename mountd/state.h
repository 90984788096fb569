/*
 * The state memfd: what a new mountd needs of the dead one to go on serving the same kernel
 * connection. The supervisor made it (sealed against resizing), holds it, and never maps it.
 *
 * It keeps the FUSE_INIT request and the reply that the kernel got: a new mountd feeds the request
 * to its own libfuse session and goes on only if it comes to the same reply (mountd/session.c).
 *
 * And it keeps one intent. A request that must not be done twice publishes exactly one batch for
 * its answer to the intake ring and is answered at once, one request after the other, so at most
 * one can be published and unanswered when mountd dies. Before publishing, the intent is set: the
 * request's unique, what to answer, and the head that the ring will have. The kernel sends the
 * request again; when the ring's head is at or past that position it was done, and is answered from
 * the intent instead of being done twice. Forgets, and parked fsyncs, may reach the new mountd
 * before it: what they publish (batch_publish_aside) does not touch the intent.
 *
 * It keeps the instants that the kernel looked into (mountd/at.h), with its references to nodes of
 * each, and the replica numbers of those nodes, so that node ids of history mean the same to the
 * next mountd.
 *
 * The bytes were written by a process that may have been broken: every length is checked.
 */
#ifndef BAZIL_MOUNTD_STATE_H
#define BAZIL_MOUNTD_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_INIT_MAX	256
#define STATE_REPLY_MAX 256
#define STATE_INSTANTS	2048u
#define STATE_REPLICAS	1024u

struct state_page;

struct state {
	struct state_page *page;
};

/*
 * Takes fd, and for as long as this process lives: no other process serves the mount meanwhile.
 * -EBUSY: one still does.
 */
int state_lock(int fd, int *ret_fd);

/* The memfd is given its header if it is all zero; -EPROTONOSUPPORT: of another version. Does not
 * keep fd. */
int state_map(struct state *state, int fd);
void state_unmap(struct state *state);

/* Whether an INIT was saved: this is not the first mountd of the mount. */
bool state_has_init(const struct state *state);
int state_save_init(struct state *state, const void *init, size_t init_len, const void *reply,
	size_t reply_len);
/* Copies of both; -ENOENT before the first INIT, -EBADMSG if damaged. */
int state_load_init(const struct state *state, uint8_t ret_init[STATE_INIT_MAX],
	size_t *ret_init_len, uint8_t ret_reply[STATE_REPLY_MAX], size_t *ret_reply_len);

/* Called before the ring's head becomes position. oid: the inode to answer with, 0: only success.
 */
void state_intend(struct state *state, uint64_t unique, uint64_t oid, uint64_t position);
/* Whether unique was already done, given the ring's head. unique as the kernel sent it. */
bool state_was_done(
	const struct state *state, uint64_t unique, uint64_t ring_head, uint64_t *ret_oid);

/* The instant of a mount of the past, ns; 0: not settled yet. */
uint64_t state_at(const struct state *state);
void state_set_at(struct state *state, uint64_t at);

/*
 * Instants are numbered from 1. find: 0 when it is not there. take: a free place, or one that the
 * kernel holds nothing of (*ret_reused: whatever is cached under it must go); -ENFILE.
 */
uint32_t state_instant_find(const struct state *state, uint64_t time);
int state_instant_take(struct state *state, uint64_t time, uint32_t *ret_index, bool *ret_reused);
/* 0: there is no such instant. */
uint64_t state_instant_time(const struct state *state, uint32_t index);
/* The kernel's references to nodes of this instant. */
void state_instant_count(struct state *state, uint32_t index, int64_t change);
/* -ENFILE. */
int state_replica_take(struct state *state, uint32_t replica, uint32_t *ret_index);
uint32_t state_replica(const struct state *state, uint32_t index);

#endif
