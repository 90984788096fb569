#include "cas/object.h"

#include "cas/bytes.h"
#include "cas/manifest.h"
#include "cas/object_header.h"
#include "cas/pad.h"
#include "cas/suite_state.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#define PAYLOAD_HEAD 4
/* header, list and volume: what is authenticated beside the payload */
#define AAD_MAX                                                                                    \
	(CAS_OBJECT_HEADER + CAS_MANIFEST_LIST + CAS_MANIFEST_REFS_MAX * CAS_ID_SIZE +             \
		CAS_VOLUME_SIZE)

static const uint8_t magic[4] = { 'B', 'Z', 'O', '1' };

void cas_object_header(enum cas_type type, uint8_t header[CAS_OBJECT_HEADER])
{
	memcpy(header, magic, sizeof(magic));
	header[4] = 2;
	header[5] = 1;
	header[6] = (uint8_t)type;
	header[7] = 0;
}

/* A length that sealing can have made: there is no other spelling of one payload. */
static bool length_is_padded(size_t payload)
{
	return payload >= CAS_PAD_MIN && cas_pad_object(payload) == payload;
}

/* Bytes of header and list; 0: not a manifest of this length. */
static size_t manifest_clear(const uint8_t *object, size_t len)
{
	size_t num, clear;

	if (object[4] == 1)
		return CAS_OBJECT_HEADER;
	if (len < CAS_OBJECT_HEADER + CAS_MANIFEST_LIST)
		return 0;
	num = le16_get(object + CAS_OBJECT_HEADER);
	clear = CAS_OBJECT_HEADER + CAS_MANIFEST_LIST + num * CAS_ID_SIZE;
	if (num > CAS_MANIFEST_REFS_MAX || clear > len ||
		!cas_all_zero(object + CAS_OBJECT_HEADER + 2, CAS_MANIFEST_LIST - 2))
		return 0;
	return clear;
}

static bool manifest_is_sized(const uint8_t *object, size_t len)
{
	size_t clear = manifest_clear(object, len), rest;

	if (clear == 0 || len > CAS_MANIFEST_MAX || len - clear < CAS_OBJECT_NONCE + CAS_OBJECT_TAG)
		return false;
	rest = len - clear - CAS_OBJECT_NONCE - CAS_OBJECT_TAG;
	return rest <= CAS_MANIFEST_PAYLOAD_MAX && length_is_padded(rest);
}

int cas_object_check(const void *object, size_t len, enum cas_type *ret_type)
{
	const uint8_t *p = object;

	if (len < CAS_OBJECT_MIN || len > CAS_OBJECT_MAX || memcmp(p, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if ((p[4] != 1 && p[4] != 2) || p[5] != 1)
		return -EPROTONOSUPPORT;
	switch (p[6]) {
	case CAS_TYPE_CHUNK:
		if (!length_is_padded(len - cas_chunk_clear(p) - CAS_OBJECT_TAG))
			return -EBADMSG;
		break;
	case CAS_TYPE_MANIFEST:
		if (!manifest_is_sized(p, len))
			return -EBADMSG;
		break;
	default:
		return -EPROTONOSUPPORT;
	}
	if (p[7] != 0)
		return -EBADMSG;
	if (ret_type)
		*ret_type = p[6];
	return 0;
}

int cas_object_refs(const void *object, size_t len, const uint8_t **ret_ids, size_t *ret_num)
{
	const uint8_t *p = object;
	enum cas_type type;
	int r;

	*ret_ids = NULL;
	*ret_num = 0;
	r = cas_object_check(object, len, &type);
	if (r < 0 || type == CAS_TYPE_CHUNK)
		return r;
	if (p[4] == 1)
		return -ENODATA;
	*ret_ids = p + CAS_OBJECT_HEADER + CAS_MANIFEST_LIST;
	*ret_num = le16_get(p + CAS_OBJECT_HEADER);
	for (size_t i = 0; i < *ret_num; i++)
		if (cas_all_zero(*ret_ids + i * CAS_ID_SIZE, CAS_ID_SIZE))
			return -EBADMSG;
	return 0;
}

/* What a manifest's seal works in, out of a suite's scratch memory. */
struct manifest_work {
	uint8_t aad[AAD_MAX];
	uint8_t payload[CAS_MANIFEST_PAYLOAD_MAX];
	uint8_t sparse[CAS_SPARSE_MAX];
	struct cas_id ids[CAS_NODE_FANOUT];
};

_Static_assert(sizeof(struct manifest_work) <= CAS_OBJECT_HEADER + CAS_CHUNK_PAYLOAD_MAX,
	"fits into the scratch memory of a suite");

/* Both the nonce and the seal bind the object to its type, its list and its volume. */
static size_t manifest_aad(const uint8_t *object, size_t clear,
	const uint8_t volume[CAS_VOLUME_SIZE], uint8_t aad[AAD_MAX])
{
	memcpy(aad, object, clear);
	memcpy(aad + clear, volume, CAS_VOLUME_SIZE);
	return clear + CAS_VOLUME_SIZE;
}

static void manifest_nonce(const struct cas_volume_keys *keys, const uint8_t *aad, size_t aad_len,
	const uint8_t *payload, size_t len, uint8_t nonce[CAS_OBJECT_NONCE])
{
	static const uint8_t personal[16] = "bazil.manifest2";
	crypto_generichash_blake2b_state state;

	(void)crypto_generichash_blake2b_init_salt_personal(
		&state, keys->siv, CAS_KEY_SIZE, CAS_OBJECT_NONCE, NULL, personal);
	(void)crypto_generichash_blake2b_update(&state, aad, aad_len);
	(void)crypto_generichash_blake2b_update(&state, payload, len);
	(void)crypto_generichash_blake2b_final(&state, nonce, CAS_OBJECT_NONCE);
}

/* Header and list; returns their length. */
static size_t put_clear(uint8_t *object, const struct cas_id *ids, size_t num)
{
	uint8_t *list = object + CAS_OBJECT_HEADER;

	cas_object_header(CAS_TYPE_MANIFEST, object);
	memset(list, 0, CAS_MANIFEST_LIST);
	le16_put(list, (uint16_t)num);
	memcpy(list + CAS_MANIFEST_LIST, ids, num * sizeof(*ids));
	return CAS_OBJECT_HEADER + CAS_MANIFEST_LIST + num * sizeof(*ids);
}

int cas_manifest_seal(struct cas_suite *suite, const struct cas_volume_keys *keys,
	const uint8_t volume[CAS_VOLUME_SIZE], const void *node, size_t len, void *out,
	size_t out_size, size_t *ret_len, struct cas_id *ret_id)
{
	struct manifest_work *work;
	size_t num, sparse, padded, clear, aad;
	uint8_t *object = out;
	struct cas_node parsed;
	int r;

	if (cas_node_parse(node, len, &parsed) < 0)
		return -EINVAL;
	r = cas_suite_need_scratch(suite);
	if (r < 0)
		return r;
	work = (struct manifest_work *)(void *)suite->scratch;
	sparse = cas_node_split(&parsed, work->ids, &num, work->sparse);
	padded = cas_pad_object(PAYLOAD_HEAD + sparse);
	clear = CAS_OBJECT_HEADER + CAS_MANIFEST_LIST + num * CAS_ID_SIZE;
	if (out_size < clear + CAS_OBJECT_NONCE + padded + CAS_OBJECT_TAG)
		return -EMSGSIZE;
	le32_put(work->payload, (uint32_t)sparse);
	memcpy(work->payload + PAYLOAD_HEAD, work->sparse, sparse);
	memset(work->payload + PAYLOAD_HEAD + sparse, 0, padded - PAYLOAD_HEAD - sparse);

	put_clear(object, work->ids, num);
	aad = manifest_aad(object, clear, volume, work->aad);
	manifest_nonce(keys, work->aad, aad, work->payload, padded, object + clear);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(object + clear + CAS_OBJECT_NONCE, NULL,
		work->payload, padded, work->aad, aad, NULL, object + clear, keys->seal);
	*ret_len = clear + CAS_OBJECT_NONCE + padded + CAS_OBJECT_TAG;
	cas_id_of(suite, object, *ret_len, ret_id);
	return 0;
}

/* The payload of either version as a node. */
static int payload_node(const uint8_t *object, const uint8_t *payload, size_t padded,
	uint8_t node[CAS_NODE_MAX], size_t *ret_len)
{
	size_t plain = le32_get(payload);
	struct cas_node parsed;

	if (plain < 1 || plain > CAS_MANIFEST_PLAIN_MAX ||
		cas_pad_object(PAYLOAD_HEAD + plain) != padded ||
		!cas_all_zero(payload + PAYLOAD_HEAD + plain, padded - PAYLOAD_HEAD - plain))
		return -EBADMSG;
	if (object[4] == 2)
		return cas_node_join(payload + PAYLOAD_HEAD, plain,
			object + CAS_OBJECT_HEADER + CAS_MANIFEST_LIST,
			le16_get(object + CAS_OBJECT_HEADER), node, ret_len);
	if (plain > CAS_NODE_MAX || cas_node_parse(payload + PAYLOAD_HEAD, plain, &parsed) < 0)
		return -EBADMSG;
	memcpy(node, payload + PAYLOAD_HEAD, plain);
	*ret_len = plain;
	return 0;
}

int cas_manifest_open(struct cas_suite *suite, const struct cas_volume_keys *keys,
	const uint8_t volume[CAS_VOLUME_SIZE], const struct cas_id *id, const void *sealed,
	size_t len, void *out, size_t out_size, size_t *ret_len)
{
	const uint8_t *object = sealed;
	struct manifest_work *work;
	size_t clear, padded, aad;
	struct cas_id found;
	enum cas_type type;
	int r;

	r = cas_object_check(object, len, &type);
	if (r < 0)
		return r;
	if (type != CAS_TYPE_MANIFEST)
		return -EBADMSG;
	if (out_size < CAS_NODE_MAX)
		return -EMSGSIZE;
	cas_id_of(suite, object, len, &found);
	if (!cas_id_equal(&found, id))
		return -EILSEQ;
	r = cas_suite_need_scratch(suite);
	if (r < 0)
		return r;
	work = (struct manifest_work *)(void *)suite->scratch;
	clear = manifest_clear(object, len);
	padded = len - clear - CAS_OBJECT_NONCE - CAS_OBJECT_TAG;
	aad = manifest_aad(object, clear, volume, work->aad);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(work->payload, NULL, NULL,
		    object + clear + CAS_OBJECT_NONCE, padded + CAS_OBJECT_TAG, work->aad, aad,
		    object + clear, keys->seal) < 0)
		return -EBADMSG;
	return payload_node(object, work->payload, padded, out, ret_len);
}
