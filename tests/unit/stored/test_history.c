#include "peers.h"

#include "stored/history.h"
#include "stored/prune.h"
#include "stored/referrers.h"
#include "stored/snapshot.h"
#include "stored/undo.h"
#include "stored/versions.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)
#define DAY    (24 * HOUR)

static struct page page;
static struct entry entry;

/* A clock that the test moves. */
static uint64_t clock_now;

static uint64_t now(void *ctx)
{
	return clock_now;
}

static struct store_io io;

static void use_clock(struct rig *rig)
{
	io = store_io_file;
	io.now = now;
	rig->options.io = &io;
}

/* What the tree was at an instant. */
struct moment {
	uint64_t at, sum;
};

struct diary {
	struct moment *list;
	size_t num, cap;
};

static void diary_add(struct diary *d, struct rig *rig)
{
	uint64_t at = rig->vol->time;

	if (at == 0)
		return; /* nothing happened yet */
	if (d->num > 0 && d->list[d->num - 1].at == at)
		d->num--;
	if (d->num == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 64;
		d->list = realloc(d->list, d->cap * sizeof(*d->list));
		assert_non_null(d->list);
	}
	rig->at = 0;
	d->list[d->num++] = (struct moment){ at, rig_digest(rig, false) };
}

/* Every step'th moment is what it was then, read at its instant and just before the next change. */
static void diary_check(const struct diary *d, struct rig *rig, size_t step)
{
	for (size_t i = 0; i < d->num; i += step) {
		rig->at = d->list[i].at;
		if (rig_digest(rig, false) != d->list[i].sum)
			fail_msg("moment %zu of %zu is another one", i, d->num);
		if (i + 1 == d->num)
			continue;
		rig->at = d->list[i + 1].at - 1;
		if (rig_digest(rig, false) != d->list[i].sum)
			fail_msg("moment %zu of %zu ends early", i, d->num);
	}
	rig->at = 0;
}

static void reopen(struct rig *rig, unsigned how)
{
	assert_int_equal(engine_flush(rig->engine), 0);
	if (how == 0)
		rig_close(rig);
	else
		rig_kill(rig);
	rig->options.rebuild = how == 2;
	rig_open(rig);
}

static void history__every_instant_is_what_the_tree_was_then(void **state)
{
	struct peers_model model = { .dirs = { TREE_ROOT }, .num_dirs = 1 };
	struct rig peers[2] = { 0 };
	struct diary diaries[2] = { 0 };
	uint64_t seed = rig_seed();

	peers[0].is_thorough = peers[1].is_thorough = true;
	peers[0].options.checkpoint_ops = 40;
	rig_new(&peers[0]);
	peers_join(&peers[1], &peers[0]);
	for (int i = 0; i < 400; i++) {
		size_t p = rig_random(&seed) % 2;
		uint64_t what = rig_random(&seed) % 40;

		if (what < 2)
			assert_in_range(peers_pull(&peers[p], &peers[1 - p]), 0, 1);
		else if (what == 2)
			reopen(&peers[p], rig_random(&seed) % 3);
		else if (what == 3)
			assert_int_equal(engine_checkpoint(peers[p].engine), 0);
		else if (what == 4)
			volume_attached(peers[p].vol, rig_random(&seed) & 1);
		else
			peers_random_op(&peers[p], &model, &seed);
		diary_add(&diaries[p], &peers[p]);
	}
	for (size_t p = 0; p < 2; p++) {
		diary_check(&diaries[p], &peers[p], 1);
		for (unsigned how = 0; how < 3; how++) {
			reopen(&peers[p], how);
			diary_check(&diaries[p], &peers[p], 7);
		}
		/* The future is the present, and before the beginning there was nothing. */
		peers[p].at = UINT64_MAX;
		assert_true(
			rig_digest(&peers[p], false) == diaries[p].list[diaries[p].num - 1].sum);
		peers[p].at = 1;
		assert_true(rig_digest(&peers[p], false) == 0);
		free(diaries[p].list);
		rig_free(&peers[p]);
	}
}

static void history__a_directory_of_many_that_are_gone_comes_in_pages(void **state)
{
	enum { num = 30000 };
	struct rig rig = { 0 };
	uint64_t *lids = calloc(num, sizeof(*lids)), *oids = calloc(num, sizeof(*oids));
	uint64_t with, after = 0, pages = 0, found = 0;
	char name[24];

	assert_non_null(lids);
	assert_non_null(oids);
	rig_new(&rig);
	for (int i = 0; i < num; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		oids[i] = rig_file(&rig, TREE_ROOT, name, &lids[i]);
	}
	with = rig.vol->time;
	for (int i = 0; i < num; i++)
		rig_unlink(&rig, lids[i], oids[i], true);
	rig_file(&rig, TREE_ROOT, "last", NULL);
	do { /* nothing of it was there any more */
		page_init(&page)->at = rig.vol->time;
		assert_int_equal(
			engine_dir(rig.engine, rig.vol, TREE_ROOT, after, 0, &page.page), 0);
		assert_true(page.page.end || page.page.next > after);
		after = page.page.next;
		found += page.page.num_nodes;
		pages++;
	} while (!page.page.end);
	assert_int_equal(found, 1);
	assert_in_range(pages, 2, 4);
	after = found = 0;
	do {
		page_init(&page)->at = with;
		assert_int_equal(
			engine_dir(rig.engine, rig.vol, TREE_ROOT, after, 0, &page.page), 0);
		after = page.page.next;
		found += page.page.num_nodes;
	} while (!page.page.end);
	assert_int_equal(found, num);
	page_init(&page)->at = with;
	assert_int_equal(engine_inode(rig.engine, rig.vol, TREE_ROOT, &page.page), -ENOENT);
	free(lids);
	free(oids);
	rig_free(&rig);
}

static void history__the_same_value_under_another_stamp_is_no_version(void **state)
{
	struct rig rig = { 0 };
	uint64_t oid, rows;

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "f", NULL);
	entry_start(&entry, 0);
	put_body(&entry, oid, 5, 2000);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	rows = rig.vol->num_history;
	entry_start(&entry, 0);
	put_body(&entry, oid, 5, 2000);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(rig.vol->num_history, rows);
	entry_start(&entry, 0);
	put_body(&entry, oid, 6, 2000);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	assert_int_equal(rig.vol->num_history, rows + 1);
	rig_free(&rig);
}

static void history__times_ascend_when_the_clock_does_not(void **state)
{
	struct rig rig = { 0 };
	uint64_t last;

	use_clock(&rig);
	clock_now = 1000 * DAY;
	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	last = rig.vol->time;
	assert_true(last == clock_now);
	clock_now = 10 * DAY;
	rig_file(&rig, TREE_ROOT, "b", NULL);
	assert_true(rig.vol->time == last + 1);
	reopen(&rig, 2);
	assert_true(rig.vol->time == last + 1);
	rig_free(&rig);
}

/* ---- snapshots */

static uint64_t rows_of_all(struct rig *rig)
{
	uint64_t num = 0;

	for (int table = 0; table < DB_NUM; table++)
		num += db_rows(txn(rig->engine), (enum db_table)table);
	return num;
}

static void history__a_snapshot_is_one_row_and_survives(void **state)
{
	uint8_t tag[16] = { 7 }, other[16] = { 8 }, zero[16] = { 0 };
	struct snapshot list[4];
	struct rig rig = { 0 };
	uint64_t rows, at, before;
	size_t num;
	bool end;

	rig_new(&rig);
	for (int i = 0; i < 2000; i++)
		rig_file(&rig, TREE_ROOT, "f", NULL);
	rows = rows_of_all(&rig);
	before = rig_digest(&rig, false);
	assert_int_equal(snapshot_create(rig.engine, rig.vol, tag, (uint8_t *)"sealed", 6, &at), 0);
	assert_int_equal(rows_of_all(&rig), rows + 1);
	assert_int_equal(
		snapshot_create(rig.engine, rig.vol, tag, (uint8_t *)"again", 5, &at), -EEXIST);
	assert_int_equal(snapshot_remove(rig.engine, rig.vol, other), -ENOENT);
	rig_file(&rig, TREE_ROOT, "later", NULL);
	/* Nothing was flushed but by the snapshot: it is durable. */
	for (unsigned how = 1; how < 3; how++) {
		rig_kill(&rig);
		rig.options.rebuild = how == 2;
		rig_open(&rig);
		assert_int_equal(snapshot_list(rig.engine, rig.vol, zero, list, 4, &num, &end), 0);
		assert_int_equal(num, 1);
		assert_true(end);
		assert_memory_equal(list[0].tag, tag, 16);
		assert_int_equal(list[0].name_len, 6);
		assert_memory_equal(list[0].name, "sealed", 6);
		rig.at = list[0].time;
		assert_true(rig_digest(&rig, false) == before);
	}
	assert_int_equal(snapshot_list(rig.engine, rig.vol, tag, list, 4, &num, &end), 0);
	assert_int_equal(num, 0);
	assert_int_equal(snapshot_remove(rig.engine, rig.vol, tag), 0);
	reopen(&rig, 2);
	assert_int_equal(snapshot_list(rig.engine, rig.vol, zero, list, 4, &num, &end), 0);
	assert_int_equal(num, 0);
	rig_free(&rig);
}

/* ---- versions and differences */

static void history__versions_are_listed_oldest_first(void **state)
{
	struct version list[8];
	struct versions versions = { .list = list, .max = 8 };
	struct tree_key key = { .kind = TREE_BODY };
	struct tree_record rec;
	struct rig rig = { 0 };
	uint64_t lid, first, at = 0;
	size_t pos = 0, pages = 0, total = 0;

	rig_new(&rig);
	key.id = rig_file(&rig, TREE_ROOT, "f", &lid);
	first = rig.vol->time;
	for (uint64_t i = 1; i < 20; i++) {
		entry_start(&entry, 0);
		put_body(&entry, key.id, 1000 + i, i % 3 ? 20 : 3000);
		assert_int_equal(rig_apply(&rig, &entry), 0);
	}
	do {
		assert_int_equal(engine_versions(rig.engine, rig.vol, &key, 0, at, page_init(&page),
					 &versions),
			0);
		pos = 0;
		for (size_t i = 0; i < versions.num; i++, total++) {
			assert_true(list[i].since > at);
			assert_int_equal(
				tree_record_parse(page.records + pos, list[i].size, &rec), 0);
			pos += list[i].size;
			at = list[i].since;
			assert_true(total > 0 || at == first);
			assert_true((list[i].until == 0) == (total == 19));
		}
		assert_int_equal(pos, page.page.len);
		pages++;
	} while (!versions.end);
	assert_int_equal(total, 20);
	assert_int_equal(pages, 3);
	rig_free(&rig);
}

static void history__a_name_tells_what_stood_under_it(void **state)
{
	struct version list[8];
	struct versions versions = { .list = list, .max = 8 };
	struct tree_key key = { .kind = TREE_LINK };
	struct tree_record rec;
	struct rig rig = { 0 };
	uint64_t oid[3], lid;

	rig_new(&rig);
	for (int i = 0; i < 3; i++) {
		oid[i] = rig_file(&rig, TREE_ROOT, "name", &lid);
		if (i < 2)
			rig_unlink(&rig, lid, oid[i], true);
		rig_file(&rig, TREE_ROOT, "other", NULL);
	}
	tag_of("name", key.tag);
	assert_int_equal(engine_versions(rig.engine, rig.vol, &key, TREE_ROOT, 0, page_init(&page),
				 &versions),
		0);
	assert_int_equal(versions.num, 3);
	for (size_t i = 0, pos = 0; i < 3; i++) {
		assert_int_equal(tree_record_parse(page.records + pos, list[i].size, &rec), 0);
		assert_true(rec.e.target == oid[i]);
		assert_true((list[i].until == 0) == (i == 2));
		pos += list[i].size;
	}
	rig_free(&rig);
}

static void history__differences_name_what_changed(void **state)
{
	struct peers_model model = { .dirs = { TREE_ROOT }, .num_dirs = 1 };
	uint8_t cursor[DIFF_CURSOR_SIZE] = { 0 };
	struct tree_key keys[7];
	struct rig rig = { 0 };
	uint64_t seed = rig_seed(), from, lid, oid, other;
	size_t num, links = 0, bodies = 0, pages = 0;
	bool end;

	rig_new(&rig);
	for (int i = 0; i < 50; i++)
		peers_random_op(&rig, &model, &seed);
	oid = rig_file(&rig, TREE_ROOT, "f", &lid);
	other = rig_file(&rig, TREE_ROOT, "g", NULL);
	from = rig.vol->time;
	for (uint64_t i = 0; i < 30; i++) {
		entry_start(&entry, 0);
		put_body(&entry, other, 100 + i, 20);
		assert_int_equal(rig_apply(&rig, &entry), 0);
	}
	rig_unlink(&rig, lid, oid, true);
	do {
		assert_int_equal(
			engine_diff(rig.engine, rig.vol, from, 0, cursor, keys, 7, &num, &end), 0);
		for (size_t i = 0; i < num; i++) {
			assert_true(keys[i].id == oid || keys[i].id == other || keys[i].id == lid);
			links += keys[i].kind == TREE_LINK;
			bodies += keys[i].kind == TREE_BODY;
		}
		pages++;
	} while (!end);
	assert_int_equal(links, 1);
	assert_int_equal(bodies, 31);
	assert_true(pages >= 5);
	memset(cursor, 0, sizeof(cursor));
	assert_int_equal(
		engine_diff(rig.engine, rig.vol, from - 1, from, cursor, keys, 7, &num, &end), 0);
	assert_true(end && num == 3);
	rig_free(&rig);
}

/* ---- undoing a sync */

static void undo__brings_back_what_a_sync_changed(void **state)
{
	struct undo_result *result = calloc(1, sizeof(*result));
	struct rig a = { 0 }, b = { 0 };
	uint64_t dir, sub, gone, gone_lid, edited, both, both_lid, before, after;
	const uint8_t peer[32] = { 5 };
	struct pulled list[4];
	size_t num;
	bool end;

	assert_non_null(result);
	rig_new(&a);
	peers_join(&b, &a);
	a.is_thorough = b.is_thorough = true;
	dir = rig_dir(&a, TREE_ROOT, "d");
	gone = rig_file(&a, dir, "gone", &gone_lid);
	edited = rig_file(&a, dir, "edited", NULL);
	both = rig_file(&a, TREE_ROOT, "both", &both_lid);
	assert_int_equal(peers_pull(&b, &a), 0);
	before = rig_digest(&b, false);
	assert_int_equal(undo_run(b.engine, b.vol, 1, result), -ENOENT);
	/* A removal, an edit, a move, a tree. */
	rig_unlink(&a, gone_lid, gone, true);
	entry_start(&entry, 0);
	put_body(&entry, edited, 77, 3000);
	put_xattr(&entry, edited, "user.x", 1, 30);
	put_link(&entry, both_lid, dir, "moved", both, false);
	assert_int_equal(rig_apply(&a, &entry), 0);
	sub = rig_dir(&a, rig_dir(&a, dir, "new"), "deeper");
	rig_file(&a, sub, "f", NULL);
	peers_name = peer;
	assert_int_equal(peers_pull(&b, &a), 0);
	peers_name = NULL;
	after = rig_digest(&b, false);
	assert_true(after == rig_digest(&a, false));
	assert_int_equal(undo_run(b.engine, b.vol, 0, result), 0);
	assert_int_equal(result->num_stayed, 0);
	assert_true(rig_digest(&b, false) == before);
	assert_int_equal(undo_run(b.engine, b.vol, result->time, result), -EALREADY);
	for (unsigned how = 1; how < 3; how++) {
		rig_kill(&b);
		b.options.rebuild = how == 2;
		rig_open(&b);
		assert_true(rig_digest(&b, false) == before);
	}
	/* It is an edit for the others. */
	assert_int_equal(peers_pull(&a, &b), 0);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	assert_true(rig_digest(&a, false) == before);
	/* And can be undone. */
	assert_int_equal(undo_list(b.engine, b.vol, 0, list, 4, &num, &end), 0);
	assert_int_equal(num, 3);
	assert_true(end && list[1].is_undone && !list[0].is_undone);
	assert_memory_equal(list[1].peer, peer, 32);
	assert_int_equal(undo_run(b.engine, b.vol, list[0].time, result), 0);
	assert_true(rig_digest(&b, false) == after);
	engine_changes_release(&result->changes);
	free(result);
	rig_free(&a);
	rig_free(&b);
}

static void undo__leaves_what_was_changed_since(void **state)
{
	struct undo_result *result = calloc(1, sizeof(*result));
	struct rig a = { 0 }, b = { 0 };
	uint64_t edited, made, untouched, dir, own;
	const uint8_t peer[32] = { 5 };

	assert_non_null(result);
	rig_new(&a);
	peers_join(&b, &a);
	edited = rig_file(&a, TREE_ROOT, "edited", NULL);
	assert_int_equal(peers_pull(&b, &a), 0);
	entry_start(&entry, 0);
	put_body(&entry, edited, 77, 100);
	assert_int_equal(rig_apply(&a, &entry), 0);
	made = rig_file(&a, TREE_ROOT, "made", NULL);
	untouched = rig_file(&a, TREE_ROOT, "untouched", NULL);
	dir = rig_dir(&a, TREE_ROOT, "dir");
	peers_name = peer;
	assert_int_equal(peers_pull(&b, &a), 0);
	peers_name = NULL;
	for (int i = 0; i < 2; i++) {
		entry_start(&entry, peers_view(&b));
		put_body(&entry, i ? edited : made, 99, 100);
		assert_int_equal(rig_apply(&b, &entry), 0);
	}
	own = rig_file(&b, dir, "own", NULL);
	assert_int_equal(undo_run(b.engine, b.vol, 0, result), 0);
	assert_int_equal(result->num_kept, 2);
	assert_true(peers_has_inode(&b, edited) && peers_has_inode(&b, made));
	assert_true(peers_has_inode(&b, dir) && peers_has_inode(&b, own));
	assert_false(peers_has_inode(&b, untouched));
	engine_changes_release(&result->changes);
	free(result);
	rig_free(&a);
	rig_free(&b);
}

/* More registers than one batch or frame takes: in parts, all of it or nothing. */
static void undo__takes_a_sync_of_any_size(void **state)
{
	struct undo_result *result = calloc(1, sizeof(*result));
	struct rig a = { 0 }, b = { 0 };
	const uint8_t peer[32] = { 5 };
	uint64_t before, dir;

	assert_non_null(result);
	rig_new(&a);
	peers_join(&b, &a);
	dir = rig_dir(&a, TREE_ROOT, "there");
	rig_file(&a, dir, "file", NULL);
	assert_int_equal(peers_pull(&b, &a), 0);
	b.options.part_size = 100000;
	rig_kill(&b);
	rig_open(&b);
	before = rig_digest(&b, false);
	for (int i = 0; i < 11000; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		if (i % 100 == 0)
			dir = rig_dir(&a, i % 200 ? dir : TREE_ROOT, name);
		else
			rig_file(&a, dir, name, NULL);
	}
	peers_name = peer;
	assert_int_equal(peers_pull(&b, &a), 0);
	peers_name = NULL;
	assert_int_equal(engine_checkpoint(b.engine), 0);
	assert_int_equal(undo_run(b.engine, b.vol, 0, result), 0);
	assert_true(result->num_restored > 20000 && result->num_stayed == 0);
	/* All its rows at once would not fit into memory. */
	assert_int_equal(db_pending(b.engine->db), 0);
	for (unsigned how = 0; how < 3; how++) {
		assert_true(rig_digest(&b, false) == before);
		rig_kill(&b);
		b.options.rebuild = how == 1;
		rig_open(&b);
	}
	assert_int_equal(peers_pull(&a, &b), 0);
	assert_true(rig_digest(&a, false) == before);
	engine_changes_release(&result->changes);
	free(result);
	rig_free(&a);
	rig_free(&b);
}

static void undo__at_random_leaves_a_sound_tree(void **state)
{
	struct peers_model model = { .dirs = { TREE_ROOT }, .num_dirs = 1 };
	struct undo_result *result = calloc(1, sizeof(*result));
	struct rig peers[2] = { 0 };
	const uint8_t peer[32] = { 5 };
	uint64_t seed = rig_seed(), before;
	unsigned undone = 0;

	assert_non_null(result);
	peers[0].options.part_size = peers[1].options.part_size = 80;
	rig_new(&peers[0]);
	peers_join(&peers[1], &peers[0]);
	peers_name = peer;
	for (int i = 0; i < 60; i++) {
		size_t p = rig_random(&seed) % 2;
		int r;

		for (uint64_t n = rig_random(&seed) % 12; n > 0; n--)
			peers_random_op(&peers[rig_random(&seed) % 2], &model, &seed);
		before = rig_digest(&peers[p], false);
		if (peers_pull(&peers[p], &peers[1 - p]) == 0 && rig_random(&seed) % 2) {
			for (uint64_t n = rig_random(&seed) % 3; n > 0; n--, before = 0)
				peers_random_op(&peers[p], &model, &seed);
			r = undo_run(peers[p].engine, peers[p].vol, 0, result);
			assert_true(r == 0 || r == -ENOENT);
			undone += r == 0 && before && rig_digest(&peers[p], false) == before;
			engine_changes_release(&result->changes);
		}
		if (rig_random(&seed) % 8 == 0)
			reopen(&peers[p], rig_random(&seed) % 3);
	}
	peers_name = NULL;
	for (int i = 0; i < 4; i++)
		peers_pull(&peers[i % 2], &peers[1 - i % 2]);
	assert_true(rig_digest(&peers[0], true) == rig_digest(&peers[1], true));
	assert_true(undone > 0);
	free(result);
	rig_free(&peers[0]);
	rig_free(&peers[1]);
}

/* ---- retention */

static void prune_all(struct rig *rig)
{
	bool more = false;

	prune_want(rig->vol);
	do
		assert_int_equal(prune_tick(rig->engine, &more), 0);
	while (more);
}

static void history__retention_loses_nothing_that_is_kept(void **state)
{
	const struct retention_policy policy = { 2 * 86400, 60, 5, 2, 2 };
	struct peers_model model = { .dirs = { TREE_ROOT }, .num_dirs = 1 };
	struct rig rig = { 0 };
	struct diary diary = { 0 };
	uint64_t seed = rig_seed(), rows, pinned[2] = { 0 }, num_rows[DB_NUM];
	uint8_t tag[16] = { 0 };
	size_t kept = 0;

	use_clock(&rig);
	clock_now = 20000 * DAY;
	rig_new(&rig);
	assert_int_equal(prune_policy_set(rig.engine, rig.vol, &policy), 0);
	for (int i = 0; i < 1200; i++) {
		clock_now += rig_random(&seed) % (4 * HOUR);
		peers_random_op(&rig, &model, &seed);
		diary_add(&diary, &rig);
		if (i == 300 || i == 301) {
			tag[0]++;
			assert_int_equal(snapshot_create(rig.engine, rig.vol, tag, (uint8_t *)"n",
						 1, &pinned[i - 300]),
				0);
		}
		if (rig_random(&seed) % 60 == 0)
			prune_all(&rig);
		if (rig_random(&seed) % 100 == 0)
			reopen(&rig, rig_random(&seed) % 3);
	}
	rows = rig.vol->num_history;
	prune_all(&rig);
	assert_true(rig.vol->num_history <= rows);
	for (unsigned how = 0; how < 3; how++) {
		struct moment last = { 0 };

		reopen(&rig, how);
		kept = 0;
		for (size_t i = 0; i < diary.num; i++) {
			uint64_t end = i + 1 < diary.num ? diary.list[i + 1].at : UINT64_MAX;
			uint64_t at = prune_newest(rig.engine, rig.vol, end - 1);

			if (at < diary.list[i].at)
				continue;
			kept++;
			rig.at = at;
			last = diary.list[i];
			assert_true(rig_digest(&rig, false) == diary.list[i].sum);
		}
		assert_true(last.at == diary.list[diary.num - 1].at);
		for (int i = 0; i < 2; i++)
			assert_true(prune_newest(rig.engine, rig.vol, pinned[i]) == pinned[i]);
	}
	/* About 60 hours are full, some days, weeks and months, and two snapshots. */
	assert_in_range(kept, 10, 150);
	page_init(&page)->at = diary.list[20].at + 1;
	assert_int_equal(engine_dir(rig.engine, rig.vol, TREE_ROOT, 0, 0, &page.page), -ESTALE);
	/* Everything of the past goes when nothing of it is asked for; what `times` says with it.
	 */
	for (tag[0] = 1; tag[0] <= 2; tag[0]++)
		assert_int_equal(snapshot_remove(rig.engine, rig.vol, tag), 0);
	assert_int_equal(
		prune_policy_set(rig.engine, rig.vol, &(struct retention_policy){ 0, 0, 0, 0, 0 }),
		0);
	clock_now += 400 * DAY;
	for (int i = 0; i < 3; i++)
		prune_all(&rig);
	assert_int_equal(rig.vol->num_history, 0);
	assert_int_equal(db_rows(txn(rig.engine), DB_HIST), 0);
	assert_int_equal(db_rows(txn(rig.engine), DB_HNAMES), 0);
	assert_int_equal(db_rows(txn(rig.engine), DB_HDIRS), 0);
	assert_int_equal(db_rows(txn(rig.engine), DB_HTARGETS), 0);
	assert_int_equal(db_rows(txn(rig.engine), DB_HFALLEN), 0);
	rig.at = 0;
	assert_true(rig_digest(&rig, false) == diary.list[diary.num - 1].sum);
	for (int table = 0; table < DB_NUM; table++)
		num_rows[table] = db_rows(txn(rig.engine), (enum db_table)table);
	reopen(&rig, 2);
	for (int table = 0; table < DB_NUM; table++)
		if (db_rows(txn(rig.engine), (enum db_table)table) != num_rows[table])
			fail_msg("a rebuilt table %d has another number of rows", table);
	free(diary.list);
	rig_free(&rig);
}

static void history__an_absurd_policy_is_refused(void **state)
{
	struct retention_policy policy = { UINT64_MAX, 0, 0, 0, 0 }, is;
	struct rig rig = { 0 };

	rig_new(&rig);
	assert_int_equal(prune_policy_set(rig.engine, rig.vol, &policy), -EINVAL);
	policy = (struct retention_policy){ 0, UINT32_MAX, 0, 0, 0 };
	assert_int_equal(prune_policy_set(rig.engine, rig.vol, &policy), -EINVAL);
	prune_policy(rig.vol, &is);
	assert_int_equal(is.keep_all, 7 * 86400);
	rig_free(&rig);
}

/* ---- which files need an object */

static void write_refs(struct rig *rig, uint64_t oid, uint64_t value, const uint8_t *refs)
{
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_BODY },
					   .stamp = { .replica = 1, .epoch = 1 },
					   .lamport = 1 },
		.num_refs = refs ? 1 : 0,
		.refs = refs,
		.sealed = (const uint8_t *)"sealed",
		.sealed_len = 6 };

	memcpy(rec.e.vtag, &value, sizeof(value));
	entry_start(&entry, 0);
	entry_put(&entry, &rec);
	assert_int_equal(rig_apply(rig, &entry), 0);
}

static void history__an_object_of_the_past_is_told_with_its_time(void **state)
{
	struct rig rig = { 0 };
	struct referrer list[4];
	uint64_t oid, other, until;
	uint8_t ids[2][32];
	size_t num;

	rig_new(&rig);
	assert_int_equal(engine_put_object(rig.engine, NULL, (const uint8_t *)"one", 3, ids[0]), 0);
	assert_int_equal(engine_put_object(rig.engine, NULL, (const uint8_t *)"two", 3, ids[1]), 0);
	oid = rig_file(&rig, TREE_ROOT, "a", NULL);
	other = rig_file(&rig, TREE_ROOT, "b", NULL);
	write_refs(&rig, oid, 101, ids[0]);
	assert_int_equal(
		engine_referrers(rig.engine, (const uint8_t(*)[32])ids, 2, list, 4, &num), 0);
	assert_int_equal(num, 1);
	assert_true(list[0].oid == oid && list[0].until == 0);

	/* Twice in the past of one file: once, with the later time. */
	write_refs(&rig, oid, 102, ids[1]);
	write_refs(&rig, oid, 103, ids[0]);
	write_refs(&rig, oid, 104, NULL);
	until = rig.vol->time;
	assert_int_equal(
		engine_referrers(rig.engine, (const uint8_t(*)[32])ids, 1, list, 4, &num), 0);
	assert_int_equal(num, 1);
	assert_true(list[0].oid == oid && list[0].until == until);
	assert_int_equal(
		engine_referrers(rig.engine, (const uint8_t(*)[32])ids, 2, list, 4, &num), 0);
	assert_int_equal(num, 2);
	assert_int_equal(
		engine_referrers(rig.engine, (const uint8_t(*)[32])ids, 2, list, 1, &num), 0);
	assert_int_equal(num, 1);

	/* What is needed now is not told of history. */
	write_refs(&rig, other, 105, ids[0]);
	assert_int_equal(
		engine_referrers(rig.engine, (const uint8_t(*)[32])ids, 1, list, 4, &num), 0);
	assert_int_equal(num, 1);
	assert_true(list[0].oid == other && list[0].until == 0);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(history__every_instant_is_what_the_tree_was_then),
		cmocka_unit_test(history__a_directory_of_many_that_are_gone_comes_in_pages),
		cmocka_unit_test(history__the_same_value_under_another_stamp_is_no_version),
		cmocka_unit_test(history__times_ascend_when_the_clock_does_not),
		cmocka_unit_test(history__a_snapshot_is_one_row_and_survives),
		cmocka_unit_test(history__versions_are_listed_oldest_first),
		cmocka_unit_test(history__a_name_tells_what_stood_under_it),
		cmocka_unit_test(history__differences_name_what_changed),
		cmocka_unit_test(undo__brings_back_what_a_sync_changed),
		cmocka_unit_test(undo__leaves_what_was_changed_since),
		cmocka_unit_test(undo__takes_a_sync_of_any_size),
		cmocka_unit_test(undo__at_random_leaves_a_sound_tree),
		cmocka_unit_test(history__retention_loses_nothing_that_is_kept),
		cmocka_unit_test(history__an_object_of_the_past_is_told_with_its_time),
		cmocka_unit_test(history__an_absurd_policy_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
