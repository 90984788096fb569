#include "mountd/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/records.h"
#include "mountd/request.h"

/* One attribute after the other: called with each that opens. Positive: enough. */
typedef int xattr_fn(
	void *arg, const char *name, size_t name_len, const uint8_t *value, size_t len);

/* A page of records, the last one's tag into after. 1: fn had enough. */
static int visit_page(struct mountd *m, const struct ipc_bytes *records,
	uint8_t after[TREE_TAG_SIZE], xattr_fn *fn, void *arg)
{
	uint8_t *buf = malloc(TREE_XATTR_SEALED_MAX), last[TREE_TAG_SIZE] = { 0 };
	struct records cursor = { records->data, records->len };
	struct tree_record rec;
	int r = 0;

	if (buf == NULL)
		return -ENOMEM;
	while (r == 0 && records_next(&cursor, &rec) == 0) {
		const uint8_t *value;
		const char *name;
		size_t name_len, len;

		/* Of several elements stored gives the winner first. */
		if (memcmp(last, rec.e.tag, sizeof(last)) == 0)
			continue;
		memcpy(last, rec.e.tag, sizeof(last));
		memcpy(after, rec.e.tag, sizeof(last));
		if (sealed_get_xattr(&m->sealer, &rec, buf, &name, &name_len, &value, &len) == 0)
			r = fn(arg, name, name_len, value, len);
	}
	free(buf);
	return r;
}

static int visit(
	struct mountd *m, uint64_t oid, const uint8_t after[TREE_TAG_SIZE], xattr_fn *fn, void *arg)
{
	struct store_xattrs req = { .oid = at_oid(m, oid), .at = at_time(m, oid) };
	struct store_xattrs_reply reply;
	bool end = false;
	int r = 0;

	memcpy(req.after, after, TREE_TAG_SIZE);
	while (r == 0 && !end) {
		do {
			r = store_xattrs_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
		} while (edge_again(m, r));
		if (r < 0)
			return r;
		end = reply.end || reply.records.len == 0;
		r = visit_page(m, &reply.records, req.after, fn, arg);
		store_xattrs_reply_release(&reply);
	}
	return r < 0 ? r : 0;
}

struct wanted {
	const char *name;
	size_t name_len;
	uint8_t *value; /* malloc'ed */
	size_t len;
	bool found;
};

static int take_wanted(
	void *arg, const char *name, size_t name_len, const uint8_t *value, size_t len)
{
	struct wanted *wanted = arg;

	/* Asked for from just before its tag: it is the first or it is not there. */
	if (name_len != wanted->name_len || memcmp(name, wanted->name, name_len) != 0)
		return 1;
	wanted->value = malloc(len + 1);
	if (wanted->value == NULL)
		return -ENOMEM;
	memcpy(wanted->value, value, len);
	wanted->len = len;
	wanted->found = true;
	return 1;
}

/* 0 and wanted->found. */
static int find_xattr(
	struct mountd *m, const struct inode *inode, const char *name, struct wanted *ret)
{
	uint8_t tag[TREE_TAG_SIZE];

	*ret = (struct wanted){ .name = name, .name_len = strlen(name) };
	if (inode->num_xattrs == 0)
		return 0;
	cas_xattr_tag(&m->sealer.keys, at_oid(m, inode->oid), name, ret->name_len, tag);
	for (int i = TREE_TAG_SIZE - 1; i >= 0 && tag[i]-- == 0; i--)
		;
	return visit(m, inode->oid, tag, take_wanted, ret);
}

/* Access lists (system.) would have to change modes and be inherited: not served as plain
 * attributes. Who may touch the other namespaces the kernel checked, but for their existence. */
static int check(const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };

	if (strlen(name) > SEALED_NAME_MAX)
		return -ERANGE;
	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		size_t len = strlen(spaces[i]);

		if (strncmp(name, spaces[i], len) == 0)
			return name[len] == '\0' ? -EINVAL : 0;
	}
	return -EOPNOTSUPP;
}

static int publish_xattr(struct mountd *m, struct inode *inode, const char *name, const char *value,
	size_t size, bool remove)
{
	struct sealed_attr attr = inode->attr;
	uint8_t tag[TREE_TAG_SIZE];
	struct batch batch;
	int r;

	attr.ctime = request_now();
	batch_begin(m, &batch);
	batch_put_attr(&batch, inode->oid, &attr);
	if (remove) {
		cas_xattr_tag(&m->sealer.keys, inode->oid, name, strlen(name), tag);
		batch_remove(&batch, TREE_XATTR, inode->oid, tag);
		batch.grows = false;
	} else {
		batch_put_xattr(&batch, inode->oid, name, strlen(name), value, size);
	}
	r = batch_publish(&batch, m->view, 0);
	if (r == 0)
		inode->attr = attr;
	return r;
}

void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct mountd *m = request_mountd(req);
	struct wanted wanted = { 0 };
	struct inode *inode;
	int r = check(name);

	if (request_was_done(req))
		return;
	if (r == 0)
		r = load_inode(m, ino, &inode);
	if (r == 0 && (m->read_only || inode->sibling_of != 0))
		r = -EROFS;
	if (r == 0 && size > SEALED_XATTR_MAX)
		r = -E2BIG;
	if (r == 0)
		r = find_xattr(m, inode, name, &wanted);
	if (r == 0 && flags & XATTR_CREATE && wanted.found)
		r = -EEXIST;
	if (r == 0 && flags & XATTR_REPLACE && !wanted.found)
		r = -ENODATA;
	if (r == 0)
		r = publish_xattr(m, inode, name, value, size, false);
	if (r == 0 && !wanted.found)
		inode->num_xattrs++;
	free(wanted.value);
	request_done(req, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct mountd *m = request_mountd(req);
	struct wanted wanted = { 0 };
	struct inode *inode;
	int r = check(name);

	if (request_was_done(req))
		return;
	if (r == 0)
		r = load_inode(m, ino, &inode);
	if (r == 0 && (m->read_only || inode->sibling_of != 0))
		r = -EROFS;
	if (r == 0)
		r = find_xattr(m, inode, name, &wanted);
	if (r == 0 && !wanted.found)
		r = -ENODATA;
	if (r == 0)
		r = publish_xattr(m, inode, name, NULL, 0, true);
	if (r == 0)
		inode->num_xattrs--;
	free(wanted.value);
	request_done(req, r);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct mountd *m = request_mountd(req);
	struct wanted wanted = { 0 };
	struct inode *inode;
	int r = check(name);

	if (r == 0)
		r = load_inode(m, ino, &inode);
	if (r == 0)
		r = find_xattr(m, inode, name, &wanted);
	if (r == 0 && !wanted.found)
		r = -ENODATA;
	if (r == 0 && size > 0 && wanted.len > size)
		r = -ERANGE;
	if (r < 0)
		request_done(req, r);
	else if (size == 0)
		fuse_reply_xattr(req, wanted.len);
	else
		fuse_reply_buf(req, (const char *)wanted.value, wanted.len);
	free(wanted.value);
}

struct names {
	char *buf;
	size_t len, size;
	bool is_root; /* else trusted attributes do not exist, as everywhere on Linux */
};

static int take_name(void *arg, const char *name, size_t name_len, const uint8_t *value, size_t len)
{
	struct names *names = arg;

	if (!names->is_root && name_len > 8 && memcmp(name, "trusted.", 8) == 0)
		return 0;
	if (names->len + name_len + 1 <= names->size) {
		memcpy(names->buf + names->len, name, name_len);
		names->buf[names->len + name_len] = '\0';
	}
	names->len += name_len + 1;
	return 0;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	static const uint8_t first[TREE_TAG_SIZE];
	struct mountd *m = request_mountd(req);
	struct names names = { .buf = (char *)m->io_buf,
		.size = size < SESSION_IO_MAX ? size : SESSION_IO_MAX,
		.is_root = fuse_req_ctx(req)->uid == 0 };
	struct inode *inode;
	int r = load_inode(m, ino, &inode);

	if (r == 0 && inode->num_xattrs > 0)
		r = visit(m, ino, first, take_name, &names);
	if (r == 0 && size > 0 && names.len > names.size)
		r = -ERANGE;
	if (r < 0)
		request_done(req, r);
	else if (size == 0)
		fuse_reply_xattr(req, names.len);
	else
		fuse_reply_buf(req, names.buf, names.len);
}
