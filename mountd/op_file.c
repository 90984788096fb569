#include "mountd/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mountd/changed.h"
#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/parked.h"
#include "mountd/publish.h"
#include "mountd/request.h"
#include "mountd/sibling.h"
#include "mountd/stream.h"
#include "mountd/tree_edit.h"

#define COPY_BYTES_MAX SESSION_IO_MAX /* copied through memory in one call */
#define CLONE_MIN      (64u << 10)

static int load_file(struct mountd *m, uint64_t oid, bool to_write, struct inode **ret)
{
	int r = load_inode(m, oid, ret);

	if (r < 0)
		return r;
	if (!inode_is_file(*ret))
		return inode_is_dir(*ret) ? -EISDIR : -EINVAL;
	if (to_write && (m->read_only || (*ret)->sibling_of != 0))
		return -EROFS;
	return contents_open(m, *ret);
}

/* What is read the kernel asks the attributes of once more, file by file, as the atime may have
 * changed. Who reads by listings is better served by a new one, which brings them all. */
static void unlist(struct mountd *m, const struct inode *inode)
{
	struct inode *dir = inode_find_quietly(&m->inodes, inode->parent);

	if (dir == NULL || !dir->is_listed)
		return;
	dir->is_listed = false;
	dir->is_searched = true;
	changed_forget_inode(m->changed, dir->oid);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	struct inode *inode;
	size_t len = 0;
	int r = load_file(m, ino, false, &inode);

	if (size > SESSION_IO_MAX)
		size = SESSION_IO_MAX;
	if (r == 0) {
		unlist(m, inode);
		r = contents_read(inode, (uint64_t)off, m->io_buf, size, &len);
	}
	if (r == -EAGAIN)
		parked_read(req, ino, (uint64_t)off, size);
	else if (r < 0)
		request_done(req, r);
	else
		fuse_reply_buf(req, (const char *)m->io_buf, len);
}

/* Writing by somebody without the right to set them takes these bits away. */
static int kill_priv(struct mountd *m, struct inode *inode)
{
	struct sealed_attr attr = inode->attr;

	attr.mode = request_mode_killed(m, inode);
	if (!m->session.kills_priv || attr.mode == inode->attr.mode)
		return 0;
	return flush_set_attr(m, inode, &attr);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	struct inode *inode;
	int r = load_file(m, ino, true, &inode);

	if (r == 0 && (off < 0 || (uint64_t)off + size > INT64_MAX))
		r = -EFBIG;
	if (r == 0)
		r = kill_priv(m, inode);
	if (r == 0)
		r = contents_touch(m, inode, dirty_slots_for(size));
	if (r < 0) {
		request_done(req, r);
		return;
	}
	contents_write(m, inode, (uint64_t)off, data, size, request_now());
	fuse_reply_write(req, size);
	/* The writer goes on while its bytes are sealed. An error shows at fsync, and when the log
	 * is full. */
	if (inode->contents->file.bytes >= FLUSH_STREAM_BYTES && !inode->is_far &&
		!stream_start(m->stream, inode))
		(void)flush_inode(m, inode, false);
	flush_ahead(m);
}

static int seek(struct inode *inode, uint64_t offset, bool want_data, uint64_t *ret)
{
	uint64_t size = inode_size(inode), end;
	bool is_data;

	if (offset >= size)
		return -ENXIO;
	while (offset < size) {
		int r = contents_kind(inode, offset, &is_data, &end);

		if (r < 0)
			return r;
		if (is_data == want_data) {
			*ret = offset;
			return 0;
		}
		offset = end;
	}
	*ret = size;
	return want_data ? -ENXIO : 0;
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct mountd *m = request_mountd(req);
	struct inode *inode;
	uint64_t found = (uint64_t)off;
	int r = load_file(m, ino, false, &inode);

	if (r == 0 && off < 0)
		r = -ENXIO;
	if (r == 0 && whence != SEEK_DATA && whence != SEEK_HOLE)
		r = -EINVAL;
	if (r == 0)
		r = seek(inode, (uint64_t)off, whence == SEEK_DATA, &found);
	/* The map is far: all of it is data, as for a file system without holes. */
	if (r == -EAGAIN) {
		found = whence == SEEK_DATA ? (uint64_t)off : inode_size(inode);
		r = 0;
	}
	if (r < 0)
		request_done(req, r);
	else
		fuse_reply_lseek(req, (off_t)found);
}

void op_fallocate(
	fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	static const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct mountd *m = request_mountd(req);
	uint64_t end = (uint64_t)off + (uint64_t)len, size;
	int64_t now = request_now();
	struct inode *inode;
	int r = load_file(m, ino, true, &inode);

	if (mode & ~known || (mode & FALLOC_FL_PUNCH_HOLE && mode & FALLOC_FL_ZERO_RANGE))
		r = -EOPNOTSUPP;
	if (r == 0 && (off < 0 || len <= 0))
		r = -EINVAL;
	if (r == 0 && end > INT64_MAX)
		r = -EFBIG;
	if (r == 0)
		r = kill_priv(m, inode);
	if (r == 0)
		r = contents_touch(m, inode, 8);
	if (r < 0) {
		request_done(req, r);
		return;
	}
	edit_touch(m, inode, now);
	size = inode_size(inode);
	if (end > size && !(mode & FALLOC_FL_KEEP_SIZE)) {
		contents_resize(m, inode, end, now);
		size = end;
	}
	end = end < size ? end : size;
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && (uint64_t)off < end)
		contents_zero(m, inode, (uint64_t)off, end - (uint64_t)off, now);
	request_done(req, 0);
}

static int copy_bytes(struct mountd *m, struct inode *in, uint64_t off_in, struct inode *out,
	uint64_t off_out, size_t *len)
{
	int r;

	if (*len > COPY_BYTES_MAX)
		*len = COPY_BYTES_MAX;
	r = contents_touch(m, out, dirty_slots_for(*len));
	if (r == 0)
		r = contents_read(in, off_in, m->io_buf, *len, len);
	if (r < 0)
		return r;
	contents_write(m, out, off_out, m->io_buf, *len, request_now());
	return 0;
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct mountd *m = request_mountd(req);
	struct inode *in, *out;
	uint64_t size;
	int r = load_file(m, ino_in, false, &in);

	if (r == 0)
		r = load_file(m, ino_out, true, &out);
	if (r == 0 && ((uint64_t)off_out + len > INT64_MAX || off_in < 0 || off_out < 0))
		r = -EFBIG;
	if (r == 0)
		r = kill_priv(m, out);
	if (r < 0) {
		request_done(req, r);
		return;
	}
	in->pins++;
	out->pins++;
	size = inode_size(in);
	if ((uint64_t)off_in >= size)
		len = 0;
	else if (size - (uint64_t)off_in < len)
		len = size - (uint64_t)off_in;
	if (len >= CLONE_MIN)
		r = flush_clone(m, in, (uint64_t)off_in, out, (uint64_t)off_out, len);
	if (len > 0 && (len < CLONE_MIN || r == -EOPNOTSUPP))
		r = copy_bytes(m, in, (uint64_t)off_in, out, (uint64_t)off_out, &len);
	in->pins--;
	out->pins--;
	/* A clone is stored at once, in the place of every version there was. in may be one. */
	if (r == 0 && out->head == DIRTY_NO_HEAD)
		sibling_drop(m, out);
	/* Something is far. The kernel then reads and writes by itself, and a read can wait. */
	if (r == -EAGAIN)
		r = -EOPNOTSUPP;
	if (r < 0)
		request_done(req, r);
	else
		fuse_reply_write(req, len);
}
