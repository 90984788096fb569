#include "stored/sealed_arena.h"

#include "cas/bytes.h"
#include "stored/crc32c.h"
#include "stored/mph.h"
#include "stored/sealed_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS_BATCH 512 /* entries read at once */
#define OTHERS_BATCH  2048

static const uint8_t trailer_magic[4] = { 'B', 'Z', 'S', '1' };

static uint64_t pad8(uint64_t len)
{
	return (len + 7) & ~UINT64_C(7);
}

/* ---- where the sections are */

static uint64_t others_at(const struct sealed_trailer *t)
{
	return t->footer + (uint64_t)t->num_objects * SEALED_OBJECT_SIZE;
}

static uint64_t slots_at(const struct sealed_trailer *t)
{
	return others_at(t) + (uint64_t)t->num_others * SEALED_OTHER_SIZE;
}

static uint64_t mph_at(const struct sealed_trailer *t)
{
	return slots_at(t) + pad8((uint64_t)t->num_objects * 4);
}

static uint64_t trailer_at(const struct sealed_trailer *t)
{
	return mph_at(t) + pad8(t->mph_len);
}

void sealed_trailer_emit(const struct sealed_trailer *t, uint32_t number, const uint8_t id[16],
	uint8_t ret_data[SEALED_TRAILER_SIZE])
{
	uint8_t *p = ret_data;

	memset(p, 0, SEALED_TRAILER_SIZE);
	memcpy(p, trailer_magic, 4);
	le32_put(p + 4, 1);
	le32_put(p + 8, number);
	le32_put(p + 12, t->kind);
	memcpy(p + 16, id, 16);
	le64_put(p + 32, t->footer);
	le64_put(p + 40, t->size);
	le32_put(p + 48, t->num_objects);
	le32_put(p + 52, t->num_found);
	le32_put(p + 56, t->num_others);
	le32_put(p + 60, t->mph_len);
	le64_put(p + 64, t->object_bytes);
	le64_put(p + 72, t->last_sequence);
	le32_put(p + 80, t->crc);
	le32_put(p + 84, t->num_damaged);
	memcpy(p + 88, t->digest, 32);
	le32_put(p + 156, crc32c(0, p, 156));
}

static void trailer_parse(const uint8_t *p, struct sealed_trailer *t)
{
	t->kind = le32_get(p + 12);
	t->footer = le64_get(p + 32);
	t->size = le64_get(p + 40);
	t->num_objects = le32_get(p + 48);
	t->num_found = le32_get(p + 52);
	t->num_others = le32_get(p + 56);
	t->mph_len = le32_get(p + 60);
	t->object_bytes = le64_get(p + 64);
	t->last_sequence = le64_get(p + 72);
	t->crc = le32_get(p + 80);
	t->num_damaged = le32_get(p + 84);
	memcpy(t->digest, p + 88, 32);
}

/* What is not there or cannot be read is as good as damaged. */
static int footer_read(const struct store_io *io, int fd, void *data, size_t len, uint64_t offset)
{
	int r = store_io_read_full(io, fd, data, len, offset);

	return r == -EIO || r == -ENODATA ? -EBADMSG : r;
}

int sealed_trailer_read(const struct store_io *io, int fd, uint32_t number, const uint8_t id[16],
	uint64_t size, struct sealed_trailer *ret)
{
	uint8_t data[SEALED_TRAILER_SIZE];
	int r;

	if (size < FRAME_SUPER_SIZE + SEALED_TRAILER_SIZE)
		return -ENODATA;
	r = footer_read(io, fd, data, sizeof(data), size - sizeof(data));
	if (r < 0)
		return r == -EBADMSG ? -ENODATA : r;
	if (memcmp(data, trailer_magic, 4) != 0 || le32_get(data + 156) != crc32c(0, data, 156))
		return -ENODATA;
	/* Of a later version it counts as none: the arena is sealed anew in this one. */
	if (le32_get(data + 4) != 1 || le32_get(data + 8) != number || memcmp(data + 16, id, 16))
		return -ENODATA;
	trailer_parse(data, ret);
	if (ret->size != size || ret->footer < FRAME_SUPER_SIZE || ret->footer > size ||
		ret->num_found > ret->num_objects || ret->num_objects > SEALED_OBJECTS_MAX ||
		ret->kind > SEALED_MPH || (ret->kind == SEALED_MPH) != (ret->mph_len > 0) ||
		trailer_at(ret) + SEALED_TRAILER_SIZE != size)
		return -ENODATA;
	return 0;
}

static uint32_t object_crc(const uint8_t id[16], const uint8_t *entry)
{
	return crc32c(crc32c(0, id, 16), entry, SEALED_OBJECT_SIZE - 4);
}

void sealed_object_emit(const struct sealed_object *object, const uint8_t arena_id[16],
	uint8_t p[SEALED_OBJECT_SIZE])
{
	memcpy(p, object->id, 32);
	memcpy(p + 32, object->tag, 32);
	le64_put(p + 64, object->place.offset);
	le32_put(p + 72, object->place.len);
	le32_put(p + 76, object_crc(arena_id, p));
}

static int object_parse(const struct sealed_arena *s, const uint8_t *p, struct sealed_object *ret)
{
	if (le32_get(p + 76) != object_crc(s->id, p))
		return -EBADMSG;
	memcpy(ret->id, p, 32);
	memcpy(ret->tag, p + 32, 32);
	ret->place = (struct place){ s->number, le32_get(p + 72), le64_get(p + 64) };
	return 0;
}

/* ---- opening */

/* The sum over [from, to) of the file. */
static int range_crc(const struct store_io *io, int fd, uint64_t from, uint64_t to, uint32_t *ret)
{
	uint8_t buf[16384];
	int r;

	*ret = 0;
	while (from < to) {
		size_t len = to - from < sizeof(buf) ? (size_t)(to - from) : sizeof(buf);

		r = footer_read(io, fd, buf, len, from);
		if (r < 0)
			return r;
		*ret = crc32c(*ret, buf, len);
		from += len;
	}
	return 0;
}

int sealed_arena_open(struct sealed_arena *ret, const struct store_io *io, int fd, uint32_t number,
	const uint8_t id[16])
{
	struct sealed_trailer *t = &ret->trailer;
	struct stat st;
	uint32_t crc;
	int r;

	*ret = (struct sealed_arena){ .io = io, .fd = fd, .number = number };
	memcpy(ret->id, id, 16);
	r = io->fstat(io->ctx, fd, &st);
	if (r == 0)
		r = sealed_trailer_read(io, fd, number, id, (uint64_t)st.st_size, t);
	if (r == 0)
		r = range_crc(io, fd, others_at(t), trailer_at(t), &crc);
	if (r < 0)
		return r;
	if (crc != t->crc)
		return -EBADMSG;
	if (t->kind != SEALED_MPH)
		return 0;
	/* The sum is right, so this is what CMPH packed, which it reads without any check. */
	ret->mph = malloc(t->mph_len);
	if (!ret->mph)
		return -ENOMEM;
	r = footer_read(io, fd, ret->mph, t->mph_len, mph_at(t));
	if (r < 0)
		sealed_arena_close(ret);
	return r;
}

void sealed_arena_close(struct sealed_arena *s)
{
	free(s->mph);
	s->mph = NULL;
}

/* ---- finding */

int sealed_arena_slot(const struct sealed_arena *s, uint32_t slot, struct sealed_object *ret)
{
	uint8_t number[4], entry[SEALED_OBJECT_SIZE];
	uint32_t n;
	int r;

	if (slot >= s->trailer.num_objects)
		return -ENOENT;
	r = footer_read(
		s->io, s->fd, number, sizeof(number), slots_at(&s->trailer) + (uint64_t)slot * 4);
	if (r < 0)
		return r;
	n = le32_get(number);
	if (n >= s->trailer.num_objects)
		return -EBADMSG;
	r = footer_read(s->io, s->fd, entry, sizeof(entry),
		s->trailer.footer + (uint64_t)n * SEALED_OBJECT_SIZE);
	return r < 0 ? r : object_parse(s, entry, ret);
}

static int find_sorted(const struct sealed_arena *s, const uint8_t id[32], uint32_t *ret_slot,
	struct sealed_object *object)
{
	uint32_t low = 0, high = s->trailer.num_found;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int r = sealed_arena_slot(s, mid, object);

		if (r < 0)
			return r;
		r = memcmp(object->id, id, 32);
		if (r == 0) {
			*ret_slot = mid;
			return 0;
		}
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -ENOENT;
}

int sealed_arena_find(
	const struct sealed_arena *s, const uint8_t id[32], uint32_t *ret_slot, struct place *ret)
{
	struct sealed_object object;
	uint32_t slot;
	int r;

	if (s->mph) {
		slot = mph_find(s->mph, id, sizeof(object.id));
		/* Any id gets a slot: who is there tells whether it is the one. */
		if (slot >= s->trailer.num_found)
			return -ENOENT;
		r = sealed_arena_slot(s, slot, &object);
		if (r == 0 && memcmp(object.id, id, 32) != 0)
			r = -ENOENT;
	} else {
		r = find_sorted(s, id, &slot, &object);
	}
	if (r < 0)
		return r;
	*ret_slot = slot;
	*ret = object.place;
	return 0;
}

/* ---- all of them */

static int section_init(
	struct sealed_section *r, uint64_t at, uint32_t num, uint32_t size, uint32_t batch)
{
	*r = (struct sealed_section){ .at = at, .left = num, .size = size, .batch = batch };
	r->buf = malloc((size_t)size * batch);
	return r->buf ? 0 : -ENOMEM;
}

/* The entry at hand, NULL at the end or with *ret_error. */
static const uint8_t *section_peek(
	struct sealed_section *r, const struct sealed_arena *s, int *ret_error)
{
	*ret_error = 0;
	if (r->used < r->have)
		return r->buf + (size_t)r->used * r->size;
	if (r->left == 0)
		return NULL;
	r->have = r->left < r->batch ? r->left : r->batch;
	r->used = 0;
	*ret_error = footer_read(s->io, s->fd, r->buf, (size_t)r->have * r->size, r->at);
	if (*ret_error < 0)
		return NULL;
	r->left -= r->have;
	r->at += (uint64_t)r->have * r->size;
	return r->buf;
}

int sealed_walk_begin(struct sealed_walk *ret, const struct sealed_arena *s, bool with_objects)
{
	const struct sealed_trailer *t = &s->trailer;
	int r;

	*ret = (struct sealed_walk){ .sealed = s };
	r = section_init(&ret->objects, t->footer, with_objects ? t->num_objects : 0,
		SEALED_OBJECT_SIZE, OBJECTS_BATCH);
	if (r == 0)
		r = section_init(
			&ret->others, others_at(t), t->num_others, SEALED_OTHER_SIZE, OTHERS_BATCH);
	if (r < 0)
		sealed_walk_end(ret);
	return r;
}

void sealed_walk_end(struct sealed_walk *w)
{
	free(w->objects.buf);
	free(w->others.buf);
	*w = (struct sealed_walk){ 0 };
}

int sealed_walk_next(struct sealed_walk *w, struct sealed_entry *ret)
{
	const uint8_t *object, *other;
	int r;

	object = section_peek(&w->objects, w->sealed, &r);
	if (r < 0)
		return r;
	other = section_peek(&w->others, w->sealed, &r);
	if (r < 0 || (!object && !other))
		return r;
	if (object && (!other || le64_get(object + 64) < le64_get(other))) {
		w->objects.used++;
		ret->type = FRAME_OBJECT;
		r = object_parse(w->sealed, object, &ret->object);
		return r < 0 ? r : 1;
	}
	w->others.used++;
	ret->type = le32_get(other + 12);
	ret->object.place =
		(struct place){ w->sealed->number, le32_get(other + 8), le64_get(other) };
	return 1;
}

int sealed_arena_walk(const struct sealed_arena *s, sealed_arena_fn *fn, void *arg)
{
	struct sealed_entry entry;
	struct sealed_walk walk;
	int r;

	r = sealed_walk_begin(&walk, s, true);
	if (r < 0)
		return r;
	while ((r = sealed_walk_next(&walk, &entry)) == 1) {
		bool is_object = entry.type == FRAME_OBJECT;

		r = fn(arg, is_object ? &entry.object : NULL, entry.type, entry.object.place);
		if (r != 0)
			break;
	}
	sealed_walk_end(&walk);
	return r;
}

static int seen(void *arg, const struct sealed_object *object, uint32_t type, struct place place)
{
	return 0;
}

int sealed_arena_check(const struct sealed_arena *s)
{
	return sealed_arena_walk(s, seen, NULL);
}
