/*
 * What comes before the operations of ops.h: requests about .snap (mountd/snapshots.h) are answered
 * there, changes of history (mountd/at.h) and of reserved names are refused, hidden attributes are
 * answered (mountd/hidden.h). Everything else goes on to the operation of the same name.
 */
#ifndef BAZIL_MOUNTD_GUARD_H
#define BAZIL_MOUNTD_GUARD_H

#include "mountd/ops.h"

void guard_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void guard_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi);
void guard_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void guard_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void guard_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void guard_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void guard_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void guard_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void guard_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void guard_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void guard_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void guard_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags);
void guard_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	struct fuse_file_info *fi);
void guard_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void guard_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags);
void guard_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
	size_t size, int flags);
void guard_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void guard_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif
