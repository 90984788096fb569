/*
 * Objects on their way between peers and stored, through the two rings of the `sync` edge
 * (ipc/ring.h, entries as in stored/intake.h).
 *
 * In: objects_put() publishes in ring_in, or waits for room; done() tells when it is there, or that
 * the edge is gone. The order is kept. Out: what stored put into ring_out is copied out at once
 * (objects_take() gives it in the order in which it was asked for), so that stored never waits
 * long.
 *
 * objects_attach() at each new edge, objects_detach() when it is gone: then everything that waits
 * fails with -ECONNRESET, and what lies in ring_out was for calls that are gone as well.
 *
 * Shared memory may change while it is read, so nothing in it is looked at twice. What comes in is
 * bounded by the windows of the sessions, what goes out by the number of calls that serve.c has at
 * stored.
 */
#ifndef BAZIL_SYNCD_OBJECTS_H
#define BAZIL_SYNCD_OBJECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cas_suite;
struct ipc_chan;
struct ipc_ring;

struct object {
	struct object *next;
	uint8_t *data;
	size_t len;
};

typedef void objects_put_fn(void *arg, int err, uint64_t position);

struct object_put;

struct objects {
	struct cas_suite *suite;
	struct ipc_ring *ring_in, *ring_out;
	struct object_put *first_put, **last_put;
	struct object *first_taken, **last_taken;
};

/* -ENOMEM */
int objects_init(struct objects *o);
void objects_release(struct objects *o);

/* Takes the descriptors. */
int objects_attach(struct objects *o, int ring_in, int ring_out);
void objects_detach(struct objects *o);

/* Is this the object's id? */
bool objects_are(struct objects *o, const uint8_t id[32], const uint8_t *data, size_t len);

/* Takes data; done() may come before this returns. sync: to wake stored. */
void objects_put(struct objects *o, struct ipc_chan *sync, uint8_t *data, size_t len,
	objects_put_fn *done, void *arg);

/* stored says that there is something to take or room to put. -EBADMSG: what it put there is not
 * what was agreed; -ENOMEM. The edge is of no more use then. */
int objects_run(struct objects *o, struct ipc_chan *sync);

/* The next one that stored sent; the caller frees data and itself. NULL: none. */
struct object *objects_take(struct objects *o);

#endif
