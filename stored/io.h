/*
 * All file operations of the store engine, as a table, so that tests can fail the n-th call, lose
 * what was not synced, or flip bits. LMDB does its own I/O and is outside of it.
 *
 * Every function returns 0 or a positive count, or -errno. dir_fd and fd are descriptors of the
 * same implementation. A table is constant and shared; what it needs hangs off ctx.
 */
#ifndef BAZIL_STORED_IO_H
#define BAZIL_STORED_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

/* One name in the directory, never "." or "..". A value other than 0 stops and is returned. */
typedef int store_io_name_fn(void *arg, const char *name);

struct store_io {
	void *ctx;
	int (*openat)(void *ctx, int dir_fd, const char *path, int flags, mode_t mode);
	int (*close)(void *ctx, int fd);
	ssize_t (*pread)(void *ctx, int fd, void *data, size_t len, uint64_t offset);
	ssize_t (*pwrite)(void *ctx, int fd, const void *data, size_t len, uint64_t offset);
	int (*fdatasync)(void *ctx, int fd);
	int (*ftruncate)(void *ctx, int fd, uint64_t size);
	int (*fallocate)(void *ctx, int fd, int mode, uint64_t offset, uint64_t len);
	int (*renameat)(void *ctx, int dir_fd, const char *from, const char *to);
	int (*unlinkat)(void *ctx, int dir_fd, const char *path);
	int (*fsync_dir)(void *ctx, int dir_fd);
	int (*fstat)(void *ctx, int fd, struct stat *ret);
	int (*fstatvfs)(void *ctx, int fd, struct statvfs *ret);
	int (*list)(void *ctx, int dir_fd, store_io_name_fn *fn, void *arg);
	uint64_t (*now)(void *ctx); /* nanoseconds since 1970 */
	int (*random)(void *ctx, void *data, size_t len);
};

/* The real one. */
extern const struct store_io store_io_file;

/* Whole transfers over io: repeated after short counts and EINTR. read_full gives -ENODATA where
 * the file ends early; write_full leaves an unknown part written when it fails. */
int store_io_read_full(const struct store_io *io, int fd, void *data, size_t len, uint64_t offset);
int store_io_write_full(
	const struct store_io *io, int fd, const void *data, size_t len, uint64_t offset);

#endif
