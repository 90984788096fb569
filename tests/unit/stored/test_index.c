/* The index against a plain array: the same rows, whatever of it lies in LMDB and what over it. */
#include "rig.h"

#include "stored/db.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define KEYS   1500
#define TABLES 3
#define VALUE  300

struct key {
	uint8_t b[40];
	size_t len;
};

/* What each key has: 0 nothing, else a number that says all about its value. */
struct rows {
	uint32_t of[TABLES][KEYS];
};

static struct key keys[KEYS]; /* ascending */
static struct rows now, frozen, applied;
static bool is_frozen;
static uint64_t seed;
static char dir[64], path[80];
static struct db *db;

static int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;

	return fresh_compare(x->b, x->len, y->b, y->len);
}

/* Many start alike, and some are the start of others. */
static void keys_make(void)
{
	for (size_t i = 0; i < KEYS; i++) {
		struct key *key = &keys[i];

		key->len = 3 + rig_random(&seed) % 30;
		memset(key->b, 'a', sizeof(key->b));
		key->b[0] = (uint8_t)(rig_random(&seed) % 4);
		for (size_t k = rig_random(&seed) % 2 ? 1 : key->len - 2; k < key->len; k++)
			key->b[k] = (uint8_t)(rig_random(&seed) % 5);
	}
	qsort(keys, KEYS, sizeof(keys[0]), by_key);
	/* Of equal ones the last is left. */
	for (size_t i = 0; i + 1 < KEYS; i++)
		if (by_key(&keys[i], &keys[i + 1]) == 0)
			keys[i].len = 0;
}

static void start(uint64_t map_size)
{
	seed = rig_seed();
	keys_make();
	memset(&now, 0, sizeof(now));
	memset(&applied, 0, sizeof(applied));
	is_frozen = false;
	snprintf(dir, sizeof(dir), "/tmp/bazil-index-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/index", dir);
	assert_int_equal(db_open(&db, path, map_size), 0);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_commit(db), 0);
}

static void end(void)
{
	char lock[96];

	db_close(db);
	snprintf(lock, sizeof(lock), "%s-lock", path);
	unlink(lock);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

static size_t value_of(size_t i, uint32_t number, uint8_t value[VALUE])
{
	memset(value, (int)(number + i), VALUE);
	memcpy(value, &number, sizeof(number));
	return number % 5 ? number % VALUE : 0;
}

static void check_value(size_t i, uint32_t number, const uint8_t *value, size_t len)
{
	uint8_t expect[VALUE];

	assert_int_equal(len, value_of(i, number, expect));
	assert_true(len == 0 || memcmp(value, expect, len) == 0);
}

/* ---- one step */

static void put(int table, size_t i)
{
	uint32_t number = 1 + (uint32_t)rig_random(&seed) % 100000;
	uint8_t value[VALUE];
	size_t len = value_of(i, number, value);

	assert_int_equal(db_put(db_write(db), table, keys[i].b, keys[i].len, value, len), 0);
	now.of[table][i] = number;
}

static void get(int table, size_t i)
{
	const uint8_t *value;
	size_t len;
	int r;

	r = db_get(db_write(db), table, keys[i].b, keys[i].len, &value, &len);
	assert_int_equal(r, now.of[table][i] ? 0 : -ENOENT);
	if (r == 0)
		check_value(i, now.of[table][i], value, len);
}

static void delete (int table, size_t i)
{
	assert_int_equal(db_delete(db_write(db), table, keys[i].b, keys[i].len),
		now.of[table][i] ? 0 : -ENOENT);
	now.of[table][i] = 0;
}

static void take(int table, size_t i)
{
	uint8_t value[VALUE], expect[VALUE];
	size_t len = value_of(i, now.of[table][i], expect);

	if (!now.of[table][i])
		return;
	assert_int_equal(
		db_take(db_write(db), table, keys[i].b, keys[i].len, value, len + 1), -EUCLEAN);
	assert_int_equal(db_take(db_write(db), table, keys[i].b, keys[i].len, value, len), 0);
	check_value(i, now.of[table][i], value, len);
	now.of[table][i] = 0;
}

static bool has_prefix(size_t i, const struct key *prefix)
{
	return keys[i].len >= prefix->len && memcmp(keys[i].b, prefix->b, prefix->len) == 0;
}

/* Some of them, from a random place on. */
static void iterate(const struct rows *rows, struct db_txn *txn, int table)
{
	struct key prefix = keys[rig_random(&seed) % KEYS], from = keys[rig_random(&seed) % KEYS];
	bool has_start = rig_random(&seed) % 2;
	struct db_iter it;
	size_t i = 0;
	int r;

	prefix.len = prefix.len ? rig_random(&seed) % 4 : 0;
	if (fresh_compare(from.b, from.len, prefix.b, prefix.len) < 0)
		from = prefix;
	r = db_iter_first(&it, txn, table, prefix.b, prefix.len, has_start ? from.b : NULL,
		has_start ? from.len : 0);
	for (; i < KEYS; i++) {
		if (!rows->of[table][i] || !has_prefix(i, &prefix))
			continue;
		if (has_start && fresh_compare(keys[i].b, keys[i].len, from.b, from.len) < 0)
			continue;
		assert_int_equal(r, 1);
		assert_int_equal(it.key_len, keys[i].len);
		assert_memory_equal(it.key, keys[i].b, keys[i].len);
		check_value(i, rows->of[table][i], it.value, it.value_len);
		r = db_iter_next(&it);
	}
	assert_int_equal(r, 0);
	db_iter_close(&it);
}

static void count(int table)
{
	uint64_t num = 0;

	for (size_t i = 0; i < KEYS; i++)
		num += now.of[table][i] > 0;
	assert_int_equal(db_rows(db_write(db), table), num);
}

static void delete_prefix(int table)
{
	struct key prefix = keys[rig_random(&seed) % KEYS];
	int max = 1 + (int)rig_random(&seed) % 50, num = 0;

	prefix.len = prefix.len > 3 ? 3 : prefix.len;
	for (size_t i = 0; i < KEYS && num < max; i++) {
		if (!now.of[table][i] || !has_prefix(i, &prefix))
			continue;
		now.of[table][i] = 0;
		num++;
	}
	assert_int_equal(db_delete_prefix(db_write(db), table, prefix.b, prefix.len, max), num);
}

static void freeze(void)
{
	if (is_frozen)
		return;
	assert_int_equal(db_freeze(db), 0);
	frozen = now;
	is_frozen = true;
}

static void finish(void)
{
	assert_int_equal(db_applied(db), 0);
	applied = frozen;
	is_frozen = false;
}

/* Half of the time what was frozen is in LMDB already, and nobody has looked. */
static void forget(void)
{
	if (is_frozen && rig_random(&seed) % 2) {
		assert_int_equal(db_apply(db), 0);
		applied = frozen;
	}
	is_frozen = false;
	db_abort(db);
	now = applied;
	assert_int_equal(db_begin(db), 0);
}

static void commit(void)
{
	assert_int_equal(db_commit(db), 0);
	applied = now;
}

static void any(void)
{
	int table = (int)(rig_random(&seed) % TABLES);
	size_t i = rig_random(&seed) % KEYS;

	/* Many one after the other, too. */
	if (!keys[i].len)
		return;
	switch (rig_random(&seed) % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
		put(table, i);
		break;
	case 4:
		for (size_t n = 0; n < 20 && i + n < KEYS; n++)
			if (keys[i + n].len)
				put(table, i + n);
		break;
	case 5:
	case 6:
		delete (table, i);
		break;
	case 7:
		take(table, i);
		break;
	case 8:
		iterate(&now, db_write(db), table);
		break;
	case 9:
		count(table);
		break;
	case 10:
		if (rig_random(&seed) % 4 == 0)
			delete_prefix(table);
		/* Many that hide rows below, side by side. */
		for (size_t n = rig_random(&seed) % 60; n > 0 && i + n < KEYS; n--)
			if (keys[i + n].len)
				delete (table, i + n);
		break;
	default:
		get(table, i);
	}
}

/* ---- */

static void index__is_what_an_array_is(void **state)
{
	start(64u << 20);
	for (int n = 0; n < 60000; n++) {
		unsigned what = (unsigned)(rig_random(&seed) % 400);

		any();
		if (db_is_direct(db)) {
			if (what < 4)
				commit();
		} else if (what < 4) {
			freeze();
		} else if (what < 8 && is_frozen) {
			assert_int_equal(db_apply(db), 0);
			finish();
		} else if (what == 8) {
			forget();
		}
	}
	end();
}

static void index__outlives_the_process_as_of_the_last_commit(void **state)
{
	start(64u << 20);
	for (int n = 0; n < 3000; n++)
		any();
	freeze();
	for (int n = 0; n < 500; n++)
		any();
	assert_int_equal(db_apply(db), 0);
	db_close(db);
	assert_int_equal(db_open(&db, path, 64u << 20), 0);
	assert_int_equal(db_begin(db), 0);
	now = frozen;
	for (int table = 0; table < TABLES; table++) {
		iterate(&now, db_write(db), table);
		count(table);
	}
	end();
}

/* What is frozen is applied again; snapshots and what reads see the same as before. */
static void index__grows_when_its_map_is_full(void **state)
{
	struct db_txn *snapshot;
	bool has_grown = false;
	int r;

	start(256u << 10);
	for (int n = 0; n < 20 && !has_grown; n++) {
		for (int k = 0; k < 1000; k++)
			any();
		assert_int_equal(db_snapshot(db, &snapshot), 0);
		iterate(&applied, snapshot, 0);
		freeze();
		while ((r = db_apply(db)) == -EOVERFLOW) {
			iterate(&now, db_write(db), 0);
			assert_int_equal(db_grow(db), 0);
			iterate(&applied, snapshot, 0);
			has_grown = true;
		}
		assert_int_equal(r, 0);
		iterate(&now, db_write(db), 0);
		finish();
		iterate(&now, db_write(db), 0);
		db_snapshot_close(snapshot);
	}
	assert_true(has_grown);
	end();
}

static atomic_int result;

static void *apply(void *arg)
{
	atomic_store(&result, db_apply(db));
	return NULL;
}

static void index__is_read_and_changed_while_rows_are_applied(void **state)
{
	pthread_t thread;

	start(64u << 20);
	for (int n = 0; n < 40; n++) {
		for (int k = 0; k < 500; k++)
			any();
		freeze();
		atomic_store(&result, 1);
		assert_int_equal(pthread_create(&thread, NULL, apply, NULL), 0);
		while (atomic_load(&result) == 1)
			any();
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(atomic_load(&result), 0);
		finish();
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(index__is_what_an_array_is),
		cmocka_unit_test(index__outlives_the_process_as_of_the_last_commit),
		cmocka_unit_test(index__grows_when_its_map_is_full),
		cmocka_unit_test(index__is_read_and_changed_while_rows_are_applied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
