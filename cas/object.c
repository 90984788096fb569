#include "cas/object.h"

#include "cas/bytes.h"
#include "cas/object_header.h"
#include "cas/pad.h"
#include "cas/suite_state.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#define MANIFEST_HEAD 4
#define MANIFEST_BODY (CAS_OBJECT_HEADER + CAS_OBJECT_NONCE)

static const uint8_t magic[4] = { 'B', 'Z', 'O', '1' };

void cas_object_header(enum cas_type type, uint8_t header[CAS_OBJECT_HEADER])
{
	memcpy(header, magic, sizeof(magic));
	header[4] = 1;
	header[5] = 1;
	header[6] = (uint8_t)type;
	header[7] = 0;
}

/* A length that sealing can have made: there is no other spelling of one payload. */
static bool length_is_padded(size_t payload)
{
	return payload >= CAS_PAD_MIN && cas_pad_object(payload) == payload;
}

int cas_object_check(const void *object, size_t len, enum cas_type *ret_type)
{
	const uint8_t *p = object;
	size_t body;

	if (len < CAS_OBJECT_MIN || len > CAS_OBJECT_MAX || memcmp(p, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (p[4] != 1 || p[5] != 1)
		return -EPROTONOSUPPORT;
	body = len - CAS_OBJECT_HEADER - CAS_OBJECT_TAG;
	switch (p[6]) {
	case CAS_TYPE_CHUNK:
		break;
	case CAS_TYPE_MANIFEST:
		if (len > CAS_MANIFEST_MAX || body < CAS_OBJECT_NONCE)
			return -EBADMSG;
		body -= CAS_OBJECT_NONCE;
		break;
	default:
		return -EPROTONOSUPPORT;
	}
	if (p[7] != 0 || !length_is_padded(body))
		return -EBADMSG;
	if (ret_type)
		*ret_type = p[6];
	return 0;
}

/* Both the nonce and the seal bind the object to its type and its volume. */
static void manifest_aad(
	const uint8_t volume[CAS_VOLUME_SIZE], uint8_t aad[CAS_OBJECT_HEADER + CAS_VOLUME_SIZE])
{
	cas_object_header(CAS_TYPE_MANIFEST, aad);
	memcpy(aad + CAS_OBJECT_HEADER, volume, CAS_VOLUME_SIZE);
}

static void manifest_nonce(const struct cas_volume_keys *keys, const uint8_t *aad, size_t aad_len,
	const uint8_t *payload, size_t len, uint8_t nonce[CAS_OBJECT_NONCE])
{
	static const uint8_t personal[16] = "bazil.manifest1";
	crypto_generichash_blake2b_state state;

	(void)crypto_generichash_blake2b_init_salt_personal(
		&state, keys->siv, CAS_KEY_SIZE, CAS_OBJECT_NONCE, NULL, personal);
	(void)crypto_generichash_blake2b_update(&state, aad, aad_len);
	(void)crypto_generichash_blake2b_update(&state, payload, len);
	(void)crypto_generichash_blake2b_final(&state, nonce, CAS_OBJECT_NONCE);
}

size_t cas_manifest_bound(size_t len)
{
	return MANIFEST_BODY + cas_pad_object(MANIFEST_HEAD + len) + CAS_OBJECT_TAG;
}

int cas_manifest_seal(struct cas_suite *suite, const struct cas_volume_keys *keys,
	const uint8_t volume[CAS_VOLUME_SIZE], const void *plain, size_t len, void *out,
	size_t out_size, size_t *ret_len, struct cas_id *ret_id)
{
	uint8_t aad[CAS_OBJECT_HEADER + CAS_VOLUME_SIZE];
	uint8_t *object = out, *payload;
	size_t padded;
	int r;

	if (len < 1 || len > CAS_MANIFEST_PLAIN_MAX)
		return -EINVAL;
	if (out_size < cas_manifest_bound(len))
		return -EMSGSIZE;
	r = cas_suite_need_scratch(suite);
	if (r < 0)
		return r;
	padded = cas_pad_object(MANIFEST_HEAD + len);
	payload = suite->scratch;
	cas_put_le32(payload, (uint32_t)len);
	memcpy(payload + MANIFEST_HEAD, plain, len);
	memset(payload + MANIFEST_HEAD + len, 0, padded - MANIFEST_HEAD - len);

	manifest_aad(volume, aad);
	memcpy(object, aad, CAS_OBJECT_HEADER);
	manifest_nonce(keys, aad, sizeof(aad), payload, padded, object + CAS_OBJECT_HEADER);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(object + MANIFEST_BODY, NULL, payload,
		padded, aad, sizeof(aad), NULL, object + CAS_OBJECT_HEADER, keys->seal);
	*ret_len = MANIFEST_BODY + padded + CAS_OBJECT_TAG;
	cas_id_of(suite, object, *ret_len, ret_id);
	return 0;
}

int cas_manifest_open(struct cas_suite *suite, const struct cas_volume_keys *keys,
	const uint8_t volume[CAS_VOLUME_SIZE], const struct cas_id *id, const void *sealed,
	size_t len, void *out, size_t out_size, size_t *ret_len)
{
	uint8_t aad[CAS_OBJECT_HEADER + CAS_VOLUME_SIZE];
	const uint8_t *object = sealed;
	struct cas_id found;
	enum cas_type type;
	size_t padded, plain;
	uint8_t *payload;
	int r;

	r = cas_object_check(object, len, &type);
	if (r < 0)
		return r;
	if (type != CAS_TYPE_MANIFEST)
		return -EBADMSG;
	cas_id_of(suite, object, len, &found);
	if (!cas_id_equal(&found, id))
		return -EILSEQ;
	r = cas_suite_need_scratch(suite);
	if (r < 0)
		return r;
	manifest_aad(volume, aad);
	payload = suite->scratch;
	padded = len - MANIFEST_BODY - CAS_OBJECT_TAG;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(payload, NULL, NULL, object + MANIFEST_BODY,
		    padded + CAS_OBJECT_TAG, aad, sizeof(aad), object + CAS_OBJECT_HEADER,
		    keys->seal) < 0)
		return -EBADMSG;
	plain = cas_get_le32(payload);
	if (plain < 1 || plain > CAS_MANIFEST_PLAIN_MAX ||
		cas_pad_object(MANIFEST_HEAD + plain) != padded ||
		!cas_all_zero(payload + MANIFEST_HEAD + plain, padded - MANIFEST_HEAD - plain))
		return -EBADMSG;
	if (plain > out_size)
		return -EMSGSIZE;
	memcpy(out, payload + MANIFEST_HEAD, plain);
	*ret_len = plain;
	return 0;
}
