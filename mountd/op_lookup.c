#include "mountd/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/next_dir.h"
#include "mountd/request.h"
#include "mountd/tree_edit.h"

/* By number, for a file handle that outlived the kernel's cache: "." is the inode itself, of any
 * kind, ".." the directory of a directory. */
static int lookup_by_number(struct mountd *m, uint64_t oid, bool parent, struct inode **ret)
{
	int r = load_inode(m, oid, ret);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	/* Unlinked, and the kernel's forget is still on its way. */
	if ((*ret)->nlink == 0 && oid != TREE_ROOT)
		return -ESTALE;
	if (!parent)
		return 0;
	if (oid == TREE_ROOT)
		return 0;
	return (*ret)->parent == 0 ? -ESTALE : load_inode(m, (*ret)->parent, ret);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mountd *m = request_mountd(req);
	struct dirent_entry *entry;
	struct inode *dir, *inode;
	size_t len = strlen(name);
	int r;

	if (len > SEALED_NAME_MAX) {
		request_done(req, -ENAMETOOLONG);
		return;
	}
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		r = lookup_by_number(m, parent, len == 2, &inode);
		if (r == 0)
			request_entry(req, inode);
		else
			request_done(req, r);
		return;
	}
	r = load_dir(m, parent, &dir);
	if (r == 0)
		r = load_name(m, dir, name, len, &entry);
	if (r == 0)
		r = load_inode(m, entry->target, &inode);
	if (r == 0)
		request_entry(req, inode);
	else if (r == -ENOENT)
		request_no_entry(req);
	else
		request_done(req, r);
	if (r == 0)
		next_dir_at(m, dir);
}

static void forget(struct mountd *m, uint64_t oid, uint64_t num)
{
	struct inode *inode;

	if (lookup_forget(&m->inodes, oid, num) > 0)
		return;
	/* Only what is cached can be known to be without a link: such inodes are never evicted. */
	inode = inode_find(&m->inodes, oid);
	if (inode != NULL && inode->nlink == 0)
		edit_remove_orphan(m, oid);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t num)
{
	forget(request_mountd(req), ino, num);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(request_mountd(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *inode;
	int r = load_inode(request_mountd(req), ino, &inode);

	if (r < 0)
		request_done(req, r);
	else
		request_attr(req, inode);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *inode;
	int r = load_inode(request_mountd(req), ino, &inode);

	if (r == 0 && inode->attr.symlink == NULL)
		r = -EINVAL;
	if (r < 0)
		request_done(req, r);
	else
		fuse_reply_readlink(req, inode->attr.symlink);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct mountd *m = request_mountd(req);
	struct store_statfs_reply reply;
	struct statvfs st;
	int r;

	do {
		r = store_statfs_wait(
			edge_store(m), &(struct store_statfs){ 0 }, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0) {
		request_done(req, r);
		return;
	}
	st = (struct statvfs){ .f_bsize = reply.block_size,
		.f_frsize = reply.block_size,
		.f_blocks = reply.blocks,
		.f_bfree = reply.blocks_free,
		.f_bavail = reply.blocks_available,
		.f_files = reply.inodes + UINT32_MAX,
		.f_ffree = UINT32_MAX,
		.f_favail = UINT32_MAX,
		.f_namemax = SEALED_NAME_MAX };
	store_statfs_reply_release(&reply);
	fuse_reply_statfs(req, &st);
}
