#include "cas/id.h"

#include "cas/pad.h"

#include "cas_test.h"

#include <errno.h>

static void id__is_sha256_of_the_bytes(void **state)
{
	struct cas_suite *suite = cas_suite_new();
	struct cas_id id;

	cas_id_of(suite, "abc", 3, &id);
	assert_hex(id.b, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	cas_id_of(suite, "", 0, &id);
	assert_hex(id.b, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	/* Once more: the context is reused. */
	cas_id_of(suite, "abc", 3, &id);
	assert_hex(id.b, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	cas_suite_free(suite);
}

static void id__hex_round_trip_and_strict_parse(void **state)
{
	struct cas_id id, back;
	char hex[CAS_ID_HEX_SIZE + 1];

	for (size_t i = 0; i < sizeof(id.b); i++)
		id.b[i] = (uint8_t)(i * 37 + 5);
	assert_ptr_equal(cas_id_hex(&id, hex), hex);
	assert_int_equal(strlen(hex), 64);
	assert_int_equal(cas_id_parse(hex, &back), 0);
	assert_true(cas_id_equal(&id, &back));
	for (size_t i = 0; i < 64; i++) {
		char old = hex[i];

		hex[i] = 'g';
		assert_int_equal(cas_id_parse(hex, &back), -EINVAL);
		hex[i] = '\0';
		assert_int_equal(cas_id_parse(hex, &back), -EINVAL);
		hex[i] = old;
	}
	hex[64] = '0';
	hex[65] = '\0';
	assert_int_equal(cas_id_parse(hex, &back), -EINVAL);
	hex[64] = '\0';
	hex[0] = 'F';
	assert_int_equal(cas_id_parse(hex, &back), 0);
	assert_int_equal(back.b[0] >> 4, 15);
}

static void id__equality_looks_at_every_byte(void **state)
{
	struct cas_id a = { { 0 } }, b = a;

	assert_true(cas_id_is_zero(&a));
	for (size_t i = 0; i < sizeof(a.b); i++) {
		b.b[i] = 1;
		assert_false(cas_id_equal(&a, &b));
		assert_true(cas_id_compare(&a, &b) < 0);
		assert_false(cas_id_is_zero(&b));
		b.b[i] = 0;
	}
	assert_true(cas_id_equal(&a, &b));
}

/* From the paper's definition, worked by hand. */
static void pad__padme_table(void **state)
{
	static const struct {
		size_t len, padded;
	} table[] = { { 0, 0 }, { 1, 1 }, { 2, 2 }, { 3, 3 }, { 8, 8 }, { 9, 10 }, { 10, 10 },
		{ 16, 16 }, { 17, 18 }, { 100, 104 }, { 255, 256 }, { 256, 256 }, { 257, 272 },
		{ 1000, 1024 }, { 1024, 1024 }, { 1025, 1088 }, { 65536, 65536 }, { 65537, 67584 },
		{ 262144, 262144 }, { 262156, 270336 }, { 1u << 20, 1u << 20 } };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_int_equal(cas_padme(table[i].len), table[i].padded);
}

static void pad__properties_over_all_lengths(void **state)
{
	size_t last = 0, distinct = 0;

	for (size_t len = 1; len <= 300000; len++) {
		size_t padded = cas_padme(len), object = cas_pad_object(len);

		assert_true(padded >= len && padded >= last);
		assert_true((padded - len) * 100 <= len * 12);
		assert_int_equal(cas_padme(padded), padded);
		assert_int_equal(object, padded < 256 ? 256 : padded);
		distinct += padded != last;
		last = padded;
	}
	/* It is no padding at all when there are many lengths left. */
	assert_true(distinct < 350);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(id__is_sha256_of_the_bytes),
		cmocka_unit_test(id__hex_round_trip_and_strict_parse),
		cmocka_unit_test(id__equality_looks_at_every_byte),
		cmocka_unit_test(pad__padme_table),
		cmocka_unit_test(pad__properties_over_all_lengths),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
