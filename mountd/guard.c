#include "mountd/guard.h"

#include <errno.h>
#include <string.h>

#include "mountd/acl.h"
#include "mountd/at.h"
#include "mountd/hidden.h"
#include "mountd/mountd.h"
#include "mountd/request.h"
#include "mountd/snapshots.h"

static bool is_snap(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	return parent == TREE_ROOT && name[0] == '.' && strcmp(name, SNAPSHOTS_NAME) == 0 &&
	       request_mountd(req)->at == 0;
}

/* Refused: true, and answered. */
static bool is_past(fuse_req_t req, fuse_ino_t ino)
{
	if (!at_is_history(ino))
		return false;
	request_done(req, -EROFS);
	return true;
}

/* A change of a name: in history there are none, and .snap stays what it is. */
static bool is_reserved(fuse_req_t req, fuse_ino_t parent, const char *name, int r)
{
	if (is_past(req, parent))
		return true;
	if (!is_snap(req, parent, name))
		return false;
	request_done(req, r);
	return true;
}

void guard_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (parent == AT_SNAP_DIR)
		snapshots_lookup(req, name);
	else if (is_snap(req, parent, name))
		snapshots_lookup_dir(req);
	else
		op_lookup(req, parent, name);
}

void guard_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	if (!is_past(req, ino))
		op_setattr(req, ino, st, to_set, fi);
}

void guard_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (ino == AT_SNAP_DIR)
		snapshots_list(req, size, off, false);
	else
		op_readdir(req, ino, size, off, fi);
}

void guard_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	if (ino == AT_SNAP_DIR)
		snapshots_list(req, size, off, true);
	else
		op_readdirplus(req, ino, size, off, fi);
}

void guard_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	if (!is_reserved(req, parent, name, -EEXIST))
		op_mknod(req, parent, name, mode, rdev);
}

void guard_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (parent == AT_SNAP_DIR)
		snapshots_make(req, name);
	else if (!is_reserved(req, parent, name, -EEXIST))
		op_mkdir(req, parent, name, mode);
}

void guard_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	if (!is_past(req, parent))
		op_tmpfile(req, parent, mode, fi);
}

void guard_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (!is_reserved(req, parent, name, -EEXIST))
		op_symlink(req, target, parent, name);
}

void guard_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	/* As between two file systems: cp then copies. */
	if (at_is_history(ino) && !at_is_history(parent))
		request_done(req, -EXDEV);
	else if (!is_reserved(req, parent, name, -EEXIST))
		op_link(req, ino, parent, name);
}

void guard_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!is_reserved(req, parent, name, -EISDIR))
		op_unlink(req, parent, name);
}

void guard_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (parent == AT_SNAP_DIR)
		snapshots_remove(req, name);
	else if (!is_reserved(req, parent, name, -EPERM))
		op_rmdir(req, parent, name);
}

void guard_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	if (is_reserved(req, parent, name, -EPERM) ||
		is_reserved(req, new_parent, new_name, -EPERM))
		return;
	op_rename(req, parent, name, new_parent, new_name, flags);
}

void guard_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	if (!is_past(req, ino))
		op_write(req, ino, data, size, off, fi);
}

void guard_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	if (!is_past(req, ino))
		op_fallocate(req, ino, mode, off, len, fi);
}

void guard_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags)
{
	if (!is_past(req, ino_out))
		op_copy_file_range(
			req, ino_in, off_in, fi_in, ino_out, off_out, fi_out, len, flags);
}

void guard_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	if (is_past(req, ino))
		return;
	if (hidden_is_name(name))
		request_done(req, -EPERM);
	else
		op_setxattr(req, ino, name, value, size, flags);
}

void guard_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	if (hidden_is_name(name))
		hidden_getxattr(req, ino, name, size);
	else if (ino == AT_SNAP_DIR && strcmp(name, ACL_ACCESS) == 0)
		op_getxattr(req, TREE_ROOT, name, size);
	else if (ino == AT_SNAP_DIR)
		request_done(req, -ENODATA);
	else
		op_getxattr(req, ino, name, size);
}

void guard_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	if (is_past(req, ino))
		return;
	if (hidden_is_name(name))
		request_done(req, -EPERM);
	else
		op_removexattr(req, ino, name);
}
