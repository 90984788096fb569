#include "tests/crash/simdisk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FD_BASE	  1000000
#define DISKS_MAX 8

static struct simdisk *disks[DISKS_MAX];

void sim_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

uint64_t sim_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

struct sim_faults sim_faults;

int sim_fault(bool is_of_memory)
{
	struct sim_faults *f = &sim_faults;

	if (f->fail_at == 0 || f->is_of_memory != is_of_memory)
		return 0;
	f->calls++;
	if (f->calls < f->fail_at || (f->is_once && f->calls > f->fail_at))
		return 0;
	f->was_hit = true;
	return f->error;
}

/* The disk's own memory never runs out. */
static void *sim_realloc(void *p, size_t size)
{
	unsigned fail_at = sim_faults.fail_at;

	sim_faults.fail_at = 0;
	p = realloc(p, size);
	sim_faults.fail_at = fail_at;
	sim_must(p);
	return p;
}

/* ---- images */

void sim_data_resize(struct sim_data *data, size_t size)
{
	if (size > data->cap) {
		size_t cap = data->cap ? data->cap : 4096;

		while (cap < size)
			cap *= 2;
		data->data = sim_realloc(data->data, cap);
		data->cap = cap;
	}
	if (size > data->size)
		memset(data->data + data->size, 0, size - data->size);
	data->size = size;
}

void sim_data_write(struct sim_data *data, uint64_t offset, const void *bytes, size_t len)
{
	if (offset + len > data->size)
		sim_data_resize(data, offset + len);
	if (bytes)
		memcpy(data->data + offset, bytes, len);
	else
		memset(data->data + offset, 0, len);
}

void sim_image_release(struct sim_image *image)
{
	for (uint32_t i = 0; i < SIM_FILES_MAX; i++)
		free(image->files[i].data);
	memset(image, 0, sizeof(*image));
}

/* Buffers of dst are used again: a hundred thousand images are made of one. */
void sim_image_copy(struct sim_image *dst, const struct sim_image *src)
{
	for (uint32_t i = 0; i < src->num_files; i++) {
		struct sim_data *to = &dst->files[i];

		to->size = 0;
		sim_data_resize(to, src->files[i].size);
		if (src->files[i].size > 0)
			memcpy(to->data, src->files[i].data, src->files[i].size);
	}
	dst->num_files = src->num_files;
	memcpy(dst->names, src->names, src->num_names * sizeof(*src->names));
	dst->num_names = src->num_names;
}

int sim_image_find(const struct sim_image *image, const char *name)
{
	for (size_t i = 0; i < image->num_names; i++)
		if (strcmp(image->names[i].name, name) == 0)
			return (int)i;
	return -1;
}

static void image_unlink(struct sim_image *image, const char *name)
{
	int i = sim_image_find(image, name);

	if (i >= 0)
		image->names[i] = image->names[--image->num_names];
}

static void image_link(struct sim_image *image, const char *name, uint32_t file)
{
	image_unlink(image, name);
	sim_must(image->num_names < SIM_NAMES_MAX);
	image->names[image->num_names].file = file;
	snprintf(image->names[image->num_names++].name, SIM_NAME_MAX, "%s", name);
}

void sim_image_apply(struct sim_image *image, const struct sim_op *op)
{
	int i;

	if (op->type == SIM_CREATE) {
		image_link(image, op->name, op->file);
		if (op->file >= image->num_files)
			image->num_files = op->file + 1;
	} else if (op->type == SIM_UNLINK) {
		image_unlink(image, op->name);
	} else if (op->type == SIM_RENAME) {
		i = sim_image_find(image, op->name);
		if (i >= 0) {
			uint32_t file = image->names[i].file;

			image_unlink(image, op->name);
			image_link(image, op->to, file);
		}
	}
}

/* ---- the log */

void sim_record(struct simdisk *disk, const struct sim_op *op)
{
	struct sim_log *log = &disk->log;
	struct sim_op copy = *op;

	if (!disk->is_recording)
		return;
	if ((disk->lie == SIM_NO_SYNC && op->type == SIM_SYNC) ||
		(disk->lie == SIM_NO_DIR_SYNC && op->type == SIM_SYNC_DIR))
		return;
	if (op->type == SIM_WRITE && op->data) {
		copy.data = sim_realloc(NULL, op->len + 1);
		memcpy(copy.data, op->data, op->len);
	}
	if (log->num == log->cap) {
		log->cap = log->cap ? log->cap * 2 : 256;
		log->ops = sim_realloc(log->ops, log->cap * sizeof(*log->ops));
	}
	if (disk->lie == SIM_SYNC_TOO_SOON && op->type == SIM_SYNC && log->num > 0 &&
		log->ops[log->num - 1].type == SIM_WRITE) {
		log->ops[log->num] = log->ops[log->num - 1];
		log->ops[log->num - 1] = copy;
		log->num++;
		return;
	}
	log->ops[log->num++] = copy;
}

static void log_clear(struct sim_log *log)
{
	for (size_t i = 0; i < log->num; i++)
		free(log->ops[i].data);
	log->num = 0;
}

/* ---- struct store_io */

static bool is_real(const char *name)
{
	return strncmp(name, "index", 5) == 0;
}

static struct sim_data *data_of(struct simdisk *disk, int fd, uint32_t *ret_file)
{
	int i = fd - FD_BASE;

	sim_must(i >= 0 && i < SIM_FDS_MAX && disk->fds[i].is_open);
	if (ret_file)
		*ret_file = disk->fds[i].file;
	return &disk->now.files[disk->fds[i].file];
}

static uint32_t file_new(struct simdisk *disk, const char *name)
{
	struct sim_op op = { .type = SIM_CREATE, .file = disk->now.num_files };

	sim_must(op.file < SIM_FILES_MAX);
	snprintf(op.name, sizeof(op.name), "%s", name);
	disk->now.num_files++;
	disk->now.files[op.file].size = 0;
	sim_image_apply(&disk->now, &op);
	sim_record(disk, &op);
	return op.file;
}

static void truncate_file(struct simdisk *disk, uint32_t file, uint64_t size)
{
	struct sim_op op = { .type = SIM_TRUNCATE, .file = file, .offset = size };

	sim_data_resize(&disk->now.files[file], size);
	sim_record(disk, &op);
}

/* The one that tests/crash/interpose.c takes the place of; the headers would make it open64. */
int plain_open(const char *path, int flags, ...) __asm__("open");

static int sim_openat(void *ctx, int dir_fd, const char *path, int flags, mode_t mode)
{
	struct simdisk *disk = ctx;
	int i = sim_image_find(&disk->now, path), fd;
	uint32_t file;

	if (sim_fault(false))
		return -sim_faults.error;
	if (is_real(path)) {
		char whole[128];

		/* The engine itself reads or copies the index: a descriptor of the real file, by
		 * the call that logs what is done with it. */
		snprintf(whole, sizeof(whole), "%s/%s", disk->path, path);
		fd = plain_open(whole, flags | O_CLOEXEC, mode);
		return fd < 0 ? -errno : fd;
	}
	if (i < 0 && !(flags & O_CREAT))
		return -ENOENT;
	if (i >= 0 && (flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	for (fd = 0; fd < SIM_FDS_MAX && disk->fds[fd].is_open; fd++)
		;
	if (fd == SIM_FDS_MAX)
		return -EMFILE;
	file = i >= 0 ? disk->now.names[i].file : file_new(disk, path);
	if (i >= 0 && (flags & O_TRUNC))
		truncate_file(disk, file, 0);
	disk->fds[fd].is_open = true;
	disk->fds[fd].file = file;
	return fd + FD_BASE;
}

static int sim_close(void *ctx, int fd)
{
	struct simdisk *disk = ctx;

	if (fd < FD_BASE)
		return close(fd) < 0 ? -errno : 0;
	data_of(disk, fd, NULL);
	disk->fds[fd - FD_BASE].is_open = false;
	return 0;
}

static ssize_t sim_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
	struct sim_data *file;
	ssize_t n;

	if (sim_fault(false))
		return -sim_faults.error;
	if (fd < FD_BASE) {
		n = pread(fd, data, len, (off_t)offset);
		return n < 0 ? -errno : n;
	}
	file = data_of(ctx, fd, NULL);
	if (offset >= file->size)
		return 0;
	if (len > file->size - offset)
		len = file->size - offset;
	if (sim_faults.is_short && len > 1)
		len /= 2;
	memcpy(data, file->data + offset, len);
	return (ssize_t)len;
}

static ssize_t sim_pwrite(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
	struct sim_op op = { .type = SIM_WRITE, .offset = offset, .len = len };
	struct sim_data *file = data_of(ctx, fd, &op.file);
	struct simdisk *disk = ctx;

	if (sim_fault(false))
		return -sim_faults.error;
	if (disk->full_after > 0 && --disk->full_after == 0)
		op.len = len / 2; /* a failing write may have written some of it */
	if (sim_faults.is_short && op.len > 1)
		len = op.len /= 2;
	op.data = (uint8_t *)(uintptr_t)data;
	sim_data_write(file, offset, data, op.len);
	sim_record(disk, &op);
	return op.len == len ? (ssize_t)len : -ENOSPC;
}

static bool is_arena(const struct simdisk *disk, uint32_t file)
{
	for (size_t i = 0; i < disk->now.num_names; i++)
		if (disk->now.names[i].file == file)
			return strncmp(disk->now.names[i].name, "arena.", 6) == 0;
	return false;
}

static int sim_fdatasync(void *ctx, int fd)
{
	struct sim_op op = { .type = SIM_SYNC };
	struct simdisk *disk = ctx;

	if (sim_fault(false))
		return -sim_faults.error;
	if (fd < FD_BASE)
		return fdatasync(fd) < 0 ? -errno : 0;
	data_of(ctx, fd, &op.file);
	if (disk->fail_arena && is_arena(disk, op.file)) {
		disk->fail_arena = false;
		op.type = SIM_SYNC_FAILED;
	}
	sim_record(disk, &op);
	return op.type == SIM_SYNC ? 0 : -EIO;
}

static int sim_ftruncate(void *ctx, int fd, uint64_t size)
{
	uint32_t file;

	if (sim_fault(false))
		return -sim_faults.error;
	data_of(ctx, fd, &file);
	truncate_file(ctx, file, size);
	return 0;
}

static int sim_fallocate(void *ctx, int fd, int mode, uint64_t offset, uint64_t len)
{
	struct sim_op op = { .type = SIM_EXTEND, .offset = offset + len };
	struct sim_data *file = data_of(ctx, fd, &op.file);

	if (sim_fault(false))
		return -sim_faults.error;
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		if (offset >= file->size)
			return 0;
		op = (struct sim_op){ .type = SIM_WRITE, .file = op.file, .offset = offset };
		op.len = len > file->size - offset ? file->size - offset : len;
		sim_data_write(file, offset, NULL, op.len);
	} else if (mode == 0 && offset + len > file->size) {
		sim_data_resize(file, offset + len);
	}
	sim_record(ctx, &op);
	return 0;
}

static int sim_renameat(void *ctx, int dir_fd, const char *from, const char *to)
{
	struct sim_op op = { .type = SIM_RENAME };
	struct simdisk *disk = ctx;

	if (sim_fault(false))
		return -sim_faults.error;
	if (sim_image_find(&disk->now, from) < 0)
		return -ENOENT;
	if (is_real(from) && renameat(disk->dir_fd, from, disk->dir_fd, to) < 0)
		return -errno;
	snprintf(op.name, sizeof(op.name), "%s", from);
	snprintf(op.to, sizeof(op.to), "%s", to);
	sim_image_apply(&disk->now, &op);
	sim_record(disk, &op);
	return 0;
}

static int sim_unlinkat(void *ctx, int dir_fd, const char *path)
{
	struct sim_op op = { .type = SIM_UNLINK };
	struct simdisk *disk = ctx;

	if (sim_fault(false))
		return -sim_faults.error;
	if (is_real(path) && unlinkat(disk->dir_fd, path, 0) < 0)
		return -errno;
	if (sim_image_find(&disk->now, path) < 0)
		return is_real(path) ? 0 : -ENOENT;
	snprintf(op.name, sizeof(op.name), "%s", path);
	sim_image_apply(&disk->now, &op);
	sim_record(disk, &op);
	return 0;
}

static int sim_fsync_dir(void *ctx, int dir_fd)
{
	if (sim_fault(false))
		return -sim_faults.error;
	sim_record(ctx, &(struct sim_op){ .type = SIM_SYNC_DIR });
	return 0;
}

static int sim_fstat(void *ctx, int fd, struct stat *ret)
{
	struct sim_data *file;

	if (sim_fault(false))
		return -sim_faults.error;
	if (fd < FD_BASE)
		return fstat(fd, ret) < 0 ? -errno : 0;
	file = data_of(ctx, fd, NULL);
	memset(ret, 0, sizeof(*ret));
	ret->st_mode = S_IFREG | 0600;
	ret->st_nlink = 1;
	ret->st_size = (off_t)file->size;
	ret->st_blksize = 4096;
	ret->st_blocks = (blkcnt_t)(file->size + 511) / 512;
	return 0;
}

static int sim_fstatvfs(void *ctx, int fd, struct statvfs *ret)
{
	if (sim_fault(false))
		return -sim_faults.error;
	memset(ret, 0, sizeof(*ret));
	ret->f_bsize = ret->f_frsize = 4096;
	ret->f_blocks = 1u << 24;
	ret->f_bfree = ret->f_bavail = 1u << 23;
	return 0;
}

static int sim_list(void *ctx, int dir_fd, store_io_name_fn *fn, void *arg)
{
	struct simdisk *disk = ctx;
	int r = 0;

	if (sim_fault(false))
		return -sim_faults.error;
	for (size_t i = 0; r == 0 && i < disk->now.num_names; i++)
		r = fn(arg, disk->now.names[i].name);
	return r;
}

static uint64_t sim_now(void *ctx)
{
	struct simdisk *disk = ctx;

	return disk->clock += 1000003;
}

static int sim_random_bytes(void *ctx, void *data, size_t len)
{
	struct simdisk *disk = ctx;
	uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)sim_random(&disk->random);
	return 0;
}

/* ---- life */

static const struct store_io sim_table = {
	.openat = sim_openat,
	.close = sim_close,
	.pread = sim_pread,
	.pwrite = sim_pwrite,
	.fdatasync = sim_fdatasync,
	.ftruncate = sim_ftruncate,
	.fallocate = sim_fallocate,
	.renameat = sim_renameat,
	.unlinkat = sim_unlinkat,
	.fsync_dir = sim_fsync_dir,
	.fstat = sim_fstat,
	.fstatvfs = sim_fstatvfs,
	.list = sim_list,
	.now = sim_now,
	.random = sim_random_bytes,
};

/* In memory where there is such a place. */
static const char *parent(void)
{
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

int sim_new(struct simdisk *disk, uint64_t seed)
{
	size_t i;

	memset(disk, 0, sizeof(*disk));
	disk->io = sim_table;
	disk->io.ctx = disk;
	disk->random = seed;
	disk->clock = UINT64_C(1700000000000000000);
	snprintf(disk->path, sizeof(disk->path), "%s/bazil-crash-%d-XXXXXX", parent(), getpid());
	if (!mkdtemp(disk->path))
		return -errno;
	disk->dir_fd = open(disk->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (disk->dir_fd < 0)
		return -errno;
	for (i = 0; i < DISKS_MAX && disks[i]; i++)
		;
	sim_must(i < DISKS_MAX);
	disks[i] = disk;
	return 0;
}

static void real_clear(struct simdisk *disk)
{
	for (size_t i = 0; i < disk->now.num_names; i++)
		if (is_real(disk->now.names[i].name))
			unlinkat(disk->dir_fd, disk->now.names[i].name, 0);
	unlinkat(disk->dir_fd, "index-lock", 0);
}

void sim_free(struct simdisk *disk)
{
	real_clear(disk);
	close(disk->dir_fd);
	rmdir(disk->path);
	log_clear(&disk->log);
	free(disk->log.ops);
	sim_image_release(&disk->now);
	for (size_t i = 0; i < DISKS_MAX; i++)
		if (disks[i] == disk)
			disks[i] = NULL;
}

static void sweep_dir(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(fd, entry->d_name, 0);
	if (dir)
		closedir(dir);
	unlinkat(parent_fd, name, AT_REMOVEDIR);
}

void sim_sweep(pid_t pid)
{
	struct dirent *entry;
	DIR *dir = opendir(parent());
	char start[32];

	snprintf(start, sizeof(start), "bazil-crash-%d-", (int)pid);
	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, start, strlen(start)) == 0)
			sweep_dir(dirfd(dir), entry->d_name);
	if (dir)
		closedir(dir);
}

void sim_load(struct simdisk *disk, const struct sim_image *image)
{
	real_clear(disk);
	log_clear(&disk->log);
	memset(disk->fds, 0, sizeof(disk->fds));
	sim_image_copy(&disk->now, image);
	for (size_t i = 0; i < image->num_names; i++) {
		const struct sim_data *data = &image->files[image->names[i].file];
		int fd;

		if (!is_real(image->names[i].name))
			continue;
		fd = openat(
			disk->dir_fd, image->names[i].name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		sim_must(fd >= 0);
		sim_must(pwrite(fd, data->data, data->size, 0) == (ssize_t)data->size);
		close(fd);
	}
}

void sim_save(struct simdisk *disk, struct sim_image *ret)
{
	struct stat st;

	sim_image_copy(ret, &disk->now);
	for (size_t i = 0; i < ret->num_names; i++) {
		struct sim_data *data = &ret->files[ret->names[i].file];
		int fd;

		if (!is_real(ret->names[i].name))
			continue;
		fd = openat(disk->dir_fd, ret->names[i].name, O_RDONLY | O_CLOEXEC);
		sim_must(fd >= 0 && fstat(fd, &st) == 0);
		data->size = 0;
		sim_data_resize(data, (size_t)st.st_size);
		sim_must(pread(fd, data->data, data->size, 0) == (ssize_t)data->size);
		close(fd);
	}
}

/* ---- for the interposed calls */

struct simdisk *sim_of_path(const char *path, const char **ret_name)
{
	for (size_t i = 0; i < DISKS_MAX; i++) {
		size_t len;

		if (!disks[i])
			continue;
		len = strlen(disks[i]->path);
		if (strncmp(path, disks[i]->path, len) != 0 || path[len] != '/')
			continue;
		*ret_name = path + len + 1;
		/* The lock file is rebuilt by whoever opens it first. */
		return strcmp(*ret_name, "index-lock") == 0 ? NULL : disks[i];
	}
	return NULL;
}

uint32_t sim_real_open(struct simdisk *disk, const char *name, bool is_truncated)
{
	int i = sim_image_find(&disk->now, name);
	uint32_t file = i >= 0 ? disk->now.names[i].file : file_new(disk, name);

	if (i >= 0 && is_truncated)
		truncate_file(disk, file, 0);
	return file;
}
