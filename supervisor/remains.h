/*
 * Workers that are dead while the kernel holds back a thread of theirs, so that no pidfd tells it.
 * A mountd is, when it was telling the kernel to drop pages and these are being written: its thread
 * waits, deaf to signals, for an answer to the writer that only the next mountd gives. So the next
 * one cannot wait for its end.
 *
 * Such a thread runs none of its program's code any more, and has a table of descriptors of its own
 * (mountd/changed.c); with the others go their table, the end of the work channel and the lock on
 * the state memory. So this is looked for when the channel has ended.
 */
#ifndef BAZIL_SUPERVISOR_REMAINS_H
#define BAZIL_SUPERVISOR_REMAINS_H

#include <sys/types.h>

struct child;
struct supervisor;

void remains_init(struct child *c);
/* From the end of its work channel on, until remains_stop(): child_abandon() when it is so. */
void remains_watch(struct child *c);
void remains_stop(struct child *c);

/* Takes pidfd, and reaps the process when the kernel lets it go. */
void remains_keep(struct supervisor *s, int pidfd);
/* Forgets them all: init reaps them. */
void remains_release(struct supervisor *s);

/* The letter of /proc/PID/stat; '?': there is no such process. */
char remains_state(pid_t pid);

#endif
