#include "stored/retention.h"

#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define DAY    (86400 * SECOND)

static uint64_t of(int year, int month, int day, int hour, int minute)
{
	struct tm tm = { .tm_year = year - 1900,
		.tm_mon = month - 1,
		.tm_mday = day,
		.tm_hour = hour,
		.tm_min = minute };

	return (uint64_t)timegm(&tm) * SECOND;
}

static void retention__beginnings_are_those_of_the_calendar(void **state)
{
	uint64_t t = of(2024, 2, 29, 13, 59) + 7, seed = rig_seed();

	assert_true(retention_floor(RETENTION_HOUR, t) == of(2024, 2, 29, 13, 0));
	assert_true(retention_floor(RETENTION_DAY, t) == of(2024, 2, 29, 0, 0));
	assert_true(retention_floor(RETENTION_WEEK, t) == of(2024, 2, 26, 0, 0));
	assert_true(retention_floor(RETENTION_MONTH, t) == of(2024, 2, 1, 0, 0));
	assert_true(retention_after(RETENTION_HOUR, t) == of(2024, 2, 29, 14, 0));
	assert_true(retention_after(RETENTION_DAY, t) == of(2024, 3, 1, 0, 0));
	assert_true(retention_after(RETENTION_WEEK, t) == of(2024, 3, 4, 0, 0));
	assert_true(retention_after(RETENTION_MONTH, t) == of(2024, 3, 1, 0, 0));
	assert_true(
		retention_after(RETENTION_MONTH, of(2023, 12, 31, 23, 59)) == of(2024, 1, 1, 0, 0));
	for (int i = 0; i < 20000; i++) {
		uint64_t at = rig_random(&seed) % (150 * 365 * DAY);

		for (int kind = 0; kind < RETENTION_KINDS; kind++) {
			uint64_t floor = retention_floor(kind, at),
				 after = retention_after(kind, at);
			time_t seconds = (time_t)(floor / SECOND);
			struct tm tm;

			assert_true(floor <= at && at < after);
			assert_true(retention_floor(kind, after) == after);
			assert_true(after == 0 || retention_floor(kind, after - 1) == floor);
			gmtime_r(&seconds, &tm);
			assert_true(floor % SECOND == 0 && tm.tm_min == 0 && tm.tm_sec == 0);
			assert_true(kind == RETENTION_HOUR || tm.tm_hour == 0);
			assert_true(kind != RETENTION_WEEK || tm.tm_wday == 1 || floor == 0);
			assert_true(kind != RETENTION_MONTH || tm.tm_mday == 1);
		}
	}
}

/* The answer by looking at every beginning. */
static bool keeps_slowly(const struct retention_kept *kept, uint64_t since, uint64_t until)
{
	if (since < until && until > kept->all)
		return true;
	for (uint64_t t = 0; t < until; t += 3600 * SECOND) {
		if (t < since)
			continue;
		for (int kind = 0; kind < RETENTION_KINDS; kind++)
			if (retention_floor(kind, t) == t && t >= kept->from[kind])
				return true;
	}
	for (size_t i = 0; i < kept->num_pins; i++)
		if (kept->pins[i] >= since && kept->pins[i] < until)
			return true;
	return false;
}

static void retention__a_range_stays_exactly_when_a_kept_instant_is_in_it(void **state)
{
	uint64_t seed = rig_seed(), span = 100 * DAY;
	struct retention_kept kept = { 0 };
	unsigned yes = 0;

	for (int i = 0; i < 2000; i++) {
		struct retention_policy policy = { rig_random(&seed) % (20 * 86400),
			(uint32_t)(rig_random(&seed) % 50), (uint32_t)(rig_random(&seed) % 10),
			(uint32_t)(rig_random(&seed) % 5), (uint32_t)(rig_random(&seed) % 3) };
		uint64_t since = rig_random(&seed) % span;
		uint64_t until = since + rig_random(&seed) % (2 * DAY), newest;

		retention_release(&kept);
		for (uint64_t n = rig_random(&seed) % 4; n > 0; n--)
			assert_int_equal(retention_pin(&kept, rig_random(&seed) % span), 0);
		retention_cut(&kept, &policy, span);
		assert_true(
			retention_keeps(&kept, since, until) == keeps_slowly(&kept, since, until));
		yes += retention_keeps(&kept, since, until);
		newest = retention_newest(&kept, since);
		assert_true(newest <= since);
		/* It is kept, and nothing behind it is. */
		assert_true(newest == 0 || retention_keeps(&kept, newest, newest + 1));
		assert_true(!retention_keeps(&kept, newest + 1, since + 1));
	}
	assert_in_range(yes, 100, 1900);
	retention_release(&kept);
}

static void retention__says_when_a_range_goes(void **state)
{
	uint64_t seed = rig_seed(), span = 400 * DAY, later = 0, never = 0;

	for (int i = 0; i < 20000; i++) {
		struct retention_policy policy = { rig_random(&seed) % (20 * 86400),
			(uint32_t)(rig_random(&seed) % 50), (uint32_t)(rig_random(&seed) % 10),
			(uint32_t)(rig_random(&seed) % 5), (uint32_t)(rig_random(&seed) % 3) };
		struct retention_kept kept = { 0 }, cut;
		uint64_t until = rig_random(&seed) % span, ends;
		uint64_t since = until - rig_random(&seed) % (until / 8 + 1);

		assert_int_equal(retention_pin(&kept, rig_random(&seed) % span), 0);
		/* What is gone already does not come back. */
		if (i % 3 > 0)
			retention_cut(&kept, &policy, i % 3 == 1 ? until : span);
		ends = retention_until(&kept, &policy, since, until);
		if (ends == UINT64_MAX) {
			never++;
			assert_in_range(kept.pins[0], since, until - 1);
			retention_release(&kept);
			continue;
		}
		cut = kept;
		retention_cut(&cut, &policy, ends > span ? ends : span);
		assert_false(retention_keeps(&cut, since, until));
		if (ends > span) {
			later++;
			cut = kept;
			retention_cut(&cut, &policy, ends - 1);
			assert_true(retention_keeps(&cut, since, until));
		}
		retention_release(&kept);
	}
	assert_true(later > 100 && never > 100);
}

static void retention__cuts_only_move_forward(void **state)
{
	struct retention_policy little = { 3600, 2, 2, 2, 2 }, much = { 864000, 900, 90, 90, 90 };
	struct retention_kept kept = { 0 }, was;
	uint64_t t = of(2026, 5, 5, 5, 5);

	assert_true(retention_keeps(&kept, 5, 6));
	assert_true(retention_cut(&kept, &little, t));
	was = kept;
	assert_false(retention_cut(&kept, &much, t + 60 * SECOND));
	assert_false(retention_cut(&kept, &little, t - 90 * DAY));
	assert_memory_equal(&kept, &was, sizeof(kept));
	assert_true(retention_cut(&kept, &little, t + 60 * DAY));
}

static void retention__pins_go_one_by_one(void **state)
{
	struct retention_kept kept = { .all = 1000, .from = { 9999, 9999, 9999, 9999 } };

	kept.from[0] = kept.from[1] = kept.from[2] = kept.from[3] = UINT64_MAX;
	assert_int_equal(retention_pin(&kept, 30), 0);
	assert_int_equal(retention_pin(&kept, 10), 0);
	assert_int_equal(retention_pin(&kept, 30), 0);
	assert_true(retention_keeps(&kept, 10, 11));
	assert_false(retention_keeps(&kept, 11, 30));
	retention_unpin(&kept, 30);
	retention_unpin(&kept, 11);
	assert_true(retention_keeps(&kept, 30, 31));
	retention_unpin(&kept, 30);
	assert_false(retention_keeps(&kept, 30, 31));
	assert_true(retention_keeps(&kept, 10, 11));
	retention_release(&kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(retention__beginnings_are_those_of_the_calendar),
		cmocka_unit_test(retention__a_range_stays_exactly_when_a_kept_instant_is_in_it),
		cmocka_unit_test(retention__says_when_a_range_goes),
		cmocka_unit_test(retention__cuts_only_move_forward),
		cmocka_unit_test(retention__pins_go_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
