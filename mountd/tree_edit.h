/*
 * What the operations that change the tree have in common: checking a new name, and what a change
 * does to the directory and to the inodes around it, in the batch and, once it is published, in
 * the caches.
 */
#ifndef BAZIL_MOUNTD_TREE_EDIT_H
#define BAZIL_MOUNTD_TREE_EDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mountd/dir.h"
#include "mountd/inode.h"
#include "mountd/publish.h"

#define EDIT_NLINK_MAX INT32_MAX

/* 0, -ENAMETOOLONG, -EROFS. */
int edit_check_name(const struct mountd *m, const char *name);
/* -EEXIST if there is such a name, 0 if not. Makes room for the directory's new times. */
int edit_check_free(struct mountd *m, struct inode *dir, const char *name);
/* A directory's times change (they are stored by age, like a file's bytes). Room for it was made by
 * edit_reserve. Before publishing: killed in between, the change is not done again, and its times
 * would be lost. */
int edit_reserve(struct mountd *m, struct inode *dir);
/* The same before a removal, which a full disk does not stop. */
int edit_reserve_removal(struct mountd *m, struct inode *dir);
/* Its times, of an inode that contents_touch() or these made ready. */
void edit_touch(struct mountd *m, struct inode *inode, int64_t now);

/* The name that an entry has in its record. */
void edit_link_of(
	const struct inode *dir, const struct dirent_entry *entry, struct sealed_link *ret_link);
/* Caches: a name came, a name went. */
void edit_name_added(struct mountd *m, struct inode *dir, const struct sealed_link *link);
void edit_name_gone(struct mountd *m, struct inode *dir, struct dirent_entry *entry);

/*
 * Before a directory goes: the links that say that their directories are in it, while these are
 * shown in the root, out of a cycle (tree/view.h). They are put there with it, under the names
 * that they are shown by; else it would come back, as nothing is left without a place. Waits for
 * stored; -ENOTEMPTY: too many.
 */
#define EDIT_STRAYS_MAX 16
struct edit_strays {
	struct sealed_link links[EDIT_STRAYS_MAX];
	size_t num;
};
int edit_find_strays(struct mountd *m, const struct inode *inode, struct edit_strays *ret);

/*
 * The link of inode goes. Before publishing: adds to the batch what must change besides the link
 * (ctime, or the removal of an inode that nobody has open). After: does the same to the cache;
 * the inode may be gone then.
 */
void edit_unlink_prepare(
	struct batch *batch, struct inode *inode, const struct edit_strays *strays, int64_t now);
void edit_unlink_done(struct inode *inode, int64_t now);
/* The kernel let go of an inode without a link: it is removed. */
void edit_remove_orphan(struct mountd *m, uint64_t oid);
/* Inodes that an earlier mount left without a link. */
int edit_remove_orphans(struct mountd *m);

#endif
