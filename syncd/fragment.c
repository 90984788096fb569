#include "syncd/fragment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FLAG_FIRST = 1, FLAG_LAST = 2 };

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

static int parse_piece(struct fragment *f, const uint8_t *p, size_t len)
{
	if (f->is_first) {
		size_t head = f->kind == FRAGMENT_OBJECT ? FRAGMENT_ID_SIZE + 4 : 4;
		if (len < head)
			return -EBADMSG;
		if (f->kind == FRAGMENT_OBJECT)
			f->id = p;
		f->total = get32(p + head - 4);
		p += head;
		len -= head;
		if (len > f->total || f->is_last != (len == f->total))
			return -EBADMSG;
	}
	if (len == 0)
		return -EBADMSG;
	f->data = p;
	f->len = len;
	return 0;
}

static int parse_value(struct fragment *f, const uint8_t *p, size_t len, size_t size)
{
	if (len != size || !f->is_first || !f->is_last)
		return -EBADMSG;
	if (size == 4)
		f->value = get32(p);
	else if (size == 8)
		f->value = get64(p);
	return 0;
}

int fragment_parse(struct fragment *ret, const uint8_t *data, size_t len)
{
	struct fragment f = { 0 };
	int r = -EBADMSG;

	if (len < 2 || data[0] < FRAGMENT_ASK || data[0] > FRAGMENT_REKEY ||
		(data[1] & ~(FLAG_FIRST | FLAG_LAST)))
		return -EBADMSG;
	f.kind = data[0];
	f.is_first = data[1] & FLAG_FIRST;
	f.is_last = data[1] & FLAG_LAST;
	data += 2;
	len -= 2;
	switch (f.kind) {
	case FRAGMENT_ASK:
	case FRAGMENT_ANSWER:
	case FRAGMENT_OBJECT:
		r = parse_piece(&f, data, len);
		break;
	case FRAGMENT_CREDIT:
		r = parse_value(&f, data, len, 4);
		break;
	case FRAGMENT_PING:
	case FRAGMENT_PONG:
		r = parse_value(&f, data, len, 8);
		break;
	case FRAGMENT_REKEY:
		r = parse_value(&f, data, len, 0);
		break;
	}
	if (r < 0)
		return r;
	*ret = f;
	return 0;
}

static size_t head_size(const struct fragment *f)
{
	switch (f->kind) {
	case FRAGMENT_ASK:
	case FRAGMENT_ANSWER:
		return f->is_first ? 6 : 2;
	case FRAGMENT_OBJECT:
		return f->is_first ? 6 + FRAGMENT_ID_SIZE : 2;
	case FRAGMENT_CREDIT:
		return 6;
	case FRAGMENT_PING:
	case FRAGMENT_PONG:
		return 10;
	case FRAGMENT_REKEY:
		return 2;
	}
	return 2;
}

size_t fragment_size(const struct fragment *f)
{
	return head_size(f) + f->len;
}

void fragment_emit(const struct fragment *f, uint8_t *out)
{
	out[0] = (uint8_t)f->kind;
	out[1] = (f->is_first ? FLAG_FIRST : 0) | (f->is_last ? FLAG_LAST : 0);
	switch (f->kind) {
	case FRAGMENT_ASK:
	case FRAGMENT_ANSWER:
	case FRAGMENT_OBJECT:
		if (f->is_first) {
			if (f->kind == FRAGMENT_OBJECT)
				memcpy(out + 2, f->id, FRAGMENT_ID_SIZE);
			put32(out + head_size(f) - 4, f->total);
		}
		memcpy(out + head_size(f), f->data, f->len);
		break;
	case FRAGMENT_CREDIT:
		put32(out + 2, (uint32_t)f->value);
		break;
	case FRAGMENT_PING:
	case FRAGMENT_PONG:
		put64(out + 2, f->value);
		break;
	case FRAGMENT_REKEY:
		break;
	}
}

int assembly_add(struct assembly *a, const struct fragment *f, size_t max)
{
	if (f->is_first == a->is_open)
		return -EBADMSG;
	if (f->is_first) {
		if (f->total == 0 || f->total > max)
			return -EBADMSG;
		free(a->buf);
		a->buf = malloc(f->total);
		if (!a->buf)
			return -ENOMEM;
		a->total = f->total;
		a->have = 0;
		if (f->id)
			memcpy(a->id, f->id, sizeof(a->id));
		a->is_open = true;
	}
	if (f->len > a->total - a->have || f->is_last != (f->len == a->total - a->have))
		return -EBADMSG;
	memcpy(a->buf + a->have, f->data, f->len);
	a->have += f->len;
	if (!f->is_last)
		return 0;
	a->is_open = false;
	return 1;
}

void assembly_release(struct assembly *a)
{
	free(a->buf);
	*a = (struct assembly){ 0 };
}
