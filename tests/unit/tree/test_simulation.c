/*
 * The model under random use: convergence, no lost write, no resurrection, no false conflict, a
 * rooted acyclic tree, idempotence (sync model invariants I1 to I8). Built a second time with
 * mistakes that can be switched on, each of which must be noticed. BAZIL_SEED chooses the first
 * seed, BAZIL_RUNS scales the number of runs (1 is CI's).
 */
#include "sim.h"

#include "tree/broken.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef TREE_BREAKABLE
enum tree_broken tree_broken;
#endif

static struct sim sim;

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

struct totals {
	size_t pulls, skipped, full, needs, revived, again, conflicts, fallen, failures;
};

static void add_up(struct totals *t)
{
	t->pulls += sim.num_pulls;
	t->skipped += sim.num_skipped;
	t->full += sim.num_full;
	t->needs += sim.num_needs;
	t->revived += sim.num_revived;
	t->again += sim.num_again;
	t->conflicts += sim.num_conflicts;
	t->fallen += sim.num_fallen;
	t->failures += sim.failure[0] != 0;
}

static struct totals run_many(
	const char *name, size_t runs, const struct sim_params *params, bool must_hold)
{
	uint64_t seed = number("BAZIL_SEED", 1);
	struct totals t = { 0 };

	for (size_t i = 0; i < runs; i++, seed++) {
		sim_init(&sim, seed, params);
		sim_run(&sim);
		add_up(&t);
		if (must_hold && sim.failure[0])
			fail_msg("%s: BAZIL_SEED=%llu: %s", name, (unsigned long long)seed,
				sim.failure);
		sim_release(&sim);
	}
	print_message("%s: %zu runs from seed %llu: %zu failed; pulls %zu (nothing new %zu, full "
		      "%zu), needs %zu, came "
		      "back %zu, again %zu, conflicting bodies %zu, fallen directories %zu\n",
		name, runs, (unsigned long long)(seed - runs), t.failures, t.pulls, t.skipped,
		t.full, t.needs, t.revived, t.again, t.conflicts, t.fallen);
	return t;
}

static size_t scaled(size_t runs)
{
	return runs * (size_t)number("BAZIL_RUNS", 1);
}

#ifndef TREE_BREAKABLE
static void sim__holds(void **state)
{
	static const struct {
		const char *name;
		size_t runs;
		struct sim_params params;
	} rows[] = {
		{ "2 peers", 1500, { .num_peers = 2, .num_ops = 40, .cuts = true } },
		{ "3 peers", 1500, { .num_peers = 3, .num_ops = 80, .cuts = true } },
		{ "3 peers, whole logs", 500, { .num_peers = 3, .num_ops = 80 } },
		{ "4 peers", 700, { .num_peers = 4, .num_ops = 120, .cuts = true } },
		{ "6 peers", 200, { .num_peers = 6, .num_ops = 240, .cuts = true } },
		{ "3 peers, races", 1000,
			{ .num_peers = 3, .num_ops = 80, .cuts = true, .races = true } },
		{ "4 peers, restores", 700,
			{ .num_peers = 4, .num_ops = 120, .cuts = true, .restores = true } },
		{ "5 peers, races and restores", 200,
			{ .num_peers = 5,
				.num_ops = 200,
				.cuts = true,
				.restores = true,
				.races = true } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct totals t =
			run_many(rows[i].name, scaled(rows[i].runs), &rows[i].params, true);
		/* A simulation in which nothing happens would hold as well. */
		assert_true(t.revived && t.needs && t.conflicts && t.skipped);
		assert_true(!rows[i].params.cuts || t.full);
		assert_true(t.fallen || rows[i].params.num_peers == 2);
	}
}

static void sim__sequence_never_conflicts(void **state)
{
	const struct sim_params chain = { .num_peers = 4, .num_ops = 60, .sequential = true };
	const struct sim_params cut = {
		.num_peers = 6, .num_ops = 60, .sequential = true, .cuts = true
	};

	run_many("in sequence", scaled(500), &chain, true);
	run_many("in sequence, logs cut", scaled(300), &cut, true);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(sim__holds),
	cmocka_unit_test(sim__sequence_never_conflicts),
};

#else

static void sim__notices_mistakes(void **state)
{
	static const struct {
		enum tree_broken broken;
		const char *name;
	} rows[] = {
		{ BROKEN_NO_CLOSURE, "no closure" },
		{ BROKEN_OLD_STAMP, "closure keeps old stamps" },
		{ BROKEN_LATEST_ONLY, "the latest writer only" },
		{ BROKEN_NO_FREEZE, "serving leaves the epoch open" },
		{ BROKEN_NO_JOIN, "knowledge is not merged" },
		{ BROKEN_NO_CYCLE, "no cycle check" },
		{ BROKEN_NO_LABELS, "deletions are not passed on" },
		{ BROKEN_NO_HORIZON, "a cut log counts as whole" },
		{ BROKEN_SAME_REPLICA, "a restored store keeps its number" },
		{ BROKEN_HALF_INODE, "half an inode comes back" },
	};
	const struct sim_params params = {
		.num_peers = 3, .num_ops = 80, .cuts = true, .restores = true
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		tree_broken = rows[i].broken;
		/* Crossed moves are rare in random use. */
		size_t runs = rows[i].broken == BROKEN_NO_CYCLE ? 2000 : 200;
		assert_true(run_many(rows[i].name, scaled(runs), &params, false).failures > 0);
	}
	tree_broken = BROKEN_NOTHING;
	assert_int_equal(run_many("no mistake", scaled(200), &params, true).failures, 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(sim__notices_mistakes),
};
#endif

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
