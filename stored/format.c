#include "stored/format.h"

#include "stored/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 512

static const char magic[] = "bazil store\nversion ";

static int read_text(const struct store_io *io, int dir_fd, char ret_text[TEXT_MAX])
{
	size_t len = 0;
	ssize_t n;
	int fd;

	fd = io->openat(io->ctx, dir_fd, "format", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	memset(ret_text, 0, TEXT_MAX);
	do {
		n = io->pread(io->ctx, fd, ret_text + len, TEXT_MAX - 1 - len, len);
		len += n > 0 ? (size_t)n : 0;
	} while (n == -EINTR || n > 0);
	io->close(io->ctx, fd);
	return n < 0 ? (int)n : 0;
}

static int parse_number(const char *text, uint64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EBADMSG;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno != 0 || *end != 0 ? -EBADMSG : 0;
}

static int parse_line(const char *line, struct format *format)
{
	int r;

	if (*line == 0 || strcmp(line, "hash sha256") == 0)
		return 0;
	if (strncmp(line, "arena-size ", 11) != 0)
		return -EBADMSG;
	r = parse_number(line + 11, &format->arena_size);
	if (r == 0 &&
		(format->arena_size < FORMAT_ARENA_MIN || format->arena_size > FORMAT_ARENA_MAX))
		r = -EBADMSG;
	return r;
}

int format_read(const struct store_io *io, int dir_fd, struct format *ret)
{
	char text[TEXT_MAX], *line, *end;
	uint64_t version;
	int r;

	*ret = (struct format){ 0 };
	r = read_text(io, dir_fd, text);
	if (r < 0)
		return r;
	if (strncmp(text, magic, sizeof(magic) - 1) != 0)
		return -EBADMSG;
	line = text + sizeof(magic) - 1;
	for (bool is_first = true; r == 0 && line; line = end, is_first = false) {
		end = strchr(line, '\n');
		if (end)
			*end++ = 0;
		if (!is_first) {
			r = parse_line(line, ret);
			continue;
		}
		r = parse_number(line, &version);
		if (r == 0 && (version == 0 || version > 1000000 || !end))
			r = -EBADMSG;
		if (r < 0)
			break;
		ret->version = (unsigned)version;
		if (ret->version > ENGINE_FORMAT)
			return -EPROTONOSUPPORT;
	}
	return r;
}

int format_write(const struct store_io *io, int dir_fd, const struct format *format)
{
	char text[128];
	int fd, len, r;

	len = snprintf(text, sizeof(text), "%s%d\nhash sha256\n", magic, ENGINE_FORMAT);
	if (format->arena_size != 0)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "arena-size %" PRIu64 "\n",
			format->arena_size);
	fd = io->openat(io->ctx, dir_fd, "format.new", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	r = store_io_write_full(io, fd, text, (size_t)len, 0);
	if (r == 0)
		r = io->fdatasync(io->ctx, fd);
	io->close(io->ctx, fd);
	if (r == 0)
		r = io->renameat(io->ctx, dir_fd, "format.new", "format");
	return r < 0 ? r : io->fsync_dir(io->ctx, dir_fd);
}
