/*
 * The edges to stored and keyd, and waiting for them. A neighbour may die at any time: its channel
 * closes, the supervisor restarts it and hands over a new edge, and what was asked is asked again.
 *
 *	do {
 *		r = store_inode_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
 *	} while (edge_again(m, r));
 *
 * edge_again answers true after the connection that was lost is back. Nothing is lost with a
 * connection: what was written is in the ring.
 */
#ifndef BAZIL_MOUNTD_EDGES_H
#define BAZIL_MOUNTD_EDGES_H

#include <stdbool.h>
#include <stdint.h>

struct ipc_chan;
struct mountd;

#define EDGE_WAIT_MS   30000
#define EDGE_RETURN_S  60.0 /* how long a dead neighbour may take to come back */
#define EDGE_SPIN_USEC 100

struct store_client {
	struct mountd *m;
};

struct key_client {
	struct mountd *m;
};

struct edges {
	struct store_client store_self;
	struct key_client key_self;
	struct ipc_chan *store, *key;
	bool is_attached; /* store_attach was answered on this connection */
};

/* Take fd. Opening the store's edge again attaches and repeats what was outstanding. */
int edges_open_store(struct mountd *m, int fd);
int edges_open_key(struct mountd *m, int fd);

/* Valid until the next wait; waits for the neighbour if it is away. NULL never. */
struct ipc_chan *edge_store(struct mountd *m);
struct ipc_chan *edge_key(struct mountd *m);
/* r is what a *_wait returned: true when the call should be repeated. */
bool edge_again(struct mountd *m, int r);

/* Runs the event loop once, kernel requests held back. */
void mountd_wait_once(struct mountd *m, double seconds);

/* The next inode number. */
int mountd_new_oid(struct mountd *m, uint64_t *ret_oid);

#endif
