#include "cas/kdf.h"

#include "cas_test.h"
#include "vectors.h"

static void kdf__vectors(void **state)
{
	struct test_keys k = test_keys();

	assert_hex(k.sharing.keyid, 8, VECTOR_KEYID);
	assert_hex(k.keys.chunker, 32, VECTOR_CHUNKER);
	assert_hex(k.keys.seal, 32, VECTOR_SEAL);
	assert_hex(k.keys.siv, 32, VECTOR_SIV);
	assert_hex(k.keys.name, 32, VECTOR_NAME);
	assert_hex(k.keys.value, 32, VECTOR_VALUE);
}

static void kdf__every_key_is_another(void **state)
{
	struct test_keys k = test_keys();
	const uint8_t *all[] = { k.sharing.chunk, k.sharing.tag, k.sharing.chunker,
		k.sharing.volume, k.keys.seal, k.keys.siv, k.keys.name, k.keys.value };
	size_t num = sizeof(all) / sizeof(all[0]);

	for (size_t i = 0; i < num; i++)
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(all[i], all[j], 32);
}

static void kdf__volumes_share_the_chunker_only(void **state)
{
	struct test_keys k = test_keys();
	struct cas_volume_keys other;

	k.volume[15] ^= 1;
	cas_kdf_volume(&k.sharing, k.volume, &other);
	assert_memory_equal(k.keys.chunker, other.chunker, 32);
	assert_memory_not_equal(k.keys.seal, other.seal, 32);
	assert_memory_not_equal(k.keys.siv, other.siv, 32);
	assert_memory_not_equal(k.keys.name, other.name, 32);
	assert_memory_not_equal(k.keys.value, other.value, 32);
}

static void kdf__prf_depends_on_type_and_hash(void **state)
{
	struct test_keys k = test_keys();
	struct cas_hash h = { { 1, 2, 3 } }, other = h;
	uint8_t a[32], b[32];

	other.b[31] ^= 1;
	cas_prf_chunk_key(&k.sharing, 1, &h, a);
	cas_prf_chunk_key(&k.sharing, 1, &h, b);
	assert_memory_equal(a, b, 32);
	cas_prf_chunk_key(&k.sharing, 2, &h, b);
	assert_memory_not_equal(a, b, 32);
	cas_prf_chunk_key(&k.sharing, 1, &other, b);
	assert_memory_not_equal(a, b, 32);
	cas_prf_dedup_tag(&k.sharing, 1, &h, b);
	assert_memory_not_equal(a, b, 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kdf__vectors),
		cmocka_unit_test(kdf__every_key_is_another),
		cmocka_unit_test(kdf__volumes_share_the_chunker_only),
		cmocka_unit_test(kdf__prf_depends_on_type_and_hash),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
