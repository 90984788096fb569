#include "stored/gap.h"

#include "stored/failed.h"

#include <errno.h>

#define SECTOR 512

bool gap_fits(uint64_t offset)
{
	return offset % SECTOR <= SECTOR - FRAME_HEAD_SIZE;
}

static int read_head(
	const struct arenas *a, const struct arena *arena, uint64_t offset, struct frame_head *ret)
{
	uint8_t data[FRAME_HEAD_SIZE];
	int r = store_io_read_full(a->io, arena->fd, data, sizeof(data), offset);

	if (r == 0)
		r = frame_head_parse(data, arena->id, offset, ret);
	if (r == 0 && ret->type == FRAME_END)
		r = -EBADMSG;
	return r;
}

/* The footer says where the frames are; what is there says it too, or it is left. */
static int look(const struct arenas *a, const struct arena *arena, struct gap *gap,
	struct frame_head *ret_last)
{
	struct frame_head first;
	int r = read_head(a, arena, gap->offset, &first);

	if (r == 0)
		r = read_head(a, arena, gap->last, ret_last);
	if (r == 0 && gap->last + frame_size(ret_last->len) != gap->offset + gap->size)
		r = -EBADMSG;
	if (r == -EBADMSG)
		gap->size = 0;
	return r == -EBADMSG ? 0 : r;
}

static int write_head(
	const struct arenas *a, const struct arena *arena, const struct gap *gap, uint64_t sequence)
{
	struct frame_head head = { .type = FRAME_GAP, .sequence = sequence };
	uint8_t data[FRAME_HEAD_SIZE];

	head.len = (uint32_t)(gap->size - FRAME_HEAD_SIZE);
	head.payload_crc = frame_payload_crc(FRAME_GAP, NULL, 0);
	frame_head_emit(&head, arena->id, gap->offset, data);
	return store_io_write_full(a->io, arena->fd, data, sizeof(data), gap->offset);
}

static int sync(struct arenas *a, const struct arena *arena)
{
	int r;

	do
		r = a->io->fdatasync(a->io->ctx, arena->fd);
	while (r == -EINTR);
	if (r == 0)
		return 0;
	failed_note_arena(a->io, a->dir_fd, (struct place){ .arena = arena->number });
	a->has_failed = true;
	return -EIO;
}

int gap_write(struct arenas *a, uint32_t number, struct gap *gaps, size_t num)
{
	struct arena *arena = arenas_find(a, number);
	struct frame_head last;
	int r;

	if (!arena)
		return -ENOENT;
	if (!arena->is_sealed)
		return -EBUSY;
	/* Opens it, and it stays so: nothing else is asked for below. */
	r = arenas_fd(a, number);
	if (r < 0)
		return r;
	r = a->io->ftruncate(a->io->ctx, arena->fd, arena->size);
	if (r < 0)
		return r;
	arena->is_sealed = false;
	r = sync(a, arena);
	for (size_t i = 0; r == 0 && i < num; i++) {
		r = look(a, arena, &gaps[i], &last);
		if (r == 0 && gaps[i].size > 0)
			r = write_head(a, arena, &gaps[i], last.sequence);
	}
	return r < 0 ? r : sync(a, arena);
}
