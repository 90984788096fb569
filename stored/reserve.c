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

void reserve_open(struct engine *engine)
{
	const struct store_io *io = engine->io;
	uint64_t size = engine->options.reserve_size;
	struct statvfs fs;
	struct stat st;
	int fd;

	if (engine->reserve_fd >= 0 || size == UINT64_MAX)
		return;
	if (io->fstatvfs(io->ctx, engine->options.dir_fd, &fs) < 0)
		return;
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
	uint64_t bytes;

	if (engine->io->fstatvfs(engine->io->ctx, engine->options.dir_fd, &fs) < 0)
		return 0;
	bytes = fs.f_bavail * fs.f_frsize;
	if (bytes >= low_mark(&fs) && engine->reserve_fd < 0)
		reserve_open(engine);
	return bytes < low_mark(&fs) ? ENOSPC : 0;
}
