#include "stored/scan.h"

#include "stored/broken.h"
#include "stored/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW	     (1u << 20)
#define WINDOW_HEADS (4u << 10) /* where sealed bytes are stepped over */
#define BLOCK	     4096	/* what a disk loses at a time */

int scan_init(struct scan *s, const struct store_io *io)
{
	*s = (struct scan){ .io = io, .cap = WINDOW };
	s->window = malloc(s->cap);
	s->digest = digest_new();
	if (s->window && s->digest)
		return 0;
	scan_release(s);
	return -ENOMEM;
}

void scan_release(struct scan *s)
{
	digest_free(s->digest);
	free(s->window);
	*s = (struct scan){ 0 };
}

void scan_start(struct scan *s, int fd, uint32_t arena, const uint8_t id[16], uint64_t offset,
	uint64_t end, unsigned flags)
{
	s->fd = fd;
	s->arena = arena;
	memcpy(s->id, id, sizeof(s->id));
	s->flags = flags;
	s->offset = offset < FRAME_SUPER_SIZE ? FRAME_SUPER_SIZE : offset;
	s->end = end;
	s->bad = s->lost = 0;
	s->has_ended = false;
	s->len = 0;
	s->want = flags & SCAN_SEALED ? WINDOW : WINDOW_HEADS;
}

/* Once more, block by block: an error that does not come twice is none. Zeros for what cannot be
 * read: nothing that has a sum is zeros. */
static int read_around(struct scan *s, uint64_t offset, size_t len)
{
	size_t part;
	int r = 0;

	for (size_t at = 0; r == 0 && at < len; at += part) {
		part = BLOCK - (size_t)((offset + at) % BLOCK);
		if (part > len - at)
			part = len - at;
		r = store_io_read_full(s->io, s->fd, s->window + at, part, offset + at);
		if (r != -EIO)
			continue;
		memset(s->window + at, 0, part);
		s->lost = offset + at + part;
		r = 0;
	}
	return r;
}

/* Makes [offset, offset + len) available; NULL past the end, or with *ret_error set. */
static const uint8_t *bytes(struct scan *s, uint64_t offset, size_t len, int *ret_error)
{
	size_t want = len > s->want ? len : s->want;

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
	if (want > s->end - offset)
		want = (size_t)(s->end - offset);
	s->len = 0;
	*ret_error = store_io_read_full(s->io, s->fd, s->window, want, offset);
	if (*ret_error == -EIO && !(s->flags & SCAN_STRICT))
		*ret_error = read_around(s, offset, want);
	if (*ret_error < 0)
		return NULL;
	s->at = offset;
	s->len = want;
	return s->window;
}

/* 1: a whole valid frame, or a hole, is at offset. 0: not. */
static int frame_at(struct scan *s, uint64_t offset, struct frame_view *ret)
{
	const uint8_t *data;
	struct frame_head head;
	uint8_t id[32];
	size_t need;
	int r;

	data = bytes(s, offset, FRAME_HEAD_SIZE, &r);
	if (!data)
		return r;
	if (frame_head_parse(data, s->id, offset, &head) < 0)
		return 0;
	memcpy(s->head, data, sizeof(s->head));
	if (offset + FRAME_HEAD_SIZE + head.len > s->end)
		return 0;
	need = head.len;
	if (head.type == FRAME_GAP || (head.type == FRAME_OBJECT && !(s->flags & SCAN_SEALED)))
		need = frame_summed(head.type, head.len);
	data = bytes(s, offset + FRAME_HEAD_SIZE, need, &r);
	if (!data)
		return r;
	if (!BROKEN(BROKEN_NO_CRC) && frame_payload_crc(head.type, data, need) != head.payload_crc)
		return 0;
	ret->is_hole = false;
	if (head.type == FRAME_OBJECT && need == head.len) {
		r = digest_of(
			s->digest, data + FRAME_OBJECT_HEAD, head.len - FRAME_OBJECT_HEAD, id);
		if (r < 0)
			return r;
		ret->is_hole = memcmp(id, data, sizeof(id)) != 0;
		if (ret->is_hole && !(s->flags & SCAN_HOLES) && !BROKEN(BROKEN_NO_CRC))
			return 0;
	}
	ret->type = head.type;
	ret->sequence = head.sequence;
	ret->synced = head.unsynced == 0	      ? head.sequence
		      : head.unsynced > head.sequence ? 0
						      : head.sequence + 1 - head.unsynced;
	ret->place = (struct place){ s->arena, head.len, offset + FRAME_HEAD_SIZE };
	ret->payload = data;
	ret->head = s->head;
	return 1;
}

static int damage(struct scan *s, uint64_t to, bool is_tail, struct scan_item *ret)
{
	ret->from = s->bad;
	ret->to = to;
	ret->is_tail = is_tail;
	s->bad = 0;
	return SCAN_DAMAGE;
}

/* 1: nothing behind offset knows the next frame, which is not there, to have been durable. */
static int is_torn(struct scan *s, uint64_t offset)
{
	struct frame_view frame;
	int r;

	if (BROKEN(BROKEN_TORN_IS_OK))
		return 0;
	while (offset < s->end) {
		r = frame_at(s, offset, &frame);
		if (r < 0)
			return r;
		if (r == 1 && frame.synced > s->next)
			return 0;
		offset += r == 1 ? frame_size(frame.place.len) : 8;
	}
	return 1;
}

int scan_next(struct scan *s, struct scan_item *ret)
{
	int r;

	while (!s->has_ended && s->offset < s->end) {
		r = frame_at(s, s->offset, &ret->frame);
		if (r < 0)
			return r;
		if (r == 0) {
			if (s->bad == 0 && s->flags & SCAN_TORN) {
				r = is_torn(s, s->offset);
				if (r == 1 && s->lost > s->offset)
					r = -EIO;
				if (r < 0)
					return r;
			}
			if (s->bad == 0)
				s->bad = s->offset;
			s->offset = r == 1 ? s->end : s->offset + 8;
			continue;
		}
		/* Damage is told first; the frame is found again by the next call. */
		if (s->bad != 0)
			return damage(s, s->offset, false, ret);
		s->offset += frame_size(ret->frame.place.len);
		if (ret->frame.sequence >= s->next)
			s->next = ret->frame.sequence + 1;
		s->has_ended = ret->frame.type == FRAME_END;
		return SCAN_FRAME;
	}
	if (s->bad == 0)
		return 0;
	s->offset = s->bad;
	s->has_ended = true;
	return damage(s, s->end, true, ret);
}
