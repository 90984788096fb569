#include "stored/arena_state.h"
#include "stored/superblocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int note(struct arenas *a, uint32_t number, bool is_aside)
{
	struct arenas_note *notes;

	notes = realloc(a->notes, (a->num_notes + 1) * sizeof(*notes));
	if (!notes)
		return -ENOMEM;
	a->notes = notes;
	notes[a->num_notes++] = (struct arenas_note){ number, is_aside };
	a->num_aside += is_aside;
	if (is_aside && number > a->max_aside)
		a->max_aside = number;
	return 0;
}

struct names {
	struct arenas *a;
	uint32_t *numbers;
	size_t num;
};

static int names_add(void *arg, const char *name)
{
	struct names *names = arg;
	uint32_t *numbers;
	uint32_t number = 0;
	bool is_aside;
	size_t i;

	if (strncmp(name, "arena.", 6) != 0 || strlen(name) < 14)
		return 0;
	is_aside = strcmp(name + 14, ".bad") == 0;
	if (name[14] && !is_aside)
		return 0;
	for (i = 6; i < 14; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		number = number * 10 + (uint32_t)(name[i] - '0');
	}
	if (is_aside)
		return note(names->a, number, true);
	numbers = realloc(names->numbers, (names->num + 1) * sizeof(*numbers));
	if (!numbers)
		return -ENOMEM;
	names->numbers = numbers;
	numbers[names->num++] = number;
	return 0;
}

static int number_compare(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return (a > b) - (a < b);
}

/* The first block from its copy, which takes its place if it can be read but is none. */
static int super_mend(struct arenas *a, const struct superblocks *copies, int fd, uint32_t number,
	bool is_readable, struct frame_super *ret)
{
	uint8_t head[FRAME_SUPER_SIZE];
	int r;

	r = superblocks_get(copies, number, ret);
	if (r < 0)
		return is_readable ? -EBADMSG : -EIO;
	frame_super_emit(ret, head);
	if (is_readable)
		r = store_io_write_full(a->io, fd, head, sizeof(head), 0);
	if (r == 0 && is_readable)
		r = a->io->fdatasync(a->io->ctx, fd);
	return r < 0 ? r : note(a, number, false);
}

static int super_read(struct arenas *a, const struct superblocks *copies, int fd, uint32_t number,
	uint64_t size, struct frame_super *ret)
{
	uint8_t head[FRAME_SUPER_SIZE];
	int r;

	r = store_io_read_full(a->io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = frame_super_parse(head, ret);
	if ((r == -EBADMSG || r == -EIO) && size > FRAME_SUPER_SIZE)
		return super_mend(a, copies, fd, number, r == -EBADMSG, ret);
	if (r < 0)
		return r == -ENODATA ? -EBADMSG : r;
	if (ret->arena != number)
		return -EBADMSG;
	superblocks_keep(copies, a->io, a->dir_fd, ret);
	return 0;
}

/* Its footer, if it has one, is behind what counts. */
static int trailer_load(struct arenas *a, int fd, const struct frame_super *super, uint64_t size)
{
	struct sealed_trailer trailer;
	struct arena *arena;
	int r;

	r = sealed_trailer_read(a->io, fd, super->arena, super->id, size, &trailer);
	if (r < 0 && r != -ENODATA)
		return r;
	arena = arena_adopt(a, fd, super);
	arena->has_ended = arena->is_sealed = r == 0;
	arena->size = r == 0 ? trailer.footer : size;
	return 0;
}

/* -EBADMSG: no superblock; with *ret_is_empty it was perhaps never finished (a crash in
 * arena_create), and holds nothing. */
static int arena_load(
	struct arenas *a, const struct superblocks *copies, uint32_t number, bool *ret_is_empty)
{
	const struct store_io *io = a->io;
	struct frame_super super;
	char name[ARENA_NAME_SIZE];
	struct stat st;
	int fd, r;

	*ret_is_empty = false;
	arena_name(number, name);
	fd = io->openat(io->ctx, a->dir_fd, name, O_RDWR, 0);
	if (fd < 0)
		return fd;
	r = io->fstat(io->ctx, fd, &st);
	if (r == 0)
		r = super_read(a, copies, fd, number, (uint64_t)st.st_size, &super);
	*ret_is_empty = r == -EBADMSG && st.st_size <= FRAME_SUPER_SIZE;
	if (r == 0)
		r = trailer_load(a, fd, &super, (uint64_t)st.st_size);
	if (r < 0)
		io->close(io->ctx, fd);
	return r;
}

/* Kept, for whoever can make something of it. */
static int arena_set_aside(struct arenas *a, uint32_t number)
{
	char name[ARENA_NAME_SIZE], bad[ARENA_NAME_SIZE + 8];
	int r;

	arena_name(number, name);
	snprintf(bad, sizeof(bad), "%s.bad", name);
	r = a->io->renameat(a->io->ctx, a->dir_fd, name, bad);
	if (r == 0)
		r = a->io->fsync_dir(a->io->ctx, a->dir_fd);
	return r < 0 ? r : note(a, number, true);
}

/* Those without a superblock, numbers[0..num): there is at least one with it. */
static int arenas_set_aside(struct arenas *a, const uint32_t *numbers, size_t num, bool is_empty)
{
	char name[ARENA_NAME_SIZE];
	int r = 0;

	for (size_t i = 0; r == 0 && i < num; i++) {
		if (i + 1 == num && is_empty) {
			arena_name(numbers[i], name);
			return a->io->unlinkat(a->io->ctx, a->dir_fd, name);
		}
		r = arena_set_aside(a, numbers[i]);
	}
	return r;
}

/* names: the arenas without a superblock stay in it. */
static int arenas_load(
	struct arenas *a, const struct superblocks *copies, struct names *names, uint32_t *ret_bad)
{
	size_t i, num_bad = 0;
	bool is_empty = false;
	int r;

	a->list = calloc(names->num + 1, sizeof(*a->list));
	if (!a->list)
		return -ENOMEM;
	for (i = 0; i < names->num; i++) {
		uint32_t number = names->numbers[i];

		*ret_bad = number;
		r = arena_load(a, copies, number, &is_empty);
		if (r == -EBADMSG)
			names->numbers[num_bad++] = number;
		else if (r < 0)
			return r;
	}
	if (num_bad > 0)
		*ret_bad = names->numbers[0];
	/* A store whose first arena was never finished is no store yet. */
	if (a->num == 0 && num_bad > is_empty)
		return -EBADMSG;
	return arenas_set_aside(a, names->numbers, num_bad, is_empty);
}

int arenas_open(struct arenas *a, const struct store_io *io, int dir_fd, uint64_t arena_size,
	size_t open_max, bool create, uint32_t *ret_bad)
{
	struct names names = { .a = a };
	struct superblocks copies;
	int r;

	*a = (struct arenas){ .io = io, .dir_fd = dir_fd, .arena_size = arena_size };
	a->open_max = open_max > 0 ? open_max : ARENAS_OPEN_MAX;
	a->frames_max = ARENAS_FRAMES_MAX;
	a->next_sequence = a->flushed = 1;
	/* What a dead process wrote may still be on its way to the disk. */
	a->written = 1;
	*ret_bad = 0;
	superblocks_load(&copies, io, dir_fd);
	r = io->list(io->ctx, dir_fd, names_add, &names);
	if (r == 0 && names.num > 0)
		qsort(names.numbers, names.num, sizeof(*names.numbers), number_compare);
	if (r == 0)
		r = arenas_load(a, &copies, &names, ret_bad);
	superblocks_release(&copies);
	free(names.numbers);
	if (r == 0 && a->num == 0)
		r = create ? arena_create(a, 1) : -ENOENT;
	if (r < 0)
		arenas_release(a);
	return r;
}
