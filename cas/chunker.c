#include "cas/chunker.h"

#include "cas/bytes.h"
#include "cas/object.h"

#include <errno.h>
#include <sodium.h>

/* The top bits of a 64-bit rolling value that shifts by one depend on this many bytes. */
#define WINDOW 64

int cas_chunker_init(struct cas_chunker *chunker, const uint8_t key[CAS_KEY_SIZE],
	const struct cas_chunker_sizes *sizes)
{
	static const struct cas_chunker_sizes defaults = { CAS_CHUNKER_MIN, CAS_CHUNKER_MEAN,
		CAS_CHUNKER_MAX };
	static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES] = "bzl1gear";
	uint8_t stream[256 * 8];

	if (!sizes)
		sizes = &defaults;
	if (sizes->min < WINDOW || sizes->min >= sizes->mean || sizes->mean >= sizes->max ||
		sizes->max > CAS_CHUNK_PLAIN_MAX)
		return -EINVAL;
	(void)crypto_stream_chacha20(stream, sizeof(stream), nonce, key);
	for (size_t i = 0; i < 256; i++)
		chunker->table[i] = le64_get(stream + 8 * i);
	sodium_memzero(stream, sizeof(stream));
	chunker->min = sizes->min;
	chunker->max = sizes->max;
	/*
	 * With odds of 1/4 and 4 times 1/mean before and after, sizes average to mean when the
	 * change comes somewhat before it: at 13/16 for min = mean / 4 and max = 4 mean.
	 */
	chunker->normal = sizes->mean - sizes->mean / 16 * 3;
	if (chunker->normal < sizes->min)
		chunker->normal = sizes->min;
	chunker->strict = UINT64_MAX / sizes->mean / 4;
	chunker->lax = UINT64_MAX / sizes->mean * 4;
	return 0;
}

/* Rolls over data[from, to); says the length after the first byte that cuts, or 0. */
static size_t scan(const uint64_t *table, const uint8_t *data, size_t from, size_t to,
	uint64_t threshold, uint64_t *fp)
{
	uint64_t f = *fp;
	size_t i = from;

#define STEP(k)                                                                                    \
	f = (f << 1) + table[data[i + (k)]];                                                       \
	if (__builtin_expect(f < threshold, 0))                                                    \
		return i + (k) + 1;
	for (; i + 8 <= to; i += 8) {
		STEP(0)
		STEP(1)
		STEP(2)
		STEP(3)
		STEP(4)
		STEP(5)
		STEP(6)
		STEP(7)
	}
	for (; i < to; i++) {
		STEP(0)
	}
#undef STEP
	*fp = f;
	return 0;
}

size_t cas_chunker_cut(
	const struct cas_chunker *chunker, const uint8_t *data, size_t len, bool is_end)
{
	size_t end = len < chunker->max ? len : chunker->max;
	size_t normal = end < chunker->normal ? end : chunker->normal;
	uint64_t fp = 0;
	size_t cut;

	if (len > chunker->min) {
		/* Fills the window; the first cut looked for is the one at min. */
		for (size_t i = chunker->min - WINDOW; i < chunker->min - 1; i++)
			fp = (fp << 1) + chunker->table[data[i]];
		cut = scan(chunker->table, data, chunker->min - 1, normal, chunker->strict, &fp);
		if (cut)
			return cut;
		cut = scan(chunker->table, data, normal, end, chunker->lax, &fp);
		if (cut)
			return cut;
		if (end == chunker->max)
			return end;
	}
	return is_end ? len : 0;
}
