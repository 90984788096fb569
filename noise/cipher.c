#include "noise/cipher.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

_Static_assert(NOISE_TAG_SIZE == crypto_aead_chacha20poly1305_ietf_ABYTES, "tag");
_Static_assert(NOISE_KEY_SIZE == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "key");

/* 4 zero bytes, then the counter, little-endian (section 12.3). */
static void nonce_bytes(uint64_t nonce, uint8_t ret[12])
{
	memset(ret, 0, 4);
	for (int i = 0; i < 8; i++)
		ret[4 + i] = (uint8_t)(nonce >> (8 * i));
}

void noise_cipher_init(struct noise_cipher *cipher, const uint8_t key[NOISE_KEY_SIZE])
{
	memcpy(cipher->key, key, NOISE_KEY_SIZE);
	cipher->nonce = 0;
}

int noise_cipher_encrypt(struct noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
	const uint8_t *plain, size_t len, uint8_t *out, size_t out_size, size_t *ret_len)
{
	uint8_t nonce[12];

	if (len > NOISE_PLAINTEXT_MAX)
		return -EMSGSIZE;
	if (out_size < len + NOISE_TAG_SIZE)
		return -ENOBUFS;
	if (cipher->nonce == UINT64_MAX)
		return -EOVERFLOW;

	nonce_bytes(cipher->nonce, nonce);
	crypto_aead_chacha20poly1305_ietf_encrypt(
		out, NULL, plain, len, ad, ad_len, NULL, nonce, cipher->key);
	cipher->nonce++;
	*ret_len = len + NOISE_TAG_SIZE;
	return 0;
}

int noise_cipher_decrypt(struct noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
	const uint8_t *message, size_t len, uint8_t *out, size_t out_size, size_t *ret_len)
{
	uint8_t nonce[12];

	if (len > NOISE_MESSAGE_MAX)
		return -EMSGSIZE;
	if (len < NOISE_TAG_SIZE)
		return -EBADMSG;
	if (out_size < len - NOISE_TAG_SIZE)
		return -ENOBUFS;
	if (cipher->nonce == UINT64_MAX)
		return -EOVERFLOW;

	nonce_bytes(cipher->nonce, nonce);
	/* libsodium checks the tag before it decrypts, so a forgery leaves no plaintext in out. */
	if (crypto_aead_chacha20poly1305_ietf_decrypt(
		    out, NULL, NULL, message, len, ad, ad_len, nonce, cipher->key) != 0)
		return -EBADMSG;
	cipher->nonce++;
	*ret_len = len - NOISE_TAG_SIZE;
	return 0;
}

void noise_cipher_rekey(struct noise_cipher *cipher)
{
	static const uint8_t zeros[NOISE_KEY_SIZE];
	uint8_t out[NOISE_KEY_SIZE + NOISE_TAG_SIZE], nonce[12];

	nonce_bytes(UINT64_MAX, nonce);
	crypto_aead_chacha20poly1305_ietf_encrypt(
		out, NULL, zeros, sizeof(zeros), NULL, 0, NULL, nonce, cipher->key);
	memcpy(cipher->key, out, NOISE_KEY_SIZE);
	sodium_memzero(out, sizeof(out));
}

void noise_cipher_wipe(struct noise_cipher *cipher)
{
	sodium_memzero(cipher, sizeof(*cipher));
}
