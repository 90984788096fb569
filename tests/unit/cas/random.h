/*
 * Random numbers for tests: repeatable by their seed, which is printed and taken from BAZIL_SEED.
 */
#ifndef BAZIL_TESTS_UNIT_CAS_RANDOM_H
#define BAZIL_TESTS_UNIT_CAS_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	/* splitmix64, Steele et al., OOPSLA 2014 */
	uint64_t z = rng->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

static inline void rng_fill(struct rng *rng, uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rng_next(rng) >> 11);
}

static inline void rng_start(struct rng *rng)
{
	const char *text = getenv("BAZIL_SEED");

	if (text)
		rng->state = strtoull(text, NULL, 0);
	else if (getrandom(&rng->state, 4, 0) != 4)
		rng->state = 1;
	else
		rng->state &= UINT32_MAX;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)rng->state);
}

/* How much longer than usual the random tests run: BAZIL_RUNS, 1 when unset. */
static inline unsigned long rng_runs(void)
{
	const char *text = getenv("BAZIL_RUNS");
	unsigned long n = text ? strtoul(text, NULL, 10) : 1;

	return n ? n : 1;
}

#endif
