/* Making durable beside serving: with an fdatasync that takes as long as the test wants. */
#include "rig.h"

#include "cas/bytes.h"
#include "stored/engine_state.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint begun, ended, woken;
static atomic_int result;
static _Thread_local bool is_main;

static int slow_fdatasync(void *ctx, int fd)
{
	int r;

	if (is_main)
		return store_io_file.fdatasync(NULL, fd);
	atomic_fetch_add(&begun, 1);
	pthread_mutex_lock(&gate);
	r = atomic_load(&result);
	pthread_mutex_unlock(&gate);
	atomic_fetch_add(&ended, 1);
	return r < 0 ? r : store_io_file.fdatasync(NULL, fd);
}

static void on_wake(void *arg)
{
	atomic_fetch_add(&woken, 1);
}

static struct store_io slow_io;

static void start(struct rig *rig)
{
	is_main = true;
	atomic_store(&begun, 0);
	atomic_store(&ended, 0);
	atomic_store(&woken, 0);
	atomic_store(&result, 0);
	slow_io = store_io_file;
	slow_io.fdatasync = slow_fdatasync;
	rig->options.io = &slow_io;
	rig->options.threads = true;
	rig->options.wake = on_wake;
	rig_new(rig);
}

/* All is durable and in LMDB by the main thread alone: an fdatasync of the thread's that a
 * checkpoint leaves behind would be counted whenever the processor has time for it. */
static void settle(struct rig *rig)
{
	assert_int_equal(engine_sync(rig->engine), 0);
	assert_int_equal(engine_checkpoint(rig->engine), 0);
	assert_int_equal(engine_tick(rig->engine), 0);
	assert_int_equal(atomic_load(&begun), 0);
	atomic_store(&woken, 0);
}

static bool comes_to(atomic_uint *count, unsigned value)
{
	for (int i = 0; i < 5000 && atomic_load(count) < value; i++)
		usleep(1000);
	return atomic_load(count) >= value;
}

static void durable__serving_goes_on_meanwhile(void **state)
{
	static struct page page;
	struct rig rig = { 0 };
	uint64_t first, second, third;
	uint8_t tag[TREE_TAG_SIZE];

	start(&rig);
	pthread_mutex_lock(&gate);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	assert_int_equal(engine_sync_start(rig.engine, &first), 0);
	assert_true(comes_to(&begun, 1));
	assert_false(engine_is_durable(rig.engine, first));
	rig_file(&rig, TREE_ROOT, "b", NULL);
	tag_of("b", tag);
	assert_int_equal(engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), 0);
	assert_int_equal(engine_sync_start(rig.engine, &second), 0);
	rig_file(&rig, TREE_ROOT, "c", NULL);
	assert_int_equal(engine_sync_start(rig.engine, &third), 0);
	assert_true(first < second && second < third);
	assert_int_equal(engine_sync_poll(rig.engine), 0);
	assert_false(engine_is_durable(rig.engine, first));
	assert_int_equal(atomic_load(&begun), 1);
	pthread_mutex_unlock(&gate);
	assert_true(comes_to(&woken, 1));
	/* The first covers only what was before it; one more covers both that came later. */
	pthread_mutex_lock(&gate);
	assert_int_equal(engine_sync_poll(rig.engine), 0);
	assert_true(engine_is_durable(rig.engine, first));
	assert_false(engine_is_durable(rig.engine, second));
	pthread_mutex_unlock(&gate);
	assert_true(comes_to(&woken, 2));
	assert_int_equal(engine_sync_poll(rig.engine), 0);
	assert_true(engine_is_durable(rig.engine, third));
	assert_int_equal(atomic_load(&begun), 2);
	rig_free(&rig);
}

static void durable__nothing_new_is_durable_at_once(void **state)
{
	struct rig rig = { 0 };
	uint64_t ticket;

	start(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	assert_int_equal(engine_sync_start(rig.engine, &ticket), 0);
	assert_true(engine_is_durable(rig.engine, ticket));
	assert_int_equal(atomic_load(&begun), 0);
	rig_free(&rig);
}

static void durable__a_failure_is_the_end(void **state)
{
	struct rig rig = { 0 };
	uint64_t ticket;

	start(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	atomic_store(&result, -EIO);
	assert_int_equal(engine_sync_start(rig.engine, &ticket), 0);
	assert_true(comes_to(&woken, 1));
	assert_int_equal(engine_sync_poll(rig.engine), -EIO);
	assert_false(engine_is_durable(rig.engine, ticket));
	/* Never believed again, though the disk says that all is well. */
	atomic_store(&result, 0);
	assert_int_equal(engine_sync(rig.engine), -EIO);
	assert_int_equal(engine_checkpoint(rig.engine), -EIO);
	rig_free(&rig);
}

/* Puts objects of half a MiB, none like another. */
static void put_much(struct rig *rig, unsigned *num, unsigned upto)
{
	static uint8_t object[512 << 10];
	uint8_t id[32];

	for (; *num < upto; ++*num) {
		memcpy(object, num, sizeof(*num));
		assert_int_equal(
			engine_put_object(rig->engine, NULL, object, sizeof(object), id), 0);
		assert_int_equal(engine_flush(rig->engine), 0);
		assert_int_equal(engine_tick(rig->engine), 0);
	}
}

/* 32 MiB: the disk begins. Nobody waits for it, and what is durable is known. */
static void durable__much_is_written_before_anybody_asks(void **state)
{
	struct rig rig = { 0 };
	unsigned num = 0;
	uint64_t written;

	rig.options.checkpoint_ms = 3600000;
	start(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	settle(&rig);
	pthread_mutex_lock(&gate);
	put_much(&rig, &num, 63);
	assert_int_equal(atomic_load(&begun), 0);
	put_much(&rig, &num, 64);
	assert_true(comes_to(&begun, 1));
	written = rig.engine->arenas.written;
	put_much(&rig, &num, 65);
	assert_false(engine_is_durable(rig.engine, written));
	pthread_mutex_unlock(&gate);
	assert_true(comes_to(&ended, 1));
	while (!engine_is_durable(rig.engine, written))
		assert_int_equal(engine_sync_poll(rig.engine), 0);
	assert_int_equal(atomic_load(&begun), 1);
	rig_free(&rig);
}

/* The position in the log that LMDB says. */
static uint64_t covered(struct rig *rig)
{
	struct db_txn *txn;
	const uint8_t *row;
	uint64_t offset;
	size_t len;

	assert_int_equal(db_snapshot(rig->engine->db, &txn), 0);
	assert_int_equal(db_get(txn, DB_META, "checkpoint", 10, &row, &len), 0);
	offset = le64_get(row + 8);
	db_snapshot_close(txn);
	return offset;
}

/* The commit of the index waits for the log without holding anybody up. */
static void durable__a_checkpoint_waits_for_its_log(void **state)
{
	struct rig rig = { 0 };
	uint64_t first;

	rig.options.checkpoint_ops = 1;
	start(&rig);
	settle(&rig);
	first = covered(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	pthread_mutex_lock(&gate);
	assert_int_equal(engine_tick(rig.engine), 0);
	assert_true(comes_to(&begun, 1));
	assert_int_equal(engine_tick(rig.engine), 0);
	assert_int_equal(covered(&rig), first);
	rig_file(&rig, TREE_ROOT, "b", NULL);
	pthread_mutex_unlock(&gate);
	/* First the log, then the index: it does not have what came meanwhile. */
	assert_true(comes_to(&woken, 1));
	assert_int_equal(engine_sync_poll(rig.engine), 0);
	assert_true(comes_to(&woken, 2));
	assert_int_equal(engine_sync_poll(rig.engine), 0);
	assert_true(covered(&rig) > first);
	assert_int_equal(covered(&rig), rig.engine->committed.offset);
	assert_true(engine_is_dirty(rig.engine));
	rig_free(&rig);
}

/* A writer and a thread at work: whatever was told durable is there after the process is gone. */
static void durable__tickets_hold_under_load(void **state)
{
	struct rig rig = { 0 };
	uint64_t ticket, seed = rig_seed();
	uint64_t dir;
	char name[16];

	rig.options.arena_size = 64 << 10;
	rig.options.checkpoint_ops = 50;
	start(&rig);
	dir = rig_dir(&rig, TREE_ROOT, "d");
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		rig_file(&rig, dir, name, NULL);
		if (rig_random(&seed) % 4 == 0)
			assert_int_equal(engine_sync_start(rig.engine, &ticket), 0);
		assert_int_equal(engine_tick(rig.engine), 0);
		assert_int_equal(engine_sync_poll(rig.engine), 0);
	}
	assert_int_equal(engine_sync_start(rig.engine, &ticket), 0);
	for (int i = 0; i < 5000 && !engine_is_durable(rig.engine, ticket); i++) {
		assert_int_equal(engine_sync_poll(rig.engine), 0);
		usleep(100);
	}
	assert_true(engine_is_durable(rig.engine, ticket));
	dir = rig_digest(&rig, true);
	rig_kill(&rig);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == dir);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durable__serving_goes_on_meanwhile),
		cmocka_unit_test(durable__nothing_new_is_durable_at_once),
		cmocka_unit_test(durable__a_failure_is_the_end),
		cmocka_unit_test(durable__much_is_written_before_anybody_asks),
		cmocka_unit_test(durable__a_checkpoint_waits_for_its_log),
		cmocka_unit_test(durable__tickets_hold_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
