/*
 * Every n-th call fails while a store pulls, collects garbage and compacts its index; and a crash
 * in the middle of making a store. See test_calls.c for the rest of its life.
 */
#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/settings.h"
#include "tests/crash/crash.h"
#include "tests/crash/world.h"
#include "tests/unit/stored/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GARBAGE	   8
#define BLOBS_MAX  16
#define STATES_MAX 16

static struct world world; /* its objects are garbage */
static struct sim_image start;

/* All that a peer sends in a pull, to be sent again. */
static struct {
	uint8_t *blobs[BLOBS_MAX];
	size_t lens[BLOBS_MAX], num, pages;
	uint8_t known[2 * TREE_KNOWLEDGE_SIZE];
	struct serve_info info;
} sent;

static void rig_on(struct rig *rig, struct simdisk *disk)
{
	*rig = (struct rig){ 0 };
	rig->options = (struct engine_options){
		.io = &disk->io,
		.arena_size = 32 << 10,
		.map_size = 16 << 20,
		.reserve_size = 8192,
		.shrink_size = 4096,
		.base_size = 1,
		.base_percent = 1,
		.create = true,
	};
	rig->dir_fd = disk->dir_fd;
	snprintf(rig->path, sizeof(rig->path), "%s", disk->path);
}

static void send_blob(const uint8_t *data, size_t len)
{
	sim_must(sent.num < BLOBS_MAX);
	sent.blobs[sent.num] = malloc(len + 1);
	sim_must(sent.blobs[sent.num]);
	memcpy(sent.blobs[sent.num], data, len);
	sent.lens[sent.num++] = len;
}

/* Pages first, then an answer for each need. */
static int pull(struct rig *rig, struct serve *serve)
{
	static uint8_t need[60000], asked[TREE_KNOWLEDGE_SIZE], blob[120000];
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	struct pull *p;
	size_t len, i;
	int r;

	r = engine_pull_begin(rig->engine, rig->vol, &p, asked, &len);
	if (r < 0)
		return r;
	for (i = 0; r == 0 && i < sent.pages; i++)
		r = engine_pull_put(rig->engine, p, sent.blobs[i], sent.lens[i], NULL, 0);
	while (r == 0) {
		r = engine_pull_step(rig->engine, p, sent.known, sent.info.known_len,
			sent.info.is_full, &result);
		if (r < 0 || result.need_len == 0) {
			engine_changes_release(&result.changes);
			return r;
		}
		if (serve) {
			sim_must(engine_serve_inodes(serve, need, result.need_len, blob,
					 sizeof(blob), &len) == 0);
			send_blob(blob, len);
		}
		sim_must(i < sent.num);
		r = engine_pull_put(rig->engine, p, sent.blobs[i], sent.lens[i], NULL, 0);
		i++;
	}
	engine_pull_abort(rig->engine, p);
	return r;
}

/* A peer with files of its own; what it sends is kept. */
static void record_pull(struct rig *rig)
{
	static uint8_t asked[TREE_KNOWLEDGE_SIZE], blob[120000];
	struct volume_info info;
	struct simdisk disk;
	struct serve *serve;
	struct pull *p;
	struct rig other;
	uint64_t cursor = 0;
	bool end = false;
	size_t len;

	memset(&sent, 0, sizeof(sent));
	sim_must(sim_new(&disk, 9) == 0);
	rig_on(&other, &disk);
	rig_open(&other);
	volume_info(rig->vol, &info);
	sim_must(settings_volume_add(other.engine, "v", info.id, "default", info.keyid) == 0);
	other.vol = engine_volume_named(other.engine, "v");
	for (int i = 0; i < 12; i++)
		rig_file(&other, i % 4 ? TREE_ROOT : rig_dir(&other, TREE_ROOT, "d"), "o", NULL);
	sim_must(engine_pull_begin(rig->engine, rig->vol, &p, asked, &len) == 0);
	engine_pull_abort(rig->engine, p);
	sent.info.known = sent.known;
	sim_must(engine_serve_begin(other.engine, other.vol, asked, len, &serve, &sent.info) == 0);
	while (!end) {
		sim_must(engine_serve_page(serve, &cursor, blob, sizeof(blob), &len, &end) == 0);
		send_blob(blob, len);
	}
	sent.pages = sent.num;
	sim_must(pull(rig, serve) == 0);
	engine_serve_end(serve);
	rig_kill(&other);
	engine_changes_release(&other.changes);
	sim_free(&disk);
}

/* More than half of the index is free pages. */
static void bloat(struct rig *rig)
{
	uint8_t key[8] = { 'x' }, value[1000] = { 0 };

	for (int i = 0; i < 1500; i++) {
		memcpy(key + 1, &i, sizeof(i));
		sim_must(db_put(txn(rig->engine), DB_GC, key, 8, value, sizeof(value)) == 0);
	}
	sim_must(engine_checkpoint(rig->engine) == 0);
	sim_must(db_delete_prefix(txn(rig->engine), DB_GC, "x", 1, 10000) == 1500);
	sim_must(engine_checkpoint(rig->engine) == 0);
}

static void prepare(struct simdisk *disk, struct rig *rig)
{
	static uint8_t object[9000];
	uint8_t tag[32];

	memset(&world, 0, sizeof(world));
	world.is_collecting = true;
	sim_must(sim_new(disk, 7) == 0);
	rig_on(rig, disk);
	rig_open(rig);
	sim_must(settings_volume_add(
			 rig->engine, "v", NULL, "default", (const uint8_t *)"keyid678") == 0);
	rig->vol = engine_volume_named(rig->engine, "v");
	for (int i = 0; i < 6; i++)
		rig_file(rig, TREE_ROOT, "f", NULL);
	for (int i = 0; i < GARBAGE; i++) {
		memset(object, i, sizeof(object));
		memset(tag, i + 1, sizeof(tag));
		sim_must(engine_put_object(rig->engine, tag, object, sizeof(object),
				 world.objects[world.num_objects++]) == 0);
	}
	for (int i = 0; i < 2 * GARBAGE; i++)
		sim_must(engine_tick(rig->engine) == 0);
	bloat(rig);
	rig_kill(rig);
	sim_save(disk, &start);
	/* A pull changes the store; it is done again from here. */
	rig_open(rig);
	record_pull(rig);
	rig_kill(rig);
}

static int collect(struct rig *rig)
{
	struct gc_options options = { .is_final = true, .is_single = true, .roll = 1 };
	int r;

	r = gc_begin(rig->engine, &options);
	while (r == 0 && (r = gc_step(rig->engine)) > 0)
		r = 0;
	gc_end(rig->engine);
	return r;
}

/* Sealing ends the process when there is no memory for CMPH: only the pull. */
#define STEPS_OF_MEMORY 1

/* 1: no more steps. */
static int step(struct rig *rig, int i)
{
	if (sim_faults.is_of_memory && i == STEPS_OF_MEMORY)
		return 1;
	switch (i) {
	case 0:
		return pull(rig, NULL);
	case 1: /* copies the index */
	case 2: /* and takes the copy */
	case 4:
		return engine_tick(rig->engine);
	case 3:
		return collect(rig);
	default:
		return 1;
	}
}

static uint64_t digest(struct rig *rig)
{
	uint64_t sum;

	sim_must(state_digest(rig->engine, &world, &sum) == 0);
	return sum;
}

/* Digests between the steps; what each is for was really done. */
static size_t expect(struct simdisk *disk, struct rig *rig, uint64_t digests[STATES_MAX])
{
	struct engine_stat stat;
	uint64_t bytes, later, free_bytes;
	size_t num = 0;
	int r = 0;

	sim_load(disk, &start);
	rig_open(rig);
	assert_int_equal(engine_stat_index(rig->engine, &bytes, &free_bytes), 0);
	digests[num++] = digest(rig);
	for (int i = 0; r == 0; i++) {
		r = step(rig, i);
		assert_true(r >= 0);
		if (digest(rig) != digests[num - 1])
			digests[num++] = digest(rig);
	}
	assert_int_equal(engine_stat_index(rig->engine, &later, &free_bytes), 0);
	assert_true(later < bytes / 2);
	assert_int_equal(engine_stat(rig->engine, &stat), 0);
	assert_int_equal(stat.objects, 0);
	rig_kill(rig);
	return num;
}

/* The state after a failure is one of those, and none before what was promised. */
static void check(struct rig *rig, const uint64_t *digests, size_t first, size_t num)
{
	uint64_t sum;
	size_t i;

	rig_open(rig);
	sum = digest(rig);
	for (i = first; i < num && digests[i] != sum; i++)
		;
	if (i == num)
		printf("call %u: another state\n", sim_faults.fail_at);
	assert_true(i < num);
	rig_kill(rig);
}

static void run(int error, bool is_once, bool is_of_memory)
{
	uint64_t digests[STATES_MAX];
	struct simdisk disk;
	struct rig rig;
	unsigned failures = 0;
	bool was_hit = true;
	size_t num;

	sim_faults = (struct sim_faults){ 0 };
	prepare(&disk, &rig);
	num = expect(&disk, &rig, digests);
	assert_true(num >= 3);
	for (unsigned n = 1; was_hit; n++) {
		bool is_pulled = false;
		int r;

		sim_load(&disk, &start);
		rig_open(&rig);
		sim_faults = (struct sim_faults){ .fail_at = n,
			.error = error,
			.is_once = is_once,
			.is_of_memory = is_of_memory };
		r = 0;
		for (int i = 0; r == 0; i++) {
			r = step(&rig, i);
			is_pulled |= r == 0 && i == 0;
		}
		was_hit = sim_faults.was_hit;
		sim_faults.fail_at = 0;
		assert_true(was_hit || r == 1);
		failures += r < 0;
		rig_kill(&rig);
		sim_faults.fail_at = 0;
		check(&rig, digests, is_pulled, num);
	}
	printf("%u runs ended with an error\n", failures);
	assert_true(failures > 10 || error == EINTR);
	for (size_t i = 0; i < sent.num; i++)
		free(sent.blobs[i]);
	engine_changes_release(&rig.changes);
	sim_free(&disk);
	sim_image_release(&start);
}

static void upkeep__any_call_may_give_eio(void **state)
{
	run(EIO, false, false);
	run(EIO, true, false);
}

static void upkeep__any_call_may_find_the_disk_full(void **state)
{
	run(ENOSPC, false, false);
	run(ENOSPC, true, false);
}

static void upkeep__any_call_may_be_interrupted(void **state)
{
	run(EINTR, true, false);
}

static void upkeep__memory_may_run_out(void **state)
{
	run(ENOMEM, false, true);
	run(ENOMEM, true, true);
}

/* ---- making a store */

static void use(struct rig *rig)
{
	sim_must(settings_volume_add(
			 rig->engine, "v", NULL, "default", (const uint8_t *)"keyid678") == 0);
	rig_kill(rig);
	rig_open(rig);
	assert_non_null(rig->vol);
	rig_kill(rig);
}

static void upkeep__a_store_is_made_whole_or_can_be_made_again(void **state)
{
	static struct sim_image none, image;
	struct simdisk disk, second;
	struct crash crash;
	struct rig rig, other;
	unsigned made = 0, refused = 0;

	sim_must(sim_new(&disk, 7) == 0 && sim_new(&second, 8) == 0);
	rig_on(&rig, &disk);
	disk.is_recording = true;
	rig_open(&rig);
	disk.is_recording = false;
	crash_start(&crash, &none, &disk.log);
	for (size_t at = 0; at < disk.log.num; at++) {
		crash_step(&crash);
		for (unsigned i = 0; i < 12; i++) {
			int r;

			crash_image(&crash, i, at * 100 + i, &image);
			sim_load(&second, &image);
			rig_on(&other, &second);
			other.options.create = false;
			r = rig_try_open(&other);
			made += r == 0;
			refused += r < 0;
			if (r < 0) {
				assert_int_equal(r, -ENOENT);
				assert_non_null(strstr(engine_error(NULL), "bazil create"));
				other.options.create = true;
				rig_open(&other);
			}
			use(&other);
		}
	}
	printf("%u made, %u refused and made again\n", made, refused);
	assert_true(made > 0 && refused > 50);
	rig_kill(&rig);
	crash_end(&crash);
	sim_image_release(&image);
	sim_free(&second);
	sim_free(&disk);
}

/* What cannot be committed is read from memory, and is committed when there is room; or it is
 * forgotten, and the log has it. */
static void upkeep__an_index_without_room_is_committed_later(void **state)
{
	struct simdisk disk;
	struct rig rig;
	uint64_t sum;

	for (int way = 0; way < 3; way++) {
		prepare(&disk, &rig);
		rig_open(&rig);
		disk.full_index = true;
		rig_file(&rig, TREE_ROOT, "first", NULL);
		assert_int_equal(engine_commit_soon(rig.engine), 0);
		rig_file(&rig, TREE_ROOT, "second", NULL);
		/* The reserve makes no room here. */
		assert_int_equal(engine_commit_soon(rig.engine), 0);
		assert_int_equal(engine_commit_soon(rig.engine), -ENOSPC);
		assert_int_equal(engine_checkpoint(rig.engine), -ENOSPC);
		rig_file(&rig, TREE_ROOT, "third", NULL);
		sum = digest(&rig);
		if (way == 0)
			assert_int_equal(engine_rollback(rig.engine), 0);
		assert_true(digest(&rig) == sum);
		disk.full_index = way == 1;
		assert_int_equal(engine_checkpoint(rig.engine), way == 1 ? -ENOSPC : 0);
		assert_true(digest(&rig) == sum);
		disk.full_index = false;
		rig_kill(&rig);
		rig_open(&rig);
		assert_true(digest(&rig) == sum);
		rig_kill(&rig);
		engine_changes_release(&rig.changes);
		sim_free(&disk);
		sim_image_release(&start);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(upkeep__any_call_may_give_eio),
		cmocka_unit_test(upkeep__any_call_may_find_the_disk_full),
		cmocka_unit_test(upkeep__any_call_may_be_interrupted),
		cmocka_unit_test(upkeep__memory_may_run_out),
		cmocka_unit_test(upkeep__a_store_is_made_whole_or_can_be_made_again),
		cmocka_unit_test(upkeep__an_index_without_room_is_committed_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
