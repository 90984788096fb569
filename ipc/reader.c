#include "ipc/reader.h"

#include <errno.h>
#include <string.h>

void ipc_reader_init(struct ipc_reader *r, const void *data, size_t len)
{
	*r = (struct ipc_reader){ .p = data, .end = (const uint8_t *)data + len };
}

static size_t left(const struct ipc_reader *r)
{
	return (size_t)(r->end - r->p);
}

static void bad(struct ipc_reader *r)
{
	if (!r->err)
		r->err = -EBADMSG;
}

/* Passes over len bytes and returns where they begin; NULL when there are fewer. */
static const uint8_t *take(struct ipc_reader *r, uint64_t len)
{
	const uint8_t *p = r->p;

	if (r->err || len > left(r)) {
		bad(r);
		return NULL;
	}
	r->p += len;
	return p;
}

/* A big-endian integer of 1, 2, 4 or 8 bytes. */
static uint64_t take_be(struct ipc_reader *r, size_t len)
{
	const uint8_t *p = take(r, len);
	uint64_t v = 0;

	for (size_t i = 0; p && i < len; i++)
		v = v << 8 | p[i];
	return v;
}

static uint8_t take_byte(struct ipc_reader *r)
{
	return (uint8_t)take_be(r, 1);
}

/* The count behind a head byte of one of three forms: short with its count inside, 16 and 32 bits.
 */
static uint32_t read_count(struct ipc_reader *r, uint8_t fix, uint8_t mask, uint8_t head16)
{
	uint8_t b = take_byte(r);

	if (r->err)
		return 0;
	if ((b & (uint8_t)~mask) == fix)
		return b & mask;
	if (b == head16)
		return (uint32_t)take_be(r, 2);
	if (b == head16 + 1)
		return (uint32_t)take_be(r, 4);
	bad(r);
	return 0;
}

void ipc_read_array(struct ipc_reader *r, uint32_t count)
{
	if (read_count(r, 0x90, 0x0f, 0xdc) != count)
		bad(r);
}

uint32_t ipc_read_map(struct ipc_reader *r)
{
	uint32_t n = read_count(r, 0x80, 0x0f, 0xde);

	if (n > left(r) / 2)
		bad(r);
	return r->err ? 0 : n;
}

bool ipc_read_key(struct ipc_reader *r, uint32_t *num_left, uint64_t *key)
{
	uint64_t k;

	if (r->err || *num_left == 0)
		return false;
	--*num_left;
	k = ipc_read_uint(r, UINT64_MAX);
	if (k <= *key)
		bad(r);
	*key = k;
	return !r->err;
}

uint64_t ipc_read_uint(struct ipc_reader *r, uint64_t max)
{
	uint8_t b = take_byte(r);
	uint64_t v = b;

	if (r->err)
		return 0;
	if (b >= 0xcc && b <= 0xcf) {
		v = take_be(r, (size_t)1 << (b - 0xcc));
	} else if (b >= 0xd0 && b <= 0xd3) {
		/* A signed form of a value that is not negative. */
		size_t len = (size_t)1 << (b - 0xd0);
		v = take_be(r, len);
		if (v >> (8 * len - 1))
			bad(r);
	} else if (b > 0x7f) {
		bad(r);
	}
	if (v > max)
		bad(r);
	return r->err ? 0 : v;
}

static int64_t sign_extend(uint64_t v, size_t len)
{
	const unsigned shift = 64 - 8 * (unsigned)len;

	return (int64_t)(v << shift) >> shift;
}

int64_t ipc_read_int(struct ipc_reader *r)
{
	uint8_t b = r->err || !left(r) ? 0 : *r->p;

	if (b >= 0xe0) {
		r->p++;
		return (int8_t)b;
	}
	if (b >= 0xd0 && b <= 0xd3) {
		size_t len = (size_t)1 << (b - 0xd0);
		r->p++;
		return sign_extend(take_be(r, len), len);
	}
	return (int64_t)ipc_read_uint(r, INT64_MAX);
}

bool ipc_read_bool(struct ipc_reader *r)
{
	uint8_t b = take_byte(r);

	if (!r->err && b != 0xc2 && b != 0xc3)
		bad(r);
	return !r->err && b == 0xc3;
}

static uint64_t read_bin_len(struct ipc_reader *r)
{
	uint8_t b = take_byte(r);

	if (!r->err && b >= 0xc4 && b <= 0xc6)
		return take_be(r, (size_t)1 << (b - 0xc4));
	bad(r);
	return 0;
}

void ipc_read_fixed(struct ipc_reader *r, void *out, size_t size)
{
	const uint8_t *p;

	if (read_bin_len(r) != size)
		bad(r);
	p = take(r, size);
	if (p)
		memcpy(out, p, size);
}

struct ipc_bytes ipc_read_bytes(struct ipc_reader *r, size_t max)
{
	struct ipc_bytes b = { 0 };
	uint64_t len = read_bin_len(r);

	if (len > max)
		bad(r);
	b.data = take(r, len);
	if (b.data)
		b.len = len;
	return b;
}

static uint64_t read_str_len(struct ipc_reader *r)
{
	uint8_t b = take_byte(r);

	if (!r->err && (b & 0xe0) == 0xa0)
		return b & 0x1f;
	if (!r->err && b >= 0xd9 && b <= 0xdb)
		return take_be(r, (size_t)1 << (b - 0xd9));
	bad(r);
	return 0;
}

const char *ipc_read_text(struct ipc_reader *r, size_t max)
{
	uint64_t len = read_str_len(r);
	const uint8_t *p;
	char *text;

	if (len > max)
		bad(r);
	p = take(r, len);
	if (p && memchr(p, 0, len))
		bad(r);
	if (r->err || len == 0)
		return "";
	text = ipc_mem_alloc(&r->mem, len + 1);
	if (!text) {
		r->err = -ENOMEM;
		return "";
	}
	return memcpy(text, p, len);
}

void *ipc_read_list(
	struct ipc_reader *r, size_t max, size_t min_wire, size_t elem_size, size_t *ret_num)
{
	size_t n = read_count(r, 0x90, 0x0f, 0xdc);
	void *list;

	*ret_num = 0;
	if (n > max || n > left(r) / min_wire)
		bad(r);
	if (r->err || n == 0)
		return NULL;
	list = ipc_mem_alloc(&r->mem, n * elem_size);
	if (!list) {
		r->err = -ENOMEM;
		return NULL;
	}
	*ret_num = n;
	return list;
}

int ipc_read_fd(struct ipc_reader *r)
{
	int fd;

	if (!ipc_read_bool(r))
		return -1;
	if (r->next_fd >= r->num_fds) {
		bad(r);
		return -1;
	}
	fd = r->fds[r->next_fd];
	if (r->borrow_fds)
		fd = -1;
	else
		r->fds[r->next_fd] = -1;
	r->next_fd++;
	return fd;
}

/* Passes over one head and its scalar payload; returns how many values follow as its elements. */
static uint64_t skip_one(struct ipc_reader *r)
{
	uint8_t b = take_byte(r);

	if (r->err || b <= 0x7f || b >= 0xe0 || b == 0xc0 || b == 0xc2 || b == 0xc3)
		return 0;
	if (b <= 0x8f)
		return 2 * (uint64_t)(b & 0x0f);
	if (b <= 0x9f)
		return b & 0x0f;
	if (b <= 0xbf)
		take(r, b & 0x1f);
	else if (b >= 0xc4 && b <= 0xc6)
		take(r, take_be(r, (size_t)1 << (b - 0xc4)));
	else if (b >= 0xc7 && b <= 0xc9)
		take(r, take_be(r, (size_t)1 << (b - 0xc7)) + 1);
	else if (b == 0xca || b == 0xcb)
		take(r, b == 0xca ? 4 : 8);
	else if (b >= 0xcc && b <= 0xcf)
		take(r, (uint64_t)1 << (b - 0xcc));
	else if (b >= 0xd0 && b <= 0xd3)
		take(r, (uint64_t)1 << (b - 0xd0));
	else if (b >= 0xd4 && b <= 0xd8)
		take(r, ((uint64_t)1 << (b - 0xd4)) + 1);
	else if (b >= 0xd9 && b <= 0xdb)
		take(r, take_be(r, (size_t)1 << (b - 0xd9)));
	else if (b == 0xdc || b == 0xdd)
		return take_be(r, b == 0xdc ? 2 : 4);
	else if (b == 0xde || b == 0xdf)
		return 2 * take_be(r, b == 0xde ? 2 : 4);
	else
		bad(r);
	return 0;
}

void ipc_read_skip(struct ipc_reader *r)
{
	/* Every element takes at least a byte, so a count above what is left ends this at once. */
	for (uint64_t todo = 1; todo && !r->err; todo--) {
		todo += skip_one(r);
		if (todo - 1 > left(r))
			bad(r);
	}
}

int ipc_reader_end(struct ipc_reader *r)
{
	if (left(r) || r->next_fd != r->num_fds)
		bad(r);
	return r->err;
}
