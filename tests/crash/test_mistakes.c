/*
 * The explorer and the store with a mistake built in, one after the other: each must be noticed.
 * The store without one runs the same workloads and must not be objected to.
 */
#include "stored/broken.h"
#include "tests/crash/explore.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WORKLOADS 40

enum store_broken store_broken;

/* Those that a crash shows. */
static const char *const names[BROKEN_COUNT] = {
	[BROKEN_NOTHING] = "nothing",
	[BROKEN_NO_SYNC] = "no fdatasync",
	[BROKEN_ACK_FIRST] = "promised before it is written",
	[BROKEN_INDEX_FIRST] = "the index before the log",
	[BROKEN_ROLL] = "a new arena before the last is durable",
	[BROKEN_NO_DIR_SYNC] = "a new arena's name is not durable",
	[BROKEN_TORN_IS_OK] = "what follows a torn frame is believed",
	[BROKEN_NO_CRC] = "no checksum of frames",
	[BROKEN_NOT_BOUND] = "a frame is valid at any place",
	[BROKEN_HALF_PULL] = "a pull without its commit",
	[BROKEN_POSITION] = "a checkpoint says more than it has",
	[BROKEN_NO_MARKER] = "a failed fdatasync is forgotten",
	[BROKEN_NUMBERS] = "numbers are not reserved",
	[BROKEN_HORIZON] = "deletions are forgotten without a word",
	[BROKEN_TWO_COMMITS] = "a checkpoint before its rows",
	[BROKEN_PUNCH_FIRST] = "holes before what says so is durable",
	[BROKEN_BASE_FIRST] = "changes go before their base is durable",
	[BROKEN_BASE_HALF] = "a base that is not complete is believed",
	[BROKEN_BASE_CUT] = "changes go that no base has",
};

static const char *const lies[SIM_LIES] = {
	[SIM_HONEST] = "nothing",
	[SIM_NO_SYNC] = "a disk that ignores fdatasync",
	[SIM_NO_DIR_SYNC] = "a disk that forgets names",
	[SIM_SYNC_TOO_SOON] = "fdatasync before the last write",
	[SIM_INDEX_NO_SYNC] = "LMDB without syncs",
};

static uint64_t seed;

struct found {
	uint64_t states, violations;
	char first[300];
};

/* A child: a mistake may end the process, which counts as found. */
static struct found look(enum store_broken broken, enum sim_lie lie, unsigned workloads)
{
	struct explore x = { .num = 60, .each = 4, .only = -1, .stop_at_first = true };
	struct found *shared, found;
	int status;
	pid_t pid;

	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shared != MAP_FAILED);
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* Not cmocka's handlers, which would go on with the next test in the child. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		x.is_quiet = true;
		x.lie = lie;
		for (unsigned i = 0; i < workloads && shared->violations == 0; i++) {
			x.seed = seed + i;
			store_broken = broken;
			explore(&x);
			shared->states = x.states;
			shared->violations = x.violations;
			memcpy(shared->first, x.first, sizeof(x.first));
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	sim_sweep(pid);
	found = *shared;
	munmap(shared, sizeof(*shared));
	if (status != 0) {
		found.violations++;
		snprintf(found.first, sizeof(found.first), "the process ended with %#x", status);
	}
	return found;
}

static void mistakes__each_is_found(void **state)
{
	unsigned missed = 0;

	for (unsigned i = BROKEN_NOTHING + 1; i < BROKEN_COUNT; i++) {
		struct found found;

		if (!names[i])
			continue;
		found = look(i, SIM_HONEST, WORKLOADS);

		printf("%-42s %6llu states: %s\n", names[i], (unsigned long long)found.states,
			found.violations ? found.first : "NOT FOUND");
		missed += found.violations == 0;
	}
	for (unsigned i = SIM_HONEST + 1; i < SIM_LIES; i++) {
		struct found found = look(BROKEN_NOTHING, i, WORKLOADS);

		printf("%-42s %6llu states: %s\n", lies[i], (unsigned long long)found.states,
			found.violations ? found.first : "NOT FOUND");
		missed += found.violations == 0;
	}
	assert_int_equal(missed, 0);
}

static void mistakes__nothing_is_found_without_one(void **state)
{
	struct found found = look(BROKEN_NOTHING, SIM_HONEST, 8);

	printf("%llu states %s\n", (unsigned long long)found.states, found.first);
	assert_int_equal(found.violations, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mistakes__each_is_found),
		cmocka_unit_test(mistakes__nothing_is_found_without_one),
	};

	/* Mistakes are found by chance: the same one every time, unless told otherwise. */
	seed = getenv("BAZIL_SEED") ? strtoull(getenv("BAZIL_SEED"), NULL, 0) : 1;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
