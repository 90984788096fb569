/*
 * Mounts that come back with every start of the server (bazil volume mount -auto). stored keeps
 * them, among the settings of the volumes (ctl_auto_set); here is a copy.
 *
 * What cannot be mounted at the start (its directory is on a disk that comes later) is tried again
 * every 15 seconds until it was up once. What goes down later by itself, or by fusermount3 -u, as
 * the end of an operating system does it, stays so until the next start. `bazil volume unmount`
 * forgets it.
 *
 * Calling order: auto_mounts_begin when the server is up; the others from then on;
 * auto_mounts_release.
 */
#ifndef BAZIL_SUPERVISOR_AUTO_MOUNTS_H
#define BAZIL_SUPERVISOR_AUTO_MOUNTS_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct ipc_call;
struct supervisor;

struct auto_mount {
	struct auto_mount *next;
	char volume[65];
	char *path;
	uint32_t flags;	   /* without MOUNT_AUTO */
	bool was_up;	   /* since this server started */
	char failure[600]; /* why it is not */
};

struct auto_mounts {
	struct auto_mount *first;
	struct ev_timer again;
};

void auto_mounts_begin(struct supervisor *s);
void auto_mounts_release(struct supervisor *s);

/* NULL: there is none at this place. target: a path, or a volume's name. */
struct auto_mount *auto_mounts_find(struct supervisor *s, const char *target);

/* It is up: has it noted, then answers the ctl_volume_mount. */
void auto_mounts_add(struct supervisor *s, struct ipc_call *call, const char *volume,
	const char *path, uint32_t flags);
/* It is not up any more: has it forgotten if it was noted, then answers the ctl_volume_unmount. */
void auto_mounts_remove(struct supervisor *s, struct ipc_call *call, const char *path);

/* What has become of a mount that nobody waits for. */
void auto_mounts_came_up(struct supervisor *s, const char *path);
void auto_mounts_failed(struct supervisor *s, const char *path, const char *why);

#endif
