#include "noise/vouch.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void vouch__holds_for_its_key_alone(void **state)
{
	uint8_t pk[32], sk[64], other_pk[32], other_sk[64], vouch[NOISE_VOUCH_SIZE], noise[32];

	crypto_sign_keypair(pk, sk);
	crypto_sign_keypair(other_pk, other_sk);
	randombytes_buf(noise, sizeof(noise));
	noise_vouch_make(sk, noise, vouch);
	assert_true(noise_vouch_is_valid(pk, noise, vouch));
	assert_false(noise_vouch_is_valid(other_pk, noise, vouch));
	for (size_t i = 0; i < 32; i++) {
		noise[i] ^= 1;
		assert_false(noise_vouch_is_valid(pk, noise, vouch));
		noise[i] ^= 1;
	}
	for (size_t i = 0; i < sizeof(vouch); i++) {
		vouch[i] ^= 0x10;
		assert_false(noise_vouch_is_valid(pk, noise, vouch));
		vouch[i] ^= 0x10;
	}
}

static void vouch__is_no_signature_of_the_bare_key(void **state)
{
	uint8_t pk[32], sk[64], vouch[NOISE_VOUCH_SIZE], noise[32];

	crypto_sign_keypair(pk, sk);
	randombytes_buf(noise, sizeof(noise));
	noise_vouch_make(sk, noise, vouch);
	assert_int_not_equal(crypto_sign_verify_detached(vouch, noise, 32, pk), 0);
	crypto_sign_detached(vouch, NULL, noise, 32, sk);
	assert_false(noise_vouch_is_valid(pk, noise, vouch));
}

static void vouch__of_a_low_order_identity_is_refused(void **state)
{
	/* The neutral element: R = identity, S = 0 "verifies" where nobody checks for it. */
	uint8_t pk[32] = { 1 }, vouch[NOISE_VOUCH_SIZE] = { 1 }, noise[32] = { 9 };

	assert_false(noise_vouch_is_valid(pk, noise, vouch));
}

static void vouch__format_is_fixed(void **state)
{
	static const uint8_t seed[32] = { 7 }, noise[32] = { 8 };
	uint8_t pk[32], sk[64], vouch[NOISE_VOUCH_SIZE],
		text[26 + 32] = "bazil noise static key v1";

	crypto_sign_seed_keypair(pk, sk, seed);
	noise_vouch_make(sk, noise, vouch);
	memcpy(text + 26, noise, 32);
	assert_int_equal(crypto_sign_verify_detached(vouch, text, sizeof(text), pk), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vouch__holds_for_its_key_alone),
		cmocka_unit_test(vouch__is_no_signature_of_the_bare_key),
		cmocka_unit_test(vouch__of_a_low_order_identity_is_refused),
		cmocka_unit_test(vouch__format_is_fixed),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
