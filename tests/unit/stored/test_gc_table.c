/*
 * The table of a collection against a list of the ids: what is in it is answered exactly, whatever
 * the ids are, and any other id does no harm.
 */
#include "rig.h"

#include "stored/gc_table.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OBJECTS (10 * GC_TABLE_BUCKET + 77)

struct object {
	uint8_t id[32];
	bool is_leaf;
	enum gc_why why;
};

static struct object objects[OBJECTS];
static struct gc_table table;
static uint64_t seed;

/* ---- memory that runs out; that of CMPH does not, which would not notice */

static unsigned calls, fail_at;

void *__real_malloc(size_t size);
void *__real_calloc(size_t num, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__wrap_realloc(void *p, size_t size);

static bool fails(void)
{
	return fail_at > 0 && ++calls == fail_at;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t num, size_t size)
{
	return fails() ? NULL : __real_calloc(num, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

/* ---- the list */

static uint64_t any(void)
{
	return rig_random(&seed);
}

static void random_id(uint8_t id[32])
{
	for (int i = 0; i < 4; i++) {
		uint64_t x = any();

		memcpy(id + 8 * i, &x, 8);
	}
}

static int compare(const void *x, const void *y)
{
	return memcmp(x, y, 32);
}

/* As many as num ids, of which the bytes [same, same + len) are equal. */
static void make_objects(size_t num, size_t same, size_t len)
{
	for (size_t i = 0; i < num; i++) {
		random_id(objects[i].id);
		memset(objects[i].id + same, 0xa5, len);
		objects[i].is_leaf = any() % 3 > 0;
		objects[i].why = GC_WHY_NONE;
	}
	qsort(objects, num, sizeof(*objects), compare);
}

static int fill(size_t num, uint32_t bucket)
{
	int r = gc_table_init(&table, any(), bucket);

	for (size_t i = 0; r == 0 && i < num; i++)
		r = gc_table_add(&table, objects[i].id, objects[i].is_leaf);
	return r < 0 ? r : gc_table_end(&table);
}

/* The first mark is the one that counts. */
static void marked(struct object *o, enum gc_why why)
{
	if (o->why == GC_WHY_NONE)
		o->why = why;
}

/* Somebody does something with an object. */
static void use(struct object *o)
{
	enum gc_why why = GC_WHY_DAY + any() % (GC_WHY_LIVE - GC_WHY_DAY + 1);
	bool is_walked = o->is_leaf || o->why != GC_WHY_NONE;

	if (any() % 5 == 0) {
		gc_table_doom(&table, o->id);
		marked(o, GC_WHY_DOOMED);
		return;
	}
	assert_int_equal(gc_table_mark(&table, o->id, why), !is_walked);
	if (o->is_leaf)
		marked(o, why);
	/* Until it was walked, nothing has happened. */
	if (o->is_leaf || any() % 2 == 0)
		return;
	gc_table_walk(&table, o->id, why);
	marked(o, why);
}

static void check(size_t num)
{
	for (size_t i = 0; i < num; i++)
		assert_int_equal(gc_table_why(&table, objects[i].id), objects[i].why);
}

static void use_and_check(size_t num)
{
	check(num);
	for (size_t i = 0; i < num; i++)
		use(&objects[any() % num]);
	check(num);
}

/* ---- tests */

static void gc_table__is_as_exact_as_a_list(void **state)
{
	static const size_t nums[] = { 0, 1, 2, 3, GC_TABLE_BUCKET - 1, GC_TABLE_BUCKET,
		GC_TABLE_BUCKET + 1, 2 * GC_TABLE_BUCKET, OBJECTS };
	uint8_t id[32];

	for (size_t i = 0; i < sizeof(nums) / sizeof(*nums); i++) {
		make_objects(nums[i], 0, 0);
		assert_int_equal(fill(nums[i], GC_TABLE_BUCKET), 0);
		use_and_check(nums[i]);
		memset(id, 0, sizeof(id));
		gc_table_mark(&table, id, GC_WHY_LIVE);
		memset(id, 255, sizeof(id));
		gc_table_mark(&table, id, GC_WHY_LIVE);
		gc_table_release(&table);
	}
}

static void gc_table__buckets_may_be_small(void **state)
{
	for (uint32_t bucket = 1; bucket < 40; bucket++) {
		make_objects(500, 0, 0);
		assert_int_equal(fill(500, bucket), 0);
		use_and_check(500);
		gc_table_release(&table);
	}
}

/* 255 of 256 are told, and the others mark leaves only. */
static void gc_table__strangers_do_no_harm(void **state)
{
	size_t taken = 0, marked = 0;
	uint8_t id[32];

	make_objects(OBJECTS, 0, 0);
	assert_int_equal(fill(OBJECTS, GC_TABLE_BUCKET), 0);
	for (size_t i = 0; i < OBJECTS; i++) {
		random_id(id);
		taken += gc_table_why(&table, id) >= 0;
		gc_table_mark(&table, id, GC_WHY_LIVE);
	}
	for (size_t i = 0; i < OBJECTS; i++) {
		int why = gc_table_why(&table, objects[i].id);

		if (!objects[i].is_leaf)
			assert_int_equal(why, GC_WHY_NONE);
		marked += why != GC_WHY_NONE;
	}
	assert_in_range(taken, OBJECTS / 400, OBJECTS / 180);
	assert_in_range(marked, 1, taken);
	gc_table_release(&table);
}

/* Another salt, another stranger. */
static void gc_table__strangers_change(void **state)
{
	static uint8_t ids[OBJECTS][32];
	static bool was_taken[OBJECTS];
	size_t both = 0;

	make_objects(OBJECTS, 0, 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(fill(OBJECTS, GC_TABLE_BUCKET), 0);
		for (size_t i = 0; i < OBJECTS; i++) {
			if (round == 0)
				random_id(ids[i]);
			both += gc_table_why(&table, ids[i]) >= 0 && was_taken[i];
			was_taken[i] = gc_table_why(&table, ids[i]) >= 0;
		}
		gc_table_release(&table);
	}
	assert_in_range(both, 0, 20);
}

/* What is hashed is the same in all, so that there is no hash. */
static void gc_table__ids_without_a_hash(void **state)
{
	make_objects(2 * GC_TABLE_BUCKET + 5, 12, 20);
	assert_int_equal(fill(2 * GC_TABLE_BUCKET + 5, GC_TABLE_BUCKET), 0);
	use_and_check(2 * GC_TABLE_BUCKET + 5);
	gc_table_release(&table);
}

/* They begin with the same eight bytes, more of them than a bucket has. */
static void gc_table__ids_of_one_bucket(void **state)
{
	make_objects(3 * GC_TABLE_BUCKET, 0, 8);
	assert_int_equal(fill(3 * GC_TABLE_BUCKET, GC_TABLE_BUCKET), 0);
	use_and_check(3 * GC_TABLE_BUCKET);
	gc_table_release(&table);
}

static void gc_table__ids_out_of_order_are_refused(void **state)
{
	uint8_t id[32] = { 5 };

	assert_int_equal(gc_table_init(&table, 0, GC_TABLE_BUCKET), 0);
	assert_int_equal(gc_table_add(&table, id, false), 0);
	assert_int_equal(gc_table_add(&table, id, false), -EINVAL);
	id[0] = 4;
	assert_int_equal(gc_table_add(&table, id, false), -EINVAL);
	assert_int_equal(gc_table_end(&table), 0);
	gc_table_release(&table);
}

static void gc_table__takes_less_than_two_bytes_an_object(void **state)
{
	size_t bytes = 0, num = 10 * (size_t)GC_TABLE_BUCKET;

	make_objects(num + 1, 0, 0);
	assert_int_equal(fill(num + 1, GC_TABLE_BUCKET), 0);
	assert_int_equal(table.num, 11);
	/* The last has its id. */
	for (size_t i = 0; i < 10; i++)
		bytes += malloc_usable_size(table.buckets[i]) + sizeof(*table.buckets) +
			 sizeof(*table.firsts);
	assert_in_range(bytes * 8 / num, 12, 15);
	gc_table_release(&table);
}

static void gc_table__memory_may_run_out(void **state)
{
	unsigned failed = 0;
	int r;

	make_objects(700, 0, 0);
	for (fail_at = 1;; fail_at++) {
		calls = 0;
		r = fill(700, 100);
		if (calls < fail_at)
			break;
		assert_int_equal(r, -ENOMEM);
		failed++;
		gc_table_release(&table);
	}
	fail_at = 0;
	assert_int_equal(r, 0);
	assert_true(failed > 30);
	use_and_check(700);
	gc_table_release(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gc_table__is_as_exact_as_a_list),
		cmocka_unit_test(gc_table__buckets_may_be_small),
		cmocka_unit_test(gc_table__strangers_do_no_harm),
		cmocka_unit_test(gc_table__strangers_change),
		cmocka_unit_test(gc_table__ids_without_a_hash),
		cmocka_unit_test(gc_table__ids_of_one_bucket),
		cmocka_unit_test(gc_table__ids_out_of_order_are_refused),
		cmocka_unit_test(gc_table__takes_less_than_two_bytes_an_object),
		cmocka_unit_test(gc_table__memory_may_run_out),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
