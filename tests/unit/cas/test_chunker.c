#include "cas/chunker.h"

#include "cas/object.h"

#include "cas_test.h"

#include <errno.h>

enum { LEN = 32 << 20 };

static struct cas_chunker chunker;
static uint8_t *data;
static struct rng rng;

static int setup(void **state)
{
	struct test_keys k = test_keys();

	data = malloc(LEN + 4096);
	rng_start(&rng);
	rng_fill(&rng, data, LEN + 4096);
	return cas_chunker_init(&chunker, k.keys.chunker, NULL) || !data;
}

static int teardown(void **state)
{
	free(data);
	return 0;
}

/* Cuts at ends[0..], the last one at len. */
static size_t cut(const struct cas_chunker *c, const uint8_t *p, size_t len, size_t *ends)
{
	size_t num = 0;

	for (size_t at = 0; at < len; ends[num++] = at) {
		size_t n = cas_chunker_cut(c, p + at, len - at, true);

		assert_true(n > 0 && n <= len - at);
		at += n;
	}
	return num;
}

static void chunker__cuts_are_where_they_were(void **state)
{
	/* Pins table, thresholds and window: a change would end deduplication with old files. */
	static const size_t expected[] = { 84551, 132336, 212146, 288091, 416757, 491791 };
	static size_t ends[64];
	uint8_t *p = malloc(1 << 20);
	static const uint8_t seed[randombytes_SEEDBYTES] = { 42 };

	randombytes_buf_deterministic(p, 1 << 20, seed);
	assert_true(cut(&chunker, p, 1 << 20, ends) > 6);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(ends[i], expected[i]);
	free(p);
}

static void chunker__sizes_are_bounded_and_near_the_mean(void **state)
{
	static size_t ends[LEN / CAS_CHUNKER_MIN + 1];
	size_t num = cut(&chunker, data, LEN, ends), at = 0, below = 0, at_max = 0;

	for (size_t i = 0; i < num; i++) {
		size_t n = ends[i] - at;

		assert_true(n <= CAS_CHUNKER_MAX);
		assert_true(n >= CAS_CHUNKER_MIN || i + 1 == num);
		below += n < CAS_CHUNKER_MEAN / 2;
		at_max += n == CAS_CHUNKER_MAX;
		at = ends[i];
	}
	/* 400 chunks: the mean of means is 82 KiB, its deviation 2 KiB. */
	assert_in_range(LEN / num, 74 << 10, 92 << 10);
	assert_true(below < num / 5);
	assert_true(at_max < num / 20);
}

static void chunker__feeding_makes_no_difference(void **state)
{
	static size_t ends[LEN / CAS_CHUNKER_MIN + 1];
	size_t len = 4 << 20, num = cut(&chunker, data, len, ends), at = 0;

	for (size_t i = 0; i < num; i++) {
		size_t have = 0, n = 0;

		/* Grows the window by odd steps until it can tell. */
		while (n == 0) {
			have += 1 + rng_below(&rng, 30000);
			if (have > len - at)
				have = len - at;
			n = cas_chunker_cut(&chunker, data + at, have, have == len - at);
		}
		at += n;
		assert_int_equal(at, ends[i]);
	}
}

static void chunker__says_when_it_cannot_tell(void **state)
{
	uint8_t *zero = calloc(1, CAS_CHUNKER_MAX);
	struct cas_chunker blind = chunker;

	/* A chunker that never finds a cut, so that only min, max and the end count. */
	blind.strict = blind.lax = 0;
	assert_int_equal(cas_chunker_cut(&blind, zero, 0, true), 0);
	assert_int_equal(cas_chunker_cut(&blind, zero, 1, false), 0);
	assert_int_equal(cas_chunker_cut(&blind, zero, 1, true), 1);
	assert_int_equal(cas_chunker_cut(&blind, zero, CAS_CHUNKER_MIN, false), 0);
	assert_int_equal(cas_chunker_cut(&blind, zero, CAS_CHUNKER_MAX - 1, false), 0);
	assert_int_equal(
		cas_chunker_cut(&blind, zero, CAS_CHUNKER_MAX - 1, true), CAS_CHUNKER_MAX - 1);
	assert_int_equal(cas_chunker_cut(&blind, zero, CAS_CHUNKER_MAX, false), CAS_CHUNKER_MAX);
	/* And one that finds a cut everywhere. */
	blind.strict = blind.lax = UINT64_MAX;
	assert_int_equal(
		cas_chunker_cut(&blind, zero, CAS_CHUNKER_MIN + 1, false), CAS_CHUNKER_MIN);
	free(zero);
}

/* How many of the old cuts are not cuts any more after something was inserted somewhere. */
static size_t lost_cuts(const struct cas_chunker *c, size_t len, size_t max_insert)
{
	static size_t before[LEN / CAS_CHUNKER_MIN + 1], after[LEN / CAS_CHUNKER_MIN + 1];
	size_t at = rng_below(&rng, len), n = 1 + rng_below(&rng, max_insert);
	size_t num = cut(c, data, len, before), num_after, lost = 0, j = 0;
	uint8_t *p = malloc(len + n);

	memcpy(p, data, at);
	rng_fill(&rng, p + at, n);
	memcpy(p + at + n, data + at, len - at);
	num_after = cut(c, p, len + n, after);
	for (size_t i = 0; i < num; i++) {
		size_t want = before[i] <= at ? before[i] : before[i] + n;

		while (j < num_after && after[j] < want)
			j++;
		lost += j == num_after || after[j] != want;
	}
	free(p);
	return lost;
}

static void chunker__finds_old_cuts_after_an_insertion(void **state)
{
	struct cas_chunker fixed = chunker;
	size_t worst = 0;

	for (int run = 0; run < 60; run++) {
		size_t lost = lost_cuts(&chunker, 8 << 20, run % 2 ? 1000 : 100000);

		worst = lost > worst ? lost : worst;
	}
	/* Of 130: those near the insertion only; but some do get lost. */
	assert_in_range(worst, 1, 16);
	/* A chunker that looks at nothing keeps what is before the insertion, which is half. */
	fixed.strict = fixed.lax = 0;
	worst = 0;
	for (int run = 0; run < 10; run++)
		worst += lost_cuts(&fixed, 8 << 20, 1000);
	assert_true(worst > 100);
}

static void chunker__another_key_cuts_elsewhere(void **state)
{
	static size_t a[LEN / CAS_CHUNKER_MIN + 1], b[LEN / CAS_CHUNKER_MIN + 1];
	static const uint8_t key[CAS_KEY_SIZE] = { 1 };
	struct cas_chunker other;
	size_t num, num_other, same = 0;

	assert_int_equal(cas_chunker_init(&other, key, NULL), 0);
	num = cut(&chunker, data, LEN, a) - 1;
	num_other = cut(&other, data, LEN, b) - 1;
	for (size_t i = 0, j = 0; i < num; i++) {
		while (j < num_other && b[j] < a[i])
			j++;
		same += j < num_other && a[i] == b[j];
	}
	assert_true(same < 3);
}

static void chunker__other_sizes(void **state)
{
	static const struct cas_chunker_sizes good = { 64, 256, 1024 };
	static const struct cas_chunker_sizes bad[] = { { 63, 256, 1024 }, { 256, 256, 1024 },
		{ 64, 1024, 1024 }, { 64, 256, CAS_CHUNK_PLAIN_MAX + 1 } };
	static size_t ends[(1 << 20) / 64 + 1];
	struct test_keys k = test_keys();
	struct cas_chunker c;
	size_t num, at = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cas_chunker_init(&c, k.keys.chunker, &bad[i]), -EINVAL);
	assert_int_equal(cas_chunker_init(&c, k.keys.chunker, &good), 0);
	num = cut(&c, data, 1 << 20, ends);
	for (size_t i = 0; i + 1 < num; i++) {
		assert_in_range(ends[i] - at, 64, 1024);
		at = ends[i];
	}
	assert_in_range((1 << 20) / num, 230, 290);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunker__cuts_are_where_they_were),
		cmocka_unit_test(chunker__sizes_are_bounded_and_near_the_mean),
		cmocka_unit_test(chunker__feeding_makes_no_difference),
		cmocka_unit_test(chunker__says_when_it_cannot_tell),
		cmocka_unit_test(chunker__finds_old_cuts_after_an_insertion),
		cmocka_unit_test(chunker__another_key_cuts_elsewhere),
		cmocka_unit_test(chunker__other_sizes),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, setup, teardown);
}
