#include "stored/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int file_openat(void *ctx, int dir_fd, const char *path, int flags, mode_t mode)
{
	int fd = openat(dir_fd, path, flags | O_CLOEXEC | O_NOFOLLOW, mode);

	return fd < 0 ? -errno : fd;
}

static int file_close(void *ctx, int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static ssize_t file_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
	ssize_t n = pread(fd, data, len, (off_t)offset);

	return n < 0 ? -errno : n;
}

static ssize_t file_pwrite(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
	ssize_t n = pwrite(fd, data, len, (off_t)offset);

	return n < 0 ? -errno : n;
}

static int file_fdatasync(void *ctx, int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int file_ftruncate(void *ctx, int fd, uint64_t size)
{
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int file_fallocate(void *ctx, int fd, int mode, uint64_t offset, uint64_t len)
{
	return fallocate(fd, mode, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
}

static int file_renameat(void *ctx, int dir_fd, const char *from, const char *to)
{
	return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

static int file_unlinkat(void *ctx, int dir_fd, const char *path)
{
	return unlinkat(dir_fd, path, 0) < 0 ? -errno : 0;
}

static int file_fsync_dir(void *ctx, int dir_fd)
{
	return fsync(dir_fd) < 0 ? -errno : 0;
}

static int file_fstat(void *ctx, int fd, struct stat *ret)
{
	return fstat(fd, ret) < 0 ? -errno : 0;
}

static int file_fstatvfs(void *ctx, int fd, struct statvfs *ret)
{
	return fstatvfs(fd, ret) < 0 ? -errno : 0;
}

static int file_list(void *ctx, int dir_fd, store_io_name_fn *fn, void *arg)
{
	/* A descriptor of its own: the position of a directory is shared by duplicates. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *dir;
	int r = 0;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			r = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = fn(arg, entry->d_name);
	}
	closedir(dir);
	return r;
}

static uint64_t file_now(void *ctx)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int file_random(void *ctx, void *data, size_t len)
{
	return getrandom(data, len, 0) == (ssize_t)len ? 0 : -EIO;
}

const struct store_io store_io_file = {
	.openat = file_openat,
	.close = file_close,
	.pread = file_pread,
	.pwrite = file_pwrite,
	.fdatasync = file_fdatasync,
	.ftruncate = file_ftruncate,
	.fallocate = file_fallocate,
	.renameat = file_renameat,
	.unlinkat = file_unlinkat,
	.fsync_dir = file_fsync_dir,
	.fstat = file_fstat,
	.fstatvfs = file_fstatvfs,
	.list = file_list,
	.now = file_now,
	.random = file_random,
};

int store_io_read_full(const struct store_io *io, int fd, void *data, size_t len, uint64_t offset)
{
	uint8_t *p = data;

	while (len > 0) {
		ssize_t n = io->pread(io->ctx, fd, p, len, offset);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int store_io_write_full(
	const struct store_io *io, int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = io->pwrite(io->ctx, fd, p, len, offset);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENOSPC;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
