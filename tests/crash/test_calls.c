/*
 * Every n-th call fails, for n from 1 until a run meets no failure any more: of the store's own
 * input and output, of LMDB's, and for memory. In each phase of a store's life: opening, putting,
 * syncing, committing, sealing, rebuilding. Whatever happens the program does not crash, an error
 * is told, and the next opening finds a state between two steps, with all that was promised.
 */
#include "stored/engine_state.h"
#include "stored/settings.h"
#include "tests/crash/world.h"
#include "tests/unit/stored/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define STEPS 8

static struct world world; /* its objects are those of the steps */
static struct sim_image start;
static uint64_t first_oid;

/* A store whose last work is in the log only. */
static void prepare(struct simdisk *disk, struct rig *rig)
{
	world.num_objects = 0;
	sim_must(sim_new(disk, 7) == 0);
	*rig = (struct rig){ 0 };
	rig->options = (struct engine_options){
		.io = &disk->io,
		.arena_size = 6 << 10,
		.map_size = 16 << 20,
		.reserve_size = 8192,
		.create = true,
	};
	rig->dir_fd = disk->dir_fd;
	snprintf(rig->path, sizeof(rig->path), "%s", disk->path);
	rig_open(rig);
	sim_must(settings_volume_add(
			 rig->engine, "v", NULL, "default", (const uint8_t *)"keyid678") == 0);
	rig->vol = engine_volume_named(rig->engine, "v");
	for (int i = 0; i < 6; i++)
		rig_file(rig, TREE_ROOT, "f", NULL);
	sim_must(engine_oids(rig->engine, rig->vol, 4 * STEPS, &first_oid) == 0);
	sim_must(engine_checkpoint(rig->engine) == 0);
	for (int i = 0; i < 6; i++)
		rig_file(rig, TREE_ROOT, "g", NULL);
	rig_kill(rig);
	sim_save(disk, &start);
}

/* Step i of the work; *ret_durable when it promises all before it. */
static int step(struct rig *rig, int i, bool *ret_durable)
{
	static struct entry entry;
	uint64_t oid = first_oid + 2 * (uint64_t)i;
	uint8_t object[1500], id[32], tag[32];
	int r;

	*ret_durable = false;
	switch (i) {
	case 2:
		*ret_durable = true;
		return engine_sync(rig->engine);
	case 4:
		*ret_durable = true;
		return engine_checkpoint(rig->engine);
	case 6:
		/* Seals, and commits. */
		r = engine_tick(rig->engine);
		return r < 0 ? r : engine_tick(rig->engine);
	case 7:
		*ret_durable = true;
		return settings_peer_add(rig->engine,
			"0000000000000000000000000000000000000000000000000000000000000007", "p");
	default:
		break;
	}
	memset(object, i, sizeof(object));
	memset(tag, i + 1, sizeof(tag));
	r = engine_put_object(rig->engine, tag, object, sizeof(object), id);
	if (r < 0)
		return r;
	entry_start(&entry, 0);
	put_attr(&entry, oid, false, oid);
	put_body(&entry, oid, oid, 2000);
	put_link(&entry, oid + 1, TREE_ROOT, "name", oid, false);
	rig->position = 1000000 + 10000 * (uint64_t)i;
	r = engine_apply(
		rig->engine, rig->vol, entry.data, entry.len, 7, rig->position, &rig->changes);
	return r < 0 ? r : engine_flush(rig->engine);
}

static uint64_t digest_of_rig(struct rig *rig)
{
	uint64_t digest;

	sim_must(state_digest(rig->engine, &world, &digest) == 0);
	return digest;
}

/* Opens, works, until something fails. *ret_done steps were, of which *ret_durable for good. */
static int work(struct rig *rig, bool is_rebuild, int *ret_done, int *ret_durable)
{
	bool is_durable;
	int r, i;

	*ret_done = *ret_durable = 0;
	rig->options.rebuild = is_rebuild;
	r = rig_try_open(rig);
	for (i = 0; r == 0 && i < STEPS; i++) {
		r = step(rig, i, &is_durable);
		if (r < 0)
			break;
		*ret_done = i + 1;
		if (is_durable)
			*ret_durable = i + 1;
	}
	return r;
}

/* Digests after each step of a run in which nothing fails. */
static void expect(struct simdisk *disk, struct rig *rig, uint64_t digests[STEPS + 1])
{
	bool is_durable;

	sim_load(disk, &start);
	rig_open(rig);
	digests[0] = digest_of_rig(rig);
	for (int i = 0; i < STEPS; i++) {
		assert_int_equal(step(rig, i, &is_durable), 0);
		digests[i + 1] = digest_of_rig(rig);
	}
	rig_kill(rig);
}

/* What is found afterwards lies between what was promised and what was tried. */
static void check(struct rig *rig, const uint64_t digests[STEPS + 1], int done, int durable)
{
	uint64_t digest;
	int i;

	rig_open(rig);
	digest = digest_of_rig(rig);
	for (i = durable; i <= done + 1 && i <= STEPS; i++)
		if (digests[i] == digest)
			break;
	if (i > done + 1 || i > STEPS)
		printf("call %u: done %d, durable %d: another state\n", sim_faults.fail_at, done,
			durable);
	assert_true(i <= done + 1 && i <= STEPS);
	rig_kill(rig);
}

static void run(int error, bool is_once, bool is_of_memory)
{
	uint64_t digests[STEPS + 1];
	struct simdisk disk;
	struct rig rig;
	unsigned failures = 0;
	bool was_hit = true;

	prepare(&disk, &rig);
	expect(&disk, &rig, digests);
	for (unsigned n = 1; was_hit; n++) {
		int done, durable, r;

		sim_load(&disk, &start);
		sim_faults = (struct sim_faults){ .fail_at = n,
			.error = error,
			.is_once = is_once,
			.is_of_memory = is_of_memory };
		r = work(&rig, n % 4 == 0, &done, &durable);
		was_hit = sim_faults.was_hit;
		sim_faults.fail_at = 0;
		/* An error in opening has a text for people. */
		if (r < 0 && !rig.engine && r != -ENOMEM)
			assert_true(strlen(engine_error(NULL)) > 10);
		if (!was_hit)
			assert_int_equal(r, 0);
		failures += r < 0;
		if (rig.engine)
			rig_kill(&rig);
		sim_faults.fail_at = 0;
		check(&rig, digests, done, durable);
	}
	printf("%u runs ended with an error\n", failures);
	assert_true(failures > 10 || error == EINTR);
	engine_changes_release(&rig.changes);
	sim_free(&disk);
	sim_image_release(&start);
}

static void calls__any_may_give_eio(void **state)
{
	run(EIO, false, false);
	run(EIO, true, false);
}

static void calls__any_may_find_the_disk_full(void **state)
{
	run(ENOSPC, false, false);
	run(ENOSPC, true, false);
}

static void calls__any_may_be_interrupted(void **state)
{
	run(EINTR, true, false);
}

static void calls__memory_may_run_out(void **state)
{
	run(ENOMEM, false, true);
	run(ENOMEM, true, true);
}

static void calls__transfers_may_be_short(void **state)
{
	uint64_t digests[STEPS + 1];
	struct simdisk disk;
	struct rig rig;
	int done, durable;

	prepare(&disk, &rig);
	expect(&disk, &rig, digests);
	sim_load(&disk, &start);
	sim_faults = (struct sim_faults){ .is_short = true };
	assert_int_equal(work(&rig, true, &done, &durable), 0);
	sim_faults.is_short = false;
	assert_int_equal(done, STEPS);
	rig_kill(&rig);
	check(&rig, digests, done, durable);
	engine_changes_release(&rig.changes);
	sim_free(&disk);
	sim_image_release(&start);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls__any_may_give_eio),
		cmocka_unit_test(calls__any_may_find_the_disk_full),
		cmocka_unit_test(calls__any_may_be_interrupted),
		cmocka_unit_test(calls__memory_may_run_out),
		cmocka_unit_test(calls__transfers_may_be_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
