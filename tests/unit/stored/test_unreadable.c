/*
 * Sectors that the disk cannot read any more, which is EIO and not other bytes: what lies there is
 * lost as if it had rotted, and nothing else is. A crash did not tear it off, so nothing is cut.
 */
#include "peers.h"

#include "stored/engine_state.h"
#include "stored/scrub.h"
#include "stored/settings.h"

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

#define OBJECT 10000
#define FILES  60

static struct store_io io;
static struct page page;

/* [from, to) of one arena. */
static struct {
	uint32_t arena;
	uint64_t from, to;
} lost;

static bool is_lost(int fd, uint64_t offset, size_t len)
{
	char link[32], path[128], name[32];
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	snprintf(name, sizeof(name), "/arena.%08u", lost.arena);
	size = readlink(link, path, sizeof(path) - 1);
	if (size < (ssize_t)strlen(name))
		return false;
	path[size] = '\0';
	return strcmp(path + size - strlen(name), name) == 0 && offset < lost.to &&
	       offset + len > lost.from;
}

static ssize_t losing_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
	if (!is_lost(fd, offset, len))
		return store_io_file.pread(ctx, fd, data, len, offset);
	if (offset >= lost.from)
		return -EIO;
	return store_io_file.pread(ctx, fd, data, (size_t)(lost.from - offset), offset);
}

static void lose(uint32_t arena, uint64_t from, uint64_t to)
{
	lost.arena = arena;
	lost.from = from;
	lost.to = to;
}

static struct rig store(uint64_t arena_size)
{
	io = store_io_file;
	io.pread = losing_pread;
	lose(0, 0, 0);
	return (struct rig){ .options = { .io = &io, .arena_size = arena_size } };
}

/* An object of many blocks; where its frame begins. */
static struct place put_object(struct rig *rig, uint8_t value, uint8_t ret_id[32])
{
	struct place at = arenas_next(&rig->engine->arenas);
	uint8_t *object = malloc(OBJECT);

	memset(object, value, OBJECT);
	assert_int_equal(engine_put_object(rig->engine, NULL, object, OBJECT, ret_id), 0);
	free(object);
	return at;
}

static void rebuild(struct rig *rig)
{
	rig->options.rebuild = true;
	rig_open(rig);
	rig->options.rebuild = false;
}

static uint64_t damaged(struct rig *rig)
{
	struct engine_stat stat;

	assert_int_equal(engine_stat(rig->engine, &stat), 0);
	return stat.damaged;
}

static int look_up(struct rig *rig, const char *name)
{
	uint8_t tag[TREE_TAG_SIZE];

	tag_of(name, tag);
	return engine_lookup(rig->engine, rig->vol, TREE_ROOT, tag, page_init(&page));
}

static void unreadable__a_scrub_goes_on_behind_it(void **state)
{
	struct rig rig = store(0);
	struct scrub scrub = { 0 };
	struct place place;
	uint8_t ids[8][32];

	rig_new(&rig);
	for (int i = 0; i < 8; i++)
		place = put_object(&rig, (uint8_t)i, ids[i]);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	assert_int_equal(engine_locate(rig.engine, ids[3], &place), 0);
	lose(place.arena, place.offset + 5000, place.offset + 5001);
	assert_int_equal(scrub_start(rig.engine, &scrub, 0), 0);
	while (scrub.is_running)
		assert_true(scrub_step(rig.engine, &scrub, 20000) >= 0);
	assert_int_equal(scrub.objects, 8);
	assert_int_equal(scrub.damaged, 1);
	for (int i = 0; i < 8; i++)
		assert_int_equal(engine_locate(rig.engine, ids[i], &place), i == 3 ? -ENOENT : 0);
	rig_free(&rig);
}

/* Both an object and changes, in one step. */
static void unreadable__a_scrub_tells_objects_from_the_rest(void **state)
{
	struct rig rig = store(0);
	struct scrub scrub = { 0 };
	struct place at;
	uint8_t id[32];
	char path[96], zeros[8] = { 0 };
	int fd;

	rig_new(&rig);
	put_object(&rig, 1, id);
	at = arenas_next(&rig.engine->arenas);
	rig_file(&rig, TREE_ROOT, "b", NULL);
	put_object(&rig, 2, id);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	lose(1, 5000, 5001);
	rig_path(&rig, "arena.00000001", path);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), (off_t)at.offset), sizeof(zeros));
	close(fd);
	assert_int_equal(scrub_start(rig.engine, &scrub, 0), 0);
	while (scrub.is_running)
		assert_true(scrub_step(rig.engine, &scrub, 1 << 20) >= 0);
	assert_int_equal(scrub.damaged, 1);
	assert_true(scrub.lost_bytes > 100 && scrub.lost_bytes < 4000);
	rig_free(&rig);
}

static void unreadable__changes_are_skipped_and_told(void **state)
{
	struct rig rig = store(0);
	struct place at;
	uint8_t id[32];

	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	put_object(&rig, 1, id);
	at = arenas_next(&rig.engine->arenas);
	rig_file(&rig, TREE_ROOT, "b", NULL);
	put_object(&rig, 2, id);
	rig_file(&rig, TREE_ROOT, "c", NULL);
	rig_close(&rig);
	lose(at.arena, at.offset, at.offset + 8);
	rebuild(&rig);
	assert_true(damaged(&rig) > 0);
	assert_int_equal(look_up(&rig, "a"), 0);
	assert_int_equal(look_up(&rig, "b"), -ENOENT);
	assert_int_equal(look_up(&rig, "c"), 0);
	rig_free(&rig);
}

/* The index would say that it covers them. */
static void unreadable__changes_behind_the_index_are_waited_for(void **state)
{
	struct rig rig = store(0);
	struct place at;

	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	at = arenas_next(&rig.engine->arenas);
	rig_file(&rig, TREE_ROOT, "b", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	rig_file(&rig, TREE_ROOT, "c", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	rig_kill(&rig);
	lose(at.arena, at.offset, at.offset + 8);
	assert_int_equal(rig_try_open(&rig), -EIO);
	lose(0, 0, 0);
	rig_open(&rig);
	assert_int_equal(damaged(&rig), 0);
	assert_int_equal(look_up(&rig, "b"), 0);
	assert_int_equal(look_up(&rig, "c"), 0);
	/* Nor while the engine goes back to them. */
	rig_kill(&rig);
	rig_open(&rig);
	at = arenas_next(&rig.engine->arenas);
	rig_file(&rig, TREE_ROOT, "d", NULL);
	rig_file(&rig, TREE_ROOT, "e", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	lose(at.arena, at.offset, at.offset + 8);
	assert_int_equal(engine_rollback(rig.engine), -EIO);
	assert_int_equal(engine_checkpoint(rig.engine), -EIO);
	lose(0, 0, 0);
	rig_kill(&rig);
	rig_open(&rig);
	assert_int_equal(look_up(&rig, "d"), 0);
	assert_int_equal(look_up(&rig, "e"), 0);
	rig_free(&rig);
}

static void unreadable__the_end_is_not_cut(void **state)
{
	struct rig rig = store(0);
	struct place at;
	uint8_t id[32];

	rig_new(&rig);
	put_object(&rig, 1, id);
	at = arenas_next(&rig.engine->arenas);
	rig_file(&rig, TREE_ROOT, "b", NULL);
	assert_int_equal(engine_sync(rig.engine), 0);
	rig_kill(&rig);
	lose(at.arena, at.offset, at.offset + 8);
	for (int i = 0; i < 2; i++) {
		rig.options.rebuild = i == 1;
		assert_int_equal(rig_try_open(&rig), -EIO);
	}
	lose(0, 0, 0);
	rebuild(&rig);
	assert_int_equal(damaged(&rig), 0);
	assert_int_equal(look_up(&rig, "b"), 0);
	rig_free(&rig);
}

/* Several arenas, sealed, with footers of many blocks. */
static uint64_t store_sealed(struct rig *rig)
{
	uint64_t digest;

	*rig = store(64 << 10);
	rig_new(rig);
	for (int i = 0; i < FILES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		rig_file(rig, TREE_ROOT, name, NULL);
		for (uint64_t n = 0; n < 20; n++) {
			uint64_t small[8] = { (uint64_t)i * 20 + n };
			uint8_t id[32];

			assert_int_equal(engine_put_object(rig->engine, NULL, (uint8_t *)small,
						 sizeof(small), id),
				0);
		}
	}
	digest = rig_digest(rig, true);
	for (int i = 0; i < 10; i++)
		assert_int_equal(engine_tick(rig->engine), 0);
	assert_true(rig->engine->arenas.num > 3 && rig->engine->arenas.list[1].is_sealed);
	return digest;
}

static void unreadable__a_superblock_has_a_copy(void **state)
{
	struct rig rig = store(16 << 10);
	uint8_t id[32];

	rig_new(&rig);
	for (int i = 0; i < 6; i++)
		put_object(&rig, (uint8_t)i, id);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	rig_kill(&rig);
	lose(2, 0, 1);
	rig_open(&rig);
	assert_int_equal(rig.engine->arenas.num_notes, 1);
	assert_int_equal(rig.engine->arenas.num_aside, 0);
	rig_kill(&rig);
	/* Without it nothing is set aside that may be read again tomorrow. */
	assert_int_equal(unlinkat(rig.dir_fd, "superblocks", 0), 0);
	assert_int_equal(rig_try_open(&rig), -EIO);
	lose(0, 0, 0);
	rig_open(&rig);
	assert_int_equal(rig.engine->arenas.num_aside, 0);
	rig_free(&rig);
}

static void unreadable__a_footer_is_done_without(void **state)
{
	struct rig rig;
	uint64_t digest = store_sealed(&rig), footer, size;
	struct stat st;
	char path[96];

	footer = rig.engine->arenas.list[1].size;
	rig_path(&rig, "arena.00000002", path);
	assert_int_equal(stat(path, &st), 0);
	size = (uint64_t)st.st_size;
	assert_true(size > footer + 20000);
	for (int i = 0; i < 3; i++) {
		const uint64_t at[] = { footer + 5000, size - 8000, size - 1 };

		rig_kill(&rig);
		lose(2, at[i], at[i] + 1);
		rebuild(&rig);
		assert_int_equal(damaged(&rig), 0);
		assert_true(rig_digest(&rig, true) == digest);
	}
	rig_free(&rig);
}

/* Its footer would say for ever that something is not there. */
static void unreadable__an_arena_is_not_sealed(void **state)
{
	struct rig rig = store(16 << 10);
	uint64_t digest;
	uint8_t id[32];

	rig_new(&rig);
	put_object(&rig, 1, id);
	rig_file(&rig, TREE_ROOT, "f", NULL);
	put_object(&rig, 2, id);
	put_object(&rig, 3, id);
	assert_true(rig.engine->arenas.num > 1);
	digest = rig_digest(&rig, true);
	lose(1, 11000, 11001);
	for (int i = 0; i < 3; i++)
		assert_int_equal(engine_tick(rig.engine), 0);
	assert_false(rig.engine->arenas.list[0].is_sealed);
	lose(0, 0, 0);
	for (int i = 0; i < 2; i++) {
		rig_close(&rig);
		rebuild(&rig);
		assert_int_equal(damaged(&rig), 0);
		assert_true(rig_digest(&rig, true) == digest);
		assert_int_equal(engine_tick(rig.engine), 0);
		assert_true(rig.engine->arenas.list[0].is_sealed);
	}
	rig_free(&rig);
}

/* What a pull refers to lies in frames of its own. */
static void unreadable__what_was_pulled_is_skipped_and_told(void **state)
{
	struct rig a = { 0 }, b = store(0);
	struct place at;
	uint8_t id[32];

	rig_new(&a);
	peers_join(&b, &a);
	for (int i = 0; i < FILES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		rig_file(&a, TREE_ROOT, name, NULL);
	}
	put_object(&b, 1, id);
	at = arenas_next(&b.engine->arenas);
	assert_int_equal(peers_pull(&b, &a), 0);
	rig_file(&b, TREE_ROOT, "later", NULL);
	rig_close(&b);
	lose(at.arena, at.offset, at.offset + 8);
	rebuild(&b);
	assert_true(damaged(&b) > 0);
	assert_int_equal(look_up(&b, "later"), 0);
	rig_free(&a);
	rig_free(&b);
}

/* The others in its directory are there, and its name is. */
static void unreadable__a_record_hides_no_other(void **state)
{
	static struct entry entry;
	struct rig rig = store(0);
	struct tree_record rec;
	struct place at = { 0 };
	uint64_t oids[3];
	uint8_t id[32];

	rig_new(&rig);
	for (uint64_t i = 0; i < 3; i++) {
		char name[2] = { (char)('a' + i) };

		oids[i] = rig_file(&rig, TREE_ROOT, name, NULL);
		put_object(&rig, (uint8_t)i, id);
		if (i == 1)
			at = arenas_next(&rig.engine->arenas);
		entry_start(&entry, 0);
		put_body(&entry, oids[i], i, 6000);
		assert_int_equal(rig_apply(&rig, &entry), 0);
		put_object(&rig, (uint8_t)(10 + i), id);
	}
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	lose(at.arena, at.offset + 4096, at.offset + 4097);
	assert_int_equal(engine_dir(rig.engine, rig.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_true(page.page.end);
	assert_int_equal(page.page.num_nodes, 3);
	for (int i = 0; i < 3; i++) {
		assert_true(page_find(&page, TREE_ATTR, oids[i], &rec));
		assert_true(page_find(&page, TREE_BODY, oids[i], &rec));
		assert_int_equal(rec.sealed_len, i == 1 ? 0 : 6000);
	}
	assert_int_equal(look_up(&rig, "b"), 0);
	/* Told once. */
	assert_int_equal(rig.engine->num_ranges, 1);
	rig_free(&rig);
}

/* b has what a has lost. a says that it knows of it, so to b it would be deleted. */
static void unreadable__what_is_lost_is_not_deleted_at_a_peer(void **state)
{
	struct rig a = store(0), b = { 0 }, c = { 0 };
	uint8_t known[2 * TREE_KNOWLEDGE_SIZE], asked[TREE_KNOWLEDGE_SIZE];
	struct serve_info info = { .known = known };
	struct serve *serve;
	struct place at;
	uint8_t id[32];
	int len;

	rig_new(&a);
	peers_join(&b, &a);
	peers_join(&c, &a);
	put_object(&a, 1, id);
	at = arenas_next(&a.engine->arenas);
	rig_file(&a, TREE_ROOT, "lost", NULL);
	put_object(&a, 2, id);
	assert_int_equal(peers_pull(&b, &a), 0);
	rig_file(&a, TREE_ROOT, "later", NULL);
	rig_close(&a);
	lose(at.arena, at.offset, at.offset + 8);
	rebuild(&a);
	assert_int_equal(look_up(&a, "lost"), -ENOENT);
	for (int i = 0; i < 3; i++) {
		len = tree_knowledge_encode(&b.vol->state.known, asked, sizeof(asked));
		assert_int_equal(
			engine_serve_begin(a.engine, a.vol, asked, (size_t)len, &serve, &info),
			-EUCLEAN);
		/* Nor after the next start, and when another rebuild can read everything. */
		rig_close(&a);
		if (i == 1)
			lose(0, 0, 0);
		a.options.rebuild = i == 1;
		rig_open(&a);
		a.options.rebuild = false;
	}
	assert_true(settings_lost_at(a.engine, a.vol->id) > 0);
	/* A new copy is served. */
	assert_int_equal(settings_volume_remove(a.engine, "v"), 0);
	assert_int_equal(settings_volume_add(
				 a.engine, "v", b.vol->id, "default", (const uint8_t *)"keyid678"),
		0);
	a.vol = engine_volume_named(a.engine, "v");
	assert_int_equal(peers_pull(&a, &b), 0);
	assert_int_equal(look_up(&a, "lost"), 0);
	assert_int_equal(peers_pull(&c, &a), 0);
	assert_int_equal(look_up(&c, "lost"), 0);
	rig_free(&a);
	rig_free(&b);
	rig_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unreadable__a_scrub_goes_on_behind_it),
		cmocka_unit_test(unreadable__a_scrub_tells_objects_from_the_rest),
		cmocka_unit_test(unreadable__changes_are_skipped_and_told),
		cmocka_unit_test(unreadable__changes_behind_the_index_are_waited_for),
		cmocka_unit_test(unreadable__the_end_is_not_cut),
		cmocka_unit_test(unreadable__a_superblock_has_a_copy),
		cmocka_unit_test(unreadable__a_footer_is_done_without),
		cmocka_unit_test(unreadable__an_arena_is_not_sealed),
		cmocka_unit_test(unreadable__what_was_pulled_is_skipped_and_told),
		cmocka_unit_test(unreadable__what_is_lost_is_not_deleted_at_a_peer),
		cmocka_unit_test(unreadable__a_record_hides_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
