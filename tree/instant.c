#include "tree/instant.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)
#define S_MAX	 (INT64_MAX / NS_PER_S - 86400)

/* Exactly num digits, or with num 0 one or more. */
static bool take_number(const char **at, int num, int64_t *ret)
{
	const char *p = *at;

	*ret = 0;
	while (isdigit((unsigned char)*p) && (num == 0 || p - *at < num)) {
		*ret = *ret * 10 + (*p++ - '0');
		if (*ret > S_MAX)
			return false;
	}
	if (p == *at || (num != 0 && p - *at != num))
		return false;
	*at = p;
	return true;
}

static bool take(const char **at, char c)
{
	if (**at != c)
		return false;
	++*at;
	return true;
}

/* .25 */
static bool take_fraction(const char **at, int64_t *ret_ns)
{
	int64_t unit = NS_PER_S;

	*ret_ns = 0;
	if (!take(at, '.'))
		return true;
	if (!isdigit((unsigned char)**at))
		return false;
	for (; isdigit((unsigned char)**at); ++*at) {
		unit /= 10;
		*ret_ns += (**at - '0') * unit;
	}
	return true;
}

static int parse_ago(const char *at, int64_t now, int64_t *ret)
{
	static const char units[] = "smhdw";
	static const int64_t lengths[] = { 1, 60, 3600, 86400, 604800 };
	int64_t ago = 0, num;

	do {
		const char *unit;

		if (!take_number(&at, 0, &num) || *at == '\0')
			return -EINVAL;
		unit = strchr(units, *at++);
		if (unit == NULL || num > S_MAX / lengths[unit - units])
			return -EINVAL;
		ago += num * lengths[unit - units];
		if (ago > S_MAX)
			return -EINVAL;
	} while (*at != '\0');
	*ret = now - ago * NS_PER_S;
	return 0;
}

static int parse_seconds(const char *at, int64_t *ret)
{
	int64_t s, ns;

	if (!take_number(&at, 0, &s) || !take_fraction(&at, &ns) || *at != '\0')
		return -EINVAL;
	*ret = s * NS_PER_S + ns;
	return 0;
}

/* Days since 1970 of a date of the Gregorian calendar. Years begin in March here, so that the odd
 * day is a year's last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = y / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool take_zone(const char **at, int64_t *ret_east)
{
	int64_t hours, minutes = 0;
	int sign;

	*ret_east = 0;
	if (take(at, 'Z') || take(at, 'z'))
		return true;
	sign = take(at, '+') ? 1 : take(at, '-') ? -1 : 0;
	if (sign == 0 || !take_number(at, 2, &hours))
		return false;
	if (**at != '\0') {
		(void)take(at, ':');
		if (!take_number(at, 2, &minutes))
			return false;
	}
	*ret_east = sign * (hours * 3600 + minutes * 60);
	return hours < 24 && minutes < 60;
}

static int parse_date(const char *at, int64_t *ret)
{
	int64_t year, month, day, hour = 0, minute = 0, second = 0, ns = 0, east, s;
	struct tm tm;

	if (!take_number(&at, 4, &year) || !take(&at, '-') || !take_number(&at, 2, &month) ||
		!take(&at, '-') || !take_number(&at, 2, &day))
		return -EINVAL;
	if (take(&at, 'T') || take(&at, 't') || take(&at, ' ')) {
		if (!take_number(&at, 2, &hour) || !take(&at, ':') || !take_number(&at, 2, &minute))
			return -EINVAL;
		if (take(&at, ':') && !(take_number(&at, 2, &second) && take_fraction(&at, &ns)))
			return -EINVAL;
	}
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 ||
		minute > 59 || second > 60)
		return -EINVAL;
	s = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	if (*at == '\0') {
		tm = (struct tm){ .tm_year = (int)year - 1900,
			.tm_mon = (int)month - 1,
			.tm_mday = (int)day,
			.tm_hour = (int)hour,
			.tm_min = (int)minute,
			.tm_sec = (int)second,
			.tm_isdst = -1 };
		s = mktime(&tm);
	} else {
		if (!take_zone(&at, &east) || *at != '\0')
			return -EINVAL;
		s -= east;
	}
	if (s < 0 || s > S_MAX)
		return -EINVAL;
	*ret = s * NS_PER_S + ns;
	return 0;
}

int instant_parse(const char *text, int64_t now, int64_t *ret)
{
	if (*text == '-')
		return parse_ago(text + 1, now, ret);
	return strchr(text, '-') != NULL ? parse_date(text, ret) : parse_seconds(text, ret);
}
