#include "tree/knowledge.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct tree_knowledge of(size_t num, const struct tree_stamp *stamps)
{
	struct tree_knowledge k = { 0 };

	for (size_t i = 0; i < num; i++)
		assert_int_equal(tree_knowledge_raise(&k, stamps[i]), 0);
	return k;
}

static void knowledge__raise_keeps_order_and_never_lowers(void **state)
{
	struct tree_knowledge k =
		of(4, (struct tree_stamp[]){ { 5, 9 }, { 2, 3 }, { 7, 1 }, { 1, 9 } });

	assert_int_equal(k.num_stamps, 3);
	assert_int_equal(k.stamps[0].replica, 1);
	assert_int_equal(k.stamps[1].replica, 3);
	assert_int_equal(tree_knowledge_epoch(&k, 9), 5);
	assert_int_equal(tree_knowledge_epoch(&k, 4), 0);
	assert_true(tree_knowledge_covers(&k, (struct tree_stamp){ 5, 9 }));
	assert_false(tree_knowledge_covers(&k, (struct tree_stamp){ 6, 9 }));
	assert_false(tree_knowledge_covers(&k, (struct tree_stamp){ 1, 8 }));
	tree_knowledge_release(&k);
}

static void knowledge__compare_and_join(void **state)
{
	struct tree_knowledge none = { 0 };
	struct tree_knowledge a = of(2, (struct tree_stamp[]){ { 1, 1 }, { 5, 2 } });
	struct tree_knowledge b = of(2, (struct tree_stamp[]){ { 2, 1 }, { 1, 3 } });

	assert_int_equal(tree_knowledge_compare(&a, &a), TREE_EQUAL);
	assert_int_equal(tree_knowledge_compare(&none, &a), TREE_LESS);
	assert_int_equal(tree_knowledge_compare(&a, &none), TREE_GREATER);
	assert_int_equal(tree_knowledge_compare(&a, &b), TREE_CONCURRENT);
	assert_int_equal(tree_knowledge_join(&a, &b), 0);
	assert_int_equal(a.num_stamps, 3);
	assert_int_equal(tree_knowledge_epoch(&a, 1), 2);
	assert_int_equal(tree_knowledge_epoch(&a, 2), 5);
	assert_int_equal(tree_knowledge_compare(&b, &a), TREE_LESS);
	tree_knowledge_release(&a);
	tree_knowledge_release(&b);
}

static void knowledge__meet_is_what_both_know(void **state)
{
	struct tree_knowledge none = { 0 };
	struct tree_knowledge a = of(3, (struct tree_stamp[]){ { 1, 1 }, { 5, 2 }, { 4, 7 } });
	struct tree_knowledge b = of(3, (struct tree_stamp[]){ { 3, 1 }, { 2, 2 }, { 9, 3 } });

	tree_knowledge_meet(&a, &b);
	assert_int_equal(a.num_stamps, 2);
	assert_int_equal(tree_knowledge_epoch(&a, 1), 1);
	assert_int_equal(tree_knowledge_epoch(&a, 2), 2);
	tree_knowledge_meet(&a, &none);
	assert_int_equal(a.num_stamps, 0);
	tree_knowledge_release(&a);
	tree_knowledge_release(&b);
}

static void knowledge__encoding_is_one_and_strict(void **state)
{
	static const uint8_t expected[] = { 1, 2, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0,
		0, 9, 1, 0, 0, 0, 0, 0, 0 };
	struct tree_knowledge k = of(2, (struct tree_stamp[]){ { 7, 1 }, { 265, 3 } }),
			      back = { 0 };
	uint8_t buf[64];
	int n = tree_knowledge_encode(&k, buf, sizeof(buf));

	assert_int_equal(n, sizeof(expected));
	assert_memory_equal(buf, expected, sizeof(expected));
	assert_int_equal(tree_knowledge_decode(&back, buf, (size_t)n), 0);
	assert_int_equal(tree_knowledge_compare(&k, &back), TREE_EQUAL);
	assert_int_equal(tree_knowledge_encode(&k, buf, (size_t)n - 1), -ENOBUFS);
	assert_int_equal(tree_knowledge_decode(&back, buf, (size_t)n - 1), -EBADMSG);
	assert_int_equal(tree_knowledge_decode(&back, buf, 3), -EBADMSG);
	buf[16] = 1; /* a replica twice */
	assert_int_equal(tree_knowledge_decode(&back, buf, (size_t)n), -EBADMSG);
	buf[16] = 3, buf[8] = 0; /* an epoch 0 */
	assert_int_equal(tree_knowledge_decode(&back, buf, (size_t)n), -EBADMSG);
	buf[8] = 7, buf[0] = 2;
	assert_int_equal(tree_knowledge_decode(&back, buf, (size_t)n), -EPROTONOSUPPORT);
	buf[0] = 1, buf[3] = 1;
	assert_int_equal(tree_knowledge_decode(&back, buf, (size_t)n), -E2BIG);
	/* A refused vector leaves the old one. */
	assert_int_equal(tree_knowledge_compare(&k, &back), TREE_EQUAL);
	tree_knowledge_release(&k);
	tree_knowledge_release(&back);
}

static void knowledge__is_bounded(void **state)
{
	struct tree_knowledge k = { 0 }, more = { 0 };

	for (uint32_t i = 1; i <= TREE_KNOWLEDGE_MAX; i++)
		assert_int_equal(tree_knowledge_raise(&k, (struct tree_stamp){ 1, i }), 0);
	assert_int_equal(tree_knowledge_raise(&k, (struct tree_stamp){ 1, 5000 }), -E2BIG);
	assert_int_equal(tree_knowledge_raise(&k, (struct tree_stamp){ 8, 50 }), 0);
	assert_int_equal(tree_knowledge_raise(&more, (struct tree_stamp){ 1, 5000 }), 0);
	assert_int_equal(tree_knowledge_join(&k, &more), -E2BIG);
	assert_int_equal(k.num_stamps, TREE_KNOWLEDGE_MAX);
	tree_knowledge_release(&k);
	tree_knowledge_release(&more);
}

static void clock__epoch_is_frozen_only_when_it_holds_a_change(void **state)
{
	struct tree_clock clock = { .replica = 3, .epoch = 1 };
	struct tree_knowledge known = { 0 };
	struct tree_stamp first, second;
	uint64_t lamport;

	assert_false(tree_clock_freeze(&clock, &known));
	assert_int_equal(tree_clock_write(&clock, &known, &first, &lamport), 0);
	assert_int_equal(tree_clock_write(&clock, &known, &second, &lamport), 0);
	assert_int_equal(tree_stamp_compare(first, second), 0);
	assert_int_equal(lamport, 2);
	assert_true(tree_clock_freeze(&clock, &known));
	assert_false(tree_clock_freeze(&clock, &known));
	assert_int_equal(tree_clock_write(&clock, &known, &second, NULL), 0);
	assert_int_equal(second.epoch, first.epoch + 1);
	tree_knowledge_release(&known);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knowledge__raise_keeps_order_and_never_lowers),
		cmocka_unit_test(knowledge__compare_and_join),
		cmocka_unit_test(knowledge__meet_is_what_both_know),
		cmocka_unit_test(knowledge__encoding_is_one_and_strict),
		cmocka_unit_test(knowledge__is_bounded),
		cmocka_unit_test(clock__epoch_is_frozen_only_when_it_holds_a_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
