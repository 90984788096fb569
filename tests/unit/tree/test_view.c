#include "tree/view.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct table {
	struct tree_element *links;
	size_t num;
	size_t lookups;
};

static int winner(void *ctx, uint64_t oid, struct tree_element *ret)
{
	struct table *t = ctx;

	t->lookups++;
	for (size_t i = 0; i < t->num; i++) {
		if (t->links[i].key.id != oid)
			continue;
		*ret = t->links[i];
		return 0;
	}
	return -ENOENT;
}

static struct tree_element dir(uint64_t oid, uint64_t parent, uint64_t lamport)
{
	return (struct tree_element){ .key = { .id = oid, .kind = TREE_LINK },
		.flags = TREE_DIRECTORY,
		.stamp = { 1, 1 },
		.lamport = lamport,
		.parent = parent,
		.target = oid };
}

static uint64_t parent_of(struct table *t, uint64_t oid, bool *ret_fallen)
{
	struct tree_dirs dirs = { t, winner };
	uint64_t parent;

	assert_int_equal(tree_view_parent(&dirs, oid, t->num, &parent, ret_fallen), 0);
	return parent;
}

static void view__greatest_link_of_a_cycle_falls_to_the_root(void **state)
{
	/* 10 -> 11 -> 12 -> 10, and 13 below 11; 12 was moved last. */
	struct tree_element links[] = { dir(10, 11, 5), dir(11, 12, 6), dir(12, 10, 7),
		dir(13, 11, 99) };
	struct table t = { links, 4, 0 };
	struct tree_dirs dirs = { &t, winner };
	uint64_t fallen_oid;
	bool fallen;

	assert_int_equal(parent_of(&t, 12, &fallen), TREE_ROOT);
	assert_true(fallen);
	assert_int_equal(parent_of(&t, 11, &fallen), 12);
	assert_false(fallen);
	assert_int_equal(parent_of(&t, 10, &fallen), 11);
	assert_int_equal(parent_of(&t, 13, &fallen), 11);
	assert_int_equal(tree_view_fallen(&dirs, 10, 4, &fallen_oid), 0);
	assert_int_equal(fallen_oid, 12);
	assert_int_equal(tree_view_fallen(&dirs, 13, 4, &fallen_oid), 0);
	assert_int_equal(fallen_oid, 0);
	/* Moving another member out of the cycle gives 12 its place back. */
	links[0] = dir(10, TREE_ROOT, 8);
	assert_int_equal(parent_of(&t, 12, &fallen), 10);
	assert_false(fallen);
}

static void view__equal_stamps_are_told_apart_by_the_directory(void **state)
{
	struct tree_element links[] = { dir(10, 11, 5), dir(11, 10, 5) };
	struct table t = { links, 2, 0 };
	bool fallen;

	assert_int_equal(parent_of(&t, 11, &fallen), TREE_ROOT);
	assert_int_equal(parent_of(&t, 10, &fallen), 11);
}

static void view__deep_path_costs_a_lookup_a_level(void **state)
{
	enum { DEPTH = 1000 };
	struct tree_element *links = calloc(DEPTH, sizeof(*links));
	struct table t = { links, DEPTH, 0 };
	bool fallen;

	for (uint64_t i = 0; i < DEPTH; i++)
		links[i] = dir(i + 2, i + 1, 1);
	assert_int_equal(parent_of(&t, DEPTH + 1, &fallen), DEPTH);
	assert_false(fallen);
	assert_true(t.lookups <= DEPTH + 1);
	/* From a tail into a cycle far away the walk ends, too. */
	links[0] = dir(2, DEPTH / 2, 1);
	t.lookups = 0;
	assert_int_equal(parent_of(&t, DEPTH + 1, &fallen), DEPTH);
	assert_true(t.lookups <= 4 * DEPTH + 5);
	free(links);
}

static void view__missing_parent_and_missing_link(void **state)
{
	struct tree_element links[] = { dir(10, 99, 5) };
	struct table t = { links, 1, 0 };
	struct tree_dirs dirs = { &t, winner };
	uint64_t parent;
	bool fallen;

	assert_int_equal(parent_of(&t, 10, &fallen), TREE_ROOT);
	assert_true(fallen);
	assert_int_equal(tree_view_parent(&dirs, 99, 1, &parent, &fallen), -ENOENT);
}

static void view__equal_values_are_one(void **state)
{
	struct tree_element e[4] = { 0 };
	size_t order[4];

	e[0].lamport = 3, e[0].vtag[0] = 1;
	e[1].lamport = 5, e[1].vtag[0] = 2;
	e[2].lamport = 4, e[2].vtag[0] = 1;
	e[3].lamport = 5, e[3].vtag[0] = 2, e[3].stamp.replica = 9;
	assert_int_equal(tree_view_winner(e, 4), 3);
	assert_int_equal(tree_view_values(e, 4, order), 2);
	assert_int_equal(order[0], 3);
	assert_int_equal(order[1], 2);
	assert_int_equal(tree_view_values(e, 1, order), 1);
}

static void view__equal_names_are_ranked_whatever_their_order(void **state)
{
	struct tree_element links[4] = { 0 }, again[4];
	uint32_t ranks[4], ranks_again[4];

	for (uint64_t i = 0; i < 4; i++) {
		links[i].key.id = 20 + i;
		links[i].lamport = i;
		links[i].tag[0] = i == 1 ? 1 : 2;
		again[3 - i] = links[i];
	}
	tree_view_names(links, 4, ranks);
	tree_view_names(again, 4, ranks_again);
	assert_int_equal(links[0].key.id, 21);
	assert_int_equal(ranks[0], 0);
	assert_int_equal(links[1].key.id, 23);
	assert_int_equal(ranks[1], 0);
	assert_int_equal(ranks[2], 1);
	assert_int_equal(links[3].key.id, 20);
	assert_int_equal(ranks[3], 2);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(links[i].key.id, again[i].key.id);
		assert_int_equal(ranks[i], ranks_again[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(view__greatest_link_of_a_cycle_falls_to_the_root),
		cmocka_unit_test(view__equal_stamps_are_told_apart_by_the_directory),
		cmocka_unit_test(view__deep_path_costs_a_lookup_a_level),
		cmocka_unit_test(view__missing_parent_and_missing_link),
		cmocka_unit_test(view__equal_values_are_one),
		cmocka_unit_test(view__equal_names_are_ranked_whatever_their_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
