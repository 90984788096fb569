/*
 * Calls of the C library that LMDB makes on its files: an executable's definitions win over the
 * library's, for liblmdb.so too. They do what they are for, and log it on the simulated disk in the
 * same order as the engine's own operations. MDB_env's second descriptor is opened with O_DSYNC: a
 * write on it is durable at once, and nothing else is made durable by it.
 */
#include "tests/crash/simdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 1024

static struct {
	struct simdisk *disk;
	uint32_t file;
	bool is_dsync;
} table[FDS];

/* Under names of their own here, since the headers may redirect the real ones. */
#define INTERPOSE(name) __asm__(name) __attribute__((visibility("default")))
int lmdb_open(const char *path, int flags, ...) INTERPOSE("open");
int lmdb_close(int fd) INTERPOSE("close");
ssize_t lmdb_write(int fd, const void *data, size_t len) INTERPOSE("write");
ssize_t lmdb_pwrite(int fd, const void *data, size_t len, off_t offset) INTERPOSE("pwrite");
ssize_t lmdb_writev(int fd, const struct iovec *iov, int num) INTERPOSE("writev");
int lmdb_fdatasync(int fd) INTERPOSE("fdatasync");
int lmdb_fsync(int fd) INTERPOSE("fsync");
int lmdb_ftruncate(int fd, off_t size) INTERPOSE("ftruncate");
int lmdb_msync(void *addr, size_t len, int flags) INTERPOSE("msync");

static bool is_ours(int fd)
{
	return fd >= 0 && fd < FDS && table[fd].disk;
}

static bool is_failing(void)
{
	errno = sim_fault(false);
	return errno != 0;
}

static bool is_failing_write(int fd)
{
	if (!table[fd].disk->full_index)
		return is_failing();
	errno = ENOSPC;
	return true;
}

static void record_write(int fd, const void *data, size_t len, uint64_t offset)
{
	struct sim_op op = { .type = SIM_WRITE, .file = table[fd].file, .offset = offset };

	op.is_durable = table[fd].is_dsync && table[fd].disk->lie != SIM_INDEX_NO_SYNC;
	op.len = len;
	op.data = (uint8_t *)(uintptr_t)data;
	sim_record(table[fd].disk, &op);
}

static int record_sync(int fd)
{
	struct sim_op op = { .type = SIM_SYNC, .file = table[fd].file };
	struct simdisk *disk = table[fd].disk;

	if (disk->lie == SIM_INDEX_NO_SYNC)
		return 0;
	if (disk->fail_index)
		op.type = SIM_SYNC_FAILED;
	disk->fail_index = false;
	sim_record(disk, &op);
	if (op.type == SIM_SYNC)
		return 0;
	errno = EIO;
	return -1;
}

int lmdb_open(const char *path, int flags, ...)
{
	struct simdisk *disk;
	const char *name;
	mode_t mode;
	va_list ap;
	int fd;

	va_start(ap, flags);
	mode = flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0;
	va_end(ap);
	disk = sim_of_path(path, &name);
	if (disk && is_failing())
		return -1;
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	if (fd < 0)
		return fd;
	if (disk && (flags & (O_CREAT | O_ACCMODE))) {
		sim_must(fd < FDS);
		table[fd].disk = disk;
		table[fd].file = sim_real_open(disk, name, flags & O_TRUNC);
		table[fd].is_dsync = flags & O_DSYNC;
	}
	return fd;
}

int lmdb_close(int fd)
{
	if (is_ours(fd))
		table[fd].disk = NULL;
	return (int)syscall(SYS_close, fd);
}

ssize_t lmdb_pwrite(int fd, const void *data, size_t len, off_t offset)
{
	ssize_t n;

	if (is_ours(fd) && is_failing_write(fd))
		return -1;
	n = syscall(SYS_pwrite64, fd, data, len, offset);
	if (n > 0 && is_ours(fd))
		record_write(fd, data, (size_t)n, (uint64_t)offset);
	return n;
}

ssize_t lmdb_write(int fd, const void *data, size_t len)
{
	off_t at = is_ours(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
	ssize_t n;

	if (is_ours(fd) && is_failing_write(fd))
		return -1;
	n = syscall(SYS_write, fd, data, len);
	if (n > 0 && is_ours(fd))
		record_write(fd, data, (size_t)n, (uint64_t)at);
	return n;
}

ssize_t lmdb_writev(int fd, const struct iovec *iov, int num)
{
	off_t at = is_ours(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
	ssize_t n;

	if (is_ours(fd) && is_failing_write(fd))
		return -1;
	n = syscall(SYS_writev, fd, iov, num);
	for (ssize_t left = n; left > 0 && is_ours(fd); iov++) {
		size_t len = iov->iov_len < (size_t)left ? iov->iov_len : (size_t)left;

		record_write(fd, iov->iov_base, len, (uint64_t)at);
		at += (off_t)len;
		left -= (ssize_t)len;
	}
	return n;
}

/* The real file is in memory: only what it would have made durable counts. */
int lmdb_fdatasync(int fd)
{
	if (!is_ours(fd))
		return (int)syscall(SYS_fdatasync, fd);
	if (is_failing())
		return -1;
	return record_sync(fd);
}

int lmdb_fsync(int fd)
{
	if (!is_ours(fd))
		return (int)syscall(SYS_fsync, fd);
	if (is_failing())
		return -1;
	return record_sync(fd);
}

int lmdb_ftruncate(int fd, off_t size)
{
	struct sim_op op = { .type = SIM_TRUNCATE, .offset = (uint64_t)size };
	int r = (int)syscall(SYS_ftruncate, fd, size);

	if (r == 0 && is_ours(fd)) {
		op.file = table[fd].file;
		sim_record(table[fd].disk, &op);
	}
	return r;
}

/* LMDB as the engine opens it never writes through its map. */
int lmdb_msync(void *addr, size_t len, int flags)
{
	return (int)syscall(SYS_msync, addr, len, flags);
}
