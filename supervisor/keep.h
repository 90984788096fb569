/*
 * What outlives a supervisor: the descriptors of its mounts, and over an upgrade its sockets too.
 *
 *   upgrade.c   the supervisor becomes the new program by execve(2): descriptors stay open, and
 *               $BAZIL_KEPT says which is which
 *   systemd     keeps copies (notify.h) and gives them back as $LISTEN_FDS when the supervisor was
 *               killed and is started again
 *
 * Either way the new one calls keep_take() first, and has mounts again whose callers only wait:
 * mounts_resume() starts their mountds. A mount has five descriptors, called
 * bazil.INCARNATION.PART; the part `meta` is a memfd that says which volume is mounted where. It
 * has a magic and a version: what is not understood is let go, and its mount then fails with errors
 * instead of hanging.
 */
#ifndef BAZIL_SUPERVISOR_KEEP_H
#define BAZIL_SUPERVISOR_KEEP_H

#include <stddef.h>

struct mount;
struct supervisor;

/* m has its descriptors: describes it, and lets systemd keep copies. 0 or -errno. */
int keep_mount(struct mount *m);

/* systemd's copies go; again is harmless. */
void keep_forget(const struct mount *m);

/* What an earlier life left: s->mounts, s->listener, s->ctl_listener. Before anything is opened. */
void keep_take(struct supervisor *s);

/* Everything stays open over an execve(2), or not any more. */
int keep_over_exec(struct supervisor *s);
void keep_not_over_exec(struct supervisor *s);

#endif
