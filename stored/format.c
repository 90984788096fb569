#include "stored/format.h"

#include "stored/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[] = "bazil store\nversion ";

int format_check(const struct store_io *io, int dir_fd, unsigned *ret_version)
{
	char text[512] = { 0 }, *end;
	unsigned long version;
	ssize_t n;
	int fd;

	*ret_version = 0;
	fd = io->openat(io->ctx, dir_fd, "format", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	do
		n = io->pread(io->ctx, fd, text, sizeof(text) - 1, 0);
	while (n == -EINTR);
	io->close(io->ctx, fd);
	if (n < 0)
		return (int)n;
	if (strncmp(text, magic, sizeof(magic) - 1) != 0)
		return -EBADMSG;
	version = strtoul(text + sizeof(magic) - 1, &end, 10);
	if (*end != '\n' || version == 0 || version > 1000000)
		return -EBADMSG;
	*ret_version = (unsigned)version;
	return version <= ENGINE_FORMAT ? 0 : -EPROTONOSUPPORT;
}

int format_write(const struct store_io *io, int dir_fd)
{
	char text[128];
	int fd, len, r;

	len = snprintf(text, sizeof(text), "%s%d\nhash sha256\n", magic, ENGINE_FORMAT);
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
