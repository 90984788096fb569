#include "peers.h"

#include "stored/dead.h"
#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/settings.h"
#include "tree/delta.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct entry entry;
static struct page page;
static uint8_t blob[1000];

static uint64_t num_dead(const struct rig *rig)
{
	uint64_t rows = db_rows(txn(rig->engine), DB_DEAD);

	assert_int_equal(db_rows(txn(rig->engine), DB_LABELS), rows);
	return rows;
}

/* A whole pass, if there are more than so many. */
static void cut_dead(struct rig *rig, uint32_t rows)
{
	bool more;

	rig->engine->options.dead_rows = rows;
	rig->vol->cut.next_pass = 0;
	do
		assert_int_equal(dead_tick(rig->engine, &more), 0);
	while (more);
}

static void pull__brings_a_whole_tree_and_then_nothing(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	uint64_t dir;
	char name[16];

	rig_new(&a);
	peers_join(&b, &a);
	dir = rig_dir(&a, TREE_ROOT, "d");
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		rig_file(&a, i % 3 ? dir : TREE_ROOT, name, NULL);
	}
	entry_start(&entry, 0);
	put_xattr(&entry, dir, "user.big", 1, 65000);
	assert_int_equal(rig_apply(&a, &entry), 0);
	/* Small pages: units are cut. */
	assert_int_equal(peers_pull_with(&b, &a, 700, NULL, NULL), 0);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	assert_int_equal(peers_pull(&b, &a), 1);
	assert_int_equal(peers_pull(&a, &b), 1);
	/* And it is in b's own log. */
	rig_kill(&b);
	rig_open(&b);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	rig_kill(&b);
	b.options.rebuild = true;
	rig_open(&b);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	assert_int_equal(peers_pull(&b, &a), 1);
	rig_free(&a);
	rig_free(&b);
}

static void pull__deletions_travel_and_do_not_come_back(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	uint64_t oid, lid, dir;

	rig_new(&a);
	peers_join(&b, &a);
	dir = rig_dir(&a, TREE_ROOT, "d");
	oid = rig_file(&a, dir, "f", &lid);
	rig_file(&a, dir, "g", NULL);
	assert_int_equal(peers_pull(&b, &a), 0);
	rig_unlink(&a, lid, oid, true);
	assert_int_equal(peers_pull(&b, &a), 0);
	assert_int_equal(engine_inode(b.engine, b.vol, oid, page_init(&page)), -ENOENT);
	rig_file(&b, dir, "h", NULL);
	assert_int_equal(peers_pull(&a, &b), 0);
	assert_int_equal(engine_inode(a.engine, a.vol, oid, page_init(&page)), -ENOENT);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	rig_free(&a);
	rig_free(&b);
}

static void pull__what_is_open_here_is_set_aside(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	uint64_t oid, lid, dir, oids[8], file;
	size_t num;
	bool end;

	rig_new(&a);
	peers_join(&b, &a);
	dir = rig_dir(&a, TREE_ROOT, "d");
	oid = rig_file(&a, dir, "f", &lid);
	assert_int_equal(peers_pull(&b, &a), 0);
	rig_unlink(&a, lid, oid, true);
	rig_unlink(&a, dir, dir, true);
	volume_attached(b.vol, true);
	assert_int_equal(peers_pull(&b, &a), 0);
	assert_int_equal(engine_dir(b.engine, b.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, 0);
	assert_int_equal(engine_inode(b.engine, b.vol, oid, page_init(&page)), 0);
	assert_int_equal(engine_orphans(b.engine, b.vol, 0, oids, 8, &num, &end), 0);
	assert_int_equal(num, 2);
	/* Something made in the directory before its end was known here: it comes back. */
	file = rig_id(&b);
	entry_start(&entry, 1);
	put_attr(&entry, file, false, 1);
	put_body(&entry, file, 1, 20);
	put_link(&entry, rig_id(&b), dir, "new", file, false);
	assert_int_equal(rig_apply(&b, &entry), 0);
	assert_int_equal(engine_dir(b.engine, b.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, 1);
	assert_true(b.changes.all);
	assert_int_equal(peers_pull(&a, &b), 0);
	assert_int_equal(engine_inode(a.engine, a.vol, file, page_init(&page)), 0);
	assert_int_equal(peers_pull(&b, &a), 1);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	rig_free(&a);
	rig_free(&b);
}

static void pull__concurrent_edits_are_both_kept(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	struct engine_changes changes;
	struct tree_record rec;
	uint64_t oid, conflicts = 0;

	rig_new(&a);
	peers_join(&b, &a);
	oid = rig_file(&a, TREE_ROOT, "f", NULL);
	assert_int_equal(peers_pull(&b, &a), 0);
	entry_start(&entry, 0);
	put_body(&entry, oid, 100, 3000);
	assert_int_equal(rig_apply(&a, &entry), 0);
	entry_start(&entry, 1);
	put_body(&entry, oid, 200, 40);
	assert_int_equal(rig_apply(&b, &entry), 0);
	assert_int_equal(peers_pull_with(&b, &a, 60000, &changes, &conflicts), 0);
	assert_int_equal(conflicts, 1);
	assert_true(changes.num > 0);
	assert_int_equal(changes.list[0].kind, TREE_BODY);
	assert_true(changes.list[0].id == oid);
	engine_changes_release(&changes);
	assert_int_equal(engine_inode(b.engine, b.vol, oid, page_init(&page)), 0);
	assert_int_equal(page_count(&page), 4);
	/* A writer who has not seen the pull replaces its own only. */
	entry_start(&entry, 1);
	put_body(&entry, oid, 300, 41);
	assert_int_equal(rig_apply(&b, &entry), 0);
	assert_int_equal(engine_inode(b.engine, b.vol, oid, page_init(&page)), 0);
	assert_int_equal(page_count(&page), 4);
	/* One who has seen it resolves the conflict, here and there. */
	entry_start(&entry, 2);
	put_body(&entry, oid, 400, 42);
	assert_int_equal(rig_apply(&b, &entry), 0);
	assert_int_equal(engine_inode(b.engine, b.vol, oid, page_init(&page)), 0);
	assert_int_equal(page_count(&page), 3);
	assert_int_equal(peers_pull_with(&a, &b, 60000, NULL, &conflicts), 0);
	assert_int_equal(conflicts, 0);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	assert_true(page_find(&page, TREE_BODY, oid, &rec));
	assert_int_equal(rec.sealed_len, 42);
	rig_free(&a);
	rig_free(&b);
}

static void pull__crossed_moves_fall_into_the_root_the_same_way(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	uint64_t x, y;

	rig_new(&a);
	peers_join(&b, &a);
	x = rig_dir(&a, TREE_ROOT, "x");
	y = rig_dir(&a, TREE_ROOT, "y");
	assert_int_equal(peers_pull(&b, &a), 0);
	entry_start(&entry, 0);
	put_link(&entry, x, y, "x", x, true);
	assert_int_equal(rig_apply(&a, &entry), 0);
	entry_start(&entry, 1);
	put_link(&entry, y, x, "y", y, true);
	assert_int_equal(rig_apply(&b, &entry), 0);
	assert_int_equal(peers_pull(&b, &a), 0);
	assert_int_equal(peers_pull(&a, &b), 0);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	assert_int_equal(engine_dir(a.engine, a.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, 1);
	rig_kill(&a);
	rig_open(&a);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	/* Somebody moves it: the cycle is gone. */
	entry_start(&entry, 1);
	put_link(&entry, x, TREE_ROOT, "x", x, true);
	assert_int_equal(rig_apply(&a, &entry), 0);
	assert_int_equal(engine_dir(a.engine, a.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, 1);
	assert_true(page.nodes[0].oid == x);
	assert_int_equal(peers_pull(&b, &a), 0);
	assert_true(rig_digest(&a, true) == rig_digest(&b, true));
	rig_free(&a);
	rig_free(&b);
}

static void pull__an_aborted_one_leaves_no_trace(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	static struct peers_answer answer;
	static uint8_t asked[TREE_KNOWLEDGE_SIZE], need[60000];
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	struct pull *pull, *second;
	uint64_t before;
	size_t len;

	rig_new(&a);
	peers_join(&b, &a);
	for (int i = 0; i < 50; i++)
		rig_file(&a, TREE_ROOT, "same", NULL);
	rig_file(&b, TREE_ROOT, "own", NULL);
	before = rig_digest(&b, true);
	assert_int_equal(engine_pull_begin(b.engine, b.vol, &pull, asked, &len), 0);
	assert_int_equal(engine_pull_begin(b.engine, b.vol, &second, asked, &len), -EBUSY);
	answer.info.known = answer.known;
	assert_int_equal(
		engine_serve_begin(a.engine, a.vol, asked, len, &answer.serve, &answer.info), 0);
	peers_stage(&b, pull, &answer, 3000);
	assert_true(rig_digest(&b, true) == before);
	engine_pull_abort(b.engine, pull);
	rig_kill(&b);
	b.options.rebuild = true;
	rig_open(&b);
	assert_true(rig_digest(&b, true) == before);
	/* Garbage is refused and changes nothing. */
	assert_int_equal(engine_pull_begin(b.engine, b.vol, &pull, asked, &len), 0);
	memset(blob, 3, 500);
	assert_int_equal(engine_pull_put(b.engine, pull, blob, 500, NULL, 0), 0);
	assert_int_equal(engine_pull_step(b.engine, pull, answer.known, answer.info.known_len,
				 false, &result),
		-EBADMSG);
	assert_true(rig_digest(&b, true) == before);
	assert_int_equal(peers_pull(&b, &a), 0);
	engine_serve_end(answer.serve);
	rig_free(&a);
	rig_free(&b);
}

/* ---- at random */

#define PEERS 3

/* Every link leads to an inode, every inode has a link; counted by the engine and by walking. */
static size_t walk(struct rig *rig, uint64_t oid, int depth)
{
	struct page *p = calloc(1, sizeof(*p));
	struct tree_record rec;
	uint64_t after = 0;
	size_t num = 0;

	assert_true(depth < 100);
	do {
		page_init(p);
		assert_int_equal(engine_dir(rig->engine, rig->vol, oid, after, 0, &p->page), 0);
		for (size_t pos = 0; pos < p->page.len;) {
			const uint8_t *at = p->records + pos;
			size_t len = TREE_RECORD_HEAD + at[3] * 32u + at[4] + 256u * at[5] +
				     65536u * at[6];

			assert_int_equal(tree_record_parse(at, len, &rec), 0);
			pos += len;
			if (rec.e.key.kind != TREE_LINK)
				continue;
			/* Elements of one register are neighbours. */
			num += rec.e.key.id != after;
			if (rec.e.key.id != after && (rec.e.flags & TREE_DIRECTORY))
				num += walk(rig, rec.e.target, depth + 1);
			after = rec.e.key.id;
		}
	} while (!p->page.end);
	free(p);
	return num;
}

static void check(struct rig *rig)
{
	struct volume_info info;

	volume_info(rig->vol, &info);
	assert_int_equal(walk(rig, TREE_ROOT, 0), info.links);
}

static void pull__peers_converge_at_random(void **state)
{
	uint64_t seed = rig_seed();
	const char *runs = getenv("BAZIL_RUNS");

	for (int run = 0; run < (runs ? (int)strtol(runs, NULL, 0) : 25); run++) {
		struct rig rigs[PEERS];
		struct peers_model model = { .dirs = { TREE_ROOT }, .num_dirs = 1 };
		int calm = 0, rounds = 0;

		memset(rigs, 0, sizeof(rigs));
		rig_new(&rigs[0]);
		for (int i = 1; i < PEERS; i++)
			peers_join(&rigs[i], &rigs[0]);
		for (int i = 0; i < PEERS; i++)
			volume_attached(rigs[i].vol, rig_random(&seed) & 1);
		for (int step = 0; step < 120; step++) {
			struct rig *p = &rigs[rig_random(&seed) % PEERS];
			struct rig *q = &rigs[rig_random(&seed) % PEERS];

			if (rig_random(&seed) % 8 == 0 && p != q) {
				assert_true(peers_pull_with(p, q, 200 + rig_random(&seed) % 3000,
						    NULL, NULL) >= 0);
				check(p);
			} else if (rig_random(&seed) % 30 == 0) {
				uint64_t before = rig_digest(p, true);

				rig_kill(p);
				p->options.rebuild = rig_random(&seed) & 1;
				rig_open(p);
				assert_true(rig_digest(p, true) == before);
			} else if (rig_random(&seed) % 40 == 0) {
				/* Whoever pulls next gets all of it listed. */
				cut_dead(p, 0);
				assert_int_equal(num_dead(p), 0);
			} else {
				peers_random_op(p, &model, &seed);
			}
		}
		/* All pairs until nobody has anything new. */
		while (calm < PEERS * (PEERS - 1)) {
			for (int i = 0; i < PEERS; i++)
				for (int j = 0; j < PEERS; j++)
					if (i != j)
						calm = peers_pull(&rigs[i], &rigs[j]) == 1
							       ? calm + 1
							       : 0;
			assert_true(++rounds < 10);
		}
		for (int i = 0; i < PEERS; i++) {
			check(&rigs[i]);
			assert_true(rig_digest(&rigs[i], true) == rig_digest(&rigs[0], true));
		}
		for (int i = 0; i < PEERS; i++)
			rig_free(&rigs[i]);
	}
}

/* ---- the log of deletions */

static const char peer_hex[] = "aa000000000000000000000000000000000000000000000000000000000000bb";
static const uint8_t peer_key[32] = { 0xaa, [31] = 0xbb };

/* p pulls from q, which notes it as syncd would have it. True: by a full listing. */
static bool pull_noted(struct rig *p, struct rig *q)
{
	static uint8_t asked[TREE_KNOWLEDGE_SIZE], known[2 * TREE_KNOWLEDGE_SIZE];
	struct serve_info info = { .known = known };
	struct serve *serve;
	int len = tree_knowledge_encode(&p->vol->state.known, asked, sizeof(asked));

	assert_true(len > 0);
	assert_int_equal(
		engine_serve_begin(q->engine, q->vol, asked, (size_t)len, &serve, &info), 0);
	if (serve)
		engine_serve_end(serve);
	assert_int_equal(
		gc_peer_served(q->engine, q->vol, peer_key, asked, (size_t)len, info.has_nothing),
		0);
	assert_true(peers_pull(p, q) >= 0);
	assert_true(rig_digest(p, true) == rig_digest(q, true));
	return info.is_full;
}

static void unlink_some(struct rig *rig, const uint64_t *lids, const uint64_t *oids, int from)
{
	for (int i = from; i < from + 20; i++)
		rig_unlink(rig, lids[i], oids[i], true);
}

static void pull__the_log_of_deletions_is_cut(void **state)
{
	struct rig a = { 0 }, b = { 0 }, c = { 0 };
	uint64_t lids[60], oids[60];
	char name[16];

	rig_new(&a);
	peers_join(&b, &a);
	peers_join(&c, &a);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		oids[i] = rig_file(&a, TREE_ROOT, name, &lids[i]);
	}
	assert_int_equal(settings_peer_add(a.engine, peer_hex, "b"), 0);
	assert_int_equal(settings_peer_volume(a.engine, "b", "v", true), 0);
	assert_false(pull_noted(&b, &a));
	assert_int_equal(peers_pull(&c, &a), 0);
	/* Kept for b, that may come and does not know of them. */
	unlink_some(&a, lids, oids, 0);
	assert_int_equal(num_dead(&a), 40);
	cut_dead(&a, 10);
	assert_int_equal(num_dead(&a), 40);
	assert_false(pull_noted(&b, &a));
	/* It shows that it does when it comes again; later ones stay. */
	unlink_some(&a, lids, oids, 20);
	assert_false(pull_noted(&b, &a));
	cut_dead(&a, 10);
	assert_int_equal(num_dead(&a), 40);
	assert_false(pull_noted(&b, &a));
	cut_dead(&a, 10);
	assert_int_equal(num_dead(&a), 0);
	assert_false(pull_noted(&b, &a));
	/* Killed, and made anew: as it was, but for what is cut again. */
	assert_int_equal(engine_checkpoint(a.engine), 0);
	rig_kill(&a);
	rig_open(&a);
	assert_int_equal(num_dead(&a), 0);
	rig_kill(&a);
	a.options.rebuild = true;
	rig_open(&a);
	assert_int_equal(num_dead(&a), 80);
	cut_dead(&a, 10);
	assert_int_equal(num_dead(&a), 0);
	unlink_some(&a, lids, oids, 40);
	/* Too many for what one that does not come may learn. */
	cut_dead(&a, 2);
	assert_int_equal(num_dead(&a), 0);
	/* Long away: all is listed, and what went goes. */
	assert_true(rig_digest(&c, true) != rig_digest(&a, true));
	assert_true(pull_noted(&c, &a));
	assert_false(pull_noted(&c, &a));
	rig_free(&a);
	rig_free(&b);
	rig_free(&c);
}

static struct store_io io;
static int arenas_left; /* that can be made; below 0: any number */

static int full_openat(void *ctx, int dir_fd, const char *path, int flags, mode_t mode)
{
	if (flags & O_CREAT && strncmp(path, "arena.", 6) == 0 && arenas_left-- == 0) {
		arenas_left = 0;
		return -ENOSPC;
	}
	return store_io_file.openat(ctx, dir_fd, path, flags, mode);
}

/* Another store writes under our replica number: we take another one, but not by halves. */
static void pull__a_number_used_twice_is_given_up(void **state)
{
	struct rig a = { 0 }, b = { 0 };
	uint32_t number, next;
	uint64_t digest;

	io = store_io_file;
	io.openat = full_openat;
	arenas_left = -1;
	a.options.io = &io;
	rig_new(&a);
	peers_join(&b, &a);
	number = a.vol->state.clock.replica;
	next = a.vol->next;
	b.vol->state.clock.replica = b.replica = number;
	rig_file(&b, TREE_ROOT, "b", NULL);
	/* What comes is staged in one more arena, and then there is no room for another. */
	arenas_left = 1;
	a.engine->arenas.frames_max = 1;
	assert_int_equal(peers_pull(&a, &b), -ENOTUNIQ);
	assert_int_equal(a.vol->state.clock.replica, number);
	assert_int_equal(a.vol->next, next);
	arenas_left = -1;
	a.engine->arenas.frames_max = ARENAS_FRAMES_MAX;
	assert_int_equal(peers_pull(&a, &b), -ENOTUNIQ);
	number = a.vol->state.clock.replica;
	assert_true(number != b.replica && number > 1);
	a.replica = number;
	assert_int_equal(peers_pull(&a, &b), 0);
	rig_file(&a, TREE_ROOT, "a", NULL);
	digest = rig_digest(&a, true);
	rig_kill(&a);
	rig_open(&a);
	assert_int_equal(a.vol->state.clock.replica, number);
	assert_true(rig_digest(&a, true) == digest);
	rig_free(&a);
	rig_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pull__the_log_of_deletions_is_cut),
		cmocka_unit_test(pull__brings_a_whole_tree_and_then_nothing),
		cmocka_unit_test(pull__deletions_travel_and_do_not_come_back),
		cmocka_unit_test(pull__what_is_open_here_is_set_aside),
		cmocka_unit_test(pull__concurrent_edits_are_both_kept),
		cmocka_unit_test(pull__crossed_moves_fall_into_the_root_the_same_way),
		cmocka_unit_test(pull__an_aborted_one_leaves_no_trace),
		cmocka_unit_test(pull__a_number_used_twice_is_given_up),
		cmocka_unit_test(pull__peers_converge_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
