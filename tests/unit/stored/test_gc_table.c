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
	unsigned bits;
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
		objects[i].bits = objects[i].is_leaf ? GC_BIT_LEAF : 0;
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

/* Somebody does something with an object. */
static void use(struct object *o)
{
	bool is_live = any() % 2;
	unsigned reached = is_live ? GC_BIT_MARKED | GC_BIT_LIVE : GC_BIT_MARKED;
	bool is_walked = o->is_leaf || o->bits & GC_BIT_MARKED;

	if (any() % 5 == 0) {
		gc_table_doom(&table, o->id);
		o->bits |= GC_BIT_DOOMED;
		return;
	}
	assert_int_equal(gc_table_mark(&table, o->id, is_live), !is_walked);
	if (o->is_leaf)
		o->bits |= reached;
	/* Until it was walked, nothing has happened. */
	if (o->is_leaf || any() % 2 == 0)
		return;
	gc_table_walk(&table, o->id, is_live);
	o->bits |= reached;
}

static void check(size_t num)
{
	for (size_t i = 0; i < num; i++)
		assert_int_equal(gc_table_bits(&table, objects[i].id), objects[i].bits);
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
		gc_table_mark(&table, id, true);
		memset(id, 255, sizeof(id));
		gc_table_mark(&table, id, true);
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
		taken += gc_table_bits(&table, id) >= 0;
		gc_table_mark(&table, id, true);
	}
	for (size_t i = 0; i < OBJECTS; i++) {
		int bits = gc_table_bits(&table, objects[i].id);

		if (!objects[i].is_leaf)
			assert_int_equal(bits, 0);
		marked += bits > (int)objects[i].bits;
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
			both += gc_table_bits(&table, ids[i]) >= 0 && was_taken[i];
			was_taken[i] = gc_table_bits(&table, ids[i]) >= 0;
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
