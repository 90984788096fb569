/*
 * What a failing disk leaves behind: the marker of a failed fdatasync, damaged superblocks, and a
 * damaged index that is met while the store is in use.
 */
#include "rig.h"

#include "stored/engine_state.h"
#include "stored/scrub.h"
#include "stored/superblocks.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FILES 60

static struct store_io io;
static bool is_failing;
static unsigned rewritten; /* bytes written below the end of the file */

static int failing_fdatasync(void *ctx, int fd)
{
	return is_failing ? -EIO : store_io_file.fdatasync(ctx, fd);
}

static ssize_t counting_pwrite(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && offset + len <= (uint64_t)st.st_size)
		rewritten += (unsigned)len;
	return store_io_file.pwrite(ctx, fd, data, len, offset);
}

/* Several arenas, and a little in the log only. */
static uint64_t store_new(struct rig *rig)
{
	static struct entry entry;
	uint8_t object[900], id[32];

	io = store_io_file;
	io.fdatasync = failing_fdatasync;
	io.pwrite = counting_pwrite;
	is_failing = false;
	*rig = (struct rig){ .options = { .io = &io, .arena_size = 16 << 10 } };
	rig_new(rig);
	for (int i = 0; i < FILES; i++) {
		uint64_t oid = rig_file(rig, TREE_ROOT, "f", NULL);

		memset(object, i, sizeof(object));
		assert_int_equal(
			engine_put_object(rig->engine, NULL, object, sizeof(object), id), 0);
		entry_start(&entry, 0);
		put_body(&entry, oid, oid, 300);
		assert_int_equal(rig_apply(rig, &entry), 0);
	}
	assert_true(rig->engine->arenas.num > 3);
	return rig_digest(rig, true);
}

static bool exists(const struct rig *rig, const char *name)
{
	char path[96];

	rig_path(rig, name, path);
	return access(path, F_OK) == 0;
}

static void put_file(const struct rig *rig, const char *name, const char *text)
{
	char path[96];
	int fd;

	rig_path(rig, name, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* ---- a failed fdatasync */

static void failed__an_arena_is_written_again_from_where_it_was_durable(void **state)
{
	struct rig rig;
	struct place durable;
	uint64_t before;

	store_new(&rig);
	assert_int_equal(engine_sync(rig.engine), 0);
	durable = arenas_position(&rig.engine->arenas);
	rig_file(&rig, TREE_ROOT, "late", NULL);
	before = rig_digest(&rig, true);
	is_failing = true;
	assert_int_equal(engine_sync(rig.engine), -EIO);
	is_failing = false;
	rig_kill(&rig);
	assert_true(exists(&rig, "failed"));
	rewritten = 0;
	rig_open(&rig);
	assert_false(exists(&rig, "failed"));
	assert_false(rig.engine->was_rebuilt);
	assert_int_equal(rig.engine->failed.from.offset, durable.offset);
	assert_true(rewritten >= arenas_position(&rig.engine->arenas).offset - durable.offset);
	assert_true(rig_digest(&rig, true) == before);
	/* And not every time. */
	rig_kill(&rig);
	rewritten = 0;
	rig_open(&rig);
	assert_true(rewritten < 4096);
	rig_free(&rig);
}

static void failed__the_marker_stays_until_all_is_written(void **state)
{
	struct rig rig;
	uint64_t before;

	before = store_new(&rig);
	rig_kill(&rig);
	put_file(&rig, "failed", "arena 1 64\n");
	is_failing = true;
	assert_int_equal(rig_try_open(&rig), -EIO);
	assert_non_null(strstr(engine_error(NULL), "check the disk"));
	is_failing = false;
	assert_true(exists(&rig, "failed"));
	rewritten = 0;
	rig_open(&rig);
	/* All arenas from the first on. */
	assert_true(rewritten > 40 << 10);
	assert_true(rig_digest(&rig, true) == before);
	rig_free(&rig);
}

static void failed__the_index_is_made_anew_if_it_was_that_or_nobody_knows(void **state)
{
	static const char *const texts[] = { "index\n", "", "arena 1", "rubbish\n",
		"arena 1 64\nindex\n", "arena -1 64\n", "arena 1 64x\n" };
	struct rig rig;
	uint64_t before = store_new(&rig);

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		rig_kill(&rig);
		put_file(&rig, "failed", texts[i]);
		rig_open(&rig);
		assert_true(rig.engine->was_rebuilt);
		assert_false(exists(&rig, "failed"));
		assert_true(rig_digest(&rig, true) == before);
	}
	rig_free(&rig);
}

/* ---- superblocks */

static void super_break(const struct rig *rig, const char *name, off_t at)
{
	char path[96], zeros[FRAME_SUPER_SIZE] = { 0 };
	int fd;

	rig_path(rig, name, path);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), at), sizeof(zeros));
	close(fd);
}

static void failed__a_superblock_is_mended_from_its_copy(void **state)
{
	struct rig rig;
	uint64_t before = store_new(&rig);
	struct engine_stat stat;

	for (int i = 0; i < 2; i++) {
		rig_kill(&rig);
		super_break(&rig, "arena.00000002", 0);
		rig.options.rebuild = i == 1;
		rig_open(&rig);
		assert_int_equal(rig.engine->arenas.num_notes, 1);
		assert_int_equal(rig.engine->arenas.notes[0].number, 2);
		assert_int_equal(engine_stat(rig.engine, &stat), 0);
		assert_int_equal(stat.set_aside, 0);
		assert_true(rig_digest(&rig, true) == before);
	}
	/* The copy is mended as well, and one that was lost is made again. */
	rig_kill(&rig);
	super_break(&rig, "superblocks", FRAME_SUPER_SIZE);
	rig_open(&rig);
	assert_int_equal(rig.engine->arenas.num_notes, 0);
	rig_kill(&rig);
	assert_int_equal(unlinkat(rig.dir_fd, "superblocks", 0), 0);
	rig_open(&rig);
	rig_kill(&rig);
	super_break(&rig, "arena.00000002", 0);
	rig_open(&rig);
	assert_int_equal(rig.engine->arenas.num_notes, 1);
	assert_true(rig_digest(&rig, true) == before);
	rig_free(&rig);
}

static void failed__without_a_copy_an_arena_is_set_aside(void **state)
{
	struct rig rig;
	struct engine_stat stat;
	struct scrub scrub = { 0 };
	struct place place;
	uint8_t object[900], got[900], id[32];
	unsigned missing = 0;

	store_new(&rig);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	rig_kill(&rig);
	super_break(&rig, "arena.00000002", 0);
	super_break(&rig, "superblocks", FRAME_SUPER_SIZE);
	for (int n = 0; n < 2; n++) {
		rig_open(&rig);
		assert_true(exists(&rig, "arena.00000002.bad"));
		assert_int_equal(engine_stat(rig.engine, &stat), 0);
		assert_int_equal(stat.set_aside, 1);
		missing = 0;
		for (int i = 0; i < FILES; i++) {
			memset(object, i, sizeof(object));
			assert_int_equal(
				digest_of(rig.engine->digest, object, sizeof(object), id), 0);
			assert_int_equal(engine_locate(rig.engine, id, &place), 0);
			if (place.arena == 2) {
				assert_int_equal(
					engine_read_object(rig.engine, id, place, got), -EBADMSG);
				missing++;
				continue;
			}
			assert_int_equal(engine_read_object(rig.engine, id, place, got), 0);
		}
		assert_true(missing > 3 && missing < FILES / 2);
		/* It is written to. */
		rig_file(&rig, TREE_ROOT, "after", NULL);
		assert_int_equal(engine_sync(rig.engine), 0);
		rig_kill(&rig);
	}
	/* Told by name, and from then on simply not here. */
	rig_open(&rig);
	assert_int_equal(scrub_start(rig.engine, &scrub, 0), 0);
	while (scrub.is_running)
		assert_true(scrub_step(rig.engine, &scrub, 1 << 20) >= 0);
	assert_int_equal(scrub.damaged, missing);
	rig_free(&rig);
}

static void failed__the_last_arena_may_be_set_aside(void **state)
{
	struct rig rig;
	struct engine_stat stat;
	char name[32];
	uint32_t number;

	store_new(&rig);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	number = arenas_position(&rig.engine->arenas).arena;
	rig_kill(&rig);
	snprintf(name, sizeof(name), "arena.%08u", number);
	super_break(&rig, name, 0);
	assert_int_equal(unlinkat(rig.dir_fd, "superblocks", 0), 0);
	rig_open(&rig);
	assert_int_equal(engine_stat(rig.engine, &stat), 0);
	assert_int_equal(stat.set_aside, 1);
	rig_file(&rig, TREE_ROOT, "after", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	/* Its number is not used again. */
	assert_int_equal(arenas_position(&rig.engine->arenas).arena, number + 1);
	rig_kill(&rig);
	rig_open(&rig);
	rig_free(&rig);
}

static void failed__nothing_is_set_aside_when_nothing_would_be_left(void **state)
{
	struct rig rig = { 0 };

	rig_new(&rig);
	rig_kill(&rig);
	super_break(&rig, "arena.00000001", 0);
	assert_int_equal(unlinkat(rig.dir_fd, "superblocks", 0), 0);
	assert_int_equal(rig_try_open(&rig), -EBADMSG);
	assert_non_null(strstr(engine_error(NULL), "arena.00000001"));
	assert_true(exists(&rig, "arena.00000001"));
	rig_free(&rig);
}

/* ---- the index, while it is used */

/* Flips bits of a row's value wherever it is in the file; LMDB maps it. */
static void rot_value(const struct rig *rig, const uint8_t *value, size_t len)
{
	struct stat st;
	char path[96];
	uint8_t *data;
	int fd, num = 0;

	rig_path(rig, "index", path);
	fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	data = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, data, (size_t)st.st_size, 0), st.st_size);
	for (size_t i = 0; i + len <= (size_t)st.st_size; i++) {
		uint8_t flipped = value[0] ^ 1;

		if (memcmp(data + i, value, len) != 0)
			continue;
		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
		num++;
	}
	assert_true(num > 0);
	free(data);
	close(fd);
}

static void failed__a_damaged_row_ends_the_engine_and_the_next_one_is_whole(void **state)
{
	struct rig rig;
	uint64_t before = store_new(&rig);
	struct place place;
	uint8_t tag[32], id[32], object[40];

	memset(tag, 0x5a, sizeof(tag));
	memset(object, 0xa5, sizeof(object));
	assert_int_equal(engine_put_object(rig.engine, tag, object, sizeof(object), id), 0);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	rot_value(&rig, id, sizeof(id));
	assert_int_equal(engine_have(rig.engine, tag, id), -EUCLEAN);
	assert_int_equal(engine_tick(rig.engine), -EIO);
	assert_true(exists(&rig, "rebuild"));
	rig_kill(&rig);
	rig_open(&rig);
	assert_true(rig.engine->was_rebuilt);
	assert_false(exists(&rig, "rebuild"));
	assert_int_equal(engine_have(rig.engine, tag, id), 0);
	assert_int_equal(engine_locate(rig.engine, id, &place), 0);
	assert_true(rig_digest(&rig, true) == before);
	assert_int_equal(engine_tick(rig.engine), 0);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failed__an_arena_is_written_again_from_where_it_was_durable),
		cmocka_unit_test(failed__the_marker_stays_until_all_is_written),
		cmocka_unit_test(failed__the_index_is_made_anew_if_it_was_that_or_nobody_knows),
		cmocka_unit_test(failed__a_superblock_is_mended_from_its_copy),
		cmocka_unit_test(failed__without_a_copy_an_arena_is_set_aside),
		cmocka_unit_test(failed__the_last_arena_may_be_set_aside),
		cmocka_unit_test(failed__nothing_is_set_aside_when_nothing_would_be_left),
		cmocka_unit_test(failed__a_damaged_row_ends_the_engine_and_the_next_one_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
