#include "mountd/ops.h"

#include <errno.h>
#include <string.h>

#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"
#include "mountd/sibling.h"
#include "mountd/tree_edit.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE	 2u
#endif

/* One side of a rename: a directory, a name in it, and what is there. */
struct side {
	struct inode *dir;
	const char *name;
	struct dirent_entry *entry; /* NULL: nothing */
	struct inode *inode;
	struct edit_strays strays; /* of what is to be replaced */
};

static int find_side(struct mountd *m, fuse_ino_t parent, const char *name, struct side *side)
{
	int r = edit_check_name(m, name);

	side->name = name;
	side->dir = side->inode = NULL;
	side->entry = NULL;
	side->strays.num = 0;
	if (r == 0)
		r = load_dir(m, parent, &side->dir);
	if (r == 0)
		r = load_name(m, side->dir, name, strlen(name), &side->entry);
	if (r == 0)
		r = load_inode(m, side->entry->target, &side->inode);
	return r;
}

static int check_replace(struct mountd *m, struct side *from, struct side *to)
{
	int r;

	if (to->entry == NULL)
		return 0;
	if (inode_is_dir(from->inode) && !inode_is_dir(to->inode))
		return -ENOTDIR;
	if (!inode_is_dir(from->inode) && inode_is_dir(to->inode))
		return -EISDIR;
	if (inode_is_dir(to->inode) && to->inode->entries > 0)
		return -ENOTEMPTY;
	r = edit_find_strays(m, to->inode, &to->strays);
	/* That may have loaded the names of both directories. */
	if (r == 0)
		r = load_name(m, from->dir, from->name, strlen(from->name), &from->entry);
	if (r == 0)
		r = load_name(m, to->dir, to->name, strlen(to->name), &to->entry);
	return r;
}

/* The link record of what is at `from`, moved to where `to` says. */
static void moved_link(const struct side *from, const struct side *to, struct sealed_link *link)
{
	edit_link_of(from->dir, from->entry, link);
	link->parent = to->dir->oid;
	link->name_len = (uint16_t)strlen(to->name);
	memcpy(link->name, to->name, link->name_len);
}

static void put_ctime(struct batch *batch, const struct inode *inode, int64_t now)
{
	struct sealed_attr attr = inode->attr;

	attr.ctime = now;
	batch_put_attr(batch, inode->oid, &attr);
}

static void place(struct mountd *m, struct inode *dir, const struct sealed_link *link,
	struct inode *inode, int64_t now)
{
	bool has_siblings = inode->has_siblings;

	edit_name_added(m, dir, link);
	inode->attr.ctime = now;
	contents_attr_stored(m, inode);
	inode->parent = dir->oid;
	if (has_siblings) {
		sibling_drop(m, inode);
		inode->has_siblings = true;
		(void)sibling_add(m, dir, link);
	}
}

static int exchange(struct mountd *m, struct side *a, struct side *b, int64_t now)
{
	struct sealed_link to_b, to_a;
	struct batch batch;
	int r;

	moved_link(a, b, &to_b);
	moved_link(b, a, &to_a);
	batch_begin(m, &batch);
	batch_put_link(&batch, &to_b);
	if (to_a.lid != to_b.lid)
		batch_put_link(&batch, &to_a);
	put_ctime(&batch, a->inode, now);
	if (a->inode != b->inode)
		put_ctime(&batch, b->inode, now);
	r = batch_publish(&batch, m->view, 0);
	if (r < 0)
		return r;
	edit_name_gone(m, a->dir, a->entry);
	edit_name_gone(m, b->dir, b->entry);
	place(m, b->dir, &to_b, a->inode, now);
	place(m, a->dir, &to_a, b->inode, now);
	return 0;
}

static int move(struct mountd *m, struct side *from, struct side *to, int64_t now)
{
	struct sealed_link link;
	struct batch batch;
	int r;

	moved_link(from, to, &link);
	batch_begin(m, &batch);
	batch_put_link(&batch, &link);
	put_ctime(&batch, from->inode, now);
	if (to->entry != NULL) {
		batch_remove(&batch, TREE_LINK, to->entry->lid, NULL);
		if (to->inode != from->inode)
			edit_unlink_prepare(&batch, to->inode, &to->strays, now);
	}
	r = batch_publish(&batch, m->view, 0);
	if (r < 0)
		return r;
	edit_name_gone(m, from->dir, from->entry);
	if (to->entry != NULL) {
		sibling_drop(m, to->inode);
		edit_name_gone(m, to->dir, to->entry);
		edit_unlink_done(to->inode, now);
		if (to->inode->nlink == 0 && lookup_held(&m->inodes, to->inode->oid) == 0 &&
			!m->inodes.counts_lost)
			edit_remove_orphan(m, to->inode->oid);
	}
	place(m, to->dir, &link, from->inode, now);
	return 0;
}

/* A cached parent chain says whether dir lies in or below inode: the kernel checks it too, but
 * only with what it knows. */
static bool is_below(struct mountd *m, struct inode *dir, const struct inode *inode)
{
	for (int depth = 0; depth < 4096 && dir->oid != TREE_ROOT; depth++) {
		if (dir == inode)
			return true;
		if (dir->parent == 0 || load_inode(m, dir->parent, &dir) < 0)
			return false;
	}
	return dir == inode;
}

static int rename_now(struct mountd *m, struct side *from, struct side *to, unsigned flags)
{
	int64_t now = request_now();
	int r = 0;

	if (flags & RENAME_NOREPLACE && to->entry != NULL)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE && to->entry == NULL)
		return -ENOENT;
	if (from->entry == to->entry)
		return 0;
	/* Upon EXDEV mv copies a sibling and removes it. But what is to be replaced it removes
	 * first, and with the file all its versions would go. */
	if (from->inode->sibling_of != 0)
		return to->entry != NULL && to->inode->oid == from->inode->sibling_of ? -EPERM
										      : -EXDEV;
	if (to->entry != NULL && to->inode->sibling_of != 0)
		return -EPERM;
	if (inode_is_dir(from->inode) && is_below(m, to->dir, from->inode))
		return -EINVAL;
	if (flags & RENAME_EXCHANGE && inode_is_dir(to->inode) && is_below(m, from->dir, to->inode))
		return -EINVAL;
	/* Two names of one inode: POSIX says that nothing happens. */
	if (!(flags & RENAME_EXCHANGE) && to->entry != NULL && from->inode == to->inode)
		return 0;
	if (!(flags & RENAME_EXCHANGE))
		r = check_replace(m, from, to);
	/* What takes another file's place must be whole: its contents are in the ring before its
	 * name, so that a power cut never shows an empty or half file there. */
	if (r == 0 && to->entry != NULL && inode_is_file(from->inode))
		r = flush_inode(m, from->inode, true);
	if (r == 0 && flags & RENAME_EXCHANGE && inode_is_file(to->inode))
		r = flush_inode(m, to->inode, true);
	if (r == 0)
		r = flush_old_attr(m, from->inode);
	if (r == 0 && to->entry != NULL)
		r = flush_old_attr(m, to->inode);
	if (r == 0)
		r = edit_reserve(m, from->dir);
	if (r == 0)
		r = edit_reserve(m, to->dir);
	if (r == 0)
		r = edit_reserve(m, from->dir); /* the second may have flushed the first */
	if (r < 0)
		return r;
	edit_touch(m, from->dir, now);
	edit_touch(m, to->dir, now);
	return flags & RENAME_EXCHANGE ? exchange(m, from, to, now) : move(m, from, to, now);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned flags)
{
	struct mountd *m = request_mountd(req);
	struct side from, to;
	int r;

	if (request_was_done(req))
		return;
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		request_done(req, -EINVAL);
		return;
	}
	r = find_side(m, parent, name, &from);
	if (r == 0) {
		r = find_side(m, new_parent, new_name, &to);
		if (r == -ENOENT && to.dir != NULL)
			r = 0;
	}
	/* Loading the second side may have added names to the first one's directory. */
	if (r == 0)
		r = load_name(m, from.dir, name, strlen(name), &from.entry);
	if (r == 0)
		r = rename_now(m, &from, &to, flags);
	request_done(req, r);
}
