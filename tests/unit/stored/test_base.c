/*
 * Bases: changes go, and a rebuild of the index gives every row that was there before, at once and
 * after damage.
 */
#include "peers.h"
#include "rig.h"

#include "stored/base.h"
#include "stored/bulk.h"
#include "stored/crc32c.h"
#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/prune.h"
#include "stored/settings.h"
#include "stored/snapshot.h"

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

#define FILES_MAX 300

static struct entry entry;

struct live {
	struct rig rig;
	uint64_t seed;
	uint64_t dirs[20], files[FILES_MAX], lids[FILES_MAX];
	size_t num_dirs, num_files;
	unsigned snapshots;
};

static uint64_t any(struct live *l, uint64_t below)
{
	return rig_random(&l->seed) % below;
}

static void live_new(struct live *l, uint64_t base_size)
{
	memset(l, 0, sizeof(*l));
	l->seed = rig_seed();
	l->rig.options.arena_size = 64u << 10;
	l->rig.options.base_size = base_size;
	rig_new(&l->rig);
	l->dirs[l->num_dirs++] = TREE_ROOT;
}

static void write_some(struct live *l, size_t i)
{
	static const size_t sizes[] = { 100, 900, 1500, 4000 };

	entry_start(&entry, 0);
	put_body(&entry, l->files[i], rig_random(&l->seed), sizes[any(l, 4)]);
	if (any(l, 4) == 0)
		put_xattr(&entry, l->files[i], any(l, 2) ? "a" : "b", any(l, 99), any(l, 2000));
	assert_int_equal(rig_apply(&l->rig, &entry), 0);
}

static void unlink_one(struct live *l, size_t i)
{
	rig_unlink(&l->rig, l->lids[i], l->files[i], any(l, 2));
	l->num_files--;
	l->files[i] = l->files[l->num_files];
	l->lids[i] = l->lids[l->num_files];
}

static void put_object(struct live *l)
{
	static uint8_t data[20000];
	uint8_t id[32];
	size_t len = 100 + any(l, sizeof(data) - 100);

	memcpy(data, &l->seed, sizeof(l->seed));
	assert_int_equal(engine_put_object(l->rig.engine, NULL, data, len, id), 0);
}

static void snapshot_one(struct live *l)
{
	uint8_t tag[16] = { 0 };
	uint64_t time;

	tag[0] = (uint8_t)(1 + l->snapshots++ % 6);
	if (snapshot_create(l->rig.engine, l->rig.vol, tag, tag, 16, &time) == -EEXIST)
		assert_int_equal(snapshot_remove(l->rig.engine, l->rig.vol, tag), 0);
}

static void operate(struct live *l)
{
	size_t i = l->num_files ? any(l, l->num_files) : 0;
	char name[16];

	snprintf(name, sizeof(name), "n%u", (unsigned)any(l, 100000));
	switch (l->num_files < 5 ? 9 : any(l, 14)) {
	case 0:
		unlink_one(l, i);
		break;
	case 1:
		entry_start(&entry, 0);
		put_link(
			&entry, l->lids[i], l->dirs[any(l, l->num_dirs)], name, l->files[i], false);
		assert_int_equal(rig_apply(&l->rig, &entry), 0);
		break;
	case 2:
		if (l->num_dirs == 20)
			break;
		l->dirs[l->num_dirs] = rig_dir(&l->rig, l->dirs[any(l, l->num_dirs)], name);
		l->num_dirs++;
		break;
	case 3:
		put_object(l);
		break;
	case 4:
		if (any(l, 20) == 0)
			snapshot_one(l);
		break;
	case 8:
	case 9:
		if (l->num_files == FILES_MAX)
			break;
		l->files[l->num_files] = rig_file(
			&l->rig, l->dirs[any(l, l->num_dirs)], name, &l->lids[l->num_files]);
		l->num_files++;
		break;
	default:
		write_some(l, i);
	}
}

static void forget(struct live *l)
{
	const struct retention_policy nothing = { 0 };
	bool more;

	assert_int_equal(prune_policy_set(l->rig.engine, l->rig.vol, &nothing), 0);
	for (int i = 0; i < 2; i++) {
		prune_want(l->rig.vol);
		do
			assert_int_equal(prune_tick(l->rig.engine, &more), 0);
		while (more);
		/* As between two passes of a server: what is deleted is gone from the index. */
		assert_int_equal(engine_checkpoint(l->rig.engine), 0);
	}
}

static struct gc_report collect(struct rig *rig, bool is_dry)
{
	struct gc_options options = { .is_final = true, .roll = 1, .is_dry = is_dry };
	struct gc_report report;
	int r;

	assert_int_equal(engine_flush(rig->engine), 0);
	assert_int_equal(gc_begin(rig->engine, &options), 0);
	while ((r = gc_step(rig->engine)) > 0)
		;
	assert_int_equal(r, 0);
	report = *gc_report(rig->engine);
	gc_end(rig->engine);
	for (int i = 0; i < 20; i++)
		assert_int_equal(engine_tick(rig->engine), 0);
	return report;
}

/* Every row that changes make, as a sum. */
static uint64_t rows_of(struct rig *rig)
{
	uint64_t sum = 0, num = 0;

	assert_int_equal(engine_checkpoint(rig->engine), 0);
	for (unsigned i = 0; i < BASE_TABLES; i++) {
		const char *prefix = base_prefix(i);
		struct db_iter it;
		int r;

		r = db_iter_first(
			&it, txn(rig->engine), base_table(i), prefix, strlen(prefix), NULL, 0);
		for (; r == 1; r = db_iter_next(&it), num++)
			sum = sum * 0x100000001b3u +
			      crc32c(crc32c(i + 1, it.key, it.key_len), it.value, it.value_len);
		assert_int_equal(r, 0);
		db_iter_close(&it);
	}
	return sum * 1000003 + num;
}

/* What there is at each instant that has a name, and now: far parts are read as well. */
static uint64_t trees_of(struct rig *rig)
{
	static const uint8_t zero[16];
	struct snapshot list[8];
	uint64_t sum;
	size_t num;
	bool end;

	sum = rig_digest(rig, true);
	assert_int_equal(snapshot_list(rig->engine, rig->vol, zero, list, 8, &num, &end), 0);
	for (size_t i = 0; i < num; i++) {
		rig->at = list[i].time;
		sum = sum * 31 + rig_digest(rig, true);
	}
	rig->at = 0;
	return sum;
}

static uint64_t disk_of(struct rig *rig)
{
	uint64_t blocks = 0;
	struct stat st;

	for (size_t i = 0; i < rig->engine->arenas.num; i++) {
		int fd = arenas_fd(&rig->engine->arenas, rig->engine->arenas.list[i].number);

		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		blocks += (uint64_t)st.st_blocks;
	}
	return blocks * 512;
}

static void reopen(struct rig *rig, bool rebuild)
{
	rig_kill(rig);
	rig->options.rebuild = rebuild;
	rig_open(rig);
}

/* A rebuild and a kill give the same rows and the same trees. */
static void check_same(struct rig *rig)
{
	uint64_t rows = rows_of(rig), trees = trees_of(rig);
	struct engine_stat stat;

	for (int i = 0; i < 3; i++) {
		reopen(rig, i < 2);
		assert_int_equal(rows_of(rig), rows);
		assert_int_equal(trees_of(rig), trees);
		assert_int_equal(engine_stat(rig->engine, &stat), 0);
		assert_int_equal(stat.damaged, 0);
	}
}

static int num_bases(struct rig *rig)
{
	struct base_list list;

	assert_int_equal(base_list(rig->engine, &list), 0);
	return list.num;
}

static void base__touches_of_a_file_take_no_room(void **state)
{
	struct gc_report report;
	uint64_t full, oid;
	struct live l;

	live_new(&l, 256 << 10);
	l.rig.options.arena_size = 4 << 20;
	reopen(&l.rig, false);
	oid = rig_file(&l.rig, TREE_ROOT, "f", NULL);
	for (int i = 0; i < 100000; i++) {
		entry_start(&entry, 0);
		put_attr(&entry, oid, false, (uint64_t)i);
		assert_int_equal(rig_apply(&l.rig, &entry), 0);
		if (i % 10000 == 0)
			assert_int_equal(engine_tick(l.rig.engine), 0);
	}
	full = disk_of(&l.rig);
	forget(&l);
	/* The first base frees nothing, and tells how much the second would. */
	report = collect(&l.rig, false);
	assert_true(report.written > 0 && report.awaiting > full / 2);
	report = collect(&l.rig, false);
	assert_true(report.written > 0 && report.awaiting == 0);
	assert_true(disk_of(&l.rig) < full / 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(collect(&l.rig, false).awaiting, 0);
	print_message("%llu bytes of %llu in %zu arenas\n", (unsigned long long)disk_of(&l.rig),
		(unsigned long long)full, l.rig.engine->arenas.num);
	assert_true(disk_of(&l.rig) < full / 20);
	assert_true(l.rig.engine->arenas.list[0].number > 1);
	check_same(&l.rig);
	rig_free(&l.rig);
}

static void base__a_rebuild_gives_every_row(void **state)
{
	struct live l;

	live_new(&l, 4096);
	l.rig.options.base_percent = 10;
	reopen(&l.rig, false);
	for (int round = 0; round < 12; round++) {
		for (int i = 0; i < 300; i++)
			operate(&l);
		if (round % 4 == 3)
			forget(&l);
		collect(&l.rig, false);
		check_same(&l.rig);
	}
	assert_int_equal(num_bases(&l.rig), BASE_KEPT);
	rig_free(&l.rig);
}

/* ---- damage */

static void flip(struct rig *rig, struct place place)
{
	char path[96], name[32];
	int byte;
	FILE *f;

	snprintf(name, sizeof(name), "arena.%08u", place.arena);
	rig_path(rig, name, path);
	f = fopen(path, "r+");
	assert_non_null(f);
	fseek(f, (long)(place.offset + place.len / 2), SEEK_SET);
	byte = fgetc(f);
	fseek(f, (long)(place.offset + place.len / 2), SEEK_SET);
	fputc(byte ^ 4, f);
	fclose(f);
}

/* Two bases, and changes behind them. */
static void live_based(struct live *l)
{
	live_new(l, 1);
	l->rig.options.base_percent = 1;
	reopen(&l->rig, false);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 400; i++)
			operate(l);
		collect(&l->rig, false);
	}
	for (int i = 0; i < 50; i++)
		operate(l);
	assert_int_equal(num_bases(&l->rig), BASE_KEPT);
}

static void base_of(struct rig *rig, int i, struct base *ret)
{
	struct base_list list;
	struct base_reader reader;

	assert_int_equal(base_list(rig->engine, &list), 0);
	assert_int_equal(base_reader_begin(&reader, rig->engine, list.frames[i]), 0);
	*ret = reader.base;
	reader.base = (struct base){ 0 };
	base_reader_end(&reader);
}

/* One of its FRAME_ROWS, or itself. */
static void damage(struct live *l, int i, bool rows)
{
	struct base base;

	base_of(&l->rig, i, &base);
	flip(&l->rig, rows || any(l, 3) ? base.rows[any(l, base.num)] : base.frame);
	base_release(&base);
}

static void base__a_damaged_one_leaves_the_one_before(void **state)
{
	for (int round = 0; round < 8; round++) {
		struct engine_stat stat;
		uint64_t rows, trees;
		struct live l;

		live_based(&l);
		rows = rows_of(&l.rig);
		trees = trees_of(&l.rig);
		damage(&l, round % 2, false);
		reopen(&l.rig, true);
		assert_int_equal(rows_of(&l.rig), rows);
		assert_int_equal(trees_of(&l.rig), trees);
		assert_int_equal(engine_stat(l.rig.engine, &stat), 0);
		assert_true(stat.damaged > 0);
		rig_free(&l.rig);
	}
}

/* What cannot be read back lets nothing go. */
static void base__a_damaged_one_is_not_counted_on(void **state)
{
	uint64_t rows;
	struct live l;

	live_based(&l);
	damage(&l, 0, false);
	for (int i = 0; i < 300; i++)
		operate(&l);
	rows = rows_of(&l.rig);
	reopen(&l.rig, false);
	for (int i = 0; i < 4; i++)
		collect(&l.rig, false);
	assert_int_equal(num_bases(&l.rig), BASE_KEPT);
	assert_int_equal(rows_of(&l.rig), rows);
	reopen(&l.rig, true);
	assert_int_equal(rows_of(&l.rig), rows);
	rig_free(&l.rig);
}

/* One was found damaged, and later the next: what was before both is still of use. */
static void base__damage_twice_leaves_the_one_before_both(void **state)
{
	uint64_t rows;
	struct live l;

	live_based(&l);
	damage(&l, 0, true);
	for (int i = 0; i < 400; i++)
		operate(&l);
	reopen(&l.rig, false);
	/* Finds it, and writes another. */
	l.rig.engine->options.base_size = 1;
	collect(&l.rig, false);
	l.rig.engine->options.base_percent = UINT32_MAX;
	reopen(&l.rig, false);
	for (int i = 0; i < 50; i++)
		operate(&l);
	rows = rows_of(&l.rig);
	damage(&l, 0, true);
	reopen(&l.rig, true);
	assert_int_equal(rows_of(&l.rig), rows);
	rig_free(&l.rig);
}

static void base__when_none_is_whole_the_rest_is_there(void **state)
{
	for (int round = 0; round < 4; round++) {
		struct engine_stat stat;
		struct live l;

		live_based(&l);
		damage(&l, 0, true);
		damage(&l, 1, true);
		reopen(&l.rig, true);
		assert_int_equal(engine_stat(l.rig.engine, &stat), 0);
		assert_true(stat.damaged > 0);
		assert_true(l.rig.engine->lost_at > 0);
		/* It serves, and nothing more goes on the account of what was lost. */
		rig_file(&l.rig, TREE_ROOT, "new", NULL);
		assert_int_equal(collect(&l.rig, false).written, 0);
		rig_free(&l.rig);
	}
}

static void copy(const struct rig *rig, const char *from, const char *to)
{
	char a[96], b[96], buf[4096];
	size_t n;
	FILE *in, *out;

	rig_path(rig, from, a);
	rig_path(rig, to, b);
	in = fopen(a, "r");
	out = fopen(b, "w");
	assert_true(in && out);
	while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
		assert_int_equal(fwrite(buf, 1, n, out), n);
	fclose(in);
	fclose(out);
}

/* A copy of the index from some time ago: what it would replay may be gone. */
static void base__an_index_that_is_too_old_is_made_anew(void **state)
{
	uint64_t rows;
	struct live l;

	live_based(&l);
	for (int i = 0; i < 300; i++)
		operate(&l);
	rig_close(&l.rig);
	copy(&l.rig, "index", "kept");
	rig_open(&l.rig);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 300; i++)
			operate(&l);
		collect(&l.rig, false);
	}
	rows = rows_of(&l.rig);
	rig_kill(&l.rig);
	copy(&l.rig, "kept", "index");
	rig_open(&l.rig);
	assert_true(l.rig.engine->was_rebuilt);
	assert_int_equal(rows_of(&l.rig), rows);
	rig_free(&l.rig);
}

/* ---- beside other things */

/* Syncs, and undoing them, are changes too; of one that is staged nothing is cut in two. */
static void base__pulls_survive(void **state)
{
	static const uint8_t name[32] = { 7 };
	struct gc_options options = { .is_final = true, .roll = 1 };
	struct peers_model model = { .dirs = { TREE_ROOT }, .num_dirs = 1 };
	uint8_t known[TREE_KNOWLEDGE_SIZE];
	struct rig other = { 0 };
	struct pull *pull;
	struct live l;
	size_t len;

	live_based(&l);
	peers_join(&other, &l.rig);
	peers_name = name;
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 60; i++)
			peers_random_op(&other, &model, &l.seed);
		assert_true(peers_pull(&l.rig, &other) >= 0);
		for (int i = 0; i < 60; i++)
			operate(&l);
		assert_true(peers_pull(&other, &l.rig) >= 0);
		collect(&l.rig, false);
		check_same(&l.rig);
	}
	assert_true(db_rows(txn(l.rig.engine), DB_PULLS) > 0);
	for (int i = 0; i < 800; i++)
		operate(&l);
	assert_int_equal(gc_begin(l.rig.engine, &options), 0);
	assert_int_equal(engine_pull_begin(l.rig.engine, l.rig.vol, &pull, known, &len), 0);
	for (int i = 0; i < 1000; i++)
		assert_true(gc_step(l.rig.engine) > 0);
	assert_int_equal(gc_report(l.rig.engine)->written, 0);
	engine_pull_abort(l.rig.engine, pull);
	while (gc_step(l.rig.engine) > 0)
		;
	assert_true(gc_report(l.rig.engine)->written > 0);
	gc_end(l.rig.engine);
	check_same(&l.rig);
	peers_name = NULL;
	rig_free(&other);
	rig_free(&l.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base__touches_of_a_file_take_no_room),
		cmocka_unit_test(base__a_rebuild_gives_every_row),
		cmocka_unit_test(base__a_damaged_one_leaves_the_one_before),
		cmocka_unit_test(base__a_damaged_one_is_not_counted_on),
		cmocka_unit_test(base__damage_twice_leaves_the_one_before_both),
		cmocka_unit_test(base__when_none_is_whole_the_rest_is_there),
		cmocka_unit_test(base__an_index_that_is_too_old_is_made_anew),
		cmocka_unit_test(base__pulls_survive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
