#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mountd/dir.h"

static uint64_t seed;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static void add(struct dir *dir, uint64_t lid)
{
	char name[32];
	int len = snprintf(name, sizeof(name), "n%llu", (unsigned long long)lid);

	dir_add(dir, lid, lid + 1, 8, name, (size_t)len);
}

static const struct dirent_entry *find(const struct dir *dir, uint64_t lid)
{
	char name[32];
	int len = snprintf(name, sizeof(name), "n%llu", (unsigned long long)lid);

	return dir_find(dir, name, (size_t)len);
}

/* By name, by number and in order it is the same set. */
static void check(const struct dir *dir, const bool *there, size_t max)
{
	size_t at = 0;

	for (uint64_t lid = 1; lid < max; lid++) {
		assert_int_equal(find(dir, lid) != NULL, there[lid]);
		assert_int_equal(dir_find_lid(dir, lid) != NULL, there[lid]);
		if (!there[lid])
			continue;
		assert_int_equal(dir->order[at]->lid, lid);
		assert_int_equal(dir_after(dir, lid), at + 1);
		at++;
	}
	assert_int_equal(dir->num, at);
}

static void dir__random_changes_are_as_in_a_set(void **state)
{
	enum { MAX = 300 };
	bool there[MAX] = { false };
	struct dir *dir = dir_new();

	for (int i = 0; i < 20000; i++) {
		uint64_t lid = 1 + next() % (MAX - 1);
		/* Times of growing, of shrinking, and a queue. */
		bool adds = i / 2000 % 3 == 0 || (i / 2000 % 3 == 2 && next() % 2);

		if (adds) {
			add(dir, lid);
			there[lid] = true;
		} else if (dir->num > 0) {
			struct dirent_entry *entry = dir->order[next() % 2 ? 0 : next() % dir->num];

			there[entry->lid] = false;
			dir_remove(dir, entry);
		}
		if (i % 50 == 0)
			check(dir, there, MAX);
	}
	check(dir, there, MAX);
	dir_free(dir);
}

/* Quadratic time would not end within the test's. */
static void dir__a_million_names_come_and_go(void **state)
{
	enum { MANY = 1000000 };
	struct dir *dir = dir_new();

	for (uint64_t lid = 1; lid <= MANY; lid++)
		add(dir, lid);
	for (uint64_t lid = 1; lid <= MANY; lid++) {
		assert_int_equal(dir->order[0]->lid, lid);
		dir_remove(dir, dir->order[0]);
		add(dir, MANY + lid);
	}
	for (uint64_t lid = 2 * MANY; lid > MANY; lid--) {
		assert_int_equal(dir->order[dir->num - 1]->lid, lid);
		dir_remove(dir, dir->order[dir->num - 1]);
	}
	assert_int_equal(dir->num, 0);
	dir_free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dir__random_changes_are_as_in_a_set),
		cmocka_unit_test(dir__a_million_names_come_and_go),
	};
	const char *given = getenv("BAZIL_SEED");

	seed = given != NULL ? strtoull(given, NULL, 10) | 1 : 88172645463325252ull;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
