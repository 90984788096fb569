#include "keyd/keyring.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct keyring *made(void)
{
	struct keyring *ring;

	assert_int_equal(keyring_new(&ring), 0);
	assert_int_equal(keyring_generate(ring), 0);
	return ring;
}

static void keyring__begins_with_default_and_a_valid_vouch(void **state)
{
	struct keyring *a = made(), *b = made();

	assert_int_equal(keyring_num_sharing(a), 1);
	assert_string_equal(keyring_sharing_name(a, 0), "default");
	assert_true(noise_vouch_is_valid(
		keyring_identity(a), keyring_noise_static(a), keyring_vouch(a)));
	assert_memory_not_equal(keyring_identity(a), keyring_identity(b), 32);
	assert_memory_not_equal(keyring_noise_static(a), keyring_noise_static(b), 32);
	assert_memory_not_equal(
		keyring_sharing_keyid(a, 0), keyring_sharing_keyid(b, 0), CAS_KEYID_SIZE);
	keyring_free(a);
	keyring_free(b);
	keyring_free(NULL);
}

static void keyring__dh_is_mutual_and_refuses_low_order(void **state)
{
	struct keyring *ring = made();
	uint8_t secret[32], public[32], ours[32], theirs[32], low[32] = { 0 };

	randombytes_buf(secret, 32);
	crypto_scalarmult_base(public, secret);
	assert_int_equal(keyring_dh(ring, public, ours), 0);
	assert_int_equal(crypto_scalarmult(theirs, secret, keyring_noise_static(ring)), 0);
	assert_memory_equal(ours, theirs, 32);
	assert_int_equal(keyring_dh(ring, low, ours), -EBADMSG);
	low[0] = 1;
	assert_int_equal(keyring_dh(ring, low, ours), -EBADMSG);
	keyring_free(ring);
}

static void keyring__names_are_checked(void **state)
{
	char name[70];

	memset(name, 'x', sizeof(name));
	name[64] = '\0';
	assert_true(keyring_name_is_valid(name));
	name[64] = 'x';
	name[65] = '\0';
	assert_false(keyring_name_is_valid(name));
	assert_true(keyring_name_is_valid("a"));
	assert_true(keyring_name_is_valid("A.b_c-9"));
	assert_false(keyring_name_is_valid(""));
	for (int c = 1; c < 256; c++) {
		char one[2] = { (char)c, '\0' };
		bool is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			       (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';

		assert_int_equal(keyring_name_is_valid(one), is_good);
	}
}

static void keyring__refuses_duplicates(void **state)
{
	struct keyring *ring = made();
	uint8_t k1[32] = { 1 }, k2[32] = { 2 }, id[8], id2[8];

	assert_int_equal(keyring_add(ring, "friends", k1, id), 0);
	assert_int_equal(keyring_add(ring, "friends", k2, id2), -EEXIST);
	assert_int_equal(keyring_add(ring, "friends", k1, id2), -EEXIST);
	assert_int_equal(keyring_add(ring, "others", k1, id2), -ENOTUNIQ);
	assert_int_equal(keyring_add(ring, "default", k2, id2), -EEXIST);
	assert_int_equal(keyring_add(ring, "a b", k2, id2), -EINVAL);
	assert_int_equal(keyring_num_sharing(ring), 2);
	assert_int_equal(keyring_add(ring, "others", k2, id2), 0);
	assert_memory_not_equal(id, id2, 8);
	assert_string_equal(keyring_name_of_keyid(ring, id2), "others");
	keyring_free(ring);
}

static void keyring__holds_as_many_as_it_says(void **state)
{
	struct keyring *ring = made();
	uint8_t key[32] = { 0 }, id[8];
	char name[16];

	for (int i = 1; i < KEYRING_SHARING_MAX; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		key[0] = (uint8_t)i;
		assert_int_equal(keyring_add(ring, name, key, id), 0);
	}
	key[0] = 200;
	assert_int_equal(keyring_add(ring, "more", key, id), -ENOSPC);
	assert_int_equal(keyring_remove(ring, "k17"), 0);
	assert_int_equal(keyring_add(ring, "more", key, id), 0);
	keyring_free(ring);
}

static void keyring__removal_leaves_the_others(void **state)
{
	struct keyring *ring = made();
	uint8_t key[32] = { 0 }, id[8], volume[16] = { 9 };
	struct cas_volume_keys before, after;

	for (uint8_t i = 0; i < 3; i++) {
		key[0] = i;
		assert_int_equal(
			keyring_add(ring, (const char *[]){ "a", "b", "c" }[i], key, id), 0);
	}
	assert_int_equal(keyring_volume_keys(ring, "c", volume, &before), 0);
	assert_int_equal(keyring_remove(ring, "b"), 0);
	assert_int_equal(keyring_remove(ring, "b"), -ENOKEY);
	assert_int_equal(keyring_volume_keys(ring, "b", volume, &after), -ENOKEY);
	assert_int_equal(keyring_volume_keys(ring, "c", volume, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(keyring_remove(ring, "default"), -EPERM);
	assert_int_equal(keyring_num_sharing(ring), 3);
	keyring_free(ring);
}

static void keyring__derives_as_the_key_schedule_says(void **state)
{
	struct keyring *ring = made();
	uint8_t secret[32] = { 42 }, id[8], volume[16] = { 7 }, keys[3][32], tags[3][32], one[32];
	struct cas_hash h[3] = { { { 1 } }, { { 2 } }, { { 3 } } };
	struct cas_sharing_keys sharing;
	struct cas_volume_keys expected, got;

	assert_int_equal(keyring_add(ring, "s", secret, id), 0);
	cas_kdf_sharing(secret, &sharing);
	assert_memory_equal(id, sharing.keyid, 8);
	cas_kdf_volume(&sharing, volume, &expected);
	assert_int_equal(keyring_volume_keys(ring, "s", volume, &got), 0);
	assert_memory_equal(&expected, &got, sizeof(got));
	assert_int_equal(keyring_chunk_keys(ring, "s", 1, h, 3, keys, tags), 0);
	for (int i = 0; i < 3; i++) {
		cas_prf_chunk_key(&sharing, 1, &h[i], one);
		assert_memory_equal(keys[i], one, 32);
		cas_prf_dedup_tag(&sharing, 1, &h[i], one);
		assert_memory_equal(tags[i], one, 32);
	}
	assert_int_equal(keyring_chunk_keys(ring, "t", 1, h, 3, keys, tags), -ENOKEY);
	keyring_free(ring);
}

static void keyring__packs_and_unpacks(void **state)
{
	struct keyring *a = made(), *b;
	uint8_t packed[KEYRING_PACKED_SIZE], again[KEYRING_PACKED_SIZE], key[32] = { 5 }, id[8];

	assert_int_equal(keyring_add(a, "friends", key, id), 0);
	keyring_pack(a, packed);
	assert_int_equal(keyring_new(&b), 0);
	assert_int_equal(keyring_unpack(b, packed, sizeof(packed)), 0);
	keyring_pack(b, again);
	assert_memory_equal(packed, again, sizeof(packed));
	assert_memory_equal(keyring_identity(a), keyring_identity(b), 32);
	assert_memory_equal(keyring_noise_static(a), keyring_noise_static(b), 32);
	assert_memory_equal(keyring_vouch(a), keyring_vouch(b), 64);
	assert_string_equal(keyring_sharing_name(b, 1), "friends");
	keyring_free(a);
	keyring_free(b);
}

/* Every byte that is not a key or a letter of a name has one value that is accepted. */
static void keyring__unpack_is_strict(void **state)
{
	struct keyring *a = made(), *b;
	uint8_t packed[KEYRING_PACKED_SIZE];

	keyring_pack(a, packed);
	assert_int_equal(keyring_new(&b), 0);
	for (size_t i = 0; i < sizeof(packed); i++) {
		bool is_key = (i >= 8 && i < 72) || (i >= 128 + 72 && i < 128 + 104);
		int r;

		packed[i] ^= 0x80;
		r = keyring_unpack(b, packed, sizeof(packed));
		assert_int_equal(r, is_key ? 0 : i == 4 || i == 5 ? -EPROTONOSUPPORT : -EBADMSG);
		if (r < 0)
			assert_int_equal(keyring_num_sharing(b), 0);
		packed[i] ^= 0x80;
	}
	for (size_t len = 0; len < sizeof(packed); len += 97)
		assert_true(keyring_unpack(b, packed, len) < 0);
	/* The same name twice. */
	memcpy(packed + 256, packed + 128, 128);
	packed[256 + 72] ^= 1;
	packed[6] = 2;
	assert_int_equal(keyring_unpack(b, packed, sizeof(packed)), -EBADMSG);
	packed[6] = 65;
	assert_int_equal(keyring_unpack(b, packed, sizeof(packed)), -EBADMSG);
	keyring_free(a);
	keyring_free(b);
}

#ifndef BAZIL_SANITIZED
/* Looks at every readable mapping of this process for a needle. */
static bool is_in_memory(const uint8_t needle[16])
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	bool found = false;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;
		char perms[5];

		if (sscanf(line, "%lx-%lx %4s", &from, &to, perms) != 3 || perms[0] != 'r' ||
			perms[1] != 'w' || strstr(line, "[stack]") || to - from > 64 << 20)
			continue;
		for (const uint8_t *p = (const uint8_t *)from; p + 16 <= (const uint8_t *)to; p++) {
			if (p != needle && p[0] == needle[0] && memcmp(p, needle, 16) == 0)
				found = true;
		}
	}
	fclose(maps);
	return found;
}
#endif

static void keyring__secrets_lie_nowhere_else(void **state)
{
#ifdef BAZIL_SANITIZED
	skip();
#else
	struct keyring *ring = made();
	/* On the stack, which is not searched. */
	uint8_t secret[32], id[8], keys[1][32], tags[1][32];
	struct cas_hash h = { { 1 } };
	uint8_t *copy;

	randombytes_buf(secret, sizeof(secret));
	assert_int_equal(keyring_add(ring, "s", secret, id), 0);
	assert_int_equal(keyring_chunk_keys(ring, "s", 1, &h, 1, keys, tags), 0);
	assert_false(is_in_memory(secret));
	/* The search finds what is there. */
	copy = malloc(32);
	assert_non_null(copy);
	memcpy(copy, secret, 32);
	assert_true(is_in_memory(secret));
	sodium_memzero(copy, 32);
	free(copy);
	keyring_free(ring);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keyring__begins_with_default_and_a_valid_vouch),
		cmocka_unit_test(keyring__dh_is_mutual_and_refuses_low_order),
		cmocka_unit_test(keyring__names_are_checked),
		cmocka_unit_test(keyring__refuses_duplicates),
		cmocka_unit_test(keyring__holds_as_many_as_it_says),
		cmocka_unit_test(keyring__removal_leaves_the_others),
		cmocka_unit_test(keyring__derives_as_the_key_schedule_says),
		cmocka_unit_test(keyring__packs_and_unpacks),
		cmocka_unit_test(keyring__unpack_is_strict),
		cmocka_unit_test(keyring__secrets_lie_nowhere_else),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
