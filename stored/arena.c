#include "stored/arena.h"

#include "stored/arena_state.h"
#include "stored/broken.h"
#include "stored/superblocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void arena_name(uint32_t number, char ret_name[ARENA_NAME_SIZE])
{
	snprintf(ret_name, ARENA_NAME_SIZE, "arena.%08u", number);
}

struct arena *arenas_last(const struct arenas *a)
{
	return &a->list[a->num - 1];
}

struct arena *arenas_find(const struct arenas *a, uint32_t number)
{
	size_t low = 0, high = a->num;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (a->list[mid].number == number)
			return &a->list[mid];
		if (a->list[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* ---- descriptors */

static void arena_shut(struct arenas *a, struct arena *arena)
{
	if (arena->fd < 0)
		return;
	a->io->close(a->io->ctx, arena->fd);
	arena->fd = -1;
	a->num_open--;
}

static bool is_lent(const struct arenas *a, uint32_t number)
{
	for (size_t i = 0; i < ARENAS_NUM_BORROWERS; i++)
		if (a->lent[i] == number)
			return true;
	return false;
}

/* All but the last are complete and durable: it was synced before the next was begun. So closing
 * one loses no error of writing. */
static void shut_oldest(struct arenas *a)
{
	struct arena *oldest = NULL;

	for (size_t i = 0; i + 1 < a->num; i++) {
		struct arena *arena = &a->list[i];

		if (arena->fd >= 0 && (!oldest || arena->used < oldest->used) &&
			!is_lent(a, arena->number))
			oldest = arena;
	}
	if (oldest)
		arena_shut(a, oldest);
}

int arena_fd(struct arenas *a, struct arena *arena)
{
	char name[ARENA_NAME_SIZE];
	int fd;

	arena->used = ++a->clock;
	if (arena->fd >= 0)
		return arena->fd;
	if (a->num_open >= a->open_max)
		shut_oldest(a);
	arena_name(arena->number, name);
	fd = a->io->openat(a->io->ctx, a->dir_fd, name, O_RDWR, 0);
	if (fd < 0)
		return fd;
	a->num_open++;
	return arena->fd = fd;
}

int arenas_fd(struct arenas *a, uint32_t number)
{
	struct arena *arena = arenas_find(a, number);

	return arena ? arena_fd(a, arena) : -ENOENT;
}

int arenas_lend(struct arenas *a, uint32_t number, enum arenas_borrower who)
{
	int fd = arenas_fd(a, number);

	if (fd >= 0)
		a->lent[who] = number;
	return fd;
}

void arenas_give_back(struct arenas *a, enum arenas_borrower who)
{
	a->lent[who] = 0;
}

/* ---- making */

struct arena *arena_adopt(struct arenas *a, int fd, const struct frame_super *super)
{
	struct arena *arena = &a->list[a->num++];

	*arena = (struct arena){ .number = super->arena, .fd = fd, .used = ++a->clock };
	memcpy(arena->id, super->id, sizeof(arena->id));
	arena->sequence = super->sequence;
	arena->size = FRAME_SUPER_SIZE;
	if (++a->num_open > a->open_max)
		shut_oldest(a);
	return arena;
}

/* The file, durable; its descriptor. */
static int file_create(const struct arenas *a, const struct frame_super *super)
{
	const struct store_io *io = a->io;
	uint8_t head[FRAME_SUPER_SIZE];
	char name[ARENA_NAME_SIZE];
	int fd, r;

	frame_super_emit(super, head);
	arena_name(super->arena, name);
	fd = io->openat(io->ctx, a->dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	r = store_io_write_full(io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = io->fdatasync(io->ctx, fd);
	if (r == 0 && !BROKEN(BROKEN_NO_DIR_SYNC))
		r = io->fsync_dir(io->ctx, a->dir_fd);
	if (r == 0)
		return fd;
	io->close(io->ctx, fd);
	io->unlinkat(io->ctx, a->dir_fd, name);
	return r;
}

int arena_create(struct arenas *a, uint32_t number)
{
	struct frame_super super = { .arena = number, .sequence = a->next_sequence };
	struct arena *list;
	int fd, r;

	list = realloc(a->list, (a->num + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	a->list = list;
	super.created = a->io->now(a->io->ctx);
	r = a->io->random(a->io->ctx, super.id, sizeof(super.id));
	fd = r < 0 ? r : file_create(a, &super);
	if (fd < 0)
		return fd;
	arena_adopt(a, fd, &super);
	superblocks_keep(NULL, a->io, a->dir_fd, &super);
	return 0;
}

void arenas_release(struct arenas *a)
{
	for (size_t i = 0; i < a->num; i++)
		arena_shut(a, &a->list[i]);
	free(a->list);
	free(a->notes);
	free(a->buf);
	*a = (struct arenas){ 0 };
}

/* ---- reading and removing */

uint64_t arenas_size(const struct arenas *a)
{
	uint64_t size = 0;

	for (size_t i = 0; i < a->num; i++)
		size += a->list[i].size;
	return size;
}

int arenas_read(struct arenas *a, struct place place, void *data)
{
	struct arena *arena = arenas_find(a, place.arena);
	int fd;

	if (!arena)
		return -EBADMSG;
	if (place.offset > arena->size || place.len > arena->size - place.offset)
		return -EIO;
	fd = arena_fd(a, arena);
	return fd < 0 ? fd : store_io_read_full(a->io, fd, data, place.len, place.offset);
}

int arenas_open_one(const struct arenas *a, uint32_t number)
{
	char name[ARENA_NAME_SIZE];

	if (!arenas_find(a, number))
		return -ENOENT;
	arena_name(number, name);
	return a->io->openat(a->io->ctx, a->dir_fd, name, O_RDONLY, 0);
}

int arenas_open_sealed(struct arenas *a, uint32_t number, struct sealed_arena *ret)
{
	struct arena *arena = arenas_find(a, number);
	int fd;

	if (!arena)
		return -ENOENT;
	if (!arena->is_sealed)
		return -ENODATA;
	fd = arena_fd(a, arena);
	return fd < 0 ? fd : sealed_arena_open(ret, a->io, fd, arena->number, arena->id);
}

int arenas_unlink(struct arenas *a, uint32_t number)
{
	struct arena *arena = arenas_find(a, number);
	char name[ARENA_NAME_SIZE];
	size_t i;
	int fd, r;

	if (!arena)
		return -ENOENT;
	if (!arena->is_sealed || arena == arenas_last(a) || is_lent(a, number))
		return -EBUSY;
	fd = arena_fd(a, arena);
	if (fd < 0)
		return fd;
	arena_name(number, name);
	r = a->io->unlinkat(a->io->ctx, a->dir_fd, name);
	if (r < 0)
		return r;
	r = a->io->fsync_dir(a->io->ctx, a->dir_fd);
	a->has_failed |= r < 0;
	/* Others have it open (engine_arena_open), which alone would keep its blocks. */
	if (r == 0)
		a->io->ftruncate(a->io->ctx, fd, 0);
	arena_shut(a, arena);
	i = (size_t)(arena - a->list);
	memmove(arena, arena + 1, (a->num - i - 1) * sizeof(*arena));
	a->num--;
	return r;
}
