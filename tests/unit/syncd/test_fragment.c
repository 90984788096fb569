/* Fragments: what is written is read back, everything else is refused, pieces make the message
 * again. */
#include "syncd/fragment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t state;

static uint32_t next_random(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

static void fragment__every_kind_comes_back(void **unused)
{
	const uint8_t id[32] = { 1, 2, 3 }, bytes[5] = "hello";
	const struct fragment all[] = {
		{ .kind = FRAGMENT_ASK,
			.is_first = true,
			.is_last = true,
			.total = 5,
			.data = bytes,
			.len = 5 },
		{ .kind = FRAGMENT_ANSWER, .is_first = true, .total = 9, .data = bytes, .len = 5 },
		{ .kind = FRAGMENT_ANSWER, .is_last = true, .data = bytes, .len = 4 },
		{ .kind = FRAGMENT_OBJECT,
			.is_first = true,
			.total = 7,
			.id = id,
			.data = bytes,
			.len = 5 },
		{ .kind = FRAGMENT_OBJECT, .data = bytes, .len = 1 },
		{ .kind = FRAGMENT_CREDIT, .is_first = true, .is_last = true, .value = 0xfedcba98 },
		{ .kind = FRAGMENT_PING,
			.is_first = true,
			.is_last = true,
			.value = 0x123456789abcdef0 },
		{ .kind = FRAGMENT_PONG, .is_first = true, .is_last = true, .value = 1 },
		{ .kind = FRAGMENT_REKEY, .is_first = true, .is_last = true },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		uint8_t buf[64];
		struct fragment f;
		size_t len = fragment_size(&all[i]);
		fragment_emit(&all[i], buf);
		assert_int_equal(fragment_parse(&f, buf, len), 0);
		assert_int_equal(f.kind, all[i].kind);
		assert_int_equal(f.is_first, all[i].is_first);
		assert_int_equal(f.is_last, all[i].is_last);
		assert_int_equal(f.total, all[i].total);
		assert_int_equal(f.value, all[i].value);
		assert_int_equal(f.len, all[i].len);
		if (f.len > 0)
			assert_memory_equal(f.data, all[i].data, f.len);
		if (all[i].id)
			assert_memory_equal(f.id, id, 32);
		/* Not a byte less, nor, where the length is fixed, one more. */
		if (f.is_first && f.is_last) {
			assert_int_equal(fragment_parse(&f, buf, len - 1), -EBADMSG);
			buf[len] = 0;
			assert_int_equal(fragment_parse(&f, buf, len + 1), -EBADMSG);
		}
	}
}

static void fragment__nonsense_is_refused(void **unused)
{
	const struct {
		size_t len;
		uint8_t data[48];
	} bad[] = {
		{ 0, { 0 } },
		{ 1, { 1 } },
		{ 2, { 0, 3 } },		   /* no such kind */
		{ 2, { 8, 3 } },		   /* no such kind */
		{ 7, { 1, 7, 1, 0, 0, 0, 9 } },	   /* unknown flag */
		{ 6, { 1, 3, 0, 0, 0, 0 } },	   /* empty message */
		{ 6, { 1, 1, 9, 0, 0, 0 } },	   /* empty piece */
		{ 2, { 1, 0 } },		   /* empty piece */
		{ 8, { 1, 1, 1, 0, 0, 0, 9, 9 } }, /* more than announced */
		{ 7, { 1, 3, 2, 0, 0, 0, 9 } },	   /* last, but not complete */
		{ 7, { 1, 1, 1, 0, 0, 0, 9 } },	   /* complete, but not last */
		{ 5, { 1, 3, 1, 0, 0 } },	   /* half a head */
		{ 37, { 3, 3, 0 } },		   /* half an id and length */
		{ 6, { 4, 1, 1, 0, 0, 0 } },	   /* a credit is whole */
		{ 10, { 5, 2, 0 } },		   /* so is a ping */
		{ 3, { 7, 3, 0 } },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct fragment f;
		assert_int_equal(fragment_parse(&f, bad[i].data, bad[i].len), -EBADMSG);
	}
}

static void assembly__pieces_make_the_message(void **unused)
{
	for (int run = 0; run < 2000; run++) {
		struct assembly a = { 0 };
		size_t len = 1 + next_random() % 3000, at = 0;
		uint8_t *msg = malloc(len);
		for (size_t i = 0; i < len; i++)
			msg[i] = (uint8_t)next_random();
		while (at < len) {
			size_t n = 1 + next_random() % (len - at);
			struct fragment f = { .kind = FRAGMENT_ASK,
				.is_first = at == 0,
				.is_last = at + n == len,
				.total = (uint32_t)len,
				.data = msg + at,
				.len = n };
			assert_int_equal(assembly_add(&a, &f, 3000), at + n == len);
			at += n;
		}
		assert_int_equal(a.total, len);
		assert_memory_equal(a.buf, msg, len);
		assembly_release(&a);
		free(msg);
	}
}

static void assembly__order_and_bounds_are_kept(void **unused)
{
	const uint8_t bytes[8] = { 0 };
	struct assembly a = { 0 };
	struct fragment first = {
		.kind = FRAGMENT_ASK, .is_first = true, .total = 8, .data = bytes, .len = 5
	};
	struct fragment more = { .kind = FRAGMENT_ASK, .data = bytes, .len = 1 };
	struct fragment last = { .kind = FRAGMENT_ASK, .is_last = true, .data = bytes, .len = 3 };

	assert_int_equal(assembly_add(&a, &more, 100), -EBADMSG);
	assert_int_equal(assembly_add(&a, &first, 7), -EBADMSG);
	assert_null(a.buf);
	assert_int_equal(assembly_add(&a, &first, 8), 0);
	assert_int_equal(assembly_add(&a, &first, 8), -EBADMSG);
	last.len = 4;
	assert_int_equal(assembly_add(&a, &last, 8), -EBADMSG);
	last.len = 2;
	assert_int_equal(assembly_add(&a, &last, 8), -EBADMSG);
	last.len = 3;
	assert_int_equal(assembly_add(&a, &last, 8), 1);
	assert_int_equal(assembly_add(&a, &last, 8), -EBADMSG);
	assembly_release(&a);
}

int main(void)
{
	const char *seed = getenv("BAZIL_SEED");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fragment__every_kind_comes_back),
		cmocka_unit_test(fragment__nonsense_is_refused),
		cmocka_unit_test(assembly__pieces_make_the_message),
		cmocka_unit_test(assembly__order_and_bounds_are_kept),
	};

	state = seed ? strtoull(seed, NULL, 0) : 1;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
