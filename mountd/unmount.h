/*
 * The end of a mountd: everything written is stored and durable, then it goes.
 */
#ifndef BAZIL_MOUNTD_UNMOUNT_H
#define BAZIL_MOUNTD_UNMOUNT_H

struct ipc_call;
struct mountd;

/* Before an unmount: stores what was written, waits some seconds for nodes that are in other
 * stores, and answers the call with what is left. Requests of the kernel go on meanwhile. */
void unmount_settle(struct mountd *m, struct ipc_call *call);
/* Stores what was written and waits until it is durable; until `until` for far nodes (flush_all).
 */
int unmount_make_durable(struct mountd *m, double until);
/* The kernel closed the connection: makes all durable, says work_unmounted, ends the process. What
 * a full disk does not take, or far nodes that cannot be had were needed for, is lost. */
void unmount_happened(struct mountd *m);

#endif
