/*
 * What peers ask of this node: the handlers of the `peer` schema (on_peer_*). Each passes the
 * question to stored with the identity that the handshake proved; stored decides what that peer may
 * see, and gives the same answer for what is not there and what is not allowed, as these handlers
 * do.
 *
 * Limits per session: SERVE_CALLS_MAX calls at once, SERVE_PULLS_MAX open pulls, SERVE_OBJECTS_MAX
 * calls for objects waiting for their turn. The turns go round the sessions; the bytes of objects
 * in memory on their way to all peers stay below SERVE_BYTES_MAX, plus one call's.
 */
#ifndef BAZIL_SYNCD_SERVE_H
#define BAZIL_SYNCD_SERVE_H

#include <stddef.h>

#define SERVE_CALLS_MAX	  128
#define SERVE_PULLS_MAX	  2
#define SERVE_OBJECTS_MAX 64
#define SERVE_BYTES_MAX	  (32u << 20)

struct link;
struct syncd;

/* The session is gone: what it had open at stored is closed. */
void serve_closed(struct link *link);

/* stored was replaced: open pulls are gone with it, calls for objects are asked again. */
void serve_restarted(struct syncd *d);

/* Starts what may be started. */
void serve_run(struct syncd *d);

#endif
