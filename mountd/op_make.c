#include "mountd/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mountd/figure_walk.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"
#include "mountd/tree_edit.h"

static void new_attr(
	fuse_req_t req, const struct inode *dir, mode_t mode, dev_t rdev, struct sealed_attr *ret)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int64_t now = request_now();

	*ret = (struct sealed_attr){ .mode = mode,
		.uid = ctx->uid,
		.gid = ctx->gid,
		.rdev = S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now };
	if (dir->attr.mode & S_ISGID) {
		ret->gid = dir->attr.gid;
		if (S_ISDIR(mode))
			ret->mode |= S_ISGID;
	}
}

/* Publishes a new inode under its first name. */
static int make(struct mountd *m, struct inode *dir, const char *name, struct sealed_attr *attr,
	struct inode **ret)
{
	struct sealed_link link = { .parent = dir->oid,
		.type = (uint8_t)(attr->mode >> 12),
		.name_len = (uint16_t)strlen(name) };
	struct inode *inode;
	struct batch batch;
	int r;

	r = mountd_new_oid(m, &link.target);
	if (r < 0)
		return r;
	/* tree/record.h: only a directory's one link has the number of its inode. */
	link.lid = link.target;
	if (!S_ISDIR(attr->mode))
		r = mountd_new_oid(m, &link.lid);
	if (r < 0)
		return r;
	memcpy(link.name, name, link.name_len);
	batch_begin(m, &batch);
	batch_put_attr(&batch, link.target, attr);
	batch_put_link(&batch, &link);
	edit_touch(m, dir, attr->ctime);
	r = batch_publish(&batch, m->view, link.target);
	if (r < 0)
		return r;
	inode = inode_add(&m->inodes, link.target);
	inode->attr = *attr;
	inode->nlink = 1;
	inode->parent = dir->oid;
	if (S_ISDIR(attr->mode)) {
		inode->dir = dir_new();
		inode->dir->complete = true;
	}
	edit_name_added(m, dir, &link);
	*ret = inode;
	return 0;
}

static void make_and_reply(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	dev_t rdev, const char *target)
{
	struct mountd *m = request_mountd(req);
	struct sealed_attr attr = { 0 };
	struct inode *dir, *inode;
	int r;

	if (request_was_done(req))
		return;
	r = edit_check_name(m, name);
	if (r == 0)
		r = load_dir(m, parent, &dir);
	if (r == 0)
		r = edit_check_free(m, dir, name);
	if (r == 0)
		r = edit_reserve(m, dir);
	if (r == 0) {
		new_attr(req, dir, mode, rdev, &attr);
		if (target != NULL) {
			attr.symlink = strdup(target);
			attr.symlink_len = (uint16_t)strlen(target);
			r = attr.symlink == NULL ? -ENOMEM : 0;
		}
	}
	if (r == 0)
		r = make(m, dir, name, &attr, &inode);
	if (r == 0) {
		request_entry(req, inode);
		return;
	}
	free(attr.symlink);
	request_done(req, r);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make_and_reply(req, parent, name, mode, rdev, NULL);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make_and_reply(req, parent, name, (mode & 07777) | S_IFDIR, 0, NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (strlen(target) > SEALED_SYMLINK_MAX || target[0] == '\0') {
		request_done(req, target[0] == '\0' ? -ENOENT : -ENAMETOOLONG);
		return;
	}
	make_and_reply(req, parent, name, S_IFLNK | 0777, 0, target);
}

static int add_link(struct mountd *m, struct inode *inode, struct inode *dir, const char *name)
{
	struct sealed_link link = { .parent = dir->oid,
		.target = inode->oid,
		.type = (uint8_t)(inode->attr.mode >> 12),
		.name_len = (uint16_t)strlen(name) };
	struct sealed_attr attr = inode->attr;
	struct batch batch;
	int r;

	memcpy(link.name, name, link.name_len);
	attr.ctime = request_now();
	r = mountd_new_oid(m, &link.lid);
	if (r < 0)
		return r;
	batch_begin(m, &batch);
	batch_put_attr(&batch, inode->oid, &attr);
	batch_put_link(&batch, &link);
	edit_touch(m, dir, attr.ctime);
	r = batch_publish(&batch, m->view, inode->oid);
	if (r < 0)
		return r;
	figure_walk_linked(m, inode, dir->oid);
	inode->attr = attr;
	inode->nlink++;
	edit_name_added(m, dir, &link);
	return 0;
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct mountd *m = request_mountd(req);
	struct inode *dir, *inode;
	int r;

	if (request_was_done(req))
		return;
	r = edit_check_name(m, name);
	if (r == 0)
		r = load_inode(m, ino, &inode);
	if (r == 0 && inode_is_dir(inode))
		r = -EPERM;
	if (r == 0 && inode->sibling_of != 0)
		r = -EROFS;
	if (r == 0 && inode->nlink >= EDIT_NLINK_MAX)
		r = -EMLINK;
	if (r == 0)
		r = load_dir(m, parent, &dir);
	if (r == 0)
		r = edit_check_free(m, dir, name);
	if (r == 0)
		r = edit_reserve(m, dir);
	if (r == 0)
		r = add_link(m, inode, dir, name);
	if (r < 0)
		request_done(req, r);
	else
		request_entry(req, inode);
}
