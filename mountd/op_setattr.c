#include "mountd/ops.h"

#include <errno.h>
#include <sys/stat.h>

#include "mountd/contents.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/request.h"

static int set_size(struct mountd *m, struct inode *inode, off_t size, int64_t now)
{
	int r;

	if (!inode_is_file(inode))
		return inode_is_dir(inode) ? -EISDIR : -EINVAL;
	if (size < 0)
		return -EFBIG;
	r = contents_touch(m, inode, 4);
	if (r == 0)
		contents_resize(m, inode, (uint64_t)size, now);
	return r;
}

static int set_mtime(struct mountd *m, struct inode *inode, int64_t mtime, int64_t now)
{
	int r = contents_touch(m, inode, 0);

	if (r < 0)
		return r;
	inode->dirty.mtime = mtime;
	inode->dirty.ctime = now;
	contents_head(m, inode);
	return 0;
}

/* What goes to the attr record; true if anything changed. */
static bool apply(
	struct sealed_attr *attr, const struct stat *st, int to_set, bool kills, int64_t now)
{
	struct sealed_attr old = *attr;

	if (to_set & FUSE_SET_ATTR_MODE)
		attr->mode = (attr->mode & S_IFMT) | (st->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		attr->uid = st->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		attr->gid = st->st_gid;
	if (to_set & FUSE_SET_ATTR_ATIME)
		attr->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : request_ns(&st->st_atim);
	/* HANDLE_KILLPRIV_V2: a change of the owner always takes these bits away, one of the size
	 * when the kernel says so. */
	if (kills || (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) && S_ISREG(attr->mode))) {
		attr->mode &= ~(uint32_t)S_ISUID;
		if (attr->mode & S_IXGRP)
			attr->mode &= ~(uint32_t)S_ISGID;
	}
	return attr->mode != old.mode || attr->atime != old.atime ||
	       to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
				FUSE_SET_ATTR_ATIME);
}

void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	int64_t now = request_now();
	struct sealed_attr attr;
	struct inode *inode;
	struct batch batch;
	int r = load_inode(m, ino, &inode);

	if (r == 0 && (m->read_only || inode->sibling_of != 0))
		r = -EROFS;
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(m, inode, st->st_size, now);
	if (r == 0 && to_set & FUSE_SET_ATTR_MTIME) {
		int64_t mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : request_ns(&st->st_mtim);

		if (inode_is_file(inode) || inode_is_dir(inode))
			r = set_mtime(m, inode, mtime, now);
	}
	if (r < 0) {
		request_done(req, r);
		return;
	}
	attr = inode->attr;
	attr.ctime = now;
	if (to_set & FUSE_SET_ATTR_MTIME && !inode_is_file(inode) && !inode_is_dir(inode))
		attr.mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : request_ns(&st->st_mtim);
	if (apply(&attr, st, to_set, m->session.kills_priv, now) ||
		attr.mtime != inode->attr.mtime) {
		batch_begin(m, &batch);
		batch_put_attr(&batch, ino, &attr);
		r = batch_publish(&batch, m->view, 0);
		if (r == 0)
			inode->attr = attr;
	}
	if (r < 0)
		request_done(req, r);
	else
		request_attr(req, inode);
}
