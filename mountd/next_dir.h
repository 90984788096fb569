/*
 * Who walks over a tree (find, grep -r, a backup) lists one directory after the other, or looks at
 * each name that it knows of (rsync, tar), and each directory needs a page from stored. Once two
 * were visited in the order of a walk, the page of the next one is asked for while the walker is
 * busy with this one, and opened while nothing else is to be done.
 *
 * The order of a walk: a directory's first subdirectory, or else the next one beside it, or beside
 * the nearest one above. Only what is cached is looked at.
 *
 * A page that was fetched is what stored would answer as long as nothing was published since, and
 * no change was told of: next_dir_drop() says that one was. Single-threaded.
 */
#ifndef BAZIL_MOUNTD_NEXT_DIR_H
#define BAZIL_MOUNTD_NEXT_DIR_H

#include <stdbool.h>

struct inode;
struct mountd;
struct next_dir;
struct store_dir;
struct store_dir_reply;

/* -ENOMEM. */
int next_dir_new(struct next_dir **ret, struct mountd *m);

/* The kernel was given the listing of dir, or a name of it. Cheap as long as it is the same. */
void next_dir_at(struct mountd *m, const struct inode *dir);
/* The answer to req, if it was fetched or is on its way, which is waited for. Valid until the next
 * call of anything here; not to be released. */
bool next_dir_take(
	struct mountd *m, const struct store_dir *req, struct store_dir_reply *ret_reply);
/* Between two requests: loads the page that is here. */
void next_dir_load(struct mountd *m);
void next_dir_drop(struct next_dir *next);

#endif
