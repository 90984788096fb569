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

#define JOBS_MAX 64

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

struct plan {
	struct explore x;
	uint64_t states;
	unsigned jobs;
};

static bool option(struct plan *plan, const char *name, uint64_t value)
{
	if (strcmp(name, "--seed") == 0)
		plan->x.seed = value;
	else if (strcmp(name, "--states") == 0)
		plan->states = value;
	else if (strcmp(name, "--state") == 0)
		plan->x.only = (long)value;
	else if (strcmp(name, "--jobs") == 0)
		plan->jobs = (unsigned)value;
	else if (strcmp(name, "--num") == 0)
		plan->x.num = (unsigned)value;
	else if (strcmp(name, "--each") == 0)
		plan->x.each = (unsigned)value;
	else
		return false;
	return true;
}

static bool options(struct plan *plan, int argc, char **argv)
{
	const char *states = getenv("BAZIL_STATES"), *seed = getenv("BAZIL_SEED");
	int i = 1;

	*plan = (struct plan){ .x = { .num = 60, .each = 5, .only = -1 }, .jobs = 2 };
	plan->states = states ? number(states) : 100000;
	if (getrandom(&plan->x.seed, 4, 0) != 4)
		return false;
	if (seed)
		plan->x.seed = number(seed);
	while (i + 1 < argc && option(plan, argv[i], number(argv[i + 1])))
		i += 2;
	return i >= argc && plan->jobs > 0 && plan->jobs <= JOBS_MAX;
}

/* The jobs are processes; what each has done is in memory that they share. */
static bool work_all(const struct plan *plan, struct total *totals)
{
	bool is_well = true;
	int status;

	for (unsigned i = 0; i < plan->jobs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return false;
		if (pid == 0) {
			work(plan->x, i, plan->jobs, plan->states / plan->jobs, &totals[i]);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < plan->jobs; i++)
		is_well &= wait(&status) >= 0 && status == 0;
	return is_well;
}

static struct total sum(const struct total *totals, unsigned num)
{
	struct total all = { 0 };

	for (unsigned i = 0; i < num; i++) {
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
	return all;
}

static void tell(const struct total *all, double took)
{
	printf("%llu crash states of %llu workloads, %llu crashes in recovery, %llu objects "
	       "collected, %llu violations, %.1f s, %.0f states/s\n",
		(unsigned long long)all->states, (unsigned long long)all->workloads,
		(unsigned long long)all->recrashes, (unsigned long long)all->freed,
		(unsigned long long)all->violations, took, (double)all->states / took);
	printf("%llu arenas compacted, %llu objects moved, %llu arenas removed, %llu bytes of "
	       "bases\n",
		(unsigned long long)all->compacted, (unsigned long long)all->moved,
		(unsigned long long)all->removed, (unsigned long long)all->based);
}

/* A long run in which something never happened has learnt nothing about it. */
static bool has_seen_all(const struct total *all)
{
	if (all->workloads >= 20 && all->freed == 0)
		return false;
	return all->workloads < 60 ||
	       (all->compacted > 0 && all->moved > 0 && all->removed > 0 && all->based > 0);
}

static int explore_one(struct explore *x)
{
	explore(x);
	printf("%llu violations\n", (unsigned long long)x->violations);
	return x->violations > 0 || x->states == 0;
}

static int explore_all(const struct plan *plan)
{
	double start = seconds();
	struct total *totals, all;
	bool is_well;

	totals = mmap(NULL, plan->jobs * sizeof(*totals), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED)
		return 2;
	is_well = work_all(plan, totals);
	all = sum(totals, plan->jobs);
	tell(&all, seconds() - start);
	if (!has_seen_all(&all)) {
		printf("not everything has happened\n");
		is_well = false;
	}
	return !is_well || all.violations > 0;
}

int main(int argc, char **argv)
{
	struct plan plan;

	if (!options(&plan, argc, argv)) {
		fprintf(stderr, "usage: explorer [--seed S] [--states N] [--state N] [--jobs N] "
				"[--num N] [--each N]\n");
		return 2;
	}
	printf("BAZIL_SEED=%llu\n", (unsigned long long)plan.x.seed);
	fflush(stdout);
	return plan.x.only >= 0 ? explore_one(&plan.x) : explore_all(&plan);
}
