#include "mountd/tree_edit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/contents.h"
#include "mountd/figures.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"

int edit_check_name(const struct mountd *m, const char *name)
{
	if (strlen(name) > SEALED_NAME_MAX)
		return -ENAMETOOLONG;
	return m->read_only ? -EROFS : 0;
}

int edit_check_free(struct mountd *m, struct inode *dir, const char *name)
{
	struct dirent_entry *entry;
	int r = load_name(m, dir, name, strlen(name), &entry);

	if (r == 0)
		return -EEXIST;
	return r == -ENOENT ? 0 : r;
}

int edit_reserve(struct mountd *m, struct inode *dir)
{
	return contents_touch(m, dir, 0);
}

int edit_reserve_removal(struct mountd *m, struct inode *dir)
{
	int r = contents_touch(m, dir, 0);

	/* Removing is the way out of a full disk: it goes on, if need be without the directory's
	 * times. */
	return r == -ENOSPC ? 0 : r;
}

void edit_touch(struct mountd *m, struct inode *inode, int64_t now)
{
	if (inode->head == DIRTY_NO_HEAD)
		return;
	inode->dirty.mtime = inode->dirty.ctime = now;
	contents_head(m, inode);
}

void edit_link_of(
	const struct inode *dir, const struct dirent_entry *entry, struct sealed_link *ret_link)
{
	*ret_link = (struct sealed_link){ .lid = entry->lid,
		.parent = dir->oid,
		.target = entry->target,
		.type = entry->type,
		.name_len = entry->name_len };
	memcpy(ret_link->name, entry->name, entry->name_len);
}

void edit_name_added(struct mountd *m, struct inode *dir, const struct sealed_link *link)
{
	figures_touch(m->figures, dir->oid);
	m->num_names -= dir->dir->num;
	dir_add(dir->dir, link->lid, link->target, link->type, link->name, link->name_len);
	m->num_names += dir->dir->num;
	dir->entries++;
	if (link->type == S_IFDIR >> 12)
		dir->subdirs++;
}

void edit_name_gone(struct mountd *m, struct inode *dir, struct dirent_entry *entry)
{
	figures_touch(m->figures, dir->oid);
	if (dir->entries > 0)
		dir->entries--;
	if (entry->type == S_IFDIR >> 12 && dir->subdirs > 0)
		dir->subdirs--;
	dir_remove(dir->dir, entry);
	m->num_names--;
}

static int add_stray(struct mountd *m, const struct inode *from, const struct inode *root,
	uint64_t oid, struct edit_strays *strays)
{
	const struct dirent_entry *entry;
	struct sealed_link *link = &strays->links[strays->num];
	int r;

	if (strays->num == EDIT_STRAYS_MAX)
		return -ENOTEMPTY;
	r = load_link(m, oid, link);
	entry = dir_find_lid(root->dir, oid);
	if (r < 0 || link->parent != from->oid || entry == NULL)
		return r;
	link->parent = TREE_ROOT;
	link->name_len = entry->name_len;
	memcpy(link->name, entry->name, entry->name_len);
	strays->num++;
	return 0;
}

int edit_find_strays(struct mountd *m, const struct inode *inode, struct edit_strays *ret)
{
	struct inode *root;
	int r;

	ret->num = 0;
	if (!inode_is_dir(inode) || inode->strays == 0)
		return 0;
	r = load_dir(m, TREE_ROOT, &root);
	if (r == 0 && !root->dir->complete)
		r = load_all_names(m, root);
	for (size_t i = 0; r == 0 && i < root->dir->num; i++)
		if (root->dir->order[i]->is_computed && root->dir->order[i]->type == S_IFDIR >> 12)
			r = add_stray(m, inode, root, root->dir->order[i]->target, ret);
	return r;
}

void edit_unlink_prepare(
	struct batch *batch, struct inode *inode, const struct edit_strays *strays, int64_t now)
{
	struct sealed_attr attr = inode->attr;

	for (size_t i = 0; i < strays->num; i++)
		batch_put_link(batch, &strays->links[i]);
	/* The last link, of a directory its only one: it stays until the kernel forgets it
	 * (edit_remove_orphan). */
	if (inode->nlink <= 1)
		return;
	attr.ctime = now;
	batch_put_attr(batch, inode->oid, &attr);
}

void edit_unlink_done(struct inode *inode, int64_t now)
{
	inode->attr.ctime = now;
	if (inode->nlink > 0)
		inode->nlink--;
}

static void drop_names(struct mountd *m, struct inode *inode)
{
	if (inode->dir != NULL)
		m->num_names -= inode->dir->num;
	dir_free(inode->dir);
	inode->dir = NULL;
}

void edit_remove_orphan(struct mountd *m, uint64_t oid)
{
	struct inode *inode = inode_find(&m->inodes, oid);
	struct batch batch;

	if (inode == NULL || inode->nlink > 0 || inode->pins > 0 || oid == TREE_ROOT)
		return;
	flush_forget(m, inode);
	if (inode->sibling_of == 0) {
		batch_begin(m, &batch);
		batch_remove(&batch, TREE_ATTR, oid, NULL);
		/* If this fails it is an orphan of the next mount. */
		(void)batch_publish_aside(&batch, m->view);
	}
	drop_names(m, inode);
	inode_drop(&m->inodes, inode);
}

int edit_remove_orphans(struct mountd *m)
{
	struct store_orphans req = { 0 };
	struct store_orphans_reply reply;
	bool end = false;
	int r = 0;

	while (r == 0 && !end) {
		struct batch batch;

		do {
			r = store_orphans_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
		} while (edge_again(m, r));
		if (r < 0)
			return r;
		batch_begin(m, &batch);
		for (size_t i = 0; i < reply.num_oids && batch_has_room(&batch); i++) {
			batch_remove(&batch, TREE_ATTR, reply.oids[i], NULL);
			req.after = reply.oids[i];
		}
		end = reply.end || reply.num_oids == 0;
		store_orphans_reply_release(&reply);
		r = batch_publish_aside(&batch, m->view);
	}
	return r;
}
