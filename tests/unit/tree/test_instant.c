#include "tree/instant.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define NS  INT64_C(1000000000)
#define NOW (INT64_C(1763719200) * NS) /* 2025-11-21T10:00:00Z */

static int64_t parsed(const char *text)
{
	int64_t ret = 0;
	int r = instant_parse(text, NOW, &ret);

	if (r < 0)
		fail_msg("%s: %d", text, r);
	return ret;
}

static void instant__dates_with_a_zone(void **state)
{
	assert_int_equal(parsed("2025-11-21T10:00:00Z"), NOW);
	assert_int_equal(parsed("2025-11-21T10:00Z"), NOW);
	assert_int_equal(parsed("2025-11-21 11:30:00+01:30"), NOW);
	assert_int_equal(parsed("2025-11-21T11:30:00+0130"), NOW);
	assert_int_equal(parsed("2025-11-21T05:00:00-05"), NOW);
	assert_int_equal(parsed("2025-11-21T10:00:00.25Z"), NOW + NS / 4);
	assert_int_equal(parsed("1970-01-01T00:00:00Z"), 0);
	assert_int_equal(parsed("2000-02-29T00:00:00Z"), INT64_C(951782400) * NS);
	assert_int_equal(parsed("2100-03-01T00:00:00Z"), INT64_C(4107542400) * NS);
}

static void instant__dates_without_a_zone_are_local(void **state)
{
	setenv("TZ", "XYZ-2", 1); /* two hours east */
	tzset();
	assert_int_equal(parsed("2025-11-21T12:00:00"), NOW);
	assert_int_equal(parsed("2025-11-21"), NOW - 12 * 3600 * NS);
	setenv("TZ", "UTC0", 1);
	tzset();
	assert_int_equal(parsed("2025-11-21T10:00"), NOW);
}

static void instant__so_long_ago(void **state)
{
	assert_int_equal(parsed("-2h"), NOW - 7200 * NS);
	assert_int_equal(parsed("-1d12h"), NOW - 36 * 3600 * NS);
	assert_int_equal(parsed("-0s"), NOW);
	assert_int_equal(parsed("-1w"), NOW - 7 * 86400 * NS);
	assert_int_equal(parsed("-90m"), NOW - 5400 * NS);
}

static void instant__seconds(void **state)
{
	assert_int_equal(parsed("1763719200"), NOW);
	assert_int_equal(parsed("1763719200.000000001"), NOW + 1);
	assert_int_equal(parsed("1763719200.5"), NOW + NS / 2);
}

static void instant__what_is_none(void **state)
{
	static const char *const texts[] = { "", "-", "-2", "-h", "-2x", "-2h ", "yesterday",
		"2025-11", "2025-13-01", "2025-11-32", "2025-11-21T", "2025-11-21T10",
		"2025-11-21T10:60", "2025-11-21T10:00:00+1", "2025-11-21T10:00:00+25:00",
		"2025-11-21T10:00:00.", "12.", "12x", "99999999999999999999", "-99999999999999w",
		"1969-01-01T00:00:00Z", "2025-11-21Z5" };
	int64_t ret;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (instant_parse(texts[i], NOW, &ret) != -EINVAL)
			fail_msg("%s was understood", texts[i]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(instant__dates_with_a_zone),
		cmocka_unit_test(instant__dates_without_a_zone_are_local),
		cmocka_unit_test(instant__so_long_ago),
		cmocka_unit_test(instant__seconds),
		cmocka_unit_test(instant__what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
