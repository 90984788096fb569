#include "mountd/ops.h"

#include <errno.h>
#include <string.h>

#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"
#include "mountd/sibling.h"
#include "mountd/tree_edit.h"

static int check_empty(struct mountd *m, struct inode *inode)
{
	int r;

	if (inode->dir == NULL)
		r = load_dir(m, inode->oid, &inode);
	else
		r = 0;
	if (r < 0)
		return r;
	return inode->entries > 0 ? -ENOTEMPTY : 0;
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool want_dir)
{
	struct mountd *m = request_mountd(req);
	int64_t now = request_now();
	struct dirent_entry *entry = NULL;
	struct inode *dir, *inode = NULL;
	struct edit_strays strays;
	struct batch batch;
	int r;

	if (request_was_done(req))
		return;
	r = edit_check_name(m, name);
	if (r == 0)
		r = load_dir(m, parent, &dir);
	if (r == 0)
		r = load_name(m, dir, name, strlen(name), &entry);
	if (r == 0)
		r = load_inode(m, entry->target, &inode);
	if (r == 0 && inode->sibling_of != 0) {
		request_done(req, want_dir ? -ENOTDIR : sibling_remove(m, inode));
		return;
	}
	if (r == 0 && want_dir != inode_is_dir(inode))
		r = want_dir ? -ENOTDIR : -EISDIR;
	if (r == 0 && want_dir)
		r = check_empty(m, inode);
	if (r == 0)
		r = edit_find_strays(m, inode, &strays);
	/* That may have loaded the names of this directory. */
	if (r == 0)
		r = load_name(m, dir, name, strlen(name), &entry);
	if (r == 0)
		r = edit_reserve_removal(m, dir);
	if (r == 0) {
		batch_begin(m, &batch);
		batch_remove(&batch, TREE_LINK, entry->lid, NULL);
		edit_unlink_prepare(&batch, inode, &strays, now);
		/* With a put (the ctime of what remains) a full disk would refuse the removal. */
		batch.grows = false;
		edit_touch(m, dir, now);
		r = batch_publish(&batch, m->view, 0);
	}
	if (r == 0) {
		sibling_drop(m, inode);
		edit_name_gone(m, dir, entry);
		edit_unlink_done(inode, now);
		if (inode->nlink == 0 && lookup_held(&m->inodes, inode->oid) == 0 &&
			!m->inodes.counts_lost)
			edit_remove_orphan(m, inode->oid);
	}
	request_done(req, r);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, false);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, true);
}
