#include "mountd/snapshots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/changed.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/request.h"
#include "tree/instant.h"

#define VERSION	      1
#define LABEL	      "bazil.snap.v1"
#define SNAPSHOTS_MAX 65536u
/* An instant as it was asked for means another one soon. */
#define TIME_TIMEOUT  1.0
#define COOKIE_DOT    1
#define COOKIE_DOTDOT 2
#define NS_PER_S      INT64_C(1000000000)

struct snapshot {
	uint64_t time;
	char name[SEALED_NAME_MAX + 1];
};

/* --- names --- */

static void tag_of(const struct mountd *m, const char *name, uint8_t ret_tag[TREE_TAG_SIZE])
{
	/* The number of .snap is no directory's number: these tags are nobody else's. */
	cas_name_tag(&m->sealer.keys, AT_SNAP_DIR, name, strlen(name), ret_tag);
}

static size_t make_aad(const struct mountd *m, const uint8_t tag[TREE_TAG_SIZE], uint8_t *aad)
{
	memcpy(aad, m->sealer.volume, CAS_VOLUME_SIZE);
	memcpy(aad + CAS_VOLUME_SIZE, LABEL, sizeof(LABEL));
	memcpy(aad + CAS_VOLUME_SIZE + sizeof(LABEL), tag, TREE_TAG_SIZE);
	return CAS_VOLUME_SIZE + sizeof(LABEL) + TREE_TAG_SIZE;
}

#define AAD_SIZE (CAS_VOLUME_SIZE + sizeof(LABEL) + TREE_TAG_SIZE)

static size_t seal_name(const struct mountd *m, const char *name, const uint8_t tag[TREE_TAG_SIZE],
	uint8_t ret_sealed[1 + CAS_NAME_ROOM + CAS_META_OVERHEAD])
{
	uint8_t plain[1 + CAS_NAME_ROOM] = { VERSION }, aad[AAD_SIZE];
	size_t len = 1 + cas_name_put(name, strlen(name), plain + 1);

	cas_meta_seal(&m->sealer.keys, aad, make_aad(m, tag, aad), plain, len, ret_sealed);
	return len + CAS_META_OVERHEAD;
}

static int open_name(const struct mountd *m, const struct store_snapshot *snapshot,
	char ret_name[SEALED_NAME_MAX + 1])
{
	uint8_t plain[1 + CAS_NAME_ROOM], aad[AAD_SIZE], tag[TREE_TAG_SIZE];
	size_t len = snapshot->name.len, name_len, used;
	const char *name;
	int r;

	if (len < CAS_META_OVERHEAD + 2 || len - CAS_META_OVERHEAD > sizeof(plain))
		return -EBADMSG;
	r = cas_meta_open(&m->sealer.keys, aad, make_aad(m, snapshot->tag, aad),
		snapshot->name.data, len, plain);
	if (r < 0)
		return r;
	if (plain[0] != VERSION)
		return -EPROTONOSUPPORT;
	r = cas_name_get(plain + 1, len - CAS_META_OVERHEAD - 1, &name, &name_len, &used);
	if (r < 0)
		return r;
	memcpy(ret_name, name, name_len);
	ret_name[name_len] = '\0';
	tag_of(m, ret_name, tag);
	if (memcmp(tag, snapshot->tag, sizeof(tag)) != 0 || strchr(ret_name, '/') != NULL)
		return -EBADMSG;
	return 0;
}

static int list_page(
	struct mountd *m, const uint8_t after[TREE_TAG_SIZE], struct store_snapshot_list_reply *ret)
{
	struct store_snapshot_list req;
	int r;

	memcpy(req.after, after, sizeof(req.after));
	do {
		r = store_snapshot_list_wait(edge_store(m), &req, EDGE_WAIT_MS, ret);
	} while (edge_again(m, r));
	return r;
}

static int find_snapshot(struct mountd *m, const char *name, uint64_t *ret_time)
{
	struct store_snapshot_list_reply reply;
	uint8_t tag[TREE_TAG_SIZE], before[TREE_TAG_SIZE];
	int r;

	tag_of(m, name, tag);
	memcpy(before, tag, sizeof(tag));
	for (int i = TREE_TAG_SIZE - 1; i >= 0 && before[i]-- == 0; i--)
		;
	r = list_page(m, before, &reply);
	if (r < 0)
		return r;
	/* Asked for from just before its tag: it is the first or it is not there. */
	r = -ENOENT;
	if (reply.num_snapshots > 0 && memcmp(reply.snapshots[0].tag, tag, sizeof(tag)) == 0) {
		*ret_time = reply.snapshots[0].time;
		r = 0;
	}
	store_snapshot_list_reply_release(&reply);
	return r;
}

/* --- instants --- */

int snapshots_settle(struct mountd *m, uint64_t time, uint64_t *ret_time)
{
	struct store_span_reply reply;
	int r;

	do {
		r = store_span_wait(
			edge_store(m), &(struct store_span){ .at = time }, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	*ret_time = reply.kept < reply.now ? reply.kept : reply.now;
	store_span_reply_release(&reply);
	return *ret_time != 0 ? 0 : -ENOENT;
}

static int find_time(struct mountd *m, const char *text, uint64_t *ret_time)
{
	int64_t now = request_now(), time;
	int r = instant_parse(text, now, &time);

	if (r < 0 || time <= 0 || time > now)
		return -ENOENT;
	/* What was written until then is to be in it. */
	if (now - time < 2 * (int64_t)(FLUSH_AGE_S * (double)NS_PER_S))
		r = m->read_only ? 0 : flush_all(m, 0);
	return r < 0 ? r : snapshots_settle(m, (uint64_t)time, ret_time);
}

/* --- the directory --- */

static struct inode *make_dir(struct mountd *m)
{
	struct inode *dir = inode_add(&m->inodes, AT_SNAP_DIR);

	dir->nlink = 1;
	dir->pins = 1;
	dir->parent = TREE_ROOT;
	dir->attr.mode = S_IFDIR | 0755;
	dir->attr.atime = dir->attr.mtime = dir->attr.ctime = request_now();
	return dir;
}

struct inode *snapshots_dir(struct mountd *m)
{
	struct inode *dir = inode_find(&m->inodes, AT_SNAP_DIR), *root;

	if (dir == NULL)
		dir = make_dir(m);
	if (load_inode(m, TREE_ROOT, &root) == 0) {
		dir->attr.mode = root->attr.mode;
		dir->attr.uid = root->attr.uid;
		dir->attr.gid = root->attr.gid;
		dir->attr.btime = root->attr.btime;
	}
	return dir;
}

static void touch(struct mountd *m)
{
	struct inode *dir = snapshots_dir(m);

	dir->attr.mtime = dir->attr.ctime = request_now();
}

void snapshots_lookup_dir(fuse_req_t req)
{
	request_entry(req, snapshots_dir(request_mountd(req)));
}

static int load_root(struct mountd *m, uint64_t time, struct inode **ret)
{
	uint64_t node;
	int r = at_root(m, time, &node);

	if (r == 0)
		r = load_inode(m, node, ret);
	if (r == 0)
		(*ret)->parent = AT_SNAP_DIR;
	return r;
}

static void reply_time(fuse_req_t req, struct inode *root)
{
	struct mountd *m = request_mountd(req);
	struct fuse_entry_param entry;

	request_fill_entry(m, root, &entry);
	entry.entry_timeout = TIME_TIMEOUT;
	lookup_count(&m->inodes, root->oid, 1);
	if (fuse_reply_entry(req, &entry) < 0)
		lookup_forget(&m->inodes, root->oid, 1);
}

void snapshots_lookup(fuse_req_t req, const char *name)
{
	struct mountd *m = request_mountd(req);
	struct inode *root;
	uint64_t time = 0;
	int r = -ENAMETOOLONG;

	if (strlen(name) <= SEALED_NAME_MAX)
		r = name[0] == '@' ? find_time(m, name + 1, &time) : find_snapshot(m, name, &time);
	if (r == 0)
		r = load_root(m, time, &root);
	if (r < 0)
		request_done(req, r);
	else if (name[0] == '@')
		reply_time(req, root);
	else
		request_entry(req, root);
}

static int by_time(const void *a, const void *b)
{
	const struct snapshot *one = a, *other = b;

	return one->time < other->time ? -1 : one->time > other->time;
}

/* All of them, oldest first; malloc'ed. */
static int load_all(struct mountd *m, struct snapshot **ret, size_t *ret_num)
{
	struct store_snapshot_list_reply reply;
	uint8_t after[TREE_TAG_SIZE] = { 0 };
	struct snapshot *all = NULL;
	size_t num = 0;
	bool end = false;
	int r = 0;

	while (!end && num < SNAPSHOTS_MAX) {
		struct snapshot *more;

		r = list_page(m, after, &reply);
		if (r < 0)
			break;
		end = reply.end || reply.num_snapshots == 0;
		more = realloc(all, (num + reply.num_snapshots + 1) * sizeof(*all));
		if (more == NULL)
			abort();
		all = more;
		for (size_t i = 0; i < reply.num_snapshots; i++) {
			memcpy(after, reply.snapshots[i].tag, sizeof(after));
			all[num].time = reply.snapshots[i].time;
			/* One that is damaged must not hide the others. */
			if (open_name(m, &reply.snapshots[i], all[num].name) == 0)
				num++;
		}
		store_snapshot_list_reply_release(&reply);
	}
	if (num > 0)
		qsort(all, num, sizeof(*all), by_time);
	*ret = all;
	*ret_num = num;
	return r;
}

/* The cookie of a name is its instant: what comes and goes meanwhile shifts nobody. */
static size_t add_entry(fuse_req_t req, char *at, size_t room, bool plus, const char *name,
	uint64_t node, uint64_t cookie)
{
	/* ino 0: the kernel takes no reference. */
	struct fuse_entry_param entry = { .attr = { .st_ino = node, .st_mode = S_IFDIR } };

	return plus ? fuse_add_direntry_plus(req, at, room, name, &entry, (off_t)cookie)
		    : fuse_add_direntry(req, at, room, name, &entry.attr, (off_t)cookie);
}

void snapshots_list(fuse_req_t req, size_t size, off_t off, bool plus)
{
	struct mountd *m = request_mountd(req);
	uint64_t after = (uint64_t)off, node;
	char *buf = (char *)m->io_buf;
	struct snapshot *all;
	size_t num, len = 0, n = 0;
	int r = load_all(m, &all, &num);

	if (r < 0) {
		free(all);
		request_done(req, r);
		return;
	}
	if (size > SESSION_IO_MAX)
		size = SESSION_IO_MAX;
	if (after < COOKIE_DOT)
		len += add_entry(req, buf, size, plus, ".", AT_SNAP_DIR, COOKIE_DOT);
	if (after < COOKIE_DOTDOT)
		len += add_entry(req, buf + len, size - len, plus, "..", TREE_ROOT, COOKIE_DOTDOT);
	for (size_t i = 0; i < num; i++) {
		if (all[i].time <= after)
			continue;
		if (at_root(m, all[i].time, &node) < 0)
			node = AT_SNAP_DIR;
		n = add_entry(req, buf + len, size - len, plus, all[i].name, node, all[i].time);
		if (n > size - len)
			break;
		len += n;
	}
	free(all);
	fuse_reply_buf(req, buf, len);
}

/* It may have been done: stored, or a mountd before us, died before it was answered. */
static bool was_sent_before(const struct mountd *m)
{
	return m->session.unique >> 63;
}

void snapshots_make(fuse_req_t req, const char *name)
{
	struct mountd *m = request_mountd(req);
	uint8_t sealed[1 + CAS_NAME_ROOM + CAS_META_OVERHEAD];
	struct store_snapshot_create create;
	struct store_snapshot_create_reply reply;
	bool again = was_sent_before(m);
	struct inode *root;
	uint64_t time = 0;
	int r = m->read_only			 ? -EROFS
		: strlen(name) > SEALED_NAME_MAX ? -ENAMETOOLONG
		: name[0] == '@'		 ? -EINVAL
						 : flush_all(m, 0);

	if (r < 0) {
		request_done(req, r);
		return;
	}
	tag_of(m, name, create.tag);
	create.name = (struct ipc_bytes){ sealed, seal_name(m, name, create.tag, sealed) };
	do {
		r = store_snapshot_create_wait(edge_store(m), &create, EDGE_WAIT_MS, &reply);
		again = again || r == -ECONNRESET;
	} while (edge_again(m, r));
	if (r == 0) {
		time = reply.time;
		store_snapshot_create_reply_release(&reply);
	} else if (r == -EEXIST && again) {
		r = find_snapshot(m, name, &time);
	}
	if (r == 0)
		touch(m);
	if (r == 0)
		r = load_root(m, time, &root);
	if (r < 0)
		request_done(req, r);
	else
		request_entry(req, root);
}

void snapshots_remove(fuse_req_t req, const char *name)
{
	struct mountd *m = request_mountd(req);
	struct store_snapshot_remove remove;
	struct store_snapshot_remove_reply reply;
	bool again = was_sent_before(m);
	int r = m->read_only ? -EROFS : name[0] == '@' ? -EPERM : 0;

	if (r < 0) {
		request_done(req, r);
		return;
	}
	tag_of(m, name, remove.tag);
	do {
		r = store_snapshot_remove_wait(edge_store(m), &remove, EDGE_WAIT_MS, &reply);
		again = again || r == -ECONNRESET;
	} while (edge_again(m, r));
	if (r == 0)
		store_snapshot_remove_reply_release(&reply);
	if (r == -ENOENT && again)
		r = 0;
	if (r == 0)
		touch(m);
	request_done(req, r);
}
