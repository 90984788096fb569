/*
 * Beginning to serve: keys, maps of the shared memory, the root, what an earlier mountd left, then
 * the kernel. The order matters: everything that a request needs is there before the first is
 * read.
 */
#ifndef BAZIL_MOUNTD_MOUNT_H
#define BAZIL_MOUNTD_MOUNT_H

struct mountd;
struct work_mount;

/* Takes the descriptors of req. *ret_why: what failed, for people. */
int mount_begin(struct mountd *m, const struct work_mount *req, const char **ret_why);

#endif
