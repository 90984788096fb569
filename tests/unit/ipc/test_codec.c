#include "ipc/keyed.gen.h"
#include "ipc/test.gen.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static uint64_t seed;

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static size_t encode_all(uint8_t *buf, size_t cap)
{
	static struct test_point points[3] = { { -5, "minus" }, { 6, "" }, { 7, NULL } };
	static uint8_t hashes[2][4] = { "abc", "def" };
	static uint32_t words[] = { 1, UINT32_MAX };
	static uint64_t longs[] = { 0, UINT64_MAX, 3 };
	const struct test_all m = { .a = 255,
		.b = 65535,
		.c = UINT32_MAX,
		.d = UINT64_MAX,
		.e = INT64_MIN,
		.f = true,
		.g = "four",
		.h = { (const uint8_t *)"bytes\0!", 7 },
		.i = "some text",
		.points = points,
		.num_points = 3,
		.hashes = hashes,
		.num_hashes = 2,
		.words = words,
		.num_words = 2,
		.longs = longs,
		.num_longs = 3,
		.pair = { .point = { 1, "inner" }, .key = "key" } };
	struct ipc_writer w;

	ipc_writer_init(&w, buf, cap);
	assert_int_equal(test_all_encode(&m, &w), 0);
	return w.len;
}

static void codec__round_trips_every_type(void **state)
{
	uint8_t buf[2000], again[2000];
	size_t len = encode_all(buf, sizeof(buf));
	struct ipc_reader r;
	struct ipc_writer w;
	struct test_all m;

	ipc_reader_init(&r, buf, len);
	assert_int_equal(test_all_decode(&r, &m), 0);
	assert_int_equal(m.a, 255);
	assert_int_equal(m.b, 65535);
	assert_int_equal(m.c, UINT32_MAX);
	assert_int_equal(m.d, UINT64_MAX);
	assert_true(m.e == INT64_MIN);
	assert_true(m.f);
	assert_memory_equal(m.g, "four", 5);
	assert_int_equal(m.h.len, 7);
	assert_memory_equal(m.h.data, "bytes\0!", 7);
	assert_string_equal(m.i, "some text");
	assert_int_equal(m.num_points, 3);
	assert_int_equal(m.points[0].x, -5);
	assert_string_equal(m.points[0].label, "minus");
	assert_string_equal(m.points[2].label, "");
	assert_int_equal(m.num_hashes, 2);
	assert_memory_equal(m.hashes[1], "def", 4);
	assert_int_equal(m.words[1], UINT32_MAX);
	assert_true(m.longs[1] == UINT64_MAX);
	assert_string_equal(m.pair.point.label, "inner");
	assert_memory_equal(m.pair.key, "key", 4);
	ipc_writer_init(&w, again, sizeof(again));
	assert_int_equal(test_all_encode(&m, &w), 0);
	assert_int_equal(w.len, len);
	assert_memory_equal(again, buf, len);
	test_all_release(&m);
}

static void codec__refuses_every_truncation_and_extension(void **state)
{
	uint8_t buf[2000];
	size_t len = encode_all(buf, sizeof(buf));
	struct ipc_reader r;
	struct test_all m;

	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc(cut ? cut : 1);
		memcpy(exact, buf, cut);
		ipc_reader_init(&r, exact, cut);
		assert_int_equal(test_all_decode(&r, &m), -EBADMSG);
		assert_null(r.mem);
		free(exact);
	}
	buf[len] = 0xc0;
	ipc_reader_init(&r, buf, len + 1);
	assert_int_equal(test_all_decode(&r, &m), -EBADMSG);
}

/* A changed byte gives another message or -EBADMSG; what is accepted is written back the same way
 * twice. */
static void codec__survives_changed_bytes(void **state)
{
	uint8_t buf[2000], first[4000], second[4000];
	const size_t len = encode_all(buf, sizeof(buf));
	uint64_t x = seed;
	unsigned accepted = 0;

	for (unsigned i = 0; i < 1000000; i++) {
		uint8_t *copy = malloc(len);
		struct ipc_reader r;
		struct ipc_writer a, b;
		struct test_all m;

		memcpy(copy, buf, len);
		for (unsigned k = 1 + next_random(&x) % 3; k; k--)
			copy[next_random(&x) % len] = (uint8_t)(next_random(&x) >> 13);
		ipc_reader_init(&r, copy, len);
		if (test_all_decode(&r, &m) == 0) {
			accepted++;
			ipc_writer_init(&a, first, sizeof(first));
			assert_int_equal(test_all_encode(&m, &a), 0);
			test_all_release(&m);
			ipc_reader_init(&r, first, a.len);
			assert_int_equal(test_all_decode(&r, &m), 0);
			ipc_writer_init(&b, second, sizeof(second));
			assert_int_equal(test_all_encode(&m, &b), 0);
			test_all_release(&m);
			assert_int_equal(a.len, b.len);
			assert_memory_equal(first, second, a.len);
		}
		free(copy);
	}
	assert_in_range(accepted, 1000, 999000);
}

static void codec__release_is_safe_twice(void **state)
{
	struct test_fd m;
	struct ipc_reader r;

	ipc_reader_init(&r, "\x92\xc2\xc2", 3);
	assert_int_equal(test_fd_decode(&r, &m), 0);
	assert_int_equal(m.fd, -1);
	test_fd_release(&m);
	assert_int_equal(m.fd, -1);
	test_fd_release(&m);
}

static void codec__names_and_bounds_are_in_the_header(void **state)
{
	assert_int_equal(TEST_VERSION, 3);
	assert_int_equal(strlen(TEST_DIGEST), 64);
	assert_int_equal(TEST_ALL_H_MAX, 1000);
	assert_int_equal(TEST_ALL_REPLY_H_MAX, 100000);
	assert_int_equal(TEST_ALL_G_LEN, 5);
	assert_int_equal(TEST_POINT_LABEL_MAX, 20);
	assert_int_equal(TEST_GAMMA, 5);
}

static void codec__check_accepts_exactly_requests(void **state)
{
	struct ipc_reader r;
	int fds[2] = { 100, 101 };

	ipc_reader_init(&r, "\x91\x05", 2);
	assert_int_equal(test_check(TEST_ECHO, &r), 0);
	ipc_reader_init(&r, "\x91\xc3", 2);
	assert_int_equal(test_check(TEST_ECHO, &r), -EBADMSG);
	ipc_reader_init(&r, "\x91\x05", 2);
	assert_int_equal(test_check(TEST_SHOUT, &r), -ENOSYS);
	ipc_reader_init(&r, "\x91\x05", 2);
	assert_int_equal(test_check(77, &r), -ENOSYS);
	/* Descriptors are counted and left alone. */
	ipc_reader_init(&r, "\x92\xc3\xc3", 3);
	r.fds = fds;
	r.num_fds = 2;
	r.borrow_fds = true;
	assert_int_equal(test_check(TEST_FD, &r), 0);
	assert_int_equal(fds[0], 100);
	ipc_reader_init(&r, "\x92\xc3\xc2", 3);
	r.fds = fds;
	r.num_fds = 2;
	r.borrow_fds = true;
	assert_int_equal(test_check(TEST_FD, &r), -EBADMSG);
}

static int decode_ask(const char *bytes, size_t len, struct keyed_ask *m)
{
	struct ipc_reader r;

	ipc_reader_init(&r, bytes, len);
	return keyed_ask_decode(&r, m);
}

static void keyed__takes_missing_and_unknown_fields(void **state)
{
	struct keyed_ask m;

	/* Nothing at all: zeros and empty texts. */
	assert_int_equal(decode_ask("\x80", 1, &m), 0);
	assert_int_equal(m.a, 0);
	assert_string_equal(m.b, "");
	assert_string_equal(m.inner.name, "");
	assert_int_equal(m.num_many, 0);
	keyed_ask_release(&m);
	/* A field of a later version, nested, between known ones. */
	assert_int_equal(
		decode_ask("\x83\x01\x09\x02\xa1x\x09\x92\x81\x01\xca\x01\x02\x03\x04\xc0", 16, &m),
		0);
	assert_int_equal(m.a, 9);
	assert_string_equal(m.b, "x");
	keyed_ask_release(&m);
	/* An element of a list that lacks a field. */
	assert_int_equal(decode_ask("\x81\x04\x92\x80\x81\x02\x07", 7, &m), 0);
	assert_int_equal(m.num_many, 2);
	assert_string_equal(m.many[0].name, "");
	assert_int_equal(m.many[1].n, 7);
	keyed_ask_release(&m);
}

static void keyed__refuses_malformed_maps(void **state)
{
	struct keyed_ask m;

	/* The same key twice, keys that descend, key 0, a key that is no number. */
	assert_int_equal(decode_ask("\x82\x01\x09\x01\x09", 5, &m), -EBADMSG);
	assert_int_equal(decode_ask("\x82\x02\xa1x\x01\x09", 6, &m), -EBADMSG);
	assert_int_equal(decode_ask("\x81\x00\x09", 3, &m), -EBADMSG);
	assert_int_equal(decode_ask("\x81\xa1x\x09", 4, &m), -EBADMSG);
	/* Fewer than claimed, more than claimed. */
	assert_int_equal(decode_ask("\x82\x01\x09", 3, &m), -EBADMSG);
	assert_int_equal(decode_ask("\x81\x01\x09\x00", 4, &m), -EBADMSG);
	assert_int_equal(decode_ask("\xdf\xff\xff\xff\xff\x01\x01", 7, &m), -EBADMSG);
	/* A known field of another type, or beyond its bound. */
	assert_int_equal(decode_ask("\x81\x01\xa1x", 4, &m), -EBADMSG);
	assert_int_equal(decode_ask("\x81\x04\x95\x80\x80\x80\x80\x80", 8, &m), -EBADMSG);
	assert_int_equal(decode_ask("\x91\x01", 2, &m), -EBADMSG);
}

static void keyed__round_trips(void **state)
{
	struct keyed_inner many[2] = { { "one", 1 }, { "two", 2 } };
	const struct keyed_ask m = {
		.a = UINT64_MAX, .b = "bb", .inner = { "in", 3 }, .many = many, .num_many = 2
	};
	struct keyed_ask got;
	struct ipc_writer w;
	struct ipc_reader r;
	uint8_t buf[200];

	ipc_writer_init(&w, buf, sizeof(buf));
	assert_int_equal(keyed_ask_encode(&m, &w), 0);
	ipc_reader_init(&r, buf, w.len);
	assert_int_equal(keyed_ask_decode(&r, &got), 0);
	assert_true(got.a == UINT64_MAX);
	assert_string_equal(got.inner.name, "in");
	assert_string_equal(got.many[1].name, "two");
	keyed_ask_release(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(codec__round_trips_every_type),
		cmocka_unit_test(codec__refuses_every_truncation_and_extension),
		cmocka_unit_test(codec__survives_changed_bytes),
		cmocka_unit_test(codec__release_is_safe_twice),
		cmocka_unit_test(codec__names_and_bounds_are_in_the_header),
		cmocka_unit_test(codec__check_accepts_exactly_requests),
		cmocka_unit_test(keyed__takes_missing_and_unknown_fields),
		cmocka_unit_test(keyed__refuses_malformed_maps),
		cmocka_unit_test(keyed__round_trips),
	};
	const char *given = getenv("BAZIL_SEED");

	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	if (!seed)
		seed = 1;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
