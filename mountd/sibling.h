/*
 * Conflicts of contents: a file that was written on two computers apart has several bodies. The
 * winner is the file (tree/view.h); each other one is shown beside it as a read-only file
 * NAME.conflict-REPLICA-N, the same on every peer.
 *
 * Siblings are not stored anywhere: they are inodes of our own making, with numbers computed from
 * the file and the writer's stamp, in a range of replica numbers that is never given out. They stay
 * cached (pinned) until the conflict ends.
 *
 * How it ends: writing to the file replaces all bodies that were seen, and so does removing the one
 * sibling that there is. With more than one, removing is refused (EPERM): it would take the
 * others as well. Renaming one is refused by EXDEV, upon which mv copies it and removes it; over
 * its own file by EPERM, as mv would remove the file first, and removing the file removes all that
 * it was. cp does that.
 */
#ifndef BAZIL_MOUNTD_SIBLING_H
#define BAZIL_MOUNTD_SIBLING_H

#include <stddef.h>
#include <stdint.h>

#include "mountd/inode.h"

struct mountd;
struct sealed_link;

#define SIBLING_REPLICA UINT32_C(0x7fffffff)

/* NAME.conflict-REPLICA-N; out has room for a name. Returns its length: a long name is cut. */
size_t sibling_name(char *out, const char *name, size_t len, uint32_t replica, uint32_t rank);
/* Puts the siblings of a file beside its name in a loaded directory. */
int sibling_add(struct mountd *m, struct inode *dir, const struct sealed_link *link);
/* The conflict is over, or the file is elsewhere: forgets the siblings, tells the kernel. */
void sibling_drop(struct mountd *m, struct inode *inode);
/* Removing a sibling by its name. */
int sibling_remove(struct mountd *m, struct inode *sibling);

#endif
