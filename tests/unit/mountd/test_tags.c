/* Which chunks of peers are told to stored by their tags: those whose bytes were seen here. */
#include "mountd/tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cas/object.h"
#include "cas/suite.h"

#define LEN 70000

static struct cas_suite *suite;
static uint8_t plain[LEN];

static int start(void **state)
{
	suite = cas_suite_new();
	memset(plain, 'a', sizeof(plain));
	return suite == NULL ? -1 : 0;
}

static int end(void **state)
{
	cas_suite_free(suite);
	return 0;
}

/* h of len bytes. */
static struct cas_hash hash_of(size_t len)
{
	struct cas_hash digest, h;
	struct cas_id id;

	cas_id_of(suite, plain, len, &id);
	memcpy(digest.b, id.b, sizeof(digest.b));
	cas_chunk_h(suite, &digest, &h);
	return h;
}

static void tags__what_a_manifest_says_is_not_believed(void **state)
{
	struct cas_hash h = hash_of(LEN), other = hash_of(LEN - 1);
	struct cas_id id = { { 1 } };
	struct tags *tags;

	assert_int_equal(tags_new(&tags), 0);
	assert_true(tags_add(tags, suite, &id, &h, plain, LEN));
	/* The object could be opened, but its maker sealed other bytes under the key of h. */
	assert_false(tags_add(tags, suite, &id, &other, plain, LEN));
	plain[LEN / 2] ^= 1;
	assert_false(tags_add(tags, suite, &id, &h, plain, LEN));
	plain[LEN / 2] ^= 1;
	assert_true(tags_add(tags, suite, &id, &h, plain, LEN));
	tags_free(tags);
}

static void tags__are_bounded(void **state)
{
	struct cas_hash h = hash_of(1);
	struct cas_id id = { { 1 } };
	struct tags *tags;
	unsigned num = 0;

	assert_int_equal(tags_new(&tags), 0);
	while (num < 100000 && tags_add(tags, suite, &id, &h, plain, 1))
		num++;
	assert_int_equal(num, 1024);
	tags_free(tags);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags__what_a_manifest_says_is_not_believed),
		cmocka_unit_test(tags__are_bounded),
	};

	return cmocka_run_group_tests(tests, start, end);
}
