#include "noise/symmetric.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* Of BLAKE2b. HMAC pads its key to this; BLAKE2b's own keyed mode is another function. */
#define BLOCK_SIZE 128

static void hash_two(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
	uint8_t ret[NOISE_HASH_SIZE])
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, NULL, 0, NOISE_HASH_SIZE);
	crypto_generichash_update(&st, a, a_len);
	crypto_generichash_update(&st, b, b_len);
	crypto_generichash_final(&st, ret, NOISE_HASH_SIZE);
	sodium_memzero(&st, sizeof(st));
}

/* HMAC-BLAKE2b (RFC 2104); the key is a chaining key or an HMAC, always of NOISE_HASH_SIZE. */
static void hmac(const uint8_t key[NOISE_HASH_SIZE], const uint8_t *data, size_t len,
	uint8_t ret[NOISE_HASH_SIZE])
{
	uint8_t pad[BLOCK_SIZE], inner[NOISE_HASH_SIZE];

	memset(pad, 0x36, sizeof(pad));
	for (int i = 0; i < NOISE_HASH_SIZE; i++)
		pad[i] ^= key[i];
	hash_two(pad, sizeof(pad), data, len, inner);
	for (int i = 0; i < BLOCK_SIZE; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	hash_two(pad, sizeof(pad), inner, sizeof(inner), ret);
	sodium_memzero(pad, sizeof(pad));
	sodium_memzero(inner, sizeof(inner));
}

/* HKDF of section 4.3 with two outputs. ret_1 may be the same memory as key. */
static void hkdf(const uint8_t key[NOISE_HASH_SIZE], const uint8_t *data, size_t len,
	uint8_t ret_1[NOISE_HASH_SIZE], uint8_t ret_2[NOISE_HASH_SIZE])
{
	uint8_t secret[NOISE_HASH_SIZE], chain[NOISE_HASH_SIZE + 1];

	hmac(key, data, len, secret);
	chain[0] = 1;
	hmac(secret, chain, 1, ret_1);
	memcpy(chain, ret_1, NOISE_HASH_SIZE);
	chain[NOISE_HASH_SIZE] = 2;
	hmac(secret, chain, sizeof(chain), ret_2);
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(chain, sizeof(chain));
}

void noise_symmetric_init(struct noise_symmetric *sym, const char *name)
{
	memset(sym, 0, sizeof(*sym));
	memcpy(sym->hash, name, strnlen(name, NOISE_HASH_SIZE));
	memcpy(sym->chaining_key, sym->hash, NOISE_HASH_SIZE);
}

void noise_symmetric_mix_hash(struct noise_symmetric *sym, const uint8_t *data, size_t len)
{
	hash_two(sym->hash, NOISE_HASH_SIZE, data, len, sym->hash);
}

void noise_symmetric_mix_key(struct noise_symmetric *sym, const uint8_t shared[32])
{
	uint8_t key[NOISE_HASH_SIZE];

	hkdf(sym->chaining_key, shared, 32, sym->chaining_key, key);
	noise_cipher_init(&sym->cipher, key);
	sym->has_key = true;
	sodium_memzero(key, sizeof(key));
}

size_t noise_symmetric_overhead(const struct noise_symmetric *sym)
{
	return sym->has_key ? NOISE_TAG_SIZE : 0;
}

int noise_symmetric_encrypt_and_hash(struct noise_symmetric *sym, const uint8_t *plain, size_t len,
	uint8_t *out, size_t out_size, size_t *ret_len)
{
	int r;

	if (sym->has_key) {
		r = noise_cipher_encrypt(&sym->cipher, sym->hash, NOISE_HASH_SIZE, plain, len, out,
			out_size, ret_len);
		if (r < 0)
			return r;
	} else {
		if (out_size < len)
			return -ENOBUFS;
		if (len)
			memmove(out, plain, len);
		*ret_len = len;
	}
	noise_symmetric_mix_hash(sym, out, *ret_len);
	return 0;
}

int noise_symmetric_decrypt_and_hash(struct noise_symmetric *sym, const uint8_t *message,
	size_t len, uint8_t *out, size_t out_size, size_t *ret_len)
{
	int r;

	if (sym->has_key) {
		r = noise_cipher_decrypt(&sym->cipher, sym->hash, NOISE_HASH_SIZE, message, len,
			out, out_size, ret_len);
		if (r < 0)
			return r;
	} else {
		if (out_size < len)
			return -ENOBUFS;
		if (len)
			memcpy(out, message, len);
		*ret_len = len;
	}
	noise_symmetric_mix_hash(sym, message, len);
	return 0;
}

void noise_symmetric_split(const struct noise_symmetric *sym, struct noise_cipher *ret_first,
	struct noise_cipher *ret_second)
{
	uint8_t first[NOISE_HASH_SIZE], second[NOISE_HASH_SIZE];

	hkdf(sym->chaining_key, NULL, 0, first, second);
	noise_cipher_init(ret_first, first);
	noise_cipher_init(ret_second, second);
	sodium_memzero(first, sizeof(first));
	sodium_memzero(second, sizeof(second));
}

void noise_symmetric_wipe(struct noise_symmetric *sym)
{
	sodium_memzero(sym, sizeof(*sym));
}
