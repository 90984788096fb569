#include "cas/metaseal.h"

#include "cas_test.h"
#include "vectors.h"

#include <errno.h>

static void metaseal__vectors(void **state)
{
	struct test_keys k = test_keys();
	uint8_t out[12 + CAS_META_OVERHEAD], tag[CAS_TAG_SIZE];

	cas_meta_seal(&k.keys, "where it belongs", 16, "what it says", 12, out);
	assert_hex(out, sizeof(out), VECTOR_RECORD);
	cas_name_tag(&k.keys, 258, "name", 4, tag);
	assert_hex(tag, sizeof(tag), VECTOR_NAME_TAG);
	cas_xattr_tag(&k.keys, 258, "name", 4, tag);
	assert_hex(tag, sizeof(tag), VECTOR_XATTR_TAG);
	cas_value_tag(&k.keys, "value", 5, tag);
	assert_hex(tag, sizeof(tag), VECTOR_VALUE_TAG);
}

static void metaseal__opens_what_was_sealed(void **state)
{
	struct test_keys k = test_keys();
	uint8_t plain[300], sealed[300 + CAS_META_OVERHEAD], out[300];
	struct rng rng;

	rng_start(&rng);
	for (size_t len = 0; len <= sizeof(plain); len++) {
		rng_fill(&rng, plain, len);
		cas_meta_seal(&k.keys, plain, len / 2, plain, len, sealed);
		assert_int_equal(cas_meta_open(&k.keys, plain, len / 2, sealed,
					 len + CAS_META_OVERHEAD, out),
			0);
		assert_memory_equal(plain, out, len);
	}
}

static void metaseal__refuses_every_changed_bit(void **state)
{
	struct test_keys k = test_keys();
	uint8_t aad[20] = "aad", plain[50] = "plain", sealed[50 + CAS_META_OVERHEAD], out[50];

	cas_meta_seal(&k.keys, aad, sizeof(aad), plain, sizeof(plain), sealed);
	for (size_t i = 0; i < 8 * sizeof(sealed); i++) {
		sealed[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(
			cas_meta_open(&k.keys, aad, sizeof(aad), sealed, sizeof(sealed), out),
			-EBADMSG);
		sealed[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t i = 0; i < sizeof(aad); i++) {
		aad[i] ^= 1;
		assert_int_equal(
			cas_meta_open(&k.keys, aad, sizeof(aad), sealed, sizeof(sealed), out),
			-EBADMSG);
		aad[i] ^= 1;
	}
	for (size_t len = 0; len < sizeof(sealed); len++)
		assert_int_equal(
			cas_meta_open(&k.keys, aad, sizeof(aad), sealed, len, out), -EBADMSG);
	k.keys.seal[0] ^= 1;
	assert_int_equal(
		cas_meta_open(&k.keys, aad, sizeof(aad), sealed, sizeof(sealed), out), -EBADMSG);
}

static void metaseal__nonce_depends_on_all_input(void **state)
{
	struct test_keys k = test_keys();
	uint8_t a[2 + CAS_META_OVERHEAD], b[2 + CAS_META_OVERHEAD];

	cas_meta_seal(&k.keys, "ab", 2, "cd", 2, a);
	cas_meta_seal(&k.keys, "ab", 2, "cd", 2, b);
	assert_memory_equal(a, b, sizeof(a));
	cas_meta_seal(&k.keys, "ab", 2, "ce", 2, b);
	assert_memory_not_equal(a, b, CAS_META_NONCE);
	cas_meta_seal(&k.keys, "aa", 2, "cd", 2, b);
	assert_memory_not_equal(a, b, CAS_META_NONCE);
	/* The border between aad and plain counts. */
	cas_meta_seal(&k.keys, "abc", 3, "d", 1, b);
	assert_memory_not_equal(a, b, CAS_META_NONCE);
	k.keys.siv[0] ^= 1;
	cas_meta_seal(&k.keys, "ab", 2, "cd", 2, b);
	assert_memory_not_equal(a, b, CAS_META_NONCE);
}

static void metaseal__tags_depend_on_place_name_and_use(void **state)
{
	struct test_keys k = test_keys();
	uint8_t a[CAS_TAG_SIZE], b[CAS_TAG_SIZE];

	cas_name_tag(&k.keys, 1, "x", 1, a);
	cas_name_tag(&k.keys, 2, "x", 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	cas_name_tag(&k.keys, 1, "y", 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	cas_name_tag(&k.keys, 1, "x\0", 2, b);
	assert_memory_not_equal(a, b, sizeof(a));
	cas_xattr_tag(&k.keys, 1, "x", 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
}

static void metaseal__names_are_padded_and_read_back(void **state)
{
	static const size_t rooms[][2] = { { 0, 16 }, { 15, 16 }, { 16, 32 }, { 31, 32 },
		{ 32, 64 }, { 63, 64 }, { 64, 128 }, { 127, 128 }, { 128, 256 }, { 255, 256 } };
	uint8_t room[CAS_NAME_ROOM];
	char name[CAS_NAME_MAX];
	const char *found;
	size_t len, used;

	for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
		assert_int_equal(cas_name_room(rooms[i][0]), rooms[i][1]);
	memset(name, 'n', sizeof(name));
	for (size_t n = 0; n <= CAS_NAME_MAX; n++) {
		size_t put = cas_name_put(name, n, room);

		assert_int_equal(put, cas_name_room(n));
		assert_int_equal(cas_name_get(room, put, &found, &len, &used), 0);
		assert_int_equal(len, n);
		assert_int_equal(used, put);
		assert_memory_equal(found, name, n);
		assert_int_equal(cas_name_get(room, put - 1, &found, &len, &used), -EBADMSG);
		if (n + 1 < put) {
			room[put - 1] = 1;
			assert_int_equal(cas_name_get(room, put, &found, &len, &used), -EBADMSG);
		}
	}
	assert_int_equal(cas_name_get(room, 0, &found, &len, &used), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(metaseal__vectors),
		cmocka_unit_test(metaseal__opens_what_was_sealed),
		cmocka_unit_test(metaseal__refuses_every_changed_bit),
		cmocka_unit_test(metaseal__nonce_depends_on_all_input),
		cmocka_unit_test(metaseal__tags_depend_on_place_name_and_use),
		cmocka_unit_test(metaseal__names_are_padded_and_read_back),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
