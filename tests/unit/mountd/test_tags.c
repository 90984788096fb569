/* Which chunks are to be verified for their tags: those that were far, once. */
#include "mountd/tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cas/id.h"
#include "mountd/mountd.h"

static void tags__a_chunk_that_was_far_is_verified_once(void **state)
{
	struct cas_id far = { { 1, 2, 3 } }, near = { { 1, 2, 2 } };
	struct cas_hash h = { { 1 } };
	struct tags *tags;

	assert_int_equal(tags_new(&tags), 0);
	assert_false(tags_wants(tags, &far));
	tags_missed(tags, &far);
	tags_missed(tags, &far);
	assert_true(tags_wants(tags, &far));
	assert_false(tags_wants(tags, &near));
	tags_verified(tags, &near, &h, true);
	assert_true(tags_wants(tags, &far));
	tags_verified(tags, &far, &h, false);
	assert_false(tags_wants(tags, &far));
	free(tags);
}

/* More than can be told are left out; without keyd they wait. */
static void tags__are_bounded_and_wait_for_keyd(void **state)
{
	struct mountd m = { 0 };
	struct cas_id id = { { 1 } };
	struct cas_hash h = { { 1 } };

	assert_int_equal(tags_new(&m.tags), 0);
	for (int i = 0; i < 10000; i++)
		tags_verified(m.tags, &id, &h, true);
	tags_tell(&m);
	free(m.tags);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags__a_chunk_that_was_far_is_verified_once),
		cmocka_unit_test(tags__are_bounded_and_wait_for_keyd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
