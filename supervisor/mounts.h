/*
 * Mounted volumes: what must outlive a mountd, and the way up and down.
 *
 *   mount_start: ASKING stored for the volume -> ATTACHING by the mounter -> STARTING a mountd ->
 * MOUNTED mount_stop, or unmounted from outside: LEAVING: mountd stores what is dirty and ends ->
 * gone
 *
 * The supervisor keeps, and never maps or reads: the kernel's connection, the memory of the session
 * and of dirty files, and the ring to stored. A mountd that dies is replaced and given all of them
 * again: open files stay open and calls wait. When it dies 5 times in 30 seconds by its own fault,
 * or is killed 20 times, the mount is taken down, so that programs get errors instead of waiting
 * for ever.
 */
#ifndef BAZIL_SUPERVISOR_MOUNTS_H
#define BAZIL_SUPERVISOR_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/child.h"

struct ipc_call;
struct ipc_chan;
struct supervisor;

/* ctl_volume_mount.flags and work_mount.flags */
#define MOUNT_READ_ONLY	  1u
#define MOUNT_ALLOW_OTHER 2u
/* ctl_volume_mount.flags and ctl_mount.flags: it comes back with every start (auto_mounts.h) */
#define MOUNT_AUTO	  4u

#define MOUNT_DEATHS_MAX   20
#define MOUNT_FAULT_WEIGHT 4 /* a death by its own fault is worth so many kills from outside */

enum mount_state { MOUNT_ASKING, MOUNT_ATTACHING, MOUNT_STARTING, MOUNT_MOUNTED, MOUNT_LEAVING };

struct mount {
	struct mount *next;
	struct supervisor *supervisor;
	enum mount_state state;
	uint64_t id;	      /* of its edges */
	uint64_t incarnation; /* random: of this mount, not of its mountds */
	char volume[65], sharing[65];
	uint8_t volume_id[16];
	char *path;
	uint32_t flags;
	uint64_t at; /* as work_mount.at */
	int fuse, state_fd, dirty, ring,
		meta; /* keep.h; meta says to the next supervisor what this is */
	struct child child;
	struct ipc_call *call; /* who waits for it to be up, or down */
	bool is_auto;	       /* to be noted when it is up */
	bool attached;	       /* the kernel has it */
	bool is_over;	       /* mountd need not come back */
	bool detaching;
	char failure[600]; /* why it did not come up, or went down by itself */
	double deaths[MOUNT_DEATHS_MAX];
	struct ev_timer timer;
	struct ev_timer retire;
};

/* Both answer the call, later. call NULL: nobody waits, auto_mounts.h is told how it went. */
void mount_start(struct supervisor *s, struct ipc_call *call, const char *volume, const char *path,
	uint32_t flags, uint64_t at);
void mount_stop(struct supervisor *s, struct ipc_call *call, const char *target, bool force);

/* By volume name, the live one before those of an instant; NULL. */
struct mount *mounts_find(struct supervisor *s, const char *volume);

/* What child.c tells of a mount's mountd. */
void mount_child_running(struct mount *m);
void mount_child_unmounted(struct mount *m);
/* Returns true when it is not to be started again. */
bool mount_child_died(struct mount *m);
void mount_child_stopped(struct mount *m);
bool mount_is_over(const struct mount *m);

/* After a start with keep_take(): mounts that are there already get their mountds. */
void mounts_resume(struct supervisor *s);

/* Who serves all mounts dies again and again by itself: they are taken down, callers get errors. */
void mounts_give_up(struct supervisor *s, const char *role);

/* For shutdown.c: takes it down without an asker; called again with force when it is busy. */
void mount_leave(struct mount *m, bool force);

/* Between mounts.c (up), leave.c (down) and keep.c. */
struct mount *mount_new(
	struct supervisor *s, const char *volume, const char *path, uint32_t flags, uint64_t at);
void mount_free(struct mount *m);
struct mount *mounts_at(struct supervisor *s, const char *target);
struct ipc_chan *mount_mounter(struct supervisor *s);
void mount_set_failure(struct mount *m, const char *why);
void mount_on_timer(struct ev_loop *loop, struct ev_timer *w, int events);
void mount_on_retire(struct ev_loop *loop, struct ev_timer *w, int events);

#endif
