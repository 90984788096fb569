#include "noise/cipher.h"

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t key[32] = "0123456789abcdef0123456789abcde";

static void cipher__opens_what_it_sealed_in_order(void **state)
{
	struct noise_cipher a, b;
	uint8_t buf[256];
	size_t n;

	noise_cipher_init(&a, key);
	noise_cipher_init(&b, key);
	for (uint8_t i = 0; i < 100; i++) {
		memset(buf, i, sizeof(buf));
		/* In place, both ways. */
		assert_int_equal(
			noise_cipher_encrypt(&a, NULL, 0, buf, i, buf, sizeof(buf), &n), 0);
		assert_int_equal(n, i + 16);
		assert_int_equal(
			noise_cipher_decrypt(&b, NULL, 0, buf, n, buf, sizeof(buf), &n), 0);
		assert_int_equal(n, i);
		for (uint8_t k = 0; k < i; k++)
			assert_int_equal(buf[k], i);
	}
	assert_int_equal(a.nonce, 100);
}

static void cipher__refuses_each_flipped_bit(void **state)
{
	struct noise_cipher a, b;
	uint8_t msg[64], out[64];
	size_t n, m;

	noise_cipher_init(&a, key);
	noise_cipher_init(&b, key);
	assert_int_equal(noise_cipher_encrypt(&a, (const uint8_t *)"ad", 2,
				 (const uint8_t *)"hello", 5, msg, sizeof(msg), &n),
		0);
	for (size_t i = 0; i < n * 8; i++) {
		msg[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(noise_cipher_decrypt(&b, (const uint8_t *)"ad", 2, msg, n, out,
					 sizeof(out), &m),
			-EBADMSG);
		msg[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t i = 0; i < n; i++)
		assert_int_equal(noise_cipher_decrypt(&b, (const uint8_t *)"ad", 2, msg, i, out,
					 sizeof(out), &m),
			-EBADMSG);
	assert_int_equal(
		noise_cipher_decrypt(&b, (const uint8_t *)"aD", 2, msg, n, out, sizeof(out), &m),
		-EBADMSG);
	/* The failures did not move the counter. */
	assert_int_equal(
		noise_cipher_decrypt(&b, (const uint8_t *)"ad", 2, msg, n, out, sizeof(out), &m),
		0);
	assert_int_equal(m, 5);
}

static void cipher__refuses_replay_and_reordering(void **state)
{
	struct noise_cipher a, b;
	uint8_t m1[32], m2[32], out[32];
	size_t n, m;

	noise_cipher_init(&a, key);
	noise_cipher_init(&b, key);
	noise_cipher_encrypt(&a, NULL, 0, (const uint8_t *)"one", 3, m1, sizeof(m1), &n);
	noise_cipher_encrypt(&a, NULL, 0, (const uint8_t *)"two", 3, m2, sizeof(m2), &n);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, m2, n, out, sizeof(out), &m), -EBADMSG);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, m1, n, out, sizeof(out), &m), 0);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, m1, n, out, sizeof(out), &m), -EBADMSG);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, m2, n, out, sizeof(out), &m), 0);
	assert_memory_equal(out, "two", 3);
}

static void cipher__keeps_to_its_sizes(void **state)
{
	struct noise_cipher a, b;
	uint8_t *plain = calloc(1, NOISE_MESSAGE_MAX + 1), *msg = calloc(1, NOISE_MESSAGE_MAX + 1);
	size_t n;

	assert_non_null(plain);
	assert_non_null(msg);
	noise_cipher_init(&a, key);
	noise_cipher_init(&b, key);
	assert_int_equal(noise_cipher_encrypt(&a, NULL, 0, plain, NOISE_PLAINTEXT_MAX + 1, msg,
				 NOISE_MESSAGE_MAX + 1, &n),
		-EMSGSIZE);
	assert_int_equal(noise_cipher_encrypt(&a, NULL, 0, plain, NOISE_PLAINTEXT_MAX, msg,
				 NOISE_MESSAGE_MAX - 1, &n),
		-ENOBUFS);
	assert_int_equal(a.nonce, 0);
	assert_int_equal(noise_cipher_encrypt(&a, NULL, 0, plain, NOISE_PLAINTEXT_MAX, msg,
				 NOISE_MESSAGE_MAX, &n),
		0);
	assert_int_equal(n, NOISE_MESSAGE_MAX);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, msg, NOISE_MESSAGE_MAX + 1, plain,
				 NOISE_MESSAGE_MAX, &n),
		-EMSGSIZE);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, msg, NOISE_MESSAGE_MAX, plain, 1000, &n),
		-ENOBUFS);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, msg, NOISE_MESSAGE_MAX, plain,
				 NOISE_PLAINTEXT_MAX, &n),
		0);
	free(plain);
	free(msg);
}

static void cipher__ends_with_its_counter(void **state)
{
	struct noise_cipher a;
	uint8_t buf[64];
	size_t n;

	noise_cipher_init(&a, key);
	a.nonce = UINT64_MAX - 1;
	assert_int_equal(noise_cipher_encrypt(&a, NULL, 0, buf, 1, buf, sizeof(buf), &n), 0);
	assert_int_equal(
		noise_cipher_encrypt(&a, NULL, 0, buf, 1, buf, sizeof(buf), &n), -EOVERFLOW);
	assert_int_equal(
		noise_cipher_decrypt(&a, NULL, 0, buf, 17, buf, sizeof(buf), &n), -EOVERFLOW);
}

static void cipher__rekey_is_one_way_and_alike(void **state)
{
	struct noise_cipher a, b;
	uint8_t msg[32], out[32], expect[48], nonce[12];
	size_t n, m;

	noise_cipher_init(&a, key);
	noise_cipher_init(&b, key);
	noise_cipher_encrypt(&a, NULL, 0, (const uint8_t *)"x", 1, msg, sizeof(msg), &n);
	noise_cipher_decrypt(&b, NULL, 0, msg, n, out, sizeof(out), &m);
	noise_cipher_rekey(&a);
	/* Section 4.2, written out another way: ENCRYPT(k, 2^64-1, "", 32 zero bytes). */
	memset(nonce, 0, 4);
	memset(nonce + 4, 0xff, 8);
	memset(out, 0, sizeof(out));
	crypto_aead_chacha20poly1305_ietf_encrypt(expect, NULL, out, 32, NULL, 0, NULL, nonce, key);
	assert_memory_equal(a.key, expect, 32);
	assert_int_equal(a.nonce, 1);

	noise_cipher_encrypt(&a, NULL, 0, (const uint8_t *)"y", 1, msg, sizeof(msg), &n);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, msg, n, out, sizeof(out), &m), -EBADMSG);
	noise_cipher_rekey(&b);
	assert_int_equal(noise_cipher_decrypt(&b, NULL, 0, msg, n, out, sizeof(out), &m), 0);
	noise_cipher_wipe(&a);
	assert_true(sodium_is_zero((const uint8_t *)&a, sizeof(a)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cipher__opens_what_it_sealed_in_order),
		cmocka_unit_test(cipher__refuses_each_flipped_bit),
		cmocka_unit_test(cipher__refuses_replay_and_reordering),
		cmocka_unit_test(cipher__keeps_to_its_sizes),
		cmocka_unit_test(cipher__ends_with_its_counter),
		cmocka_unit_test(cipher__rekey_is_one_way_and_alike),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
