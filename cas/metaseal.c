#include "cas/metaseal.h"

#include "cas/bytes.h"

#include <errno.h>
#include <sodium.h>

static void record_nonce(const struct cas_volume_keys *keys, const void *aad, size_t aad_len,
	const void *plain, size_t len, uint8_t nonce[CAS_META_NONCE])
{
	static const uint8_t personal[16] = "bazil.record.v1";
	crypto_generichash_blake2b_state state;
	uint8_t number[8];

	le64_put(number, aad_len);
	(void)crypto_generichash_blake2b_init_salt_personal(
		&state, keys->siv, CAS_KEY_SIZE, CAS_META_NONCE, NULL, personal);
	(void)crypto_generichash_blake2b_update(&state, number, sizeof(number));
	(void)crypto_generichash_blake2b_update(&state, aad, aad_len);
	(void)crypto_generichash_blake2b_update(&state, plain, len);
	(void)crypto_generichash_blake2b_final(&state, nonce, CAS_META_NONCE);
}

void cas_meta_seal(const struct cas_volume_keys *keys, const void *aad, size_t aad_len,
	const void *plain, size_t len, uint8_t *out)
{
	record_nonce(keys, aad, aad_len, plain, len, out);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(
		out + CAS_META_NONCE, NULL, plain, len, aad, aad_len, NULL, out, keys->seal);
}

int cas_meta_open(const struct cas_volume_keys *keys, const void *aad, size_t aad_len,
	const void *sealed, size_t sealed_len, void *out)
{
	const uint8_t *p = sealed;

	if (sealed_len < CAS_META_OVERHEAD)
		return -EBADMSG;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, p + CAS_META_NONCE,
		    sealed_len - CAS_META_NONCE, aad, aad_len, p, keys->seal) < 0)
		return -EBADMSG;
	return 0;
}

static void place_tag(const struct cas_volume_keys *keys, const uint8_t personal[16],
	uint64_t place, const void *name, size_t len, uint8_t ret_tag[CAS_TAG_SIZE])
{
	crypto_generichash_blake2b_state state;
	uint8_t number[8];

	le64_put(number, place);
	(void)crypto_generichash_blake2b_init_salt_personal(
		&state, keys->name, CAS_KEY_SIZE, CAS_TAG_SIZE, NULL, personal);
	(void)crypto_generichash_blake2b_update(&state, number, sizeof(number));
	(void)crypto_generichash_blake2b_update(&state, name, len);
	(void)crypto_generichash_blake2b_final(&state, ret_tag, CAS_TAG_SIZE);
}

void cas_name_tag(const struct cas_volume_keys *keys, uint64_t parent, const void *name, size_t len,
	uint8_t ret_tag[CAS_TAG_SIZE])
{
	place_tag(keys, (const uint8_t *)"bazil.name.v1\0\0", parent, name, len, ret_tag);
}

void cas_xattr_tag(const struct cas_volume_keys *keys, uint64_t oid, const void *name, size_t len,
	uint8_t ret_tag[CAS_TAG_SIZE])
{
	place_tag(keys, (const uint8_t *)"bazil.xattr.v1\0", oid, name, len, ret_tag);
}

void cas_value_tag(const struct cas_volume_keys *keys, const void *data, size_t len,
	uint8_t ret_tag[CAS_TAG_SIZE])
{
	(void)crypto_generichash_blake2b(
		ret_tag, CAS_TAG_SIZE, data, len, keys->value, CAS_KEY_SIZE);
}

size_t cas_name_room(size_t len)
{
	size_t room = 16;

	while (room < 1 + len)
		room *= 2;
	return room;
}

size_t cas_name_put(const void *name, size_t len, uint8_t *out)
{
	size_t room = cas_name_room(len);

	out[0] = (uint8_t)len;
	memcpy(out + 1, name, len);
	memset(out + 1 + len, 0, room - 1 - len);
	return room;
}

int cas_name_get(const uint8_t *data, size_t len, const char **ret_name, size_t *ret_name_len,
	size_t *ret_used)
{
	size_t room;

	if (len < 1)
		return -EBADMSG;
	room = cas_name_room(data[0]);
	if (room > len || !cas_all_zero(data + 1 + data[0], room - 1 - data[0]))
		return -EBADMSG;
	*ret_name = (const char *)data + 1;
	*ret_name_len = data[0];
	*ret_used = room;
	return 0;
}
