/*
 * The socketpairs between workers. An edge is made when the first of its ends can be handed over,
 * and made anew when a process that held an end died. The end of a worker that is not ready yet
 * waits here; what the other one sends meanwhile waits in the socket.
 */
#ifndef BAZIL_SUPERVISOR_EDGES_H
#define BAZIL_SUPERVISOR_EDGES_H

#include <stdint.h>

#include "supervisor/topology.h"

struct child;
struct mount;
struct supervisor;

/* All edges between the roles of which there is one process each. */
void edges_make(struct supervisor *s);

/* Those of a mount. */
void edges_make_mount(struct supervisor *s, struct mount *m);
void edges_drop_mount(struct supervisor *s, struct mount *m);

/* Of child, which is ready: hands over its ends. */
void edges_hand(struct supervisor *s, struct child *c);

/* child died: the ends that it held are worth nothing, and their other halves neither. */
void edges_renew(struct supervisor *s, struct child *c);

void edges_release(struct supervisor *s);

#endif
