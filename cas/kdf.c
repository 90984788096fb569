#include "cas/kdf.h"

#include <sodium.h>

static void derive(const uint8_t secret[CAS_KEY_SIZE], uint64_t number, const char context[8],
	uint8_t ret_key[CAS_KEY_SIZE])
{
	/* Fails only for lengths out of range, and ours are constant. */
	(void)crypto_kdf_derive_from_key(ret_key, CAS_KEY_SIZE, number, context, secret);
}

void cas_kdf_sharing(const uint8_t secret[CAS_KEY_SIZE], struct cas_sharing_keys *ret_keys)
{
	uint8_t name[CAS_KEY_SIZE];

	derive(secret, 1, "bzl1chnk", ret_keys->chunk);
	derive(secret, 2, "bzl1dtag", ret_keys->tag);
	derive(secret, 3, "bzl1gear", ret_keys->chunker);
	derive(secret, 4, "bzl1vol_", ret_keys->volume);
	derive(secret, 9, "bzl1kid_", name);
	for (size_t i = 0; i < CAS_KEYID_SIZE; i++)
		ret_keys->keyid[i] = name[i];
	sodium_memzero(name, sizeof(name));
}

void cas_kdf_volume(const struct cas_sharing_keys *keys, const uint8_t volume[CAS_VOLUME_SIZE],
	struct cas_volume_keys *ret_keys)
{
	static const uint8_t personal[16] = "bazil.volume.v1";
	uint8_t parent[CAS_KEY_SIZE];

	(void)crypto_generichash_blake2b_salt_personal(parent, sizeof(parent), volume,
		CAS_VOLUME_SIZE, keys->volume, CAS_KEY_SIZE, NULL, personal);
	for (size_t i = 0; i < CAS_KEY_SIZE; i++)
		ret_keys->chunker[i] = keys->chunker[i];
	derive(parent, 1, "bzl1meta", ret_keys->seal);
	derive(parent, 2, "bzl1meta", ret_keys->siv);
	derive(parent, 3, "bzl1meta", ret_keys->name);
	derive(parent, 4, "bzl1meta", ret_keys->value);
	sodium_memzero(parent, sizeof(parent));
}

static void prf(const uint8_t key[CAS_KEY_SIZE], uint8_t type, const struct cas_hash *h,
	uint8_t ret[CAS_KEY_SIZE])
{
	uint8_t input[1 + sizeof(h->b)];

	input[0] = type;
	for (size_t i = 0; i < sizeof(h->b); i++)
		input[1 + i] = h->b[i];
	(void)crypto_generichash_blake2b(
		ret, CAS_KEY_SIZE, input, sizeof(input), key, CAS_KEY_SIZE);
	sodium_memzero(input, sizeof(input));
}

void cas_prf_chunk_key(const struct cas_sharing_keys *keys, uint8_t type, const struct cas_hash *h,
	uint8_t ret_key[CAS_KEY_SIZE])
{
	prf(keys->chunk, type, h, ret_key);
}

void cas_prf_dedup_tag(const struct cas_sharing_keys *keys, uint8_t type, const struct cas_hash *h,
	uint8_t ret_tag[CAS_KEY_SIZE])
{
	prf(keys->tag, type, h, ret_tag);
}
