#include "stored/arena_state.h"
#include "stored/broken.h"
#include "stored/failed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUF_KEEP (8u << 20) /* a larger buffer is given back after its flush */

/* As the next frame's head has it. */
static uint32_t unsynced(const struct arenas *a)
{
	uint64_t num = a->next_sequence - a->synced;

	return num < UINT32_MAX - 1 ? (uint32_t)num + 1 : UINT32_MAX;
}

/* FRAME_END is durable before there is anything behind it, here or in the next arena. */
static int arena_finish(struct arenas *a)
{
	struct frame_head head = { .type = FRAME_END, .sequence = a->next_sequence };
	struct arena *arena = arenas_last(a);
	uint8_t data[FRAME_HEAD_SIZE];
	int r;

	r = arenas_flush(a);
	if (r == 0 && !arena->has_ended) {
		head.unsynced = unsynced(a);
		head.payload_crc = frame_payload_crc(FRAME_END, NULL, 0);
		frame_head_emit(&head, arena->id, arena->size, data);
		a->written++;
		r = store_io_write_full(a->io, arena->fd, data, sizeof(data), arena->size);
		if (r < 0) {
			a->io->ftruncate(a->io->ctx, arena->fd, arena->size);
			return r;
		}
		arena->size += sizeof(data);
		arena->has_ended = true;
	}
	if (BROKEN(BROKEN_ROLL))
		return r;
	return r < 0 ? r : arenas_sync(a);
}

int arenas_roll(struct arenas *a)
{
	int r = a->has_failed ? -EIO : arena_finish(a);
	uint32_t number = arenas_last(a)->number;

	return r < 0 ? r : arena_create(a, (number > a->max_aside ? number : a->max_aside) + 1);
}

static bool is_full(const struct arenas *a)
{
	return arenas_last(a)->has_ended || arenas_last(a)->size + a->len >= a->arena_size ||
	       a->next_sequence - arenas_last(a)->sequence >= a->frames_max;
}

int arenas_begin(struct arenas *a)
{
	int r;

	if (a->has_failed)
		return -EIO;
	if (is_full(a)) {
		r = arenas_roll(a);
		if (r < 0)
			return r;
	}
	a->frame = a->len;
	a->is_open = true;
	if (!arenas_add(a, FRAME_HEAD_SIZE)) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	return 0;
}

uint8_t *arenas_add(struct arenas *a, size_t len)
{
	uint8_t *p;

	if (len > a->cap - a->len) {
		size_t cap = a->cap ? a->cap : 1u << 20;

		while (cap - a->len < len)
			cap *= 2;
		p = realloc(a->buf, cap);
		if (!p)
			return NULL;
		a->buf = p;
		a->cap = cap;
	}
	p = a->buf + a->len;
	a->len += len;
	return p;
}

struct place arenas_next(const struct arenas *a)
{
	return (struct place){ .arena = arenas_last(a)->number,
		.offset = arenas_last(a)->size + a->len };
}

uint8_t *arenas_payload(struct arenas *a, size_t *ret_len)
{
	*ret_len = a->len - a->frame - FRAME_HEAD_SIZE;
	return a->buf + a->frame + FRAME_HEAD_SIZE;
}

int arenas_end(struct arenas *a, enum frame_type type, struct place *ret_place)
{
	struct frame_head head = { .type = type };
	uint64_t offset = arenas_last(a)->size + a->frame;
	const uint8_t *payload;
	size_t len, padding;
	uint8_t *zeros;

	payload = arenas_payload(a, &len);
	if (len > FRAME_LEN_MAX) {
		arenas_cancel(a);
		return -E2BIG;
	}
	head.len = (uint32_t)len;
	head.payload_crc = frame_payload_crc(type, payload, len);
	padding = (size_t)frame_size(head.len) - FRAME_HEAD_SIZE - len;
	zeros = arenas_add(a, padding);
	if (!zeros) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	memset(zeros, 0, padding);
	head.unsynced = unsynced(a);
	head.sequence = a->next_sequence++;
	frame_head_emit(&head, arenas_last(a)->id, offset, a->buf + a->frame);
	a->is_open = false;
	if (ret_place)
		*ret_place = (struct place){ arenas_last(a)->number, head.len,
			offset + FRAME_HEAD_SIZE };
	return 0;
}

void arenas_cancel(struct arenas *a)
{
	if (a->is_open)
		a->len = a->frame;
	a->is_open = false;
}

void arenas_drop(struct arenas *a)
{
	a->len = 0;
	a->is_open = false;
	/* A hole in the sequence would look like a frame that was lost. */
	a->next_sequence = a->flushed;
}

int arenas_flush(struct arenas *a)
{
	struct arena *arena = arenas_last(a);
	int r;

	if (a->has_failed)
		return -EIO;
	if (a->len == 0)
		return 0;
	a->written++;
	r = store_io_write_full(a->io, arena->fd, a->buf, a->len, arena->size);
	if (r < 0) {
		/* Part of it may be there. It is behind every position that anybody knows; but a
		 * crash could bring a whole frame of it back below the next ones, so that the cut
		 * is made durable first. If it cannot be cut the next flush writes over it. */
		if (a->io->ftruncate(a->io->ctx, arena->fd, arena->size) == 0 && r == -ENOSPC &&
			arenas_sync(a) < 0)
			return -EIO;
		return r;
	}
	arena->size += a->len;
	a->len = 0;
	a->flushed = a->next_sequence;
	if (a->cap > BUF_KEEP) {
		free(a->buf);
		a->buf = NULL;
		a->cap = 0;
	}
	return 0;
}

void arenas_sync_begin(const struct arenas *a, struct arenas_sync *ret)
{
	*ret = (struct arenas_sync){ a->io, a->dir_fd, arenas_last(a)->fd, a->written, a->flushed,
		arenas_position(a), a->durable_at };
}

int arenas_sync_wait(const struct arenas_sync *sync)
{
	int r;

	do
		r = BROKEN(BROKEN_NO_SYNC) ? 0 : sync->io->fdatasync(sync->io->ctx, sync->fd);
	while (r == -EINTR);
	/* At once: the error is told to nobody a second time. */
	if (r < 0)
		failed_note_arena(sync->io, sync->dir_fd, sync->durable_at);
	return r;
}

int arenas_sync_end(struct arenas *a, const struct arenas_sync *sync, int result)
{
	if (result < 0)
		a->has_failed = true;
	if (a->has_failed)
		return -EIO;
	/* One that began later may have ended before. */
	if (sync->written > a->durable) {
		a->durable = sync->written;
		a->durable_at = sync->at;
	}
	if (sync->flushed > a->synced)
		a->synced = sync->flushed;
	return 0;
}

bool arenas_is_durable(const struct arenas *a, uint64_t written)
{
	return a->durable >= written;
}

int arenas_sync(struct arenas *a)
{
	struct arenas_sync sync;

	if (a->has_failed)
		return -EIO;
	if (arenas_is_durable(a, a->written))
		return 0;
	arenas_sync_begin(a, &sync);
	return arenas_sync_end(a, &sync, arenas_sync_wait(&sync));
}

struct place arenas_position(const struct arenas *a)
{
	return (struct place){ .arena = arenas_last(a)->number, .offset = arenas_last(a)->size };
}

bool arenas_is_before(struct place x, struct place y)
{
	return x.arena != y.arena ? x.arena < y.arena : x.offset < y.offset;
}
