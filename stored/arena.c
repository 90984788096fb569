#include "stored/arena.h"

#include "stored/digest.h"
#include "stored/le.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCAN_WINDOW (1u << 20)
#define BUF_KEEP    (8u << 20) /* a larger buffer is given back after its flush */

/* ---- opening */

static void arena_name(uint32_t number, char ret_name[32])
{
	snprintf(ret_name, 32, "arena.%08u", number);
}

/* Makes arena `number`, durable with its name before anything is put into it: the index may name
 * it only when it cannot vanish any more. */
static int arena_create(struct arenas *a, uint32_t number)
{
	struct frame_super super = { .arena = number, .sequence = a->next_sequence };
	const struct store_io *io = a->io;
	uint8_t head[FRAME_SUPER_SIZE];
	struct arena *list, *arena;
	char name[32];
	int fd, r;

	list = realloc(a->list, (a->num + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	a->list = list;
	super.created = io->now(io->ctx);
	r = io->random(io->ctx, super.id, sizeof(super.id));
	if (r < 0)
		return r;
	frame_super_emit(&super, head);
	arena_name(number, name);
	fd = io->openat(io->ctx, a->dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	r = store_io_write_full(io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = io->fdatasync(io->ctx, fd);
	if (r == 0)
		r = io->fsync_dir(io->ctx, a->dir_fd);
	if (r < 0) {
		io->close(io->ctx, fd);
		io->unlinkat(io->ctx, a->dir_fd, name);
		return r;
	}
	arena = &a->list[a->num++];
	*arena = (struct arena){ .number = number, .fd = fd, .sequence = super.sequence };
	arena->size = FRAME_SUPER_SIZE;
	memcpy(arena->id, super.id, sizeof(arena->id));
	return 0;
}

struct names {
	uint32_t *numbers;
	size_t num;
};

static int names_add(void *arg, const char *name)
{
	struct names *names = arg;
	uint32_t *numbers;
	uint32_t number = 0;
	size_t i;

	if (strncmp(name, "arena.", 6) != 0 || strlen(name) != 14)
		return 0;
	for (i = 6; i < 14; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		number = number * 10 + (uint32_t)(name[i] - '0');
	}
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

/* 1: it is there but was never finished (a crash in arena_create), so it holds nothing. */
static int arena_load(struct arenas *a, uint32_t number, struct arena *ret)
{
	const struct store_io *io = a->io;
	uint8_t head[FRAME_SUPER_SIZE];
	struct frame_super super;
	struct stat st;
	char name[32];
	int fd, r;

	arena_name(number, name);
	fd = io->openat(io->ctx, a->dir_fd, name, O_RDWR, 0);
	if (fd < 0)
		return fd;
	r = io->fstat(io->ctx, fd, &st);
	if (r == 0)
		r = store_io_read_full(io, fd, head, sizeof(head), 0);
	if (r == 0)
		r = frame_super_parse(head, &super);
	if (r == 0 && super.arena != number)
		r = -EBADMSG;
	if (r < 0) {
		io->close(io->ctx, fd);
		return (r == -ENODATA || r == -EBADMSG) && st.st_size <= FRAME_SUPER_SIZE ? 1 : r;
	}
	*ret = (struct arena){ .number = number, .fd = fd, .sequence = super.sequence };
	ret->size = (uint64_t)st.st_size;
	memcpy(ret->id, super.id, sizeof(ret->id));
	return 0;
}

static int arenas_load(struct arenas *a, const struct names *names, uint32_t *ret_bad)
{
	const struct store_io *io = a->io;
	char name[32];
	size_t i;
	int r;

	a->list = calloc(names->num + 1, sizeof(*a->list));
	if (!a->list)
		return -ENOMEM;
	for (i = 0; i < names->num; i++) {
		*ret_bad = names->numbers[i];
		r = arena_load(a, names->numbers[i], &a->list[a->num]);
		if (r < 0)
			return r;
		if (r == 0) {
			a->num++;
			continue;
		}
		if (i + 1 < names->num)
			return -EBADMSG;
		arena_name(names->numbers[i], name);
		r = io->unlinkat(io->ctx, a->dir_fd, name);
		if (r < 0)
			return r;
	}
	return 0;
}

int arenas_open(struct arenas *a, const struct store_io *io, int dir_fd, uint64_t arena_size,
	bool create, uint32_t *ret_bad)
{
	struct names names = { 0 };
	int r;

	*a = (struct arenas){ .io = io, .dir_fd = dir_fd, .arena_size = arena_size };
	a->next_sequence = 1;
	*ret_bad = 0;
	r = io->list(io->ctx, dir_fd, names_add, &names);
	if (r == 0 && names.num > 0)
		qsort(names.numbers, names.num, sizeof(*names.numbers), number_compare);
	if (r == 0)
		r = arenas_load(a, &names, ret_bad);
	free(names.numbers);
	if (r == 0 && a->num == 0)
		r = create ? arena_create(a, 1) : -ENOENT;
	if (r < 0)
		arenas_release(a);
	return r;
}

void arenas_release(struct arenas *a)
{
	size_t i;

	for (i = 0; i < a->num; i++)
		a->io->close(a->io->ctx, a->list[i].fd);
	free(a->list);
	free(a->buf);
	*a = (struct arenas){ 0 };
}

/* ---- scanning */

struct scan {
	struct arenas *a;
	struct arena *arena;
	uint64_t end;
	uint8_t *window;
	size_t cap, len;
	uint64_t at; /* offset of window[0] */
	struct digest *digest;
};

/* Makes [offset, offset + len) available; NULL past the end, or with *ret_error set. */
static const uint8_t *scan_bytes(struct scan *s, uint64_t offset, size_t len, int *ret_error)
{
	size_t want;

	*ret_error = 0;
	if (offset > s->end || len > s->end - offset)
		return NULL;
	if (offset >= s->at && offset + len <= s->at + s->len)
		return s->window + (offset - s->at);
	if (len > s->cap) {
		uint8_t *window = realloc(s->window, len);

		if (!window) {
			*ret_error = -ENOMEM;
			return NULL;
		}
		s->window = window;
		s->cap = len;
	}
	want = s->cap;
	if (want > s->end - offset)
		want = (size_t)(s->end - offset);
	s->len = 0;
	*ret_error = store_io_read_full(s->a->io, s->arena->fd, s->window, want, offset);
	if (*ret_error < 0)
		return NULL;
	s->at = offset;
	s->len = want;
	return s->window;
}

/* 1: a whole valid frame is at offset. 0: not. */
static int scan_frame(struct scan *s, uint64_t offset, struct frame_view *ret)
{
	const uint8_t *data;
	struct frame_head head;
	uint8_t id[32];
	int r;

	data = scan_bytes(s, offset, FRAME_HEAD_SIZE, &r);
	if (!data)
		return r;
	if (frame_head_parse(data, s->arena->id, offset, &head) < 0)
		return 0;
	data = scan_bytes(s, offset + FRAME_HEAD_SIZE, head.len, &r);
	if (!data)
		return r;
	if (frame_payload_crc(head.type, data, head.len) != head.payload_crc)
		return 0;
	if (head.type == FRAME_OBJECT) {
		r = digest_of(
			s->digest, data + FRAME_OBJECT_HEAD, head.len - FRAME_OBJECT_HEAD, id);
		if (r < 0)
			return r;
		if (memcmp(id, data, sizeof(id)) != 0)
			return 0;
	}
	ret->type = head.type;
	ret->sequence = head.sequence;
	ret->synced = head.unsynced == 0	      ? head.sequence
		      : head.unsynced > head.sequence ? 0
						      : head.sequence + 1 - head.unsynced;
	ret->place = (struct place){ s->arena->number, head.len, offset + FRAME_HEAD_SIZE };
	ret->payload = data;
	return 1;
}

/* 1: nothing behind offset knows the next frame, which is not there, to have been durable. */
static int is_torn(struct scan *s, uint64_t offset)
{
	struct frame_view frame;
	int r;

	while (offset < s->end) {
		r = scan_frame(s, offset, &frame);
		if (r < 0)
			return r;
		if (r == 1 && frame.synced > s->a->next_sequence)
			return 0;
		offset += r == 1 ? frame_size(frame.place.len) : 8;
	}
	return 1;
}

static int scan_arena(struct scan *s, uint64_t offset, bool is_last, arenas_frame_fn *fn,
	arenas_damage_fn *damage, void *arg)
{
	struct frame_view frame;
	uint64_t bad = 0; /* where damage began, or 0 */
	int r;

	while (offset < s->end) {
		r = scan_frame(s, offset, &frame);
		if (r < 0)
			return r;
		if (r == 0) {
			if (bad == 0 && is_last) {
				r = is_torn(s, offset);
				if (r < 0)
					return r;
			}
			if (bad == 0)
				bad = offset;
			offset = r == 1 ? s->end : offset + 8;
			continue;
		}
		if (bad != 0)
			damage(arg, s->arena->number, bad, offset, false);
		bad = 0;
		if (frame.sequence >= s->a->next_sequence)
			s->a->next_sequence = frame.sequence + 1;
		r = fn(arg, &frame);
		if (r < 0)
			return r;
		offset += frame_size(frame.place.len);
	}
	if (bad == 0 && offset == s->end)
		return 0;
	/* A last frame without its padding is whole, but the next must not begin inside it. */
	if (bad == 0)
		bad = offset;
	else
		damage(arg, s->arena->number, bad, s->end, is_last);
	if (!is_last)
		return 0;
	r = s->a->io->ftruncate(s->a->io->ctx, s->arena->fd, bad);
	s->arena->size = bad;
	s->a->is_dirty = true;
	return r;
}

int arenas_scan(struct arenas *a, uint32_t arena, uint64_t offset, arenas_frame_fn *fn,
	arenas_damage_fn *damage, void *arg)
{
	struct scan s = { .a = a, .cap = SCAN_WINDOW };
	size_t i;
	int r = 0;

	s.window = malloc(s.cap);
	s.digest = digest_new();
	if (!s.window || !s.digest)
		r = -ENOMEM;
	for (i = 0; r == 0 && i < a->num; i++) {
		if (a->list[i].number < arena)
			continue;
		s.arena = &a->list[i];
		s.end = s.arena->size;
		s.len = 0;
		if (s.arena->sequence > a->next_sequence)
			a->next_sequence = s.arena->sequence;
		if (s.arena->number != arena || offset < FRAME_SUPER_SIZE)
			offset = FRAME_SUPER_SIZE;
		r = scan_arena(&s, offset, i + 1 == a->num, fn, damage, arg);
	}
	a->flushed = a->scanned = a->next_sequence;
	digest_free(s.digest);
	free(s.window);
	return r;
}

/* ---- appending */

static struct arena *last(const struct arenas *a)
{
	return &a->list[a->num - 1];
}

int arenas_begin(struct arenas *a)
{
	int r;

	if (a->has_failed)
		return -EIO;
	if (last(a)->size + a->len >= a->arena_size) {
		r = arenas_flush(a);
		if (r == 0)
			r = arenas_sync(a);
		if (r == 0)
			r = arena_create(a, last(a)->number + 1);
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
	return (struct place){ .arena = last(a)->number, .offset = last(a)->size + a->len };
}

uint8_t *arenas_payload(struct arenas *a, size_t *ret_len)
{
	*ret_len = a->len - a->frame - FRAME_HEAD_SIZE;
	return a->buf + a->frame + FRAME_HEAD_SIZE;
}

int arenas_end(struct arenas *a, enum frame_type type, struct place *ret_place)
{
	struct frame_head head = { .type = type };
	uint64_t offset = last(a)->size + a->frame;
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
	head.sequence = a->next_sequence++;
	head.unsynced = head.sequence - a->synced < UINT32_MAX - 1
				? (uint32_t)(head.sequence - a->synced) + 1
				: UINT32_MAX;
	frame_head_emit(&head, last(a)->id, offset, a->buf + a->frame);
	a->is_open = false;
	if (ret_place)
		*ret_place = (struct place){ last(a)->number, head.len, offset + FRAME_HEAD_SIZE };
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
}

int arenas_flush(struct arenas *a)
{
	struct arena *arena = last(a);
	int r;

	if (a->has_failed)
		return -EIO;
	if (a->len == 0)
		return 0;
	a->is_dirty = true;
	r = store_io_write_full(a->io, arena->fd, a->buf, a->len, arena->size);
	if (r < 0) {
		/* Part of it may be there. It is behind every position that anybody knows; if it
		 * cannot be cut now the next flush writes over it. */
		a->io->ftruncate(a->io->ctx, arena->fd, arena->size);
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

int arenas_sync(struct arenas *a)
{
	int r;

	if (a->has_failed)
		return -EIO;
	if (!a->is_dirty)
		return 0;
	do
		r = a->io->fdatasync(a->io->ctx, last(a)->fd);
	while (r == -EINTR);
	if (r < 0) {
		a->has_failed = true;
		return -EIO;
	}
	a->is_dirty = false;
	a->synced = a->flushed;
	return 0;
}

struct place arenas_position(const struct arenas *a)
{
	return (struct place){ .arena = last(a)->number, .offset = last(a)->size };
}

bool arenas_is_before(struct place x, struct place y)
{
	return x.arena != y.arena ? x.arena < y.arena : x.offset < y.offset;
}

/* ---- reading */

static const struct arena *find(const struct arenas *a, uint32_t number)
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

int arenas_read(const struct arenas *a, struct place place, void *data)
{
	const struct arena *arena = find(a, place.arena);

	if (!arena || place.offset > arena->size || place.len > arena->size - place.offset)
		return -EIO;
	return store_io_read_full(a->io, arena->fd, data, place.len, place.offset);
}

int arenas_open_one(const struct arenas *a, uint32_t number)
{
	char name[32];

	if (!find(a, number))
		return -ENOENT;
	arena_name(number, name);
	return a->io->openat(a->io->ctx, a->dir_fd, name, O_RDONLY, 0);
}
