#include "stored/retention.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)
#define DAY    (24 * HOUR)

/* Days since 1970 of the first of a month, counted from January 1970 on. The year is taken to begin
 * in March, so that the odd day of February is its last one. */
static uint64_t month_day(uint64_t month)
{
	uint64_t from_march = month + 10; /* months since March 1969 */
	uint64_t year = 1969 + from_march / 12, m = from_march % 12;

	/* 719468: days from the first of March of the year 0 to 1970. */
	return year * 365 + year / 4 - year / 100 + year / 400 + (153 * m + 2) / 5 - 719468;
}

static uint64_t month_of(uint64_t day)
{
	/* No month is shorter than 28 days or longer than 31: a guess, and the way to it. */
	uint64_t month = day / 31;

	while (month_day(month + 1) <= day)
		month++;
	return month;
}

uint64_t retention_floor(enum retention_kind kind, uint64_t t)
{
	uint64_t day = t / DAY;

	switch (kind) {
	case RETENTION_HOUR:
		return t - t % HOUR;
	case RETENTION_DAY:
		return day * DAY;
	case RETENTION_WEEK: /* the first of January 1970 was a Thursday */
		return day < 4 ? 0 : ((day - 4) / 7 * 7 + 4) * DAY;
	case RETENTION_MONTH:
		return month_day(month_of(day)) * DAY;
	case RETENTION_KINDS:
		break;
	}
	return 0;
}

uint64_t retention_after(enum retention_kind kind, uint64_t t)
{
	uint64_t floor = retention_floor(kind, t);

	switch (kind) {
	case RETENTION_HOUR:
		return floor + HOUR;
	case RETENTION_DAY:
		return floor + DAY;
	case RETENTION_WEEK:
		return t < 4 * DAY ? 4 * DAY : floor + 7 * DAY;
	case RETENTION_MONTH:
		return month_day(month_of(t / DAY) + 1) * DAY;
	case RETENTION_KINDS:
		break;
	}
	return UINT64_MAX;
}

/* The oldest of the num newest beginnings; with none the next one to come. */
static uint64_t begin_of(enum retention_kind kind, uint32_t num, uint64_t now)
{
	uint64_t t = retention_floor(kind, now), month;

	if (num == 0)
		return retention_after(kind, now);
	switch (kind) {
	case RETENTION_HOUR:
		return t > (num - 1) * HOUR ? t - (num - 1) * HOUR : 0;
	case RETENTION_DAY:
		return t > (num - 1) * DAY ? t - (num - 1) * DAY : 0;
	case RETENTION_WEEK:
		return t > (num - 1) * 7 * DAY ? t - (num - 1) * 7 * DAY : 0;
	case RETENTION_MONTH:
		month = month_of(now / DAY);
		return month > num - 1 ? month_day(month - (num - 1)) * DAY : 0;
	case RETENTION_KINDS:
		break;
	}
	return 0;
}

static bool raise_to(uint64_t *cut, uint64_t t)
{
	if (t <= *cut)
		return false;
	*cut = t;
	return true;
}

static uint32_t num_of(const struct retention_policy *policy, enum retention_kind kind)
{
	const uint32_t nums[RETENTION_KINDS] = {
		[RETENTION_HOUR] = policy->hourly,
		[RETENTION_DAY] = policy->daily,
		[RETENTION_WEEK] = policy->weekly,
		[RETENTION_MONTH] = policy->monthly,
	};

	return nums[kind];
}

bool retention_cut(struct retention_kept *kept, const struct retention_policy *policy, uint64_t now)
{
	bool moved = false;
	int kind;

	if (now / SECOND > policy->keep_all)
		moved = raise_to(&kept->all, now - policy->keep_all * SECOND);
	for (kind = 0; kind < RETENTION_KINDS; kind++)
		moved |= raise_to(&kept->from[kind], begin_of(kind, num_of(policy, kind), now));
	return moved;
}

/* Index of the first pin at or after t. */
static size_t pin_at(const struct retention_kept *kept, uint64_t t)
{
	size_t low = 0, high = kept->num_pins;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (kept->pins[middle] < t)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool retention_keeps(const struct retention_kept *kept, uint64_t since, uint64_t until)
{
	size_t pin;
	int kind;

	if (since >= until)
		return false;
	if (until > kept->all)
		return true;
	for (kind = 0; kind < RETENTION_KINDS; kind++) {
		uint64_t t = since > kept->from[kind] ? since : kept->from[kind];

		/* The first beginning that is not before t. */
		if (t > 0)
			t = retention_after(kind, t - 1);
		if (t < until)
			return true;
	}
	pin = pin_at(kept, since);
	return pin < kept->num_pins && kept->pins[pin] < until;
}

/* The num-th beginning after this one. */
static uint64_t begin_later(enum retention_kind kind, uint64_t t, uint32_t num)
{
	if (num == 0)
		return t;
	/* The first week is a short one. */
	t = retention_after(kind, t);
	num--;
	switch (kind) {
	case RETENTION_HOUR:
		return t + num * HOUR;
	case RETENTION_DAY:
		return t + num * DAY;
	case RETENTION_WEEK:
		return t + num * 7 * DAY;
	case RETENTION_MONTH:
		return month_day(month_of(t / DAY) + num) * DAY;
	case RETENTION_KINDS:
		break;
	}
	return UINT64_MAX;
}

uint64_t retention_until(const struct retention_kept *kept, const struct retention_policy *policy,
	uint64_t since, uint64_t until)
{
	size_t pin = pin_at(kept, since);
	uint64_t ends = 0, begin;
	int kind;

	if (since >= until)
		return 0;
	if (pin < kept->num_pins && kept->pins[pin] < until)
		return UINT64_MAX;
	if (until > kept->all)
		ends = until + policy->keep_all * SECOND;
	for (kind = 0; kind < RETENTION_KINDS; kind++) {
		/* The last that is in it goes when there are as many newer ones as are kept. */
		begin = retention_floor(kind, until - 1);
		if (begin < since || begin < kept->from[kind])
			continue;
		begin = begin_later(kind, begin, num_of(policy, kind));
		ends = begin > ends ? begin : ends;
	}
	return ends;
}

uint64_t retention_newest(const struct retention_kept *kept, uint64_t t)
{
	uint64_t best = 0, floor;
	size_t pin;
	int kind;

	if (t >= kept->all)
		return t;
	for (kind = 0; kind < RETENTION_KINDS; kind++) {
		floor = retention_floor(kind, t);
		if (floor >= kept->from[kind] && floor > best)
			best = floor;
	}
	pin = pin_at(kept, t + 1);
	if (pin > 0 && kept->pins[pin - 1] > best)
		best = kept->pins[pin - 1];
	return best;
}

int retention_pin(struct retention_kept *kept, uint64_t time)
{
	size_t at = pin_at(kept, time);

	if (kept->num_pins == kept->cap_pins) {
		size_t cap = kept->cap_pins ? kept->cap_pins * 2 : 16;
		uint64_t *pins = realloc(kept->pins, cap * sizeof(*pins));

		if (!pins)
			return -ENOMEM;
		kept->pins = pins;
		kept->cap_pins = cap;
	}
	memmove(kept->pins + at + 1, kept->pins + at, (kept->num_pins - at) * sizeof(*kept->pins));
	kept->pins[at] = time;
	kept->num_pins++;
	return 0;
}

void retention_unpin(struct retention_kept *kept, uint64_t time)
{
	size_t at = pin_at(kept, time);

	if (at == kept->num_pins || kept->pins[at] != time)
		return;
	kept->num_pins--;
	memmove(kept->pins + at, kept->pins + at + 1, (kept->num_pins - at) * sizeof(*kept->pins));
}

void retention_release(struct retention_kept *kept)
{
	free(kept->pins);
	*kept = (struct retention_kept){ 0 };
}
