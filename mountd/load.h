/*
 * From records of stored to inodes and names: what a handler calls to get at the inode or the
 * name that the kernel speaks of. Everything here may wait for stored (edges.h), some ten
 * microseconds when it is awake.
 *
 * Conflicts, as tree/view.h orders them: of a link, attr or body register with several elements the
 * winner is shown. Several links of one name in a directory: the winner has the name, the others
 * are NAME.conflict-REPLICA-N. Different bodies of a file: the winner is the file; the others are
 * read-only siblings of the same form of name (mountd/sibling.h).
 */
#ifndef BAZIL_MOUNTD_LOAD_H
#define BAZIL_MOUNTD_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mountd/dir.h"
#include "mountd/inode.h"

struct mountd;

/* From the cache or from stored. -ENOENT, -ESTALE. */
int load_inode(struct mountd *m, uint64_t oid, struct inode **ret);
/* As load_inode, and -ENOTDIR if it is none; inode->dir is there (maybe incomplete). */
int load_dir(struct mountd *m, uint64_t oid, struct inode **ret);
/* All names are loaded afterwards. */
int load_all_names(struct mountd *m, struct inode *dir);
/* A name of a directory. -ENOENT. The entry is valid until the next wait. */
int load_name(struct mountd *m, struct inode *dir, const char *name, size_t len,
	struct dirent_entry **ret);
/* The one link of a directory: what its record says. */
int load_link(struct mountd *m, uint64_t oid, struct sealed_link *ret);
/* The name that has this tag in the directory, if it is there. -ENOENT. name: 256 bytes. */
int load_tag(struct mountd *m, struct inode *dir, const uint8_t tag[TREE_TAG_SIZE], char *ret_name);
/* A page of a directory too large to be loaded: names go into the (incomplete) dir, those with
 * link ids above `after`; *ret_last is the last one's, *ret_end: nothing follows. */
int load_page(struct mountd *m, struct inode *dir, uint64_t after, uint32_t max, uint64_t *ret_last,
	bool *ret_end);
/* Keeps the caches within their bounds. Between requests, when nobody holds pointers. */
void load_trim(struct mountd *m);
/* More names than this are never held for one directory. */
#define LOAD_NAMES_MAX 32768u

#endif
