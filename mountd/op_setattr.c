#include "mountd/ops.h"

#include <errno.h>
#include <sys/stat.h>

#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"

#define SET_ATTR (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME)

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

/* What goes to the attr record. without_set_id: the mode to begin with if the set-id bits go. */
static void apply(struct sealed_attr *attr, const struct stat *st, int to_set, bool kills,
	uint32_t without_set_id, int64_t now)
{
	/* HANDLE_KILLPRIV_V2: a change of the owner always takes these bits away, one of the size
	 * when the kernel says so. */
	if (kills || to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		attr->mode = without_set_id;
	if (to_set & FUSE_SET_ATTR_MODE)
		attr->mode = (attr->mode & S_IFMT) | (st->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		attr->uid = st->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		attr->gid = st->st_gid;
	if (to_set & FUSE_SET_ATTR_ATIME)
		attr->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : request_ns(&st->st_atim);
}

/* chown(-1, -1) comes without a word of what to set; it takes the set-id bits of a file away. So
 * does what the kernel sends before a write to such a file, where the writer may be anybody: a
 * stranger's is ignored, as his write says again that the bits must go. */
static bool kills_unsaid(fuse_req_t req, const struct inode *inode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct stat st;

	request_fill(request_mountd(req), inode, &st);
	return ctx->uid == 0 || ctx->uid == st.st_uid;
}

void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	int64_t now = request_now();
	bool kills = m->session.kills_priv;
	struct sealed_attr attr;
	struct inode *inode;
	int r = load_inode(m, ino, &inode);

	if (r == 0 && (m->read_only || inode->sibling_of != 0))
		r = -EROFS;
	if (r == 0 && to_set == 0)
		kills = kills_unsaid(req, inode);
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
	apply(&attr, st, to_set, kills, request_mode_killed(m, inode), now);
	if (to_set == 0 || to_set & SET_ATTR || attr.mode != inode->attr.mode ||
		attr.mtime != inode->attr.mtime)
		r = flush_set_attr(m, inode, &attr);
	if (r < 0)
		request_done(req, r);
	else
		request_attr(req, inode);
}
