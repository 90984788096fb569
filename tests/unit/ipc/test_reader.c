#include "ipc/reader.h"

#include "ipc/writer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static uint64_t seed;

#define READER(r, bytes) ipc_reader_init(&(r), bytes, sizeof(bytes) - 1)

static void reader__takes_every_form_of_an_integer(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		uint64_t value;
	} good[] = {
		{ "\x00", 1, 0 },
		{ "\x7f", 1, 127 },
		{ "\xcc\xff", 2, 255 },
		{ "\xcd\x01\x00", 3, 256 },
		{ "\xce\xff\xff\xff\xff", 5, UINT32_MAX },
		{ "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, UINT64_MAX },
		{ "\xcf\x00\x00\x00\x00\x00\x00\x00\x05", 9, 5 },
		{ "\xd0\x05", 2, 5 },
		{ "\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", 9, INT64_MAX },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct ipc_reader r;
		ipc_reader_init(&r, good[i].bytes, good[i].len);
		assert_int_equal(ipc_read_uint(&r, UINT64_MAX), good[i].value);
		assert_int_equal(ipc_reader_end(&r), 0);
		/* Every shorter input is refused. */
		for (size_t len = 0; len < good[i].len; len++) {
			ipc_reader_init(&r, good[i].bytes, len);
			assert_int_equal(ipc_read_uint(&r, UINT64_MAX), 0);
			assert_int_equal(ipc_reader_end(&r), -EBADMSG);
		}
	}
}

static void reader__refuses_integers_out_of_range(void **state)
{
	struct ipc_reader r;

	READER(r, "\xcd\x01\x00");
	assert_int_equal(ipc_read_uint(&r, 255), 0);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xff");
	ipc_read_uint(&r, UINT64_MAX);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xd0\xff");
	ipc_read_uint(&r, UINT64_MAX);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xcf\x80\x00\x00\x00\x00\x00\x00\x00");
	ipc_read_int(&r);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xca\x00\x00\x00\x00");
	ipc_read_uint(&r, UINT64_MAX);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\x01");
	assert_false(ipc_read_bool(&r));
	assert_int_equal(r.err, -EBADMSG);
}

static void reader__reads_back_what_was_written(void **state)
{
	static const int64_t ints[] = { 0, -1, -32, -33, -128, -129, -32768, -32769, INT32_MIN,
		(int64_t)INT32_MIN - 1, INT64_MIN, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX,
		(int64_t)UINT32_MAX + 1, INT64_MAX };
	uint8_t buf[4000];
	struct ipc_writer w;
	struct ipc_reader r;
	static char text[600];

	ipc_writer_init(&w, buf, sizeof(buf));
	for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
		ipc_write_int(&w, ints[i]);
	ipc_write_bool(&w, true);
	ipc_write_bool(&w, false);
	ipc_write_text(&w, NULL, 0);
	for (size_t len = 1; len < sizeof(text); len += 100) {
		memset(text, 'x', len);
		ipc_write_text(&w, text, sizeof(text));
	}
	assert_int_equal(w.err, 0);
	ipc_reader_init(&r, buf, w.len);
	for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++)
		assert_int_equal(ipc_read_int(&r), ints[i]);
	assert_true(ipc_read_bool(&r));
	assert_false(ipc_read_bool(&r));
	assert_string_equal(ipc_read_text(&r, 0), "");
	for (size_t len = 1; len < sizeof(text); len += 100)
		assert_int_equal(strlen(ipc_read_text(&r, 600)), len);
	assert_int_equal(ipc_reader_end(&r), 0);
	ipc_mem_free(r.mem);
}

static void reader__allocates_nothing_by_mere_claim(void **state)
{
	struct ipc_reader r;
	size_t num;

	/* The five bytes on which msgpack-c's unpacker asks for 32 GiB. */
	READER(r, "\xdd\x55\x55\x55\x55");
	assert_null(ipc_read_list(&r, SIZE_MAX, 1, 16, &num));
	assert_int_equal(r.err, -EBADMSG);
	assert_null(r.mem);
	READER(r, "\xdb\xff\xff\xff\xff");
	assert_string_equal(ipc_read_text(&r, SIZE_MAX), "");
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xc6\xff\xff\xff\xff");
	assert_int_equal(ipc_read_bytes(&r, SIZE_MAX).len, 0);
	assert_int_equal(r.err, -EBADMSG);
	/* Ten elements of three bytes do not fit into 29. */
	READER(r, "\x9a"
		  "12345678901234567890123456789");
	assert_null(ipc_read_list(&r, 100, 3, 16, &num));
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\x9a"
		  "123456789012345678901234567890");
	assert_non_null(ipc_read_list(&r, 10, 3, 16, &num));
	assert_int_equal(num, 10);
	ipc_mem_free(r.mem);
	READER(r, "\x9a"
		  "123456789012345678901234567890");
	assert_null(ipc_read_list(&r, 9, 3, 16, &num));
	assert_int_equal(r.err, -EBADMSG);
}

static void reader__keeps_to_bounds_of_bytes_and_text(void **state)
{
	struct ipc_reader r;
	uint8_t fixed[4] = { 9, 9, 9, 9 };

	READER(r, "\xc4\x03"
		  "abc");
	assert_int_equal(ipc_read_bytes(&r, 2).len, 0);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xc4\x03"
		  "abc");
	ipc_read_fixed(&r, fixed, 4);
	assert_int_equal(r.err, -EBADMSG);
	assert_int_equal(fixed[0], 9);
	READER(r, "\xa3"
		  "a\0c");
	assert_string_equal(ipc_read_text(&r, 10), "");
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xa3"
		  "abc");
	ipc_read_text(&r, 2);
	assert_int_equal(r.err, -EBADMSG);
	/* bytes are not text and text is not bytes */
	READER(r, "\xa3"
		  "abc");
	ipc_read_bytes(&r, 10);
	assert_int_equal(r.err, -EBADMSG);
}

static void reader__skips_any_value_without_recursion(void **state)
{
	static const char *const values[] = { "\xc0",
		"\xca"
		"1234",
		"\xcb"
		"12345678",
		"\xd6"
		"t1234",
		"\xc7\x02"
		"tab",
		"\x93\x01\x92\xa1x\xc3\xf0" };
	static uint8_t deep[100000];
	struct ipc_reader r;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		ipc_reader_init(&r, values[i], strlen(values[i]));
		ipc_read_skip(&r);
		assert_int_equal(ipc_reader_end(&r), 0);
	}
	memset(deep, 0x91, sizeof(deep));
	ipc_reader_init(&r, deep, sizeof(deep));
	ipc_read_skip(&r);
	assert_int_equal(r.err, -EBADMSG);
	deep[sizeof(deep) - 1] = 0x01;
	ipc_reader_init(&r, deep, sizeof(deep));
	ipc_read_skip(&r);
	assert_int_equal(ipc_reader_end(&r), 0);
	READER(r, "\xdf\xff\xff\xff\xff");
	ipc_read_skip(&r);
	assert_int_equal(r.err, -EBADMSG);
	READER(r, "\xc1");
	ipc_read_skip(&r);
	assert_int_equal(r.err, -EBADMSG);
}

static void reader__stays_failed(void **state)
{
	struct ipc_reader r;

	READER(r, "\xc1\x05\x06");
	ipc_read_bool(&r);
	assert_int_equal(r.err, -EBADMSG);
	assert_int_equal(ipc_read_uint(&r, 100), 0);
	assert_int_equal(ipc_read_int(&r), 0);
	assert_int_equal(ipc_reader_end(&r), -EBADMSG);
}

/* Whatever the bytes, nothing is read past their end and nothing large is allocated (ASan watches).
 */
static void reader__survives_random_bytes(void **state)
{
	uint64_t x = seed;

	for (unsigned i = 0; i < 1000000; i++) {
		uint8_t *bytes;
		struct ipc_reader r;
		size_t len, num;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		len = x % 24;
		bytes = malloc(len ? len : 1);
		for (size_t k = 0; k < len; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bytes[k] = (uint8_t)(x >> 20);
			/* Heads are more interesting than small integers. */
			if (x & 4)
				bytes[k] |= 0xc0;
		}
		ipc_reader_init(&r, bytes, len);
		for (unsigned k = 0; k < 8; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			switch (x >> 40 & 7) {
			case 0:
				ipc_read_uint(&r, UINT64_MAX);
				break;
			case 1:
				ipc_read_int(&r);
				break;
			case 2:
				ipc_read_bytes(&r, 100);
				break;
			case 3:
				ipc_read_text(&r, 100);
				break;
			case 4:
				ipc_read_list(&r, 1000, 1, 8, &num);
				break;
			case 5:
				ipc_read_skip(&r);
				break;
			case 6:
				ipc_read_map(&r);
				break;
			default:
				ipc_read_bool(&r);
			}
		}
		ipc_reader_end(&r);
		ipc_mem_free(r.mem);
		free(bytes);
	}
}

static void writer__stops_at_its_end(void **state)
{
	uint8_t buf[8], more[10];
	struct ipc_writer w;

	ipc_writer_init(&w, buf, sizeof(buf));
	for (unsigned i = 0; i < 8; i++)
		ipc_write_uint(&w, 1);
	assert_int_equal(w.err, 0);
	ipc_write_uint(&w, 1);
	assert_int_equal(w.err, -EMSGSIZE);
	assert_int_equal(w.len, 8);
	ipc_writer_init(&w, buf, sizeof(buf));
	ipc_write_fixed(&w, more, sizeof(more));
	assert_int_equal(w.err, -EMSGSIZE);
	ipc_writer_init(&w, buf, sizeof(buf));
	ipc_write_text(&w, "abcd", 3);
	assert_int_equal(w.err, -EMSGSIZE);
	ipc_writer_init(&w, buf, sizeof(buf));
	ipc_write_text(&w, "abc", 3);
	assert_int_equal(w.err, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reader__takes_every_form_of_an_integer),
		cmocka_unit_test(reader__refuses_integers_out_of_range),
		cmocka_unit_test(reader__reads_back_what_was_written),
		cmocka_unit_test(reader__allocates_nothing_by_mere_claim),
		cmocka_unit_test(reader__keeps_to_bounds_of_bytes_and_text),
		cmocka_unit_test(reader__skips_any_value_without_recursion),
		cmocka_unit_test(reader__stays_failed),
		cmocka_unit_test(reader__survives_random_bytes),
		cmocka_unit_test(writer__stops_at_its_end),
	};
	const char *given = getenv("BAZIL_SEED");

	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	if (!seed)
		seed = 1;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
