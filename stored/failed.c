#include "stored/failed.h"

#include "stored/arena.h"
#include "stored/broken.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 4096
#define STEP	 (1u << 20)

static void note(const struct store_io *io, int dir_fd, const char *line)
{
	struct stat st;
	int fd;

	if (BROKEN(BROKEN_NO_MARKER))
		return;
	fd = io->openat(io->ctx, dir_fd, "failed", O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return;
	/* Two at the same place at the same time make one that is not understood: that is all. */
	if (io->fstat(io->ctx, fd, &st) == 0)
		store_io_write_full(io, fd, line, strlen(line), (uint64_t)st.st_size);
	io->fdatasync(io->ctx, fd);
	io->close(io->ctx, fd);
	io->fsync_dir(io->ctx, dir_fd);
}

void failed_note_arena(const struct store_io *io, int dir_fd, struct place durable)
{
	char line[64];

	snprintf(line, sizeof(line), "arena %" PRIu32 " %" PRIu64 "\n", durable.arena,
		durable.offset);
	note(io, dir_fd, line);
}

void failed_note_index(const struct store_io *io, int dir_fd)
{
	note(io, dir_fd, "index\n");
}

int failed_note_commit(const struct store_io *io, int dir_fd, int r)
{
	if (r < 0 && r != -ENOSPC && r != -EOVERFLOW && r != -ENOMEM)
		failed_note_index(io, dir_fd);
	return r;
}

/* ---- at the next opening */

/* -EBADMSG: no line of ours. */
static int parse_line(const char *line, struct place *ret)
{
	char *end;

	*ret = (struct place){ 0 };
	if (strncmp(line, "arena ", 6) != 0 || line[6] < '0' || line[6] > '9')
		return -EBADMSG;
	ret->arena = (uint32_t)strtoul(line + 6, &end, 10);
	if (*end != ' ' || end[1] < '0' || end[1] > '9')
		return -EBADMSG;
	ret->offset = strtoull(end + 1, &end, 10);
	return *end ? -EBADMSG : 0;
}

static void parse(char *text, struct failed *ret)
{
	char *line = text, *end;
	bool has_arena = false;
	struct place place;

	while (*line) {
		end = strchr(line, '\n');
		if (!end)
			break;
		*end = 0;
		if (strcmp(line, "index") == 0) {
			ret->is_index = true;
		} else if (parse_line(line, &place) == 0) {
			if (!has_arena || arenas_is_before(place, ret->from))
				ret->from = place;
			has_arena = true;
		} else {
			break;
		}
		line = end + 1;
	}
	if (*line || line == text) {
		ret->is_index = true;
		ret->from = (struct place){ 0 };
	}
}

void failed_read(const struct store_io *io, int dir_fd, struct failed *ret)
{
	char text[TEXT_MAX] = "";
	size_t len = 0;
	ssize_t n;
	int fd;

	*ret = (struct failed){ 0 };
	fd = io->openat(io->ctx, dir_fd, "failed", O_RDONLY, 0);
	/* One that cannot be read is one that says nothing. */
	ret->is_there = fd != -ENOENT;
	if (!ret->is_there)
		return;
	do {
		n = fd < 0 ? 0 : io->pread(io->ctx, fd, text + len, sizeof(text) - 1 - len, len);
		len += n > 0 ? (size_t)n : 0;
	} while (n == -EINTR || (n > 0 && len < sizeof(text) - 1));
	if (fd >= 0)
		io->close(io->ctx, fd);
	if (n < 0 || len == sizeof(text) - 1)
		text[0] = 0;
	parse(text, ret);
}

static int rewrite(const struct store_io *io, int fd, uint64_t from, uint64_t end, uint8_t *buf)
{
	int r = 0;

	while (r == 0 && from < end) {
		size_t len = end - from < STEP ? (size_t)(end - from) : STEP;

		r = store_io_read_full(io, fd, buf, len, from);
		if (r == 0)
			r = store_io_write_full(io, fd, buf, len, from);
		from += len;
	}
	return r;
}

static int rewrite_arena(struct arenas *a, const struct arena *arena, uint64_t from, uint8_t *buf)
{
	struct stat st;
	int fd = arenas_fd(a, arena->number), r;

	if (fd < 0)
		return fd;
	r = a->io->fstat(a->io->ctx, fd, &st);
	/* The superblock may be younger than what was known to be durable. */
	if (r == 0)
		r = rewrite(a->io, fd, 0, FRAME_SUPER_SIZE, buf);
	if (r == 0)
		r = rewrite(a->io, fd, from, (uint64_t)st.st_size, buf);
	return r < 0 ? r : a->io->fdatasync(a->io->ctx, fd);
}

int failed_rewrite(struct arenas *a, const struct failed *failed)
{
	uint8_t *buf = malloc(STEP);
	uint32_t first = failed->from.arena;
	int r = buf ? 0 : -ENOMEM;

	if (first == 0 || first > a->list[a->num - 1].number)
		first = a->list[a->num - 1].number;
	for (size_t i = 0; r == 0 && i < a->num; i++) {
		const struct arena *arena = &a->list[i];

		if (arena->number >= first)
			r = rewrite_arena(a, arena,
				arena->number == failed->from.arena ? failed->from.offset : 0, buf);
	}
	free(buf);
	return r < 0 ? r : a->io->fsync_dir(a->io->ctx, a->dir_fd);
}

void failed_clear(const struct store_io *io, int dir_fd)
{
	io->unlinkat(io->ctx, dir_fd, "failed");
	/* If it comes back, all is written once more. */
	io->fsync_dir(io->ctx, dir_fd);
}
