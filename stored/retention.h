/*
 * Which instants of the past are kept: pure, times and numbers in, answers out.
 *
 * A policy asks for every instant of the last keep_all seconds, and for the last instants before
 * that many hours, days, weeks (from Monday) and months began, all in UTC. What was pruned does not
 * come back, so what is kept is told by cuts that only move forward: every instant from `all` on,
 * the beginnings of hours from `hour` on, and so on; and pins, the instants of snapshots.
 *
 * A version that was there in [since, until) may go when no kept instant lies in that range.
 */
#ifndef BAZIL_STORED_RETENTION_H
#define BAZIL_STORED_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RETENTION_NUMBER_MAX 100000u			   /* of hours, days, weeks or months */
#define RETENTION_ALL_MAX    (UINT64_C(100) * 366 * 86400) /* seconds */

struct retention_policy {
	uint64_t keep_all; /* seconds */
	uint32_t hourly, daily, weekly, monthly;
};
#define RETENTION_DEFAULT                                                                          \
	{                                                                                          \
		7 * 86400, 14 * 24, 30, 12, 12                                                     \
	}

enum retention_kind {
	RETENTION_HOUR,
	RETENTION_DAY,
	RETENTION_WEEK,
	RETENTION_MONTH,
	RETENTION_KINDS,
};

struct retention_kept {
	uint64_t all; /* ns since 1970, as all times; 0 at first: nothing was ever pruned */
	uint64_t from[RETENTION_KINDS];
	uint64_t *pins; /* ascending, with repetitions */
	size_t num_pins, cap_pins;
};

/* The last beginning of an hour, day, week or month at or before t, and the next one after it. */
uint64_t retention_floor(enum retention_kind kind, uint64_t t);
uint64_t retention_after(enum retention_kind kind, uint64_t t);

/* Moves the cuts to where the policy puts them now; true if one moved. */
bool retention_cut(
	struct retention_kept *kept, const struct retention_policy *policy, uint64_t now);
/* A kept instant is in [since, until). */
bool retention_keeps(const struct retention_kept *kept, uint64_t since, uint64_t until);
/* When the first instant comes from which on nothing in [since, until) is kept, with this policy:
 * UINT64_MAX: never, a pin is in it. The past when that may be done already. */
uint64_t retention_until(const struct retention_kept *kept, const struct retention_policy *policy,
	uint64_t since, uint64_t until);
/* The newest kept instant not after t; 0: none. */
uint64_t retention_newest(const struct retention_kept *kept, uint64_t t);

/* 0 or -ENOMEM. */
int retention_pin(struct retention_kept *kept, uint64_t time);
void retention_unpin(struct retention_kept *kept, uint64_t time);
void retention_release(struct retention_kept *kept);

#endif
