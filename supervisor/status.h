/*
 * `bazil server status`: what the supervisor knows of each process, and what each has counted.
 */
#ifndef BAZIL_SUPERVISOR_STATUS_H
#define BAZIL_SUPERVISOR_STATUS_H

struct ipc_call;
struct supervisor;

/* Asks every running worker for its counters, for at most 2 seconds, then answers. */
void status_answer(struct supervisor *s, struct ipc_call *call);

#endif
