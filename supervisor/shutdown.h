/*
 * The orderly end: mounts first, since their last changes pass through everybody else, then the
 * network, then the store, then the keys. Afterwards there is no process, no mount and no socket.
 */
#ifndef BAZIL_SUPERVISOR_SHUTDOWN_H
#define BAZIL_SUPERVISOR_SHUTDOWN_H

struct supervisor;

/* From main, not from a callback. Each step has its time; who exceeds it is killed. */
void shutdown_all(struct supervisor *s);

#endif
