#include "tree/delta.h"

#include "tree/merge.h"
#include "tree/oidset.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void delta__entries_round_trip_and_truncations_are_refused(void **state)
{
	struct tree_record rec = {
		.e = { .key = { .id = 8, .kind = TREE_ATTR }, .stamp = { 1, 2 }, .lamport = 3 }
	};
	uint8_t packed[TREE_RECORD_HEAD], buf[512];
	const struct tree_delta_entry in[] = {
		{ .type = TREE_DELTA_DEAD,
			.unit = { .id = 7, .is_link = true },
			.stamp = { 5, 6 } },
		{ .type = TREE_DELTA_UNIT, .unit = { .id = 8 } },
		{ .type = TREE_DELTA_ELEMENT,
			.key = { .id = 8, .kind = TREE_XATTR, .tag = { 4 } },
			.stamp = { 1, 3 } },
		{ .type = TREE_DELTA_RECORD, .packed = packed, .packed_len = sizeof(packed) },
		{ .type = TREE_DELTA_INODE, .oid = 9 },
	};
	struct tree_delta_entry out;
	size_t len = 0, pos = 0, ends[5];

	assert_int_equal(tree_record_emit(&rec, packed, sizeof(packed)), sizeof(packed));
	for (size_t i = 0; i < 5; i++) {
		int n = tree_delta_put(&in[i], buf + len, sizeof(buf) - len);
		assert_true(n > 0);
		assert_int_equal(tree_delta_put(&in[i], buf + len, (size_t)n - 1), -ENOBUFS);
		tree_delta_put(&in[i], buf + len, sizeof(buf) - len);
		ends[i] = len += (size_t)n;
	}
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(tree_delta_next(buf, len, &pos, &out), 1);
		assert_int_equal(pos, ends[i]);
		assert_int_equal(out.type, in[i].type);
		if (out.type == TREE_DELTA_RECORD)
			assert_int_equal(tree_element_compare(&out.rec.e, &rec.e), 0);
		if (out.type == TREE_DELTA_DEAD)
			assert_int_equal(tree_unit_compare(&out.unit, &in[i].unit), 0);
		if (out.type == TREE_DELTA_ELEMENT)
			assert_int_equal(tree_key_compare(&out.key, &in[i].key), 0);
	}
	assert_int_equal(tree_delta_next(buf, len, &pos, &out), 0);
	for (size_t cut = 0, i = 0; cut < len; cut++) {
		int r;
		for (pos = 0; (r = tree_delta_next(buf, cut, &pos, &out)) > 0;)
			continue;
		i = 0;
		while (i < 5 && ends[i] != cut)
			i++;
		assert_int_equal(r, cut == 0 || i < 5 ? 0 : -EBADMSG);
	}
	pos = 0;
	buf[0] = 6;
	assert_int_equal(tree_delta_next(buf, len, &pos, &out), -EBADMSG);
}

static void delta__units_are_a_set(void **state)
{
	struct tree_delta_units set = { 0 };

	for (uint64_t i = 0; i < 100000; i++)
		assert_int_equal(
			tree_delta_units_add(&set,
				&(struct tree_unit){ .id = 1 + i * 11 % 301, .is_link = i & 1 }),
			0);
	assert_true(set.cap <= 2048);
	tree_delta_units_sort(&set);
	assert_int_equal(set.num_units, 602);
	for (size_t i = 1; i < set.num_units; i++)
		assert_true(tree_unit_compare(&set.units[i - 1], &set.units[i]) < 0);
	tree_delta_units_release(&set);
}

static void oidset__holds_what_was_added(void **state)
{
	struct tree_oidset set = { 0 };

	assert_false(tree_oidset_has(&set, 0));
	for (uint64_t i = 0; i < 5000; i++)
		assert_int_equal(tree_oidset_add(&set, i * i << (i % 40)), 0);
	for (uint64_t i = 0; i < 5000; i++)
		assert_true(tree_oidset_has(&set, i * i << (i % 40)));
	assert_false(tree_oidset_has(&set, 3));
	assert_false(tree_oidset_has(&set, UINT64_MAX));
	tree_oidset_release(&set);
}

/* --- a first pull of many files --- */

static int none_unit(void *ctx, const struct tree_unit *unit, tree_visit_fn *visit, void *arg)
{
	++*(size_t *)ctx;
	return 0;
}

static int none_oid(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	++*(size_t *)ctx;
	return 0;
}

static int none(void *ctx, tree_visit_fn *visit, void *arg)
{
	return 0;
}

static void feed_file(struct tree_pull *pull, uint64_t n)
{
	uint64_t lid = (UINT64_C(2) << 32) + 2 * n, oid = lid + 1;
	struct tree_record rec = { .e = { .stamp = { 1, 2 }, .lamport = 1 } };

	rec.e.key = (struct tree_key){ .id = lid, .kind = TREE_LINK };
	rec.e.parent = TREE_ROOT;
	rec.e.target = oid;
	assert_int_equal(
		tree_pull_unit(pull, &(struct tree_unit){ .id = lid, .is_link = true }), 0);
	assert_int_equal(tree_pull_record(pull, &rec, n), 0);
	rec.e.parent = rec.e.target = 0;
	assert_int_equal(tree_pull_unit(pull, &(struct tree_unit){ .id = oid }), 0);
	rec.e.key = (struct tree_key){ .id = oid, .kind = TREE_ATTR };
	assert_int_equal(tree_pull_record(pull, &rec, n), 0);
	rec.e.key.kind = TREE_BODY;
	assert_int_equal(tree_pull_record(pull, &rec, n), 0);
}

static void pull__first_one_of_many_files_is_linear(void **state)
{
	enum { FILES = 100000 };
	size_t lookups = 0;
	const struct tree_local local = { &lookups, none_unit, none_oid, none_oid, none };
	struct tree_state me = { .clock = { .replica = 1, .epoch = 1 } };
	struct tree_knowledge remote = { 0 }, empty = { 0 };
	struct tree_pull *pull;
	clock_t begin = clock();

	assert_int_equal(tree_knowledge_raise(&remote, (struct tree_stamp){ 1, 2 }), 0);
	assert_int_equal(tree_pull_new(&pull, &empty, &remote, &empty, false), 0);
	for (uint64_t n = 1; n <= FILES; n++)
		feed_file(pull, n);
	assert_int_equal(tree_pull_step(pull, &me, &local), TREE_PULL_DONE);
	assert_int_equal(pull->num_effects, 3 * FILES);
	/* One look for each listed unit; closure finds all it asks for in the answer itself. */
	assert_int_equal(lookups, 2 * FILES);
	print_message("%d files, %d elements: %.3f s\n", FILES, 3 * FILES,
		(double)(clock() - begin) / CLOCKS_PER_SEC);
	tree_pull_free(pull);
	tree_knowledge_release(&remote);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delta__entries_round_trip_and_truncations_are_refused),
		cmocka_unit_test(delta__units_are_a_set),
		cmocka_unit_test(oidset__holds_what_was_added),
		cmocka_unit_test(pull__first_one_of_many_files_is_linear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
