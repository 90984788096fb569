#include "stored/superblocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX (1u << 20)

static uint64_t place_of(uint32_t number)
{
	return (uint64_t)FRAME_SUPER_SIZE * (number - 1);
}

void superblocks_load(struct superblocks *ret, const struct store_io *io, int dir_fd)
{
	struct stat st;
	int fd;

	*ret = (struct superblocks){ 0 };
	fd = io->openat(io->ctx, dir_fd, "superblocks", O_RDONLY, 0);
	if (fd < 0)
		return;
	if (io->fstat(io->ctx, fd, &st) == 0 && st.st_size > 0) {
		ret->len = FRAME_SUPER_SIZE * (size_t)NUMBER_MAX;
		if ((uint64_t)st.st_size < ret->len)
			ret->len = (size_t)st.st_size;
		ret->data = malloc(ret->len);
	}
	if (!ret->data || store_io_read_full(io, fd, ret->data, ret->len, 0) < 0)
		superblocks_release(ret);
	io->close(io->ctx, fd);
}

void superblocks_release(struct superblocks *s)
{
	free(s->data);
	*s = (struct superblocks){ 0 };
}

/* NULL: there is none. */
static const uint8_t *find(const struct superblocks *s, uint32_t number)
{
	if (number == 0 || place_of(number) + FRAME_SUPER_SIZE > s->len)
		return NULL;
	return s->data + place_of(number);
}

int superblocks_get(const struct superblocks *s, uint32_t number, struct frame_super *ret)
{
	const uint8_t *data = find(s, number);

	if (!data || frame_super_parse(data, ret) < 0 || ret->arena != number)
		return -ENOENT;
	return 0;
}

void superblocks_keep(const struct superblocks *s, const struct store_io *io, int dir_fd,
	const struct frame_super *super)
{
	const uint8_t *has = s ? find(s, super->arena) : NULL;
	uint8_t data[FRAME_SUPER_SIZE];
	int fd;

	if (super->arena == 0 || super->arena > NUMBER_MAX)
		return;
	frame_super_emit(super, data);
	if (has && memcmp(has, data, sizeof(data)) == 0)
		return;
	fd = io->openat(io->ctx, dir_fd, "superblocks", O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return;
	if (store_io_write_full(io, fd, data, sizeof(data), place_of(super->arena)) == 0)
		io->fdatasync(io->ctx, fd);
	io->close(io->ctx, fd);
}
