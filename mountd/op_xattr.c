#include "mountd/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "cas/metaseal.h"
#include "mountd/acl.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/request.h"
#include "mountd/xattrs.h"

/* Who may touch which namespace the kernel checked, but for their existence. */
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
	return acl_is_name(name) ? 0 : -EOPNOTSUPP;
}

/* A change of one attribute. value NULL: it goes. */
struct change {
	const char *name, *value;
	size_t size;
	struct sealed_attr attr; /* the inode's, as it will be */
	bool was_there;
};

static int begin(struct mountd *m, fuse_ino_t ino, const char *name, struct change *change,
	struct inode **ret)
{
	uint8_t *old;
	size_t len;
	int r = check(name);

	if (r == 0)
		r = load_inode(m, ino, ret);
	if (r == 0 && (m->read_only || (*ret)->sibling_of != 0))
		r = -EROFS;
	/* A list sets the mode: what is held of it is older. */
	if (r == 0)
		r = flush_attr(m, *ret);
	if (r == 0)
		r = xattrs_find(m, *ret, name, &old, &len);
	if (r < 0)
		return r;
	*change = (struct change){ .name = name, .attr = (*ret)->attr, .was_there = old != NULL };
	change->attr.ctime = request_now();
	free(old);
	return 0;
}

static int publish(struct mountd *m, struct inode *inode, const struct change *change)
{
	size_t name_len = strlen(change->name);
	uint8_t tag[TREE_TAG_SIZE];
	struct batch batch;
	int r;

	batch_begin(m, &batch);
	batch_put_attr(&batch, inode->oid, &change->attr);
	if (change->value != NULL) {
		batch_put_xattr(
			&batch, inode->oid, change->name, name_len, change->value, change->size);
	} else if (change->was_there) {
		cas_xattr_tag(&m->sealer.keys, inode->oid, change->name, name_len, tag);
		batch_remove(&batch, TREE_XATTR, inode->oid, tag);
		batch.grows = false;
	}
	r = batch_publish(&batch, m->view, 0);
	if (r < 0)
		return r;
	inode->attr = change->attr;
	if (change->value != NULL && !change->was_there)
		inode->num_xattrs++;
	if (change->value == NULL && change->was_there)
		inode->num_xattrs--;
	if (strcmp(change->name, ACL_DEFAULT) == 0)
		inode->has_no_default_acl = false;
	return 0;
}

/* A list of rights changes the mode with it, and is not kept where the mode says all of it. */
static int set_acl(struct mountd *m, struct change *change)
{
	const uint8_t *value = (const uint8_t *)change->value;

	if (!acl_is_sound(value, change->size))
		return -EINVAL;
	if (strcmp(change->name, ACL_ACCESS) != 0)
		return 0;
	change->attr.mode = (change->attr.mode & ~0777u) | acl_mode(value, change->size);
	if (m->session.kills_sgid)
		change->attr.mode &= ~(uint32_t)S_ISGID;
	if (acl_is_mode(value, change->size))
		change->value = NULL;
	return 0;
}

void op_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct mountd *m = request_mountd(req);
	struct change change;
	struct inode *inode;
	int r;

	if (request_was_done(req))
		return;
	r = size > SEALED_XATTR_MAX ? -E2BIG : begin(m, ino, name, &change, &inode);
	if (r == 0 && flags & XATTR_CREATE && change.was_there)
		r = -EEXIST;
	if (r == 0 && flags & XATTR_REPLACE && !change.was_there)
		r = -ENODATA;
	if (r == 0) {
		change.value = value;
		change.size = size;
		if (acl_is_name(name))
			r = set_acl(m, &change);
	}
	if (r == 0)
		r = publish(m, inode, &change);
	request_done(req, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct mountd *m = request_mountd(req);
	struct change change;
	struct inode *inode;
	int r;

	if (request_was_done(req))
		return;
	r = begin(m, ino, name, &change, &inode);
	/* Removing a list that is not there is no error, on any file system. */
	if (r == 0 && !change.was_there)
		r = acl_is_name(name) ? 1 : -ENODATA;
	if (r == 0)
		r = publish(m, inode, &change);
	request_done(req, r < 0 ? r : 0);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct mountd *m = request_mountd(req);
	uint8_t *value = NULL;
	struct inode *inode;
	size_t len = 0;
	int r = check(name);

	if (r == 0)
		r = load_inode(m, ino, &inode);
	if (r == 0)
		r = acl_is_name(name) ? xattrs_find_acl(m, inode, name, &value, &len)
				      : xattrs_find(m, inode, name, &value, &len);
	if (r == 0 && value == NULL)
		r = -ENODATA;
	if (r == 0 && size > 0 && len > size)
		r = -ERANGE;
	if (r < 0)
		request_done(req, r);
	else if (size == 0)
		fuse_reply_xattr(req, len);
	else
		fuse_reply_buf(req, (const char *)value, len);
	free(value);
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
	struct mountd *m = request_mountd(req);
	struct names names = { .buf = (char *)m->io_buf,
		.size = size < SESSION_IO_MAX ? size : SESSION_IO_MAX,
		.is_root = fuse_req_ctx(req)->uid == 0 };
	struct inode *inode;
	int r = load_inode(m, ino, &inode);

	if (r == 0)
		r = xattrs_visit(m, inode, take_name, &names);
	if (r == 0 && size > 0 && names.len > names.size)
		r = -ERANGE;
	if (r < 0)
		request_done(req, r);
	else if (size == 0)
		fuse_reply_xattr(req, names.len);
	else
		fuse_reply_buf(req, names.buf, names.len);
}
