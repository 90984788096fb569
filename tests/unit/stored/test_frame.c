#include "stored/crc32c.h"
#include "stored/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void frame__crc32c_has_the_published_values(void **state)
{
	uint8_t data[32];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(data, 0, sizeof(data));
	assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
	memset(data, 0xff, sizeof(data));
	assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		data[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, data, 13), data + 13, 19), 0x46dd794e);
}

static void frame__a_header_is_bound_to_its_place(void **state)
{
	const struct frame_head head = { FRAME_BATCH, 1000, 77, 0x12345678, 5 };
	uint8_t id[16] = "arena id 16 byte", other[16] = "arena id 16 bytf";
	uint8_t data[FRAME_HEAD_SIZE];
	struct frame_head got;

	frame_head_emit(&head, id, 4096, data);
	assert_int_equal(frame_head_parse(data, id, 4096, &got), 0);
	assert_true(got.type == FRAME_BATCH && got.len == 1000 && got.sequence == 77 &&
		    got.payload_crc == 0x12345678 && got.unsynced == 5);
	assert_int_equal(frame_head_parse(data, id, 4104, &got), -EBADMSG);
	assert_int_equal(frame_head_parse(data, other, 4096, &got), -EBADMSG);
	for (int i = 0; i < FRAME_HEAD_SIZE * 8; i++) {
		data[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(frame_head_parse(data, id, 4096, &got), -EBADMSG);
		data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

static void frame__a_superblock_of_another_version_is_told_apart(void **state)
{
	const struct frame_super super = { .arena = 3, .id = { 1, 2, 3 }, .sequence = 9 };
	uint8_t data[FRAME_SUPER_SIZE];
	struct frame_super got;
	uint32_t crc;

	frame_super_emit(&super, data);
	assert_int_equal(frame_super_parse(data, &got), 0);
	assert_true(got.arena == 3 && got.sequence == 9);
	assert_memory_equal(got.id, super.id, 16);
	for (int i = 0; i < FRAME_SUPER_SIZE * 8; i++) {
		data[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(frame_super_parse(data, &got), -EBADMSG);
		data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	data[4] = 2;
	crc = crc32c(0, data, 60);
	memcpy(data + 60, &crc, 4);
	assert_int_equal(frame_super_parse(data, &got), -EPROTONOSUPPORT);
}

/* The format as bytes: whoever changes them meets this. */
static void frame__the_bytes_are_those_of_version_1(void **state)
{
	static const uint8_t want[FRAME_HEAD_SIZE] = { 'B', 'Z', 'F', '1', 1, 1, 0, 0, 100, 0, 0, 0,
		0x09, 0x7b, 0x46, 0xbe, 5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0 };
	const struct frame_head head = { FRAME_OBJECT, 100, 5, 7, 0 };
	uint8_t id[16] = { 0 }, data[FRAME_HEAD_SIZE];

	frame_head_emit(&head, id, 64, data);
	assert_memory_equal(data, want, sizeof(want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame__crc32c_has_the_published_values),
		cmocka_unit_test(frame__a_header_is_bound_to_its_place),
		cmocka_unit_test(frame__a_superblock_of_another_version_is_told_apart),
		cmocka_unit_test(frame__the_bytes_are_those_of_version_1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
