/*
 * usage: explorer [--seed S] [--states N] [--state N] [--jobs N] [--num N] [--each N]
 *
 * Explores crash states of workloads with the seeds S, S + 1, ... until N states (BAZIL_STATES,
 * 100000) were checked. --state: that state of workload S alone, with what the store logs. Status
 * 0: nothing found.
 */
#include "tests/crash/explore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct total {
	uint64_t states, recrashes, violations, workloads, freed, compacted, moved, removed, based;
};

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Every `jobs`-th seed, from `job` on. */
static void work(
	struct explore x, unsigned job, unsigned jobs, uint64_t states, struct total *total)
{
	x.seed += job;
	while (total->states < states && total->violations < 20) {
		x.states = x.recrashes = x.violations = 0;
		x.max = states - total->states;
		explore(&x);
		total->states += x.states;
		total->recrashes += x.recrashes;
		total->violations += x.violations;
		total->freed += x.freed;
		total->compacted += x.compacted;
		total->moved += x.moved;
		total->removed += x.removed;
		total->based += x.based;
		total->workloads++;
		x.seed += jobs;
		fflush(stdout);
	}
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 0);
}

int main(int argc, char **argv)
{
	struct explore x = { .num = 60, .each = 5, .only = -1 };
	uint64_t states = getenv("BAZIL_STATES") ? number(getenv("BAZIL_STATES")) : 100000;
	struct total *totals, all = { 0 };
	double start = seconds(), took;
	unsigned jobs = 2, i;
	bool has_failed = false;

	if (getrandom(&x.seed, 4, 0) != 4)
		return 2;
	if (getenv("BAZIL_SEED"))
		x.seed = number(getenv("BAZIL_SEED"));
	for (i = 1; i + 1 < (unsigned)argc; i += 2) {
		if (strcmp(argv[i], "--seed") == 0)
			x.seed = number(argv[i + 1]);
		else if (strcmp(argv[i], "--states") == 0)
			states = number(argv[i + 1]);
		else if (strcmp(argv[i], "--state") == 0)
			x.only = (long)number(argv[i + 1]);
		else if (strcmp(argv[i], "--jobs") == 0)
			jobs = (unsigned)number(argv[i + 1]);
		else if (strcmp(argv[i], "--num") == 0)
			x.num = (unsigned)number(argv[i + 1]);
		else if (strcmp(argv[i], "--each") == 0)
			x.each = (unsigned)number(argv[i + 1]);
		else
			break;
	}
	if (i < (unsigned)argc || jobs == 0 || jobs > 64) {
		fprintf(stderr, "usage: explorer [--seed S] [--states N] [--state N] [--jobs N] "
				"[--num N] [--each N]\n");
		return 2;
	}
	printf("BAZIL_SEED=%llu\n", (unsigned long long)x.seed);
	fflush(stdout);
	if (x.only >= 0) {
		explore(&x);
		printf("%llu violations\n", (unsigned long long)x.violations);
		return x.violations > 0 || x.states == 0;
	}
	totals = mmap(NULL, jobs * sizeof(*totals), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED)
		return 2;
	for (i = 0; i < jobs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 2;
		if (pid == 0) {
			work(x, i, jobs, states / jobs, &totals[i]);
			_exit(0);
		}
	}
	for (i = 0; i < jobs; i++) {
		int status;

		if (wait(&status) < 0 || status != 0)
			has_failed = true;
	}
	for (i = 0; i < jobs; i++) {
		all.states += totals[i].states;
		all.recrashes += totals[i].recrashes;
		all.violations += totals[i].violations;
		all.freed += totals[i].freed;
		all.workloads += totals[i].workloads;
		all.compacted += totals[i].compacted;
		all.moved += totals[i].moved;
		all.removed += totals[i].removed;
		all.based += totals[i].based;
	}
	took = seconds() - start;
	printf("%llu crash states of %llu workloads, %llu crashes in recovery, %llu objects "
	       "collected, %llu violations, %.1f s, %.0f states/s\n",
		(unsigned long long)all.states, (unsigned long long)all.workloads,
		(unsigned long long)all.recrashes, (unsigned long long)all.freed,
		(unsigned long long)all.violations, took, (double)all.states / took);
	/* A long run in which nothing was ever collected looked at nothing of that. */
	if (all.workloads >= 20 && all.freed == 0)
		printf("no collection freed anything\n");
	printf("%llu arenas compacted, %llu objects moved, %llu arenas removed, %llu bytes of "
	       "bases\n",
		(unsigned long long)all.compacted, (unsigned long long)all.moved,
		(unsigned long long)all.removed, (unsigned long long)all.based);
	/* Else nothing was learnt about it. */
	if (all.workloads >= 20 && all.freed == 0)
		has_failed = true;
	if (all.workloads >= 60 &&
		(all.compacted == 0 || all.moved == 0 || all.removed == 0 || all.based == 0))
		has_failed = true;
	return has_failed || all.violations > 0;
}
