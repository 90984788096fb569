/*
 * Bits flip and sectors turn to zeros in every file of a store. Never is there wrong data: an
 * object is what its id says or an error, and a record is one that was once written. What is gone
 * is told. An index that is lost or scrambled is made anew from the arenas.
 *
 * BAZIL_ROT: the number of damaged stores.
 */
#include "stored/broken.h"
#include "stored/engine_state.h"
#include "tests/crash/world.h"
#include "tests/unit/stored/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum store_broken store_broken;

enum outcome {
	SAME,	 /* everything is there */
	NAMED,	 /* something is not, and that is told */
	REFUSED, /* it does not open, and says why */
	KILLED,	 /* LMDB died of it; the next but some try rebuilds (test_recover.c) */
	QUIET,	 /* something is not there, and nobody says so */
	WRONG,	 /* data that never was */
	OUTCOMES,
};

static const char *const outcomes[OUTCOMES] = { "same", "named", "refused", "killed", "quiet",
	"wrong" };

static struct world world;
static struct sim_image clean, rotten;
static struct state_set set;
static uint64_t whole; /* digest */
static struct simdisk disk;
static bool was_told;

static void rot_log(void *arg, int level, const char *text)
{
	was_told = true;
}

static struct engine_options options_of(bool is_rebuild)
{
	struct engine_options options = world.options;

	options.io = &disk.io;
	options.dir_fd = disk.dir_fd;
	options.path = disk.path;
	options.rebuild = is_rebuild;
	options.log = rot_log;
	return options;
}

/* A store with sealed arenas and an index that covers all, closed. */
static void prepare(uint64_t seed)
{
	struct engine_options options;
	struct engine *engine;

	memset(&set, 0, sizeof(set));
	state_set = &set;
	world_new(&world, seed, 150, SIM_HONEST);
	sim_must(sim_new(&disk, seed) == 0);
	sim_save(&world.disk, &clean);
	sim_load(&disk, &clean);
	options = options_of(false);
	assert_int_equal(engine_open(&engine, &options), 0);
	for (int i = 0; i < 40; i++)
		engine_tick(engine);
	assert_int_equal(engine_close(engine), 0);
	sim_save(&disk, &clean);
	sim_load(&disk, &clean);
	assert_int_equal(engine_open(&engine, &options), 0);
	assert_int_equal(state_digest(engine, &world, &whole), 0);
	engine_abandon(engine);
	set.is_closed = true;
}

static void finish(void)
{
	sim_free(&disk);
	world_free(&world);
	sim_image_release(&clean);
	sim_image_release(&rotten);
	free(set.values);
	state_set = NULL;
}

static enum outcome look(bool is_rebuild)
{
	struct engine_options options = options_of(is_rebuild);
	struct engine_stat stat;
	struct engine *engine;
	uint64_t digest;
	int r;

	was_told = false;
	sim_load(&disk, &rotten);
	r = engine_open(&engine, &options);
	if (r < 0)
		return strlen(engine_error(NULL)) > 10 ? REFUSED : QUIET;
	set.strangers = 0;
	r = state_digest(engine, &world, &digest);
	if (engine_stat(engine, &stat) < 0)
		stat.damaged = 0;
	engine_abandon(engine);
	if (set.strangers > 0)
		return WRONG;
	if (r < 0 || (digest != whole && (stat.damaged > 0 || was_told)))
		return NAMED;
	return digest == whole ? SAME : QUIET;
}

/* In a child: LMDB trusts its pages. */
static enum outcome look_apart(bool is_rebuild)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* Not cmocka's handlers, which would go on with the next test in the child. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		_exit((int)look(is_rebuild));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? (enum outcome)WEXITSTATUS(status) : KILLED;
}

static void damage(struct sim_data *data, uint64_t *seed)
{
	uint64_t at, what = sim_random(seed) % 4;
	size_t size;

	if (data->size == 0)
		return;
	at = sim_random(seed) % data->size;
	if (what < 2) {
		data->data[at] ^= (uint8_t)(1u << sim_random(seed) % 8);
		return;
	}
	size = what == 2 ? 512 : 4096;
	at -= at % size;
	memset(data->data + at, 0, data->size - at < size ? data->size - at : size);
}

static uint64_t seed_get(void)
{
	uint64_t seed = getenv("BAZIL_SEED") ? strtoull(getenv("BAZIL_SEED"), NULL, 0) : 1;

	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static void rot(unsigned counts[2][OUTCOMES], unsigned num, uint64_t seed)
{
	for (unsigned i = 0; i < num; i++) {
		const struct sim_name *name;
		bool is_index, is_rebuild;
		enum outcome outcome;

		sim_image_copy(&rotten, &clean);
		name = &rotten.names[sim_random(&seed) % rotten.num_names];
		if (sim_random(&seed) % 3 == 0)
			name = &rotten.names[sim_image_find(&rotten, "index")];
		is_index = strcmp(name->name, "index") == 0;
		damage(&rotten.files[name->file], &seed);
		is_rebuild = !is_index && sim_random(&seed) % 2;
		outcome = look_apart(is_rebuild);
		counts[is_index][outcome]++;
		if (outcome == WRONG || (outcome == QUIET && !is_index))
			printf("damage %u of %s: %s\n", i, name->name, outcomes[outcome]);
		/* Whatever the index is like, all of it is in the arenas. */
		if (is_index)
			assert_int_equal(look_apart(true), SAME);
	}
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < OUTCOMES; i++)
			printf("%s %s: %u\n", k ? "index" : "other files", outcomes[i],
				counts[k][i]);
}

static void rot__never_gives_wrong_data(void **state)
{
	unsigned num = getenv("BAZIL_ROT") ? (unsigned)strtoul(getenv("BAZIL_ROT"), NULL, 0) : 1200;
	unsigned counts[2][OUTCOMES] = { 0 };
	uint64_t seed = seed_get();

	for (unsigned i = 0; i < 3; i++) {
		prepare(seed + i);
		rot(counts, num / 3, seed + i);
		finish();
	}
	assert_int_equal(counts[0][WRONG] + counts[1][WRONG], 0);
	assert_int_equal(counts[0][QUIET], 0);
	assert_int_equal(counts[0][KILLED], 0);
	/* It did meet something. */
	assert_true(counts[0][NAMED] > 20 && counts[1][NAMED] > 20);
	/* A damaged inner page of LMDB may hide rows; it must stay rare. */
	assert_true(counts[1][QUIET] < num / 20);
}

/* Without the sums of rows there is wrong data. */
static void rot__is_noticed_by_the_sums_of_rows(void **state)
{
	unsigned counts[2][OUTCOMES] = { 0 };
	uint64_t seed = seed_get();

	prepare(seed);
	store_broken = BROKEN_NO_ROW_SUM;
	rot(counts, 600, seed);
	store_broken = BROKEN_NOTHING;
	finish();
	assert_true(counts[1][WRONG] > 0);
}

static void rot__a_lost_or_scrambled_index_comes_back(void **state)
{
	uint64_t seed = seed_get();

	prepare(seed);
	for (int i = 0; i < 12; i++) {
		struct sim_data *index;
		int at;

		sim_image_copy(&rotten, &clean);
		at = sim_image_find(&rotten, "index");
		index = &rotten.files[rotten.names[at].file];
		if (i == 0)
			rotten.names[at] = rotten.names[--rotten.num_names];
		else if (i < 6)
			sim_data_resize(index, i == 1 ? 0 : sim_random(&seed) % index->size);
		else
			for (size_t k = 0; k < index->size; k++)
				if (i > 8 || k > 8192)
					index->data[k] = (uint8_t)sim_random(&seed);
		assert_int_equal(look_apart(true), SAME);
		/* Gone, or no index at all: without being asked. */
		if (i < 2 || i > 8)
			assert_int_equal(look_apart(false), SAME);
	}
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rot__never_gives_wrong_data),
		cmocka_unit_test(rot__is_noticed_by_the_sums_of_rows),
		cmocka_unit_test(rot__a_lost_or_scrambled_index_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
