#include "cas/sha256.h"

#include "cas/id.h"
#include "cas/suite.h"

#include "cas_test.h"

#include <stdlib.h>
#include <string.h>

#define NUM	70
#define LEN_MAX 20000

static struct cas_suite *suite;
static struct rng rng;
static uint8_t *data;

static int setup(void **state)
{
	suite = cas_suite_new();
	rng_start(&rng);
	data = malloc(NUM * (size_t)LEN_MAX);
	if (!suite || !data)
		return -1;
	for (size_t i = 0; i < NUM * (size_t)LEN_MAX; i++)
		data[i] = (uint8_t)rng_below(&rng, 256);
	return 0;
}

static int teardown(void **state)
{
	free(data);
	cas_suite_free(suite);
	return 0;
}

static void check(const size_t *lens, size_t num)
{
	struct cas_sha256 jobs[NUM] = { 0 };
	struct cas_id ids[NUM], expected;

	for (size_t i = 0; i < num; i++)
		jobs[i] = (struct cas_sha256){ data + i * LEN_MAX, lens[i], ids[i].b };
	memset(ids, 0, sizeof(ids));
	cas_sha256_all(suite, jobs, num);
	for (size_t i = 0; i < num; i++) {
		cas_id_of(suite, jobs[i].data, jobs[i].len, &expected);
		assert_memory_equal(ids[i].b, expected.b, sizeof(expected.b));
	}
}

static void sha256__many_are_as_one_by_one_at_every_length(void **state)
{
	size_t lens[NUM];

	/* Every place of the padding, beside neighbours that end before and after. */
	for (size_t base = 0; base < 300; base++) {
		for (size_t i = 0; i < NUM; i++)
			lens[i] = base + i % 7;
		check(lens, NUM);
	}
}

static void sha256__any_number_of_any_lengths(void **state)
{
	size_t lens[NUM];

	for (size_t num = 0; num <= NUM; num++) {
		for (size_t i = 0; i < num; i++)
			lens[i] = rng_below(&rng, rng_below(&rng, 3) ? LEN_MAX : 100);
		check(lens, num);
	}
}

static void sha256__few_or_unlike_ones_are_refused(void **state)
{
	uint8_t ret[NUM][32];
	struct cas_sha256 jobs[NUM];

	for (size_t i = 0; i < NUM; i++)
		jobs[i] = (struct cas_sha256){ data, i == 0 ? LEN_MAX : 1, ret[i] };
	assert_false(cas_sha256_many(jobs, 0));
	assert_false(cas_sha256_many(jobs, CAS_SHA256_FEW - 1));
	assert_false(cas_sha256_many(jobs, NUM));
	assert_int_equal(cas_sha256_many(jobs + 1, NUM - 1), cas_sha256_has_lanes());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256__many_are_as_one_by_one_at_every_length),
		cmocka_unit_test(sha256__any_number_of_any_lengths),
		cmocka_unit_test(sha256__few_or_unlike_ones_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
