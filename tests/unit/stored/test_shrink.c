#include "rig.h"

#include "stored/engine_state.h"
#include "stored/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static off_t index_size(const struct rig *rig)
{
	struct stat st;
	char path[96];

	rig_path(rig, "index", path);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* Many files, most of them deleted: most pages are free. */
static uint64_t fill_and_empty(struct rig *rig)
{
	uint64_t lids[3000], oids[3000];
	char name[16];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		oids[i] = rig_file(rig, TREE_ROOT, name, &lids[i]);
	}
	assert_int_equal(engine_checkpoint(rig->engine), 0);
	for (int i = 0; i < 3000; i++)
		if (i % 100)
			rig_unlink(rig, lids[i], oids[i], true);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "g%d", i);
		rig_file(rig, TREE_ROOT, name, NULL);
		assert_int_equal(engine_checkpoint(rig->engine), 0);
	}
	return rig_digest(rig, true);
}

static void shrink_with(bool threads)
{
	struct rig rig = { 0 };
	uint64_t sum;
	off_t before;

	/* Looked at once only: not when it is small. */
	rig.options.shrink_size = UINT64_MAX;
	rig.options.checkpoint_ops = 1000000;
	rig.options.checkpoint_ms = 1000000;
	rig_new(&rig);
	/* Of history a store keeps all; here the rows of deleted files are to go. */
	sum = fill_and_empty(&rig);
	for (int i = 0; i < 40000; i++) {
		uint8_t key[40] = { 'x' }, value[100] = { 0 };

		memcpy(key + 1, &i, sizeof(i));
		assert_int_equal(db_put(txn(rig.engine), DB_GC, key, 40, value, 100), 0);
	}
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	while (db_delete_prefix(txn(rig.engine), DB_GC, "x", 1, 10000) > 0)
		;
	assert_int_equal(db_put(txn(rig.engine), DB_GC, "kept", 4, "row", 3), 0);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	before = index_size(&rig);
	rig_close(&rig);
	rig.options.shrink_size = 4096;
	rig.options.threads = threads;
	rig_open(&rig);
	for (int i = 0; i < 3000 && index_size(&rig) >= before; i++) {
		char name[16];

		snprintf(name, sizeof(name), "h%d", i);
		rig_file(&rig, TREE_ROOT, name, NULL);
		sum = rig_digest(&rig, true);
		assert_int_equal(engine_tick(rig.engine), 0);
		assert_true(rig_digest(&rig, true) == sum);
		usleep(1000);
	}
	assert_true(index_size(&rig) < before / 2);
	assert_true(db_has(txn(rig.engine), DB_GC, "kept", 4));
	assert_true(rig_digest(&rig, true) == sum);
	rig_kill(&rig);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == sum);
	rig_free(&rig);
}

static void shrink__an_index_of_free_pages_becomes_small(void **state)
{
	shrink_with(false);
}

static void shrink__the_copy_is_made_by_a_thread(void **state)
{
	shrink_with(true);
}

static void touch(const struct rig *rig, const char *name, size_t size)
{
	char path[96], zeros[8] = { 0 };
	int fd;

	rig_path(rig, name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, zeros, size), (ssize_t)size);
	close(fd);
}

static bool exists(const struct rig *rig, const char *name)
{
	char path[96];

	rig_path(rig, name, path);
	return access(path, F_OK) == 0;
}

static void shrink__an_index_cut_short_is_rebuilt(void **state)
{
	struct rig rig = { 0 };
	uint64_t sum;
	char path[96];

	rig_new(&rig);
	sum = fill_and_empty(&rig);
	rig_close(&rig);
	rig_path(&rig, "index", path);
	for (int i = 1; i < 8; i++) {
		assert_int_equal(truncate(path, index_size(&rig) * i / 8), 0);
		rig_open(&rig);
		assert_true(rig.engine->was_rebuilt);
		assert_true(rig_digest(&rig, true) == sum);
		rig_close(&rig);
	}
	rig_open(&rig);
	assert_false(rig.engine->was_rebuilt);
	rig_free(&rig);
}

static void shrink__a_distrusted_index_is_rebuilt_once(void **state)
{
	struct rig rig = { 0 };
	uint64_t sum;

	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "f", NULL);
	sum = rig_digest(&rig, true);
	assert_int_equal(recover_distrust(rig.engine), 0);
	rig_kill(&rig);
	rig_open(&rig);
	assert_true(rig.engine->was_rebuilt);
	assert_false(exists(&rig, "rebuild"));
	assert_true(rig_digest(&rig, true) == sum);
	/* Faults: two are forgiven, and forgotten at a clean end. */
	recover_note_fault(rig.dir_fd);
	recover_note_fault(rig.dir_fd);
	rig_kill(&rig);
	rig_open(&rig);
	assert_false(rig.engine->was_rebuilt);
	assert_true(exists(&rig, "faults"));
	rig_close(&rig);
	assert_false(exists(&rig, "faults"));
	touch(&rig, "faults", 3);
	rig_open(&rig);
	assert_true(rig.engine->was_rebuilt);
	assert_false(exists(&rig, "faults"));
	assert_true(rig_digest(&rig, true) == sum);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shrink__an_index_of_free_pages_becomes_small),
		cmocka_unit_test(shrink__the_copy_is_made_by_a_thread),
		cmocka_unit_test(shrink__an_index_cut_short_is_rebuilt),
		cmocka_unit_test(shrink__a_distrusted_index_is_rebuilt_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
