/*
 * The cache of recursive figures against a model: a tree in arrays, changed at random; after each
 * change whatever the cache still claims must be true, and be found again by filling in what is
 * missing.
 */
#include "mountd/figures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DIRS   40
#define FILES  60
#define ROUNDS 20000

struct model {
	uint64_t parent[DIRS]; /* index of a directory; 0 is the root */
	bool has_dir[DIRS];
	uint64_t bytes[FILES];
	uint64_t dirs[FILES][3]; /* where its names are */
	size_t num_names[FILES];
};

static uint64_t node(size_t dir)
{
	return 1000 + dir;
}

static struct figure own_of(const struct model *m, size_t dir)
{
	struct figure ret = { 0 };

	for (size_t f = 0; f < FILES; f++)
		for (size_t i = 0; i < m->num_names[f]; i++)
			if (m->dirs[f][i] == dir) {
				ret.files++;
				ret.bytes += m->bytes[f];
			}
	for (size_t d = 1; d < DIRS; d++)
		ret.dirs += m->has_dir[d] && m->parent[d] == dir;
	return ret;
}

static struct figure total_of(const struct model *m, size_t dir)
{
	struct figure ret = own_of(m, dir), below;

	for (size_t d = 1; d < DIRS; d++)
		if (m->has_dir[d] && m->parent[d] == dir) {
			below = total_of(m, d);
			figure_add(&ret, &below);
		}
	return ret;
}

static bool is_below(const struct model *m, size_t dir, size_t top)
{
	while (dir != 0 && dir != top)
		dir = m->parent[dir];
	return dir == top;
}

/* What mountd/figure_walk.c does. */
static struct figure fill(struct figures *figures, const struct model *m, size_t dir)
{
	struct figure_dir *known = figures_expect(figures, node(dir), 0);
	struct figure ret = own_of(m, dir), below;
	uint64_t subdirs[DIRS];
	size_t num = 0;

	assert_non_null(known);
	if (known->has_total)
		return known->total;
	for (size_t d = 1; d < DIRS; d++)
		if (m->has_dir[d] && m->parent[d] == dir)
			subdirs[num++] = node(d);
	for (size_t f = 0; f < FILES; f++)
		for (size_t i = 0; i < m->num_names[f] && m->num_names[f] > 1; i++)
			if (m->dirs[f][i] == dir)
				figures_note_link(figures, 1 + f, node(dir));
	if (known->has_own)
		assert_memory_equal(&known->own, &ret, sizeof(ret));
	else
		known = figures_set_own(figures, node(dir), &ret, subdirs, num);
	for (size_t i = 0; i < num; i++) {
		figures_expect(figures, subdirs[i], node(dir));
		below = fill(figures, m, subdirs[i] - 1000);
		figure_add(&ret, &below);
	}
	known->total = ret;
	known->has_total = true;
	return ret;
}

static void check_claims(struct figures *figures, const struct model *m)
{
	for (size_t d = 0; d < DIRS; d++) {
		struct figure_dir *known = figures_find(figures, node(d));
		struct figure want = total_of(m, d);

		if (known != NULL && known->has_total && (d == 0 || m->has_dir[d]))
			assert_memory_equal(&known->total, &want, sizeof(want));
	}
}

static size_t any_dir(const struct model *m)
{
	size_t d;

	do {
		d = (size_t)random() % DIRS;
	} while (d != 0 && !m->has_dir[d]);
	return d;
}

static void change_file(struct figures *figures, struct model *m)
{
	size_t f = (size_t)random() % FILES, n = m->num_names[f], i;

	switch (random() % 4) {
	case 0: /* a name comes */
		if (n == 3)
			return;
		m->dirs[f][n] = any_dir(m);
		if (n > 0) {
			figures_note_link(figures, 1 + f, node(m->dirs[f][0]));
			figures_note_link(figures, 1 + f, node(m->dirs[f][n]));
		}
		m->num_names[f]++;
		figures_touch(figures, node(m->dirs[f][n]));
		return;
	case 1: /* a name goes */
		if (n == 0)
			return;
		i = (size_t)random() % n;
		figures_touch(figures, node(m->dirs[f][i]));
		m->dirs[f][i] = m->dirs[f][n - 1];
		m->num_names[f]--;
		return;
	default: /* its size; told is one of its directories */
		m->bytes[f] = (uint64_t)random() % 1000;
		if (n > 0)
			figures_touch_inode(figures, 1 + f, node(m->dirs[f][(size_t)random() % n]),
				(uint32_t)n);
	}
}

static void change_dir(struct figures *figures, struct model *m)
{
	size_t d = 1 + (size_t)random() % (DIRS - 1), to = any_dir(m);
	bool is_empty = true;
	struct figure own = own_of(m, d);

	if (!m->has_dir[d]) {
		m->has_dir[d] = true;
		m->parent[d] = to;
		figures_touch(figures, node(to));
		return;
	}
	is_empty = own.files == 0 && own.dirs == 0;
	if (is_empty && random() % 2) {
		m->has_dir[d] = false;
		figures_touch(figures, node(m->parent[d]));
	} else if (!is_below(m, to, d)) {
		figures_touch(figures, node(m->parent[d]));
		figures_touch(figures, node(to));
		m->parent[d] = to;
	}
}

static void figures__claim_only_what_is_true(void **state)
{
	const char *seed_text = getenv("BAZIL_SEED");
	unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 0) : (unsigned)time(NULL);
	struct model m = { 0 };
	struct figures *figures;

	printf("BAZIL_SEED=%u\n", seed);
	srandom(seed);
	assert_int_equal(figures_new(&figures), 0);
	for (int i = 0; i < ROUNDS; i++) {
		if (random() % 3)
			change_file(figures, &m);
		else
			change_dir(figures, &m);
		check_claims(figures, &m);
		if (random() % 4 == 0) {
			size_t d = any_dir(&m);
			struct figure want = total_of(&m, d), got = fill(figures, &m, d);

			assert_memory_equal(&got, &want, sizeof(want));
		}
	}
	figures_free(figures);
}

static void figures__an_unknown_directory_of_a_change_ends_all_claims(void **state)
{
	struct figure own = { .files = 1 };
	struct figures *figures;

	assert_int_equal(figures_new(&figures), 0);
	assert_true(figures_empty(figures));
	assert_non_null(figures_set_own(figures, 5, &own, NULL, 0));
	assert_false(figures_empty(figures));
	figures_touch_inode(figures, 77, 6, 1);
	assert_non_null(figures_find(figures, 5)); /* 6 was never counted */
	figures_touch_inode(figures, 77, 0, 1);
	assert_null(figures_find(figures, 5));
	figures_free(figures);
}

static void figures__links_that_nobody_noted_end_all_claims(void **state)
{
	struct figure own = { .files = 1 };
	struct figures *figures;

	assert_int_equal(figures_new(&figures), 0);
	assert_non_null(figures_set_own(figures, 5, &own, NULL, 0));
	figures_lose_links(figures);
	figures_touch_inode(figures, 77, 6, 1);
	assert_non_null(figures_find(figures, 5));
	figures_touch_inode(figures, 77, 6, 2);
	assert_null(figures_find(figures, 5));
	figures_free(figures);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures__claim_only_what_is_true),
		cmocka_unit_test(figures__an_unknown_directory_of_a_change_ends_all_claims),
		cmocka_unit_test(figures__links_that_nobody_noted_end_all_claims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
