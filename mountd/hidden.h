/*
 * Extended attributes that say what this file system knows of a file. They are answered and never
 * listed, so copies stay copies; nobody can set them (EPERM).
 *
 *	user.bazil.rbytes    bytes of the files in the subtree, decimal   mountd/figures.h
 *	user.bazil.rfiles    everything in it that is no directory
 *	user.bazil.rdirs     directories in it
 *	user.bazil.rctime    the newest ctime in it, SECONDS.NANOSECONDS
 *	user.bazil.stat      JSON: ids, writers, chunks                   mountd/hidden_stat.c
 *	user.bazil.log       JSON: versions of the inode                  mountd/hidden_log.c
 *	user.bazil.log.NAME  JSON: of a name in the directory, also one that is gone
 *	user.bazil.path.OID  of the root: a path of the inode, from the mount on
 *mountd/hidden_path.c
 *
 * Nothing of it touches the network. Who may read the file may ask: the kernel checks that.
 */
#ifndef BAZIL_MOUNTD_HIDDEN_H
#define BAZIL_MOUNTD_HIDDEN_H

#include <stdbool.h>
#include <stddef.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

struct inode;
struct mountd;

#define HIDDEN_PREFIX "user.bazil."
#define HIDDEN_MAX    65000u /* XATTR_SIZE_MAX, and room for a last line */

bool hidden_is_name(const char *name);
/* Answers. */
void hidden_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);

/* The texts: malloc'ed, not ended by NUL. */
int hidden_stat(struct mountd *m, struct inode *inode, char **ret, size_t *ret_len);
/* hex: an inode number. -ENODATA: it has no name. */
int hidden_path(struct mountd *m, const char *hex, char **ret, size_t *ret_len);
/* name NULL: of the inode itself. */
int hidden_log(
	struct mountd *m, struct inode *inode, const char *name, char **ret, size_t *ret_len);

#endif
