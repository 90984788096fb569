/*
 * What a directory must be for a volume to be mounted on it: a directory of ours, empty, and not a
 * mount point already. fusermount3 checks the rights again, as the only one who can do it without a
 * race; these checks are for the clear message, and for the emptiness that fusermount3 does not ask
 * for.
 */
#ifndef BAZIL_MOUNTER_MOUNTPOINT_H
#define BAZIL_MOUNTER_MOUNTPOINT_H

#include <stdbool.h>

#include "mounter/fusermount.h"

/*
 * path: absolute, without symbolic links. Returns 0, or -errno with why not and what to do in
 * `why`. The path is looked up in the table of mounts before it is touched: a dead mount on it
 * cannot hang us.
 */
int mountpoint_check(const char *path, char why[FUSERMOUNT_WHY]);

/* Is something mounted exactly at path? Reads /proc/self/mountinfo (proc(5)) and touches nothing
 * else. */
bool mountpoint_mounted(const char *path);

#endif
