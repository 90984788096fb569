#include "mountd/request.h"

#include <errno.h>

#include "mountd/at.h"
#include "mountd/contents.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"

#define MINOR_INC_EPOCH 44 /* the kernel can be told to forget names that we do not know */

struct mountd *request_mountd(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Not understood are errors between processes. */
int request_errno(int r)
{
	switch (-r) {
	case EBADMSG:
	case EPROTO:
	case EPROTONOSUPPORT:
	case ECONNRESET:
	case EILSEQ:
		return -EIO;
	case EAGAIN:
		return -EHOSTUNREACH;
	default:
		return r;
	}
}

void request_done(fuse_req_t req, int r)
{
	fuse_reply_err(req, -request_errno(r));
}

/* How long the kernel may believe a name or attributes. */
static double timeout(const struct mountd *m, uint64_t oid)
{
	if (m->at != 0 || at_is_history(oid))
		return REQUEST_TIMEOUT;
	return m->session.kernel_minor >= MINOR_INC_EPOCH ? REQUEST_TIMEOUT : 1.0;
}

/* Those of .snap are the root's and change with them. */
static double attr_timeout(const struct mountd *m, const struct inode *inode)
{
	return inode->oid == AT_SNAP_DIR ? 0 : timeout(m, inode->oid);
}

int64_t request_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return request_ns(&ts);
}

int64_t request_ns(const struct timespec *ts)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)ts->tv_sec, INT64_C(1000000000), &ns) ||
		__builtin_add_overflow(ns, (int64_t)ts->tv_nsec, &ns))
		return ts->tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

struct timespec request_timespec(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return ts;
}

/* A removed directory that somebody still has open: 0, as a removed file. */
static nlink_t num_links(const struct inode *inode)
{
	return inode_is_dir(inode) && inode->nlink > 0 ? 2 + inode->subdirs : inode->nlink;
}

/* Programs that copy look for holes only where the blocks are fewer than the size. */
static uint64_t filled(const struct inode *inode, uint64_t size)
{
	uint64_t ret = size;

	if (inode_is_file(inode))
		ret = sealed_body_filled(&inode->body) +
		      (inode->contents != NULL ? inode->contents->file.bytes : 0);
	return ret < size ? ret : size;
}

uint32_t request_mode_killed(const struct mountd *m, const struct inode *inode)
{
	uint32_t gid = m->keep_owner ? inode->attr.gid : m->gid, mode = inode->attr.mode;

	if (!S_ISREG(mode))
		return mode;
	if (mode & S_IXGRP || (m->session.uid != 0 && m->session.gid != gid))
		mode &= ~(uint32_t)S_ISGID;
	return mode & ~(uint32_t)S_ISUID;
}

void request_fill(const struct mountd *m, const struct inode *inode, struct stat *ret_st)
{
	uint64_t size = inode_size(inode);

	*ret_st = (struct stat){ .st_ino = inode->oid,
		.st_mode = inode->attr.mode,
		.st_nlink = num_links(inode),
		.st_uid = m->keep_owner ? inode->attr.uid : m->uid,
		.st_gid = m->keep_owner ? inode->attr.gid : m->gid,
		.st_rdev = inode->attr.rdev,
		.st_size = (off_t)size,
		.st_blksize = 65536,
		.st_blocks = (blkcnt_t)((filled(inode, size) + 511) / 512),
		.st_atim = request_timespec(inode->attr.atime),
		.st_mtim = request_timespec(inode_mtime(inode)),
		.st_ctim = request_timespec(inode_ctime(inode)) };
	if (inode->sibling_of != 0)
		ret_st->st_mode &= ~(mode_t)0222;
}

void request_fill_entry(
	struct mountd *m, const struct inode *inode, struct fuse_entry_param *ret_entry)
{
	*ret_entry = (struct fuse_entry_param){ .ino = inode->oid,
		.attr_timeout = attr_timeout(m, inode),
		.entry_timeout = timeout(m, inode->oid) };
	request_fill(m, inode, &ret_entry->attr);
}

void request_entry(fuse_req_t req, struct inode *inode)
{
	struct mountd *m = request_mountd(req);
	struct fuse_entry_param entry;

	request_fill_entry(m, inode, &entry);
	/* Counted before the answer: the kernel's forget may follow it at once. */
	lookup_count(&m->inodes, inode->oid, 1);
	if (fuse_reply_entry(req, &entry) < 0)
		lookup_forget(&m->inodes, inode->oid, 1);
}

void request_no_entry(fuse_req_t req)
{
	struct fuse_entry_param entry = { .entry_timeout = timeout(request_mountd(req), 0) };

	fuse_reply_entry(req, &entry);
}

void request_attr(fuse_req_t req, const struct inode *inode)
{
	struct mountd *m = request_mountd(req);
	struct stat st;

	request_fill(m, inode, &st);
	fuse_reply_attr(req, &st, attr_timeout(m, inode));
}

void request_created(fuse_req_t req, struct inode *inode, struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	struct fuse_entry_param entry;

	request_fill_entry(m, inode, &entry);
	fi->keep_cache = 1;
	lookup_count(&m->inodes, inode->oid, 1);
	if (fuse_reply_create(req, &entry, fi) < 0)
		lookup_forget(&m->inodes, inode->oid, 1);
}

bool request_did(fuse_req_t req, uint64_t *ret_oid)
{
	struct mountd *m = request_mountd(req);

	return state_was_done(&m->state, m->session.unique, publish_position(m), ret_oid);
}

bool request_was_done(fuse_req_t req)
{
	struct mountd *m = request_mountd(req);
	struct inode *inode;
	uint64_t oid;
	int r;

	if (!request_did(req, &oid))
		return false;
	if (oid == 0) {
		request_done(req, 0);
		return true;
	}
	r = load_inode(m, oid, &inode);
	if (r < 0)
		request_done(req, r);
	else
		request_entry(req, inode);
	return true;
}
