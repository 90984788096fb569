#include "mountd/ops.h"

#include <errno.h>
#include <linux/fuse.h>

#include "mountd/guard.h"
#include "mountd/mountd.h"
#include "mountd/request.h"

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
				       FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
				       FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT |
				       FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_POSIX_ACL |
				       FUSE_CAP_DONT_MASK | FUSE_CAP_EXPORT_SUPPORT;

	conn->want = conn->capable & wanted;
	conn->max_write = SESSION_IO_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

/* libfuse would answer these itself: with success, and without the right to keep the page cache.
 * ENOSYS makes the kernel open files and directories on its own from then on. */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS);
}

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	if (request_mountd(req)->session.opcode == FUSE_TMPFILE)
		guard_tmpfile(req, parent, mode, fi);
	else
		fuse_reply_err(req, ENOSYS);
}

const struct fuse_lowlevel_ops mountd_ops = {
	.open = op_open,
	.create = op_create,
	.opendir = op_open,
	.init = op_init,
	.lookup = guard_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.statfs = op_statfs,
	.setattr = guard_setattr,
	.readdir = guard_readdir,
	.readdirplus = guard_readdirplus,
	.mknod = guard_mknod,
	.mkdir = guard_mkdir,
	.symlink = guard_symlink,
	.link = guard_link,
	.unlink = guard_unlink,
	.rmdir = guard_rmdir,
	.rename = guard_rename,
	.read = op_read,
	.write = guard_write,
	.lseek = op_lseek,
	.fallocate = guard_fallocate,
	.copy_file_range = guard_copy_file_range,
	.fsync = op_fsync,
	.fsyncdir = op_fsyncdir,
	.setxattr = guard_setxattr,
	.getxattr = guard_getxattr,
	.listxattr = op_listxattr,
	.removexattr = guard_removexattr,
};
