#include "stored/reserve.h"

#include "stored/engine_state.h"

#include <errno.h>
#include <fcntl.h>

#define LOW_MAX (64u << 20)
#define LOW_MIN (8u << 20)

/* Free space below which nothing may grow: 2 % of the disk within bounds. */
static uint64_t low_mark(const struct statvfs *fs)
{
	uint64_t low = fs->f_blocks * fs->f_frsize / 50;

	if (low > LOW_MAX)
		return LOW_MAX;
	return low < LOW_MIN ? LOW_MIN : low;
}

/* On a small disk less is kept. */
static uint64_t wanted(const struct engine *engine, const struct statvfs *fs)
{
	uint64_t part = fs->f_blocks * fs->f_frsize / 8;

	return engine->options.reserve_size < part ? engine->options.reserve_size : part;
}

void reserve_open(struct engine *engine)
{
	const struct store_io *io = engine->io;
	struct statvfs fs;
	uint64_t size;
	struct stat st;
	int fd;

	if (engine->reserve_fd >= 0 || engine->options.reserve_size == UINT64_MAX)
		return;
	if (io->fstatvfs(io->ctx, engine->options.dir_fd, &fs) < 0)
		return;
	size = wanted(engine, &fs);
	fd = io->openat(io->ctx, engine->options.dir_fd, "reserve", O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return;
	if (io->fstat(io->ctx, fd, &st) == 0 && (uint64_t)st.st_size >= size) {
		engine->reserve_fd = fd;
		return;
	}
	/* Not at the cost of the last room. */
	if (fs.f_bavail * fs.f_frsize < size + 2 * low_mark(&fs) ||
		io->fallocate(io->ctx, fd, 0, 0, size) < 0) {
		io->ftruncate(io->ctx, fd, 0);
		io->close(io->ctx, fd);
		return;
	}
	engine->reserve_fd = fd;
}

uint64_t reserve_size(const struct engine *engine)
{
	struct stat st;

	if (engine->reserve_fd < 0 ||
		engine->io->fstat(engine->io->ctx, engine->reserve_fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_size;
}

int engine_use_reserve(struct engine *engine)
{
	const struct store_io *io = engine->io;
	int r;

	if (engine->reserve_fd < 0)
		return -ENOSPC;
	r = io->ftruncate(io->ctx, engine->reserve_fd, 0);
	io->close(io->ctx, engine->reserve_fd);
	engine->reserve_fd = -1;
	engine_log(engine, 4, "store: the disk is full, the reserve is in use");
	return r;
}

int engine_room(struct engine *engine)
{
	struct statvfs fs;
	uint64_t bytes, low;

	if (engine->io->fstatvfs(engine->io->ctx, engine->options.dir_fd, &fs) < 0)
		return 0;
	bytes = fs.f_bavail * fs.f_frsize;
	low = low_mark(&fs);
	if (engine->options.reserve_size == UINT64_MAX || engine->reserve_fd >= 0)
		return bytes < low ? ENOSPC : 0;
	/* What was given up for deleting is not for who writes. */
	if (bytes < wanted(engine, &fs) + low)
		return ENOSPC;
	reserve_open(engine);
	return 0;
}
