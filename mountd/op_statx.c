#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/ops.h"
#include "mountd/request.h"

/* FUSE_STATX of protocol 7.39, which libfuse 3.14 does not know; without it nobody sees when a
 * file was born. The kernel asks only when a program wants that. */
struct statx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct statx_out {
	uint32_t len;
	int32_t error;
	uint64_t unique;
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct statx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};

#define ERROR_LEN 16 /* without the attributes */

_Static_assert(sizeof(struct statx_out) == ERROR_LEN + 32 + 256, "the kernel's layout");

static struct statx_time statx_time(struct timespec ts)
{
	return (struct statx_time){ .tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec };
}

static void fill(struct mountd *m, const struct inode *inode, struct statx_out *out)
{
	struct fuse_entry_param entry;
	struct stat st;

	request_fill_entry(m, inode, &entry);
	st = entry.attr;
	out->attr_valid = (uint64_t)entry.attr_timeout;
	out->len = sizeof(*out);
	out->mask = STATX_BASIC_STATS;
	/* The root has none: its record is the same on every peer. */
	if (inode->attr.btime != 0)
		out->mask |= STATX_BTIME;
	out->blksize = (uint32_t)st.st_blksize;
	out->nlink = (uint32_t)st.st_nlink;
	out->uid = st.st_uid;
	out->gid = st.st_gid;
	out->mode = (uint16_t)st.st_mode;
	out->ino = st.st_ino;
	out->size = (uint64_t)st.st_size;
	out->blocks = (uint64_t)st.st_blocks;
	out->atime = statx_time(st.st_atim);
	out->mtime = statx_time(st.st_mtim);
	out->ctime = statx_time(st.st_ctim);
	out->btime = statx_time(request_timespec(inode->attr.btime));
	out->rdev_major = major(st.st_rdev);
	out->rdev_minor = minor(st.st_rdev);
}

void op_statx(struct mountd *m, uint64_t unique, uint64_t oid)
{
	struct statx_out out = { .len = ERROR_LEN, .unique = unique };
	struct inode *inode;
	int r = load_inode(m, oid, &inode);
	ssize_t n;

	if (r == 0)
		fill(m, inode, &out);
	else
		out.error = request_errno(r);
	do {
		n = write(m->session.fd, &out, out.len);
	} while (n < 0 && errno == EINTR);
	/* ENOENT: the caller was killed meanwhile. A dead connection shows at the next read. */
}
