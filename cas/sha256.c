#include "cas/sha256.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#define LANES	  CAS_SHA256_LANES
#define BLOCK	  64
#define ORDER_MAX 256 /* messages that are put in order */
#define TARGET	  __attribute__((target("avx512f,avx512bw")))
#define INLINE	  TARGET static inline __attribute__((always_inline))

/* FIPS 180-4, 4.2.2 and 5.3.3 */
static const uint32_t constants[64] = { 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b,
	0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6,
	0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,
	0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
	0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585,
	0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa,
	0xa4506ceb, 0xbef9a3f7, 0xc67178f2 };
static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
	0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

/* A message in its lane: the whole blocks where they lie, then the rest with the padding. */
struct lane {
	const uint8_t *at;
	size_t left;		      /* blocks */
	const struct cas_sha256 *job; /* NULL: the lane is idle */
	bool is_last;
	uint8_t last[2 * BLOCK];
};

struct lanes {
	uint32_t state[8][LANES];
	struct lane lane[LANES];
	size_t busy;
};

/* Rows are blocks of a lane, columns words; afterwards rows are words. */
INLINE void transpose(__m512i r[16])
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (int i = 0; i < 16; i += 4) {
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (int i = 0; i < 4; i++) {
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
	return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

INLINE __m512i schedule(__m512i w0, __m512i w1, __m512i w9, __m512i w14)
{
	__m512i s0 =
		xor3(_mm512_ror_epi32(w1, 7), _mm512_ror_epi32(w1, 18), _mm512_srli_epi32(w1, 3));
	__m512i s1 = xor3(
		_mm512_ror_epi32(w14, 17), _mm512_ror_epi32(w14, 19), _mm512_srli_epi32(w14, 10));

	return _mm512_add_epi32(_mm512_add_epi32(w0, s0), _mm512_add_epi32(w9, s1));
}

/* s[(8 - i) % 8] is what the standard calls a: names move, not words. i is a constant. */
INLINE void round_of(__m512i s[8], int i, __m512i w, uint32_t k)
{
	__m512i a = s[(8 - i) & 7], b = s[(9 - i) & 7], c = s[(10 - i) & 7];
	__m512i e = s[(12 - i) & 7], f = s[(13 - i) & 7], g = s[(14 - i) & 7];
	__m512i s1 = xor3(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11), _mm512_ror_epi32(e, 25));
	__m512i s0 = xor3(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13), _mm512_ror_epi32(a, 22));
	__m512i t =
		_mm512_add_epi32(s[(15 - i) & 7], _mm512_add_epi32(w, _mm512_set1_epi32((int)k)));

	t = _mm512_add_epi32(t, _mm512_ternarylogic_epi32(e, f, g, 0xca));
	t = _mm512_add_epi32(t, s1);
	s[(11 - i) & 7] = _mm512_add_epi32(s[(11 - i) & 7], t);
	s0 = _mm512_add_epi32(s0, _mm512_ternarylogic_epi32(a, b, c, 0xe8));
	s[(15 - i) & 7] = _mm512_add_epi32(t, s0);
}

#define EACH_OF_16(X)                                                                              \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

INLINE void block(__m512i s[8], __m512i w[16])
{
	__m512i was[8];

	memcpy(was, s, sizeof(was));
	for (int i = 0; i < 64; i += 16) {
#define ROUND(j) round_of(s, (j)&7, w[j], constants[i + (j)]);
		EACH_OF_16(ROUND)
#undef ROUND
		if (i == 48)
			break;
#define NEXT(j) w[j] = schedule(w[j], w[((j) + 1) & 15], w[((j) + 9) & 15], w[((j) + 14) & 15]);
		EACH_OF_16(NEXT)
#undef NEXT
	}
	for (int i = 0; i < 8; i++)
		s[i] = _mm512_add_epi32(s[i], was[i]);
}

/* num blocks of every lane. */
TARGET static void run(uint32_t state[8][LANES], const uint8_t *const from[LANES], size_t num)
{
	const __m512i swap = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
	__m512i s[8], w[16];

	for (int i = 0; i < 8; i++)
		s[i] = _mm512_loadu_si512(state[i]);
	for (size_t n = 0; n < num; n++) {
		for (int i = 0; i < 16; i++)
			w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(from[i] + n * BLOCK), swap);
		transpose(w);
		block(s, w);
	}
	for (int i = 0; i < 8; i++)
		_mm512_storeu_si512(state[i], s[i]);
}

static void lane_begin(struct lanes *lanes, size_t i, const struct cas_sha256 *job)
{
	for (size_t word = 0; word < 8; word++)
		lanes->state[word][i] = start[word];
	lanes->lane[i].job = job;
	lanes->lane[i].at = job->data;
	lanes->lane[i].left = job->len / BLOCK;
	lanes->lane[i].is_last = false;
	lanes->busy++;
}

static void lane_last(struct lane *lane)
{
	size_t rest = lane->job->len % BLOCK, len = rest + 9 > BLOCK ? 2 * BLOCK : BLOCK;
	uint64_t bits = __builtin_bswap64((uint64_t)lane->job->len * 8);

	memset(lane->last, 0, sizeof(lane->last));
	if (rest > 0)
		memcpy(lane->last, (const uint8_t *)lane->job->data + lane->job->len - rest, rest);
	lane->last[rest] = 0x80;
	memcpy(lane->last + len - sizeof(bits), &bits, sizeof(bits));
	lane->at = lane->last;
	lane->left = len / BLOCK;
	lane->is_last = true;
}

static void lane_end(struct lanes *lanes, size_t i)
{
	for (size_t word = 0; word < 8; word++) {
		uint32_t value = __builtin_bswap32(lanes->state[word][i]);

		memcpy(lanes->lane[i].job->ret + 4 * word, &value, sizeof(value));
	}
	lanes->lane[i].job = NULL;
	lanes->busy--;
}

/* As many blocks as every busy lane has; an idle one works for nothing beside another. */
static void lanes_run(struct lanes *lanes)
{
	const struct lane *shortest = NULL;
	const uint8_t *from[LANES];
	size_t num;

	for (size_t i = 0; i < LANES; i++)
		if (lanes->lane[i].job && (!shortest || lanes->lane[i].left < shortest->left))
			shortest = &lanes->lane[i];
	num = shortest->left;
	for (size_t i = 0; i < LANES; i++) {
		struct lane *lane = &lanes->lane[i];

		from[i] = lane->job ? lane->at : shortest->at;
	}
	run(lanes->state, from, num);
	for (size_t i = 0; i < LANES; i++) {
		if (!lanes->lane[i].job)
			continue;
		lanes->lane[i].at += num * BLOCK;
		lanes->lane[i].left -= num;
	}
}

bool cas_sha256_has_lanes(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

static bool is_worth_it(const struct cas_sha256 *jobs, size_t num)
{
	size_t longest = 0, sum = 0;

	for (size_t i = 0; i < num; i++) {
		sum += jobs[i].len;
		longest = jobs[i].len > longest ? jobs[i].len : longest;
	}
	return num >= CAS_SHA256_FEW && sum / CAS_SHA256_FEW >= longest;
}

static int by_length(const void *x, const void *y)
{
	const struct cas_sha256 *const *a = x, *const *b = y;

	return ((*a)->len < (*b)->len) - ((*a)->len > (*b)->len);
}

/* One after another as lanes get free. */
static void run_all(const struct cas_sha256 *const *jobs, size_t num)
{
	struct lanes lanes = { 0 };
	size_t next = 0;

	do {
		for (size_t i = 0; i < LANES; i++) {
			struct lane *lane = &lanes.lane[i];

			if (lane->job && lane->left == 0 && lane->is_last)
				lane_end(&lanes, i);
			if (!lane->job && next < num)
				lane_begin(&lanes, i, jobs[next++]);
			if (lane->job && lane->left == 0)
				lane_last(lane);
		}
		if (lanes.busy > 0)
			lanes_run(&lanes);
	} while (lanes.busy > 0);
}

bool cas_sha256_many(const struct cas_sha256 *jobs, size_t num)
{
	const struct cas_sha256 *order[ORDER_MAX];
	size_t n;

	if (!cas_sha256_has_lanes() || !is_worth_it(jobs, num))
		return false;
	for (; num > 0; jobs += n, num -= n) {
		n = num < ORDER_MAX ? num : ORDER_MAX;
		for (size_t i = 0; i < n; i++)
			order[i] = &jobs[i];
		/* A long one that is begun last would run alone. */
		qsort(order, n, sizeof(*order), by_length);
		run_all(order, n);
	}
	return true;
}

#else

bool cas_sha256_has_lanes(void)
{
	return false;
}

bool cas_sha256_many(const struct cas_sha256 *jobs, size_t num)
{
	return false;
}

#endif
