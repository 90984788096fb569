/*
 * Mounts that a killed supervisor has left: the kernel says "Transport endpoint is not connected"
 * on them until somebody unmounts them. Only those are touched that the old lock file names and
 * that are mounts of ours in /proc/self/mountinfo (proc(5)); nothing in them is looked at.
 */
#ifndef BAZIL_SUPERVISOR_STALE_H
#define BAZIL_SUPERVISOR_STALE_H

struct supervisor;

/* The mounter is ready. Asks it to detach them, and waits. */
void stale_detach(struct supervisor *s);

#endif
