/* Introductions: read back, bounded, open to later fields, and versions are chosen well. */
#include "syncd/intro.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct intro example = {
	.versions = { 1, 3, 0x1234 },
	.num_versions = 3,
	.features = 0x8000000000000001,
	.identity = { 1, 2, 3, [31] = 32 },
	.vouch = { 9, [63] = 64 },
};

static void intro__comes_back(void **unused)
{
	uint8_t buf[INTRO_MAX];
	struct intro got;
	size_t len = intro_emit(&example, buf);

	assert_int_equal(intro_parse(&got, buf, len), 0);
	assert_memory_equal(&got, &example, sizeof(got));
	len = intro_emit_hello(&example, buf);
	assert_true(len <= INTRO_HELLO_MAX);
	assert_int_equal(intro_parse_hello(&got, buf, len), 0);
	assert_int_equal(got.num_versions, 3);
	assert_int_equal(got.versions[2], 0x1234);
}

static void intro__less_is_refused(void **unused)
{
	uint8_t buf[INTRO_MAX];
	struct intro got;
	size_t len = intro_emit(&example, buf);

	for (size_t i = 0; i < len; i++)
		assert_int_equal(intro_parse(&got, buf, i), -EBADMSG);
	len = intro_emit_hello(&example, buf);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(intro_parse_hello(&got, buf, i), -EBADMSG);
}

static void intro__more_is_for_later_versions(void **unused)
{
	uint8_t buf[INTRO_MAX + 1] = { 0 };
	struct intro got;
	size_t len = intro_emit(&example, buf);

	assert_int_equal(intro_parse(&got, buf, len + 7), 0);
	assert_int_equal(intro_parse(&got, buf, INTRO_MAX), 0);
	assert_int_equal(intro_parse(&got, buf, INTRO_MAX + 1), -EBADMSG);
}

static void intro__nonsense_is_refused(void **unused)
{
	uint8_t buf[INTRO_MAX];
	struct intro got;
	size_t len = intro_emit(&example, buf);

	for (int i = 0; i < 4; i++) {
		buf[i] ^= 1;
		assert_int_equal(intro_parse(&got, buf, len), -EBADMSG);
		buf[i] ^= 1;
	}
	buf[4] = 0;
	assert_int_equal(intro_parse(&got, buf, len), -EBADMSG);
	buf[4] = INTRO_VERSIONS_MAX + 1;
	assert_int_equal(intro_parse(&got, buf, INTRO_MAX), -EBADMSG);
}

static void intro__the_highest_common_version_is_chosen(void **unused)
{
	const struct intro a = { .versions = { 1, 2, 5 }, .num_versions = 3 };
	const struct intro b = { .versions = { 4, 2, 1 }, .num_versions = 3 };
	const struct intro c = { .versions = { 7 }, .num_versions = 1 };

	assert_int_equal(intro_common_version(&a, &b), 2);
	assert_int_equal(intro_common_version(&b, &a), 2);
	assert_int_equal(intro_common_version(&a, &c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(intro__comes_back),
		cmocka_unit_test(intro__less_is_refused),
		cmocka_unit_test(intro__more_is_for_later_versions),
		cmocka_unit_test(intro__nonsense_is_refused),
		cmocka_unit_test(intro__the_highest_common_version_is_chosen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
