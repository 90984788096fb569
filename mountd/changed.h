/*
 * What a pull changed must be forgotten: first here, then by the kernel. Telling the kernel can
 * block until it has written or read pages, for which it may need answers from us; so a thread does
 * it that does nothing else and holds nothing.
 *
 * Names that are known are invalidated one by one. Of a link that is gone only a keyed tag is told;
 * when its name is not cached here any more, the kernel is told to look up every name again when
 * it next needs it (FUSE_NOTIFY_INC_EPOCH, Linux 6.16). On older kernels names are believed for
 * a second only (mountd/request.c).
 */
#ifndef BAZIL_MOUNTD_CHANGED_H
#define BAZIL_MOUNTD_CHANGED_H

#include <stddef.h>
#include <stdint.h>

struct changed;
struct inode;
struct mountd;

/* Starts the thread, inside the sandbox. It ends with the process. */
int changed_new(struct changed **ret, struct mountd *m);

/*
 * Loads attr and counts anew while unstored bytes stay on top of the old contents: what was pulled
 * stays beside them, see `view` in stored/intake.h. What is gone stays as it was, without a link:
 * somebody may have it open. An error leaves it stale.
 */
int changed_refresh(struct mountd *m, struct inode *inode);

/* Everything may have changed up to this view. */
void changed_all(struct changed *changed, uint64_t view);
/* Tells the kernel, later and from the thread. */
void changed_forget_name(struct changed *changed, uint64_t parent, const char *name, size_t len);
void changed_forget_inode(struct changed *changed, uint64_t oid);
/* A file was stored that a pull had changed meanwhile: its versions are looked at anew, soon. */
void changed_look_again(struct changed *changed, uint64_t oid);

#endif
