/*
 * The end of a mountd: everything written is stored and durable, then it goes.
 */
#ifndef BAZIL_MOUNTD_UNMOUNT_H
#define BAZIL_MOUNTD_UNMOUNT_H

struct mountd;

/* Stores what was written and waits until it is durable. */
int unmount_make_durable(struct mountd *m);
/* The kernel closed the connection: makes all durable, says work_unmounted, ends the process. What
 * a full disk does not take is lost. */
void unmount_happened(struct mountd *m);

#endif
