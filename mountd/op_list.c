#include "mountd/ops.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/next_dir.h"
#include "mountd/request.h"

/* Cookies below every link id: replica numbers are not 0. */
#define COOKIE_DOT    1
#define COOKIE_DOTDOT 2

/* A listing being written into the reply. */
struct listing {
	fuse_req_t req;
	struct mountd *m;
	char *buf;
	size_t len, size;
	bool plus, is_full;
};

/* With its type alone. */
static void add_plain(
	struct listing *listing, const char *name, uint64_t oid, mode_t mode, off_t cookie)
{
	struct fuse_entry_param entry = { .attr = { .st_ino = oid, .st_mode = mode } };
	char *at = listing->buf + listing->len;
	size_t room = listing->size - listing->len, n;

	/* nodeid 0: the kernel takes no reference, and looks it up when somebody asks. */
	n = listing->plus ? fuse_add_direntry_plus(listing->req, at, room, name, &entry, cookie)
			  : fuse_add_direntry(listing->req, at, room, name, &entry.attr, cookie);
	listing->is_full = n > room;
	if (!listing->is_full)
		listing->len += n;
}

static void add_name(struct listing *listing, const struct dirent_entry *entry)
{
	add_plain(
		listing, entry->name, entry->target, (mode_t)entry->type << 12, (off_t)entry->lid);
}

/* With the inode. One that is not cached is loaded with its neighbours, a page at a time. */
static int add_plus(struct listing *listing, struct inode *dir, const struct dirent_entry *entry)
{
	struct fuse_entry_param param;
	struct inode *inode;
	size_t room = listing->size - listing->len, n;
	int r = load_inode(listing->m, entry->target, &inode);

	if (r == -ENOENT || r == -EBADMSG) {
		add_name(listing, entry); /* damaged: its name is still listed */
		return 0;
	}
	if (r < 0)
		return r;
	request_fill_entry(listing->m, inode, &param);
	n = fuse_add_direntry_plus(listing->req, listing->buf + listing->len, room, entry->name,
		&param, (off_t)entry->lid);
	listing->is_full = n > room;
	if (listing->is_full)
		return 0;
	listing->len += n;
	lookup_count(&listing->m->inodes, inode->oid, 1);
	return 0;
}

static bool must_load(struct mountd *m, uint64_t oid)
{
	const struct inode *inode = inode_find(&m->inodes, oid);

	return inode == NULL || inode->is_stale;
}

/* Names with link ids in (after, upto]. */
static int add_names(struct listing *listing, struct inode *dir, uint64_t after, uint64_t upto)
{
	uint64_t refreshed = after;

	for (size_t at = dir_after(dir->dir, after); at < dir->dir->num && !listing->is_full;
		at++) {
		const struct dirent_entry *entry = dir->dir->order[at];
		uint64_t lid = entry->lid;
		int r;

		if (lid > upto)
			break;
		if (!listing->plus) {
			add_name(listing, entry);
			continue;
		}
		if (lid > refreshed && must_load(listing->m, entry->target)) {
			bool end;

			r = load_page(listing->m, dir, lid - 1, 0, &refreshed, &end);
			if (r < 0)
				return r;
			at = dir_after(dir->dir, lid - 1);
			entry = dir->dir->order[at];
		}
		r = add_plus(listing, dir, entry);
		if (r < 0)
			return r;
	}
	return 0;
}

static int list(struct listing *listing, struct inode *dir, uint64_t after)
{
	bool end = true;
	int r = 0;

	if (after < COOKIE_DOT)
		add_plain(listing, ".", dir->oid, S_IFDIR, COOKIE_DOT);
	if (after < COOKIE_DOTDOT && !listing->is_full)
		add_plain(listing, "..", dir->parent ? dir->parent : dir->oid, S_IFDIR,
			COOKIE_DOTDOT);
	if (after <= COOKIE_DOTDOT)
		after = 0;
	if (!dir->dir->complete && dir->entries <= LOAD_NAMES_MAX)
		r = load_all_names(listing->m, dir);
	while (r == 0 && !listing->is_full) {
		uint64_t last = UINT64_MAX;

		if (!dir->dir->complete)
			r = load_page(listing->m, dir, after, 0, &last, &end);
		if (end)
			last = UINT64_MAX; /* siblings come behind all link ids */
		if (r == 0)
			r = add_names(listing, dir, after, last);
		if (end)
			break;
		after = last;
	}
	/* What is there can be used; the error comes back with the next call. */
	return listing->len > 0 ? 0 : r;
}

static void list_and_reply(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct mountd *m = request_mountd(req);
	struct listing listing = { .req = req,
		.m = m,
		.buf = (char *)m->io_buf,
		.size = size < SESSION_IO_MAX ? size : SESSION_IO_MAX,
		.plus = plus };
	struct inode *dir;
	int r = load_dir(m, ino, &dir);

	if (r == 0) {
		dir->pins++;
		r = list(&listing, dir, (uint64_t)off);
		dir->is_listed = dir->is_listed || plus;
		dir->pins--;
	}
	if (r < 0) {
		request_done(req, r);
		return;
	}
	fuse_reply_buf(req, listing.buf, listing.len);
	if (plus && off == 0)
		next_dir_at(m, dir);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_and_reply(req, ino, size, off, false);
}

void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list_and_reply(req, ino, size, off, true);
}
