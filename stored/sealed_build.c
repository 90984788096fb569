#include "stored/sealed_build.h"

#include "cas/bytes.h"
#include "stored/crc32c.h"
#include "stored/digest.h"
#include "stored/mph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ASK_EVERY 1024 /* frames between looks at is_cancelled */
#define OUT_SIZE  (256u << 10)

struct other {
	uint64_t offset;
	uint32_t len, type;
};

struct build {
	const struct store_io *io;
	int fd;
	uint32_t number;
	const uint8_t *id;
	bool (*is_cancelled)(void *arg);
	void *arg;
	struct sealed_object *objects;
	size_t num_objects, cap_objects;
	struct other *others;
	size_t num_others, cap_others;
	uint32_t *slots; /* slot -> number of the object */
	void *mph;
	struct sealed_trailer trailer;
	/* Output, gathered. */
	uint8_t *out;
	size_t out_len;
	uint64_t out_at;
	uint32_t out_crc;
};

/* ---- what there is */

static int digest_frame(struct digest *digest, const struct frame_view *frame)
{
	size_t len = frame_summed(frame->type, frame->place.len);
	int r = digest_add(digest, frame->head, FRAME_HEAD_SIZE);

	return r < 0 ? r : digest_add(digest, frame->payload, len);
}

static int add_object(struct build *b, const struct frame_view *frame)
{
	struct sealed_object *object;

	if (b->num_objects == SEALED_OBJECTS_MAX)
		return -E2BIG;
	if (b->num_objects == b->cap_objects) {
		size_t cap = b->cap_objects ? b->cap_objects * 2 : 1024;
		void *p = realloc(b->objects, cap * sizeof(*b->objects));

		if (!p)
			return -ENOMEM;
		b->objects = p;
		b->cap_objects = cap;
	}
	object = &b->objects[b->num_objects++];
	memcpy(object->id, frame->payload, 32);
	memcpy(object->tag, frame->payload + 32, 32);
	object->place = frame->place;
	object->place.offset += FRAME_OBJECT_HEAD;
	object->place.len -= FRAME_OBJECT_HEAD;
	b->trailer.object_bytes += object->place.len;
	return 0;
}

static int add_other(struct build *b, uint64_t offset, uint64_t len, uint32_t type)
{
	if (len > UINT32_MAX)
		return -E2BIG;
	if (b->num_others == b->cap_others) {
		size_t cap = b->cap_others ? b->cap_others * 2 : 256;
		void *p = realloc(b->others, cap * sizeof(*b->others));

		if (!p)
			return -ENOMEM;
		b->others = p;
		b->cap_others = cap;
	}
	b->others[b->num_others++] =
		(struct other){ .offset = offset, .len = (uint32_t)len, .type = type };
	return 0;
}

static int gather_item(struct build *b, const struct scan_item *item, struct digest *digest)
{
	const struct frame_view *frame = &item->frame;
	int r;

	r = digest_frame(digest, frame);
	if (r < 0)
		return r;
	if (frame->sequence > b->trailer.last_sequence && frame->type != FRAME_END)
		b->trailer.last_sequence = frame->sequence;
	return frame->type == FRAME_OBJECT
		       ? add_object(b, frame)
		       : add_other(b, frame->place.offset, frame->place.len, frame->type);
}

/* Writes the FRAME_END that is missing, behind all that there is, durable before the footer: else a
 * torn footer would be taken for damaged frames. */
static int put_end(struct build *b, uint64_t offset, struct digest *digest)
{
	struct frame_head head = { .type = FRAME_END, .sequence = b->trailer.last_sequence + 1 };
	uint8_t data[FRAME_HEAD_SIZE];
	int r;

	head.payload_crc = frame_payload_crc(FRAME_END, NULL, 0);
	frame_head_emit(&head, b->id, offset, data);
	b->trailer.footer = offset;
	r = store_io_write_full(b->io, b->fd, data, sizeof(data), offset);
	if (r == 0)
		r = b->io->fdatasync(b->io->ctx, b->fd);
	if (r == 0)
		r = digest_add(digest, data, sizeof(data));
	if (r == 0)
		r = add_other(b, offset + FRAME_HEAD_SIZE, 0, FRAME_END);
	if (r == 0)
		b->trailer.footer = offset + FRAME_HEAD_SIZE;
	return r;
}

static int gather(struct build *b, struct scan *scan, struct digest *digest, uint64_t size)
{
	struct scan_item item;
	uint64_t end = size;
	bool has_end = false;
	unsigned count = 0;
	int kind, r;

	while ((kind = scan_next(scan, &item)) > 0) {
		if (kind == SCAN_DAMAGE) {
			b->trailer.num_damaged++;
			r = add_other(b, item.from, item.to - item.from, 0);
		} else {
			has_end = item.frame.type == FRAME_END;
			r = gather_item(b, &item, digest);
			end = scan->offset > size ? scan->offset : size;
		}
		if (r < 0)
			return r;
		if (++count % ASK_EVERY == 0 && b->is_cancelled && b->is_cancelled(b->arg))
			return -ECANCELED;
	}
	if (kind < 0)
		return kind;
	if (!has_end)
		return put_end(b, (end + 7) & ~UINT64_C(7), digest);
	/* What a torn footer left. */
	b->trailer.footer = scan->offset;
	return b->io->ftruncate(b->io->ctx, b->fd, b->trailer.footer);
}

/* ---- slots */

static int object_compare(const void *x, const void *y, void *arg)
{
	const struct build *b = arg;
	uint32_t a = *(const uint32_t *)x, c = *(const uint32_t *)y;
	int r = memcmp(b->objects[a].id, b->objects[c].id, 32);

	return r != 0 ? r : (a > c) - (a < c);
}

/* The order of the ids; of equal ones the last first, the others behind all. */
static void sort_slots(struct build *b)
{
	uint32_t num = (uint32_t)b->num_objects, found = 0, extra = num, i;
	uint32_t *sorted = b->slots + num;

	for (i = 0; i < num; i++)
		sorted[i] = i;
	qsort_r(sorted, num, sizeof(*sorted), object_compare, b);
	for (i = 0; i < num; i++) {
		if (i + 1 < num &&
			memcmp(b->objects[sorted[i]].id, b->objects[sorted[i + 1]].id, 32) == 0)
			b->slots[--extra] = sorted[i];
		else
			b->slots[found++] = sorted[i];
	}
	b->trailer.num_found = found;
}

/* Turns the sorted slots into those of a perfect hash. */
static int hash_slots(struct build *b)
{
	uint32_t num = b->trailer.num_found, i;
	const uint8_t **ids = calloc(num, sizeof(*ids));
	uint32_t *places = calloc(num, sizeof(*places));
	uint32_t *sorted = b->slots + b->num_objects;
	struct mph_keys keys = { .keys = ids, .num = num, .len = 32 };
	int r = ids && places ? 0 : -ENOMEM;

	for (i = 0; r == 0 && i < num; i++)
		ids[i] = b->objects[b->slots[i]].id;
	if (r == 0)
		r = mph_make(MPH_CHD, &keys, places, &b->mph, &b->trailer.mph_len);
	if (r == 0) {
		b->trailer.kind = SEALED_MPH;
		memcpy(sorted, b->slots, num * sizeof(*sorted));
		for (i = 0; i < num; i++)
			b->slots[places[i]] = sorted[i];
	}
	free(places);
	free(ids);
	return r;
}

static int make_slots(struct build *b)
{
	int r;

	/* The upper half is for sorting. */
	b->slots = calloc(b->num_objects * 2 + 1, sizeof(*b->slots));
	if (!b->slots)
		return -ENOMEM;
	sort_slots(b);
	if (b->trailer.num_found < 2)
		return 0;
	r = hash_slots(b);
	return r == -ERANGE ? 0 : r;
}

/* ---- writing */

static int out_flush(struct build *b)
{
	int r = store_io_write_full(b->io, b->fd, b->out, b->out_len, b->out_at);

	b->out_at += b->out_len;
	b->out_len = 0;
	return r;
}

/* Behind what was put before, zero-padded to a multiple of 8 at the end of a section. */
static int out_put(struct build *b, const void *data, size_t len)
{
	const uint8_t *p = data;
	int r;

	b->out_crc = crc32c(b->out_crc, data, len);
	while (len > 0) {
		size_t part = OUT_SIZE - b->out_len < len ? OUT_SIZE - b->out_len : len;

		memcpy(b->out + b->out_len, p, part);
		b->out_len += part;
		p += part;
		len -= part;
		if (b->out_len == OUT_SIZE) {
			r = out_flush(b);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int out_pad(struct build *b)
{
	static const uint8_t zeros[8];

	return out_put(b, zeros, (8 - (b->out_at + b->out_len) % 8) % 8);
}

static int write_objects(struct build *b)
{
	uint8_t entry[SEALED_OBJECT_SIZE];
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->num_objects; i++) {
		sealed_object_emit(&b->objects[i], b->id, entry);
		r = out_put(b, entry, sizeof(entry));
	}
	return r;
}

static int write_rest(struct build *b)
{
	uint8_t entry[SEALED_OTHER_SIZE];
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->num_others; i++) {
		le64_put(entry, b->others[i].offset);
		le32_put(entry + 8, b->others[i].len);
		le32_put(entry + 12, b->others[i].type);
		r = out_put(b, entry, sizeof(entry));
	}
	for (size_t i = 0; r == 0 && i < b->num_objects; i++) {
		le32_put(entry, b->slots[i]);
		r = out_put(b, entry, 4);
	}
	if (r == 0)
		r = out_pad(b);
	if (r == 0 && b->mph)
		r = out_put(b, b->mph, b->trailer.mph_len);
	return r < 0 ? r : out_pad(b);
}

static int write_footer(struct build *b)
{
	struct sealed_trailer *t = &b->trailer;
	uint8_t data[SEALED_TRAILER_SIZE];
	int r;

	t->num_objects = (uint32_t)b->num_objects;
	t->num_others = (uint32_t)b->num_others;
	b->out_at = t->footer;
	r = write_objects(b);
	b->out_crc = 0;
	if (r == 0)
		r = write_rest(b);
	if (r == 0)
		r = out_flush(b);
	if (r == 0)
		r = b->io->fdatasync(b->io->ctx, b->fd);
	if (r < 0)
		return r;
	t->crc = b->out_crc;
	t->size = b->out_at + sizeof(data);
	sealed_trailer_emit(t, b->number, b->id, data);
	r = store_io_write_full(b->io, b->fd, data, sizeof(data), b->out_at);
	return r < 0 ? r : b->io->fdatasync(b->io->ctx, b->fd);
}

/* Whatever was written of it goes, so that the next attempt has the room. */
static void cut(struct build *b)
{
	if (b->trailer.footer != 0)
		b->io->ftruncate(b->io->ctx, b->fd, b->trailer.footer);
}

static int build(struct build *b, struct scan *scan, struct digest *digest, uint64_t size)
{
	int r;

	/* What cannot be read may be tomorrow, but nobody would look behind a footer that knows it
	 * as damage. */
	scan_start(scan, b->fd, b->number, b->id, FRAME_SUPER_SIZE, size, SCAN_STRICT);
	r = digest_begin(digest);
	if (r == 0)
		r = gather(b, scan, digest, size);
	if (r == 0)
		r = digest_end(digest, b->trailer.digest);
	if (r == 0 && b->is_cancelled && b->is_cancelled(b->arg))
		r = -ECANCELED;
	if (r == 0)
		r = make_slots(b);
	if (r == 0)
		r = write_footer(b);
	if (r < 0)
		cut(b);
	return r;
}

int sealed_arena_build(const struct store_io *io, int fd, uint32_t number, const uint8_t id[16],
	uint64_t size, bool (*is_cancelled)(void *arg), void *arg, struct sealed_trailer *ret)
{
	struct build b = { .io = io, .fd = fd, .number = number, .id = id };
	struct digest *digest = digest_new();
	struct scan scan = { 0 };
	int r;

	b.is_cancelled = is_cancelled;
	b.arg = arg;
	b.out = malloc(OUT_SIZE);
	r = digest && b.out ? scan_init(&scan, io) : -ENOMEM;
	if (r == 0)
		r = build(&b, &scan, digest, size);
	*ret = b.trailer;
	scan_release(&scan);
	digest_free(digest);
	free(b.objects);
	free(b.others);
	free(b.slots);
	free(b.mph);
	free(b.out);
	return r;
}

/* ---- verifying */

static int compare(const struct sealed_arena *s, struct scan *scan, struct digest *digest)
{
	uint8_t is[32];
	struct scan_item item;
	int kind, r;

	scan_start(scan, s->fd, s->number, s->id, FRAME_SUPER_SIZE, s->trailer.footer, 0);
	r = digest_begin(digest);
	while (r == 0 && (kind = scan_next(scan, &item)) != 0)
		r = kind < 0 ? kind : kind == SCAN_FRAME ? digest_frame(digest, &item.frame) : 0;
	if (r == 0)
		r = digest_end(digest, is);
	if (r == 0 && memcmp(is, s->trailer.digest, sizeof(is)) != 0)
		r = -EBADMSG;
	return r == -ENODATA ? -EBADMSG : r;
}

int sealed_arena_verify(const struct sealed_arena *s)
{
	struct digest *digest = digest_new();
	struct scan scan = { 0 };
	int r;

	r = digest ? scan_init(&scan, s->io) : -ENOMEM;
	if (r == 0)
		r = compare(s, &scan, digest);
	if (r == 0)
		r = sealed_arena_check(s);
	scan_release(&scan);
	digest_free(digest);
	return r;
}
