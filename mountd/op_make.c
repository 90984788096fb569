#include "mountd/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mountd/acl.h"
#include "mountd/contents.h"
#include "mountd/figure_walk.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"
#include "mountd/tree_edit.h"
#include "mountd/xattrs.h"

/* A new inode before it is published. */
struct birth {
	struct sealed_attr attr; /* symlink: owned */
	uint8_t *acl;		 /* the directory's default list, malloc'ed; NULL: none */
	size_t acl_len;
	bool has_access_acl;
};

static int find_default_acl(struct mountd *m, struct inode *dir, struct birth *birth)
{
	int r;

	if (dir->num_xattrs == 0 || dir->has_no_default_acl)
		return 0;
	r = xattrs_find_acl(m, dir, ACL_DEFAULT, &birth->acl, &birth->acl_len);
	dir->has_no_default_acl = r == 0 && birth->acl == NULL;
	return r;
}

/* The permission bits under a default list are those that both it and the caller want, and the
 * umask does not count (POSIX 1003.1e, 23.1.5.2). */
static int inherit(fuse_req_t req, struct inode *dir, struct birth *birth)
{
	int r = find_default_acl(request_mountd(req), dir, birth);

	if (r < 0)
		return r;
	if (birth->acl == NULL) {
		birth->attr.mode &= ~(uint32_t)(fuse_req_ctx(req)->umask & 0777);
		return 0;
	}
	birth->attr.mode &= ~0777u | acl_mode(birth->acl, birth->acl_len);
	birth->has_access_acl = !acl_is_mode(birth->acl, birth->acl_len);
	return 0;
}

static void put_birth(struct batch *batch, uint64_t oid, const struct birth *birth)
{
	batch_put_attr(batch, oid, &birth->attr);
	if (birth->has_access_acl)
		batch_put_xattr(
			batch, oid, ACL_ACCESS, strlen(ACL_ACCESS), birth->acl, birth->acl_len);
	if (birth->acl != NULL && S_ISDIR(birth->attr.mode))
		batch_put_xattr(
			batch, oid, ACL_DEFAULT, strlen(ACL_DEFAULT), birth->acl, birth->acl_len);
}

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

static struct inode *born(struct mountd *m, uint64_t oid, const struct birth *birth)
{
	struct inode *inode = inode_add(&m->inodes, oid);

	inode->attr = birth->attr;
	inode->num_xattrs = (uint32_t)birth->has_access_acl +
			    (uint32_t)(birth->acl != NULL && S_ISDIR(birth->attr.mode));
	if (S_ISDIR(birth->attr.mode)) {
		inode->dir = dir_new();
		inode->dir->complete = true;
	}
	return inode;
}

/* Publishes a new inode under its first name. */
static int make(struct mountd *m, struct inode *dir, const char *name, const struct birth *birth,
	struct inode **ret)
{
	struct sealed_link link = { .parent = dir->oid,
		.type = (uint8_t)(birth->attr.mode >> 12),
		.name_len = (uint16_t)strlen(name) };
	struct batch batch;
	int r;

	r = mountd_new_oid(m, &link.target);
	if (r < 0)
		return r;
	/* tree/record.h: only a directory's one link has the number of its inode. */
	link.lid = link.target;
	if (!S_ISDIR(birth->attr.mode))
		r = mountd_new_oid(m, &link.lid);
	if (r < 0)
		return r;
	memcpy(link.name, name, link.name_len);
	batch_begin(m, &batch);
	put_birth(&batch, link.target, birth);
	batch_put_link(&batch, &link);
	edit_touch(m, dir, birth->attr.ctime);
	r = batch_publish(&batch, m->view, link.target);
	if (r < 0)
		return r;
	*ret = born(m, link.target, birth);
	(*ret)->nlink = 1;
	(*ret)->parent = dir->oid;
	edit_name_added(m, dir, &link);
	return 0;
}

static int set_target(struct birth *birth, const char *target)
{
	birth->attr.symlink = strdup(target);
	birth->attr.symlink_len = (uint16_t)strlen(target);
	return birth->attr.symlink == NULL ? -ENOMEM : 0;
}

/* target: of a symlink. */
static void make_and_reply(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	dev_t rdev, const char *target)
{
	struct mountd *m = request_mountd(req);
	struct birth birth = { 0 };
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
		new_attr(req, dir, mode, rdev, &birth.attr);
		r = target != NULL ? set_target(&birth, target) : inherit(req, dir, &birth);
	}
	if (r == 0)
		r = make(m, dir, name, &birth, &inode);
	free(birth.acl);
	if (r == 0) {
		request_entry(req, inode);
		return;
	}
	free(birth.attr.symlink);
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

/* Without a link: stored sets it aside at once, like a file that lost its last one. */
static int make_nameless(struct mountd *m, const struct birth *birth, struct inode **ret)
{
	struct batch batch;
	uint64_t oid;
	int r = mountd_new_oid(m, &oid);

	if (r < 0)
		return r;
	batch_begin(m, &batch);
	put_birth(&batch, oid, birth);
	r = batch_publish(&batch, m->view, oid);
	if (r == 0)
		*ret = born(m, oid, birth);
	return r;
}

/* FUSE_TMPFILE, which libfuse takes for a FUSE_CREATE (mountd/session.c). */
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	struct birth birth = { 0 };
	struct inode *dir, *inode;
	uint64_t oid;
	int r;

	if (request_did(req, &oid)) {
		r = load_inode(m, oid, &inode);
	} else {
		r = m->read_only ? -EROFS : load_dir(m, parent, &dir);
		if (r == 0 && dir->nlink == 0)
			r = -EPERM; /* removed; so says ext4 */
		if (r == 0) {
			new_attr(req, dir, (mode & 07777) | S_IFREG, 0, &birth.attr);
			r = inherit(req, dir, &birth);
		}
		if (r == 0)
			r = make_nameless(m, &birth, &inode);
		free(birth.acl);
	}
	if (r == 0)
		request_created(req, inode, fi);
	else
		request_done(req, r);
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
	contents_attr_stored(m, inode);
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
		r = flush_old_attr(m, inode);
	if (r == 0)
		r = add_link(m, inode, dir, name);
	if (r < 0)
		request_done(req, r);
	else
		request_entry(req, inode);
}
