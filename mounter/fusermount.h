/*
 * The way to /dev/fuse for everybody: fusermount3 (Debian package fuse3), the setuid helper of
 * libfuse. It opens the device, mounts, and sends the descriptor over the socket named by the
 * environment variable _FUSE_COMMFD, as a SCM_RIGHTS message with one byte. The options given are a
 * fixed string but for the volume's name, of which only letters, digits, dot, dash and underscore
 * are passed on.
 */
#ifndef BAZIL_MOUNTER_FUSERMOUNT_H
#define BAZIL_MOUNTER_FUSERMOUNT_H

#include <stdbool.h>

/* Room for a reason: what is wrong and what to do. */
#define FUSERMOUNT_WHY 600

/*
 * Mounts at path. *ret_fuse is the kernel connection, close-on-exec, owned by the caller; the mount
 * lives as long as a copy of it is open. Returns 0, or -errno with `why` set. Waits for at most 10
 * seconds.
 */
int fusermount_mount(const char *path, const char *volume, bool read_only, bool allow_other,
	int *ret_fuse, char why[FUSERMOUNT_WHY]);

/* Unmounts; lazy: detaches also when it is busy or dead. -EBUSY, -ENOENT (nothing is mounted
 * there). */
int fusermount_unmount(const char *path, bool lazy, char why[FUSERMOUNT_WHY]);

#endif
