#include "mountd/sealers.h"

#include "cas/object.h"
#include "cas/suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#define NUM 70
#define LEN 30000

static struct cas_suite *suite;
static struct sealers *sealers;
static struct seal_job jobs[NUM];
static uint8_t *memory;
static atomic_int num_told;

static void told(void *arg)
{
	atomic_fetch_add(&num_told, 1);
}

static int setup(void **state)
{
	suite = cas_suite_new();
	memory = malloc(NUM * (LEN + cas_chunk_bound(LEN)));
	if (suite == NULL || memory == NULL || sealers_new(&sealers, suite, told, NULL) < 0)
		return -1;
	return 0;
}

static int teardown(void **state)
{
	sealers_free(sealers);
	cas_suite_free(suite);
	free(memory);
	return 0;
}

/* Noise, text and short ones; every third is stored already. */
static void make_jobs(size_t num)
{
	uint8_t *bufs = memory + (size_t)NUM * LEN;

	randombytes_buf(memory, (size_t)NUM * LEN);
	for (size_t i = 0; i < num; i++) {
		uint8_t *plain = memory + i * LEN;

		jobs[i] = (struct seal_job){ .plain = plain,
			.plain_len = i % 5 == 0 ? i + 1 : LEN - i,
			.buf = bufs + i * cas_chunk_bound(LEN),
			.is_known = i % 3 == 0 };
		if (i % 2 == 0)
			memset(plain, (int)i, LEN / 2);
		memset(jobs[i].key, (int)i, sizeof(jobs[i].key));
	}
}

static void check_job(const struct seal_job *job)
{
	static uint8_t out[LEN];
	struct cas_id id;
	size_t len;

	assert_int_equal(job->err, 0);
	/* Nothing was made of it, not even compressed. */
	if (job->is_known) {
		assert_true(cas_id_is_zero(&job->id));
		assert_int_equal(job->len, 0);
		return;
	}
	cas_id_of(suite, job->buf, job->len, &id);
	assert_true(cas_id_equal(&id, &job->id));
	assert_int_equal(cas_chunk_open(suite, job->buf, job->len, job->key, &job->h, out,
				 sizeof(out), &len),
		0);
	assert_int_equal(len, job->plain_len);
	assert_memory_equal(out, job->plain, len);
}

static void sealers__any_number_of_jobs_is_done_once(void **state)
{
	for (size_t num = 0; num <= NUM; num++) {
		make_jobs(num);
		assert_int_equal(sealers_hash(sealers, jobs, num), 0);
		assert_int_equal(sealers_seal(sealers, jobs, num), 0);
		for (size_t i = 0; i < num; i++)
			check_job(&jobs[i]);
	}
}

static void sealers__work_goes_on_by_itself_and_is_told(void **state)
{
	struct seal_work work;

	for (int round = 0; round < 20; round++) {
		make_jobs(NUM);
		sealers_start(sealers, &work, SEAL_HASH, jobs, NUM);
		while (!seal_work_is_done(&work))
			;
		sealers_finish(sealers, &work);
		assert_int_equal(seal_jobs_error(jobs, NUM), 0);
	}
	assert_true(atomic_load(&num_told) > 0);
}

static void count(struct cas_suite *own, void *arg, size_t num)
{
	int *counts = arg;

	assert_ptr_not_equal(own, NULL);
	for (int i = 0; i < 20000; i++)
		__asm__ volatile("" ::: "memory");
	for (size_t i = 0; i < num; i++)
		counts[i]++;
}

/* Who waits for one does others meanwhile, which are waited for later. */
static void sealers__other_work_is_done_once_in_any_order(void **state)
{
	enum { EACH = 5 };
	struct seal_work works[NUM];

	for (int round = 0; round < 200; round++) {
		int counts[NUM][EACH] = { 0 };

		for (int i = 0; i < NUM; i++)
			sealers_start_other(sealers, &works[i], count, counts[i],
				sizeof(counts[i][0]), 1 + (size_t)i % EACH, false);
		for (int i = 0; i < NUM; i++)
			sealers_finish(sealers, &works[round % 2 ? i : NUM - 1 - i]);
		for (int i = 0; i < NUM; i++)
			for (int k = 0; k < EACH; k++)
				assert_int_equal(counts[i][k], k <= i % EACH);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealers__any_number_of_jobs_is_done_once),
		cmocka_unit_test(sealers__work_goes_on_by_itself_and_is_told),
		cmocka_unit_test(sealers__other_work_is_done_once_in_any_order),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, setup, teardown);
}
