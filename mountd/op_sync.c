#include "mountd/ops.h"

#include <errno.h>

#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/parked.h"
#include "mountd/request.h"

static void sync_inode(fuse_req_t req, fuse_ino_t ino)
{
	struct mountd *m = request_mountd(req);
	struct inode *inode;
	int r = load_inode(m, ino, &inode);

	if (r == 0)
		r = flush_inode(m, inode, true);
	if (r == -EAGAIN)
		parked_store(req, ino);
	else if (r < 0)
		request_done(req, r);
	else
		parked_sync(req);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	sync_inode(req, ino);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	sync_inode(req, ino);
}
