/* Data chunks: the convergent objects of cas/object.h. */
#include "cas/bytes.h"
#include "cas/object.h"
#include "cas/object_header.h"
#include "cas/pad.h"
#include "cas/sha256.h"
#include "cas/suite_state.h"
#include "cas/zstd.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

/* Of version 2. */
#define SIV	(CAS_OBJECT_HEADER)
#define PAYLOAD (CAS_OBJECT_HEADER + CAS_CHUNK_SIV)
#define STORED	(PAYLOAD + CAS_CHUNK_HEAD)

enum compression {
	COMPRESSION_NONE = 0,
	COMPRESSION_ZSTD = 1,
};

static const uint8_t zero_nonce[12];

size_t cas_chunk_bound(size_t len)
{
	return PAYLOAD + cas_pad_object(CAS_CHUNK_HEAD + len) + CAS_OBJECT_TAG;
}

void cas_chunk_h(struct cas_suite *suite, const struct cas_hash *plain, struct cas_hash *ret_h)
{
	uint8_t labelled[16 + sizeof(plain->b)] = "bazil.plain.v2";

	memcpy(labelled + 16, plain->b, sizeof(plain->b));
	cas_suite_sha256(suite, labelled, sizeof(labelled), ret_h->b);
}

/*
 * Do four samples of 1 KiB look like noise: media, archives, encrypted files? Counts pairs of equal
 * bytes: n^2 / 256 of them for uniform bytes, and 5 % more at 7.93 bits a byte. Noise that repeats
 * within a chunk is taken for noise; that costs space, not correctness.
 */
static bool looks_random(const uint8_t *data, size_t len)
{
	enum { SLICE = 1024, NUM = 4 };
	uint32_t counts[256] = { 0 };
	uint64_t pairs = 0, n = (uint64_t)NUM * SLICE;

	if (len < (size_t)n)
		return false;
	for (size_t s = 0; s < NUM; s++) {
		const uint8_t *p = data + (len - SLICE) / (NUM - 1) * s;

		for (size_t i = 0; i < SLICE; i++)
			counts[p[i]]++;
	}
	for (size_t i = 0; i < 256; i++)
		pairs += (uint64_t)counts[i] * (counts[i] - (counts[i] > 0));
	return pairs <= n * n / 256 + n * n / 256 / 20;
}

/* Bytes written to out, or 0 when it is not worth it: less than 5 % gained. */
static size_t compress(
	struct cas_suite *suite, int level, const uint8_t *plain, size_t len, uint8_t *out)
{
	/* Padding makes all that is this small the same size. */
	if (CAS_CHUNK_HEAD + len <= CAS_PAD_MIN || looks_random(plain, len))
		return 0;
	return cas_zstd_pack(suite, level, plain, len, out, len - len / 20 - 1);
}

int cas_chunk_prepare(struct cas_suite *suite, int level, const void *plain, size_t len, void *buf,
	size_t buf_size, size_t *ret_len)
{
	uint8_t *p = buf;
	size_t stored = 0, padded;
	int r;

	if (len < 1 || len > CAS_CHUNK_PLAIN_MAX || level < 0 || level > 19)
		return -EINVAL;
	if (buf_size < cas_chunk_bound(len))
		return -EMSGSIZE;
	if (level > 0) {
		r = cas_suite_need_compressor(suite);
		if (r < 0)
			return r;
		stored = compress(suite, level, plain, len, p + STORED);
	}
	memset(p + SIV, 0, CAS_CHUNK_SIV + CAS_CHUNK_HEAD);
	p[PAYLOAD + 4] = stored ? COMPRESSION_ZSTD : COMPRESSION_NONE;
	if (!stored) {
		memcpy(p + STORED, plain, len);
		stored = len;
	}
	cas_object_header(CAS_TYPE_CHUNK, p);
	le32_put(p + PAYLOAD, (uint32_t)len);
	le32_put(p + PAYLOAD + 8, (uint32_t)stored);
	padded = cas_pad_object(CAS_CHUNK_HEAD + stored);
	memset(p + STORED + stored, 0, padded - CAS_CHUNK_HEAD - stored);
	*ret_len = PAYLOAD + padded + CAS_OBJECT_TAG;
	return 0;
}

const void *cas_chunk_stored(const void *buf, size_t *ret_len)
{
	const uint8_t *p = buf;

	if (p[PAYLOAD + 4] == COMPRESSION_NONE)
		return NULL;
	*ret_len = le32_get(p + PAYLOAD + 8);
	return p + STORED;
}

/* The one place where the key of version 2 is made: of what is encrypted under it. */
static void make_siv(struct cas_suite *suite, const uint8_t key[CAS_KEY_SIZE],
	const uint8_t header[CAS_OBJECT_HEADER], const uint8_t *payload,
	const struct cas_hash *stored, uint8_t ret_siv[CAS_CHUNK_SIV])
{
	static const uint8_t personal[16] = "bazil.chunk.siv";
	uint8_t covered[CAS_OBJECT_HEADER + CAS_CHUNK_HEAD + sizeof(stored->b)], digest[32];

	memcpy(covered, header, CAS_OBJECT_HEADER);
	memcpy(covered + CAS_OBJECT_HEADER, payload, CAS_CHUNK_HEAD);
	memcpy(covered + CAS_OBJECT_HEADER + CAS_CHUNK_HEAD, stored->b, sizeof(stored->b));
	cas_suite_sha256(suite, covered, sizeof(covered), digest);
	(void)crypto_generichash_blake2b_salt_personal(
		ret_siv, CAS_CHUNK_SIV, digest, sizeof(digest), key, CAS_KEY_SIZE, NULL, personal);
}

static bool is_old(const uint8_t *object)
{
	return object[4] == 1;
}

/* The cipher's key of an object whose siv is there, of either version. */
static void chunk_key_of(
	const uint8_t key[CAS_KEY_SIZE], const uint8_t *object, uint8_t ret_key[CAS_KEY_SIZE])
{
	static const uint8_t personal[16] = "bazil.chunk.key";

	if (is_old(object))
		memcpy(ret_key, key, CAS_KEY_SIZE);
	else
		(void)crypto_generichash_blake2b_salt_personal(ret_key, CAS_KEY_SIZE, object + SIV,
			CAS_CHUNK_SIV, key, CAS_KEY_SIZE, NULL, personal);
}

void cas_chunk_seal(struct cas_suite *suite, const void *buf, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *stored, void *out,
	struct cas_id *ret_id)
{
	const uint8_t *p = buf;
	uint8_t *o = out, chunk_key[CAS_KEY_SIZE];
	size_t payload = len - PAYLOAD - CAS_OBJECT_TAG;
	int n = 0;

	if (len < cas_chunk_bound(1) || len > CAS_OBJECT_MAX)
		abort();
	if (o != p)
		memcpy(o, p, CAS_OBJECT_HEADER);
	make_siv(suite, key, p, p + PAYLOAD, stored, o + SIV);
	chunk_key_of(key, o, chunk_key);
	if (EVP_EncryptInit_ex2(suite->sealer, NULL, chunk_key, zero_nonce, NULL) != 1 ||
		EVP_EncryptUpdate(suite->sealer, NULL, &n, o, PAYLOAD) != 1 ||
		EVP_EncryptUpdate(suite->sealer, o + PAYLOAD, &n, p + PAYLOAD, (int)payload) != 1 ||
		EVP_EncryptFinal_ex(suite->sealer, o + PAYLOAD + n, &n) != 1 ||
		EVP_CIPHER_CTX_ctrl(suite->sealer, EVP_CTRL_AEAD_GET_TAG, CAS_OBJECT_TAG,
			o + PAYLOAD + payload) != 1)
		abort();
	sodium_memzero(chunk_key, sizeof(chunk_key));
	if (ret_id)
		cas_id_of(suite, out, len, ret_id);
}

/* The sealing side may be wrong, or hostile. */
static bool payload_is_sane(const uint8_t *payload, size_t padded)
{
	size_t plain_len = le32_get(payload);
	size_t stored_len = le32_get(payload + 8);

	return plain_len >= 1 && plain_len <= CAS_CHUNK_PLAIN_MAX && stored_len >= 1 &&
	       stored_len <= plain_len && cas_all_zero(payload + 5, 3) &&
	       cas_pad_object(CAS_CHUNK_HEAD + stored_len) == padded &&
	       cas_all_zero(
		       payload + CAS_CHUNK_HEAD + stored_len, padded - CAS_CHUNK_HEAD - stored_len);
}

/*
 * sealed -> what is in clear and the payload in plain, which may be sealed. They are authentic
 * then, and the lengths in the payload fit each other.
 */
static int decrypt(struct cas_suite *suite, const uint8_t *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], uint8_t *plain)
{
	uint8_t chunk_key[CAS_KEY_SIZE], tag[CAS_OBJECT_TAG];
	size_t clear, payload;
	enum cas_type type;
	int n = 0, r;

	r = cas_object_check(sealed, len, &type);
	if (r < 0)
		return r;
	if (type != CAS_TYPE_CHUNK)
		return -EBADMSG;
	clear = cas_chunk_clear(sealed);
	payload = len - clear - CAS_OBJECT_TAG;
	memmove(plain, sealed, clear);
	memcpy(tag, sealed + clear + payload, sizeof(tag));
	chunk_key_of(key, plain, chunk_key);
	if (EVP_DecryptInit_ex2(suite->opener, NULL, chunk_key, zero_nonce, NULL) != 1 ||
		EVP_CIPHER_CTX_ctrl(suite->opener, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) != 1 ||
		EVP_DecryptUpdate(suite->opener, NULL, &n, plain, (int)clear) != 1 ||
		EVP_DecryptUpdate(suite->opener, plain + clear, &n, sealed + clear, (int)payload) !=
			1 ||
		EVP_DecryptFinal_ex(suite->opener, plain + clear + n, &n) != 1)
		r = -EBADMSG;
	sodium_memzero(chunk_key, sizeof(chunk_key));
	return r == 0 && !payload_is_sane(plain + clear, payload) ? -EBADMSG : r;
}

/* What of a decrypted chunk is hashed to check it. */
static struct cas_sha256 to_hash(const uint8_t *plain, size_t len, struct cas_hash *ret)
{
	const uint8_t *payload = plain + cas_chunk_clear(plain);

	if (is_old(plain))
		return (struct cas_sha256){ plain, len - CAS_OBJECT_TAG, ret->b };
	return (struct cas_sha256){ payload + CAS_CHUNK_HEAD, le32_get(payload + 8), ret->b };
}

/* Is what was decrypted what is to be encrypted under this key? found: of to_hash(). */
static int check_hash(struct cas_suite *suite, const uint8_t *plain,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *found, const struct cas_hash *h)
{
	uint8_t siv[CAS_CHUNK_SIV];

	if (is_old(plain))
		return CRYPTO_memcmp(found->b, h->b, sizeof(found->b)) == 0 ? 0 : -EILSEQ;
	make_siv(suite, key, plain, plain + PAYLOAD, found, siv);
	return CRYPTO_memcmp(siv, plain + SIV, sizeof(siv)) == 0 ? 0 : -EILSEQ;
}

/* The bytes of a payload, where they lie or in out. */
static int unpack(struct cas_suite *suite, const uint8_t *payload, void *out, size_t out_size,
	const uint8_t **ret_plain, size_t *ret_len)
{
	size_t plain_len = le32_get(payload);
	size_t stored_len = le32_get(payload + 8);
	uint8_t compression = payload[4];
	int r = 0;

	if (plain_len > out_size)
		return -EMSGSIZE;
	*ret_plain = payload + CAS_CHUNK_HEAD;
	if (compression == COMPRESSION_ZSTD) {
		r = cas_zstd_unpack(suite, payload + CAS_CHUNK_HEAD, stored_len, out, plain_len);
		*ret_plain = out;
	} else if (compression != COMPRESSION_NONE) {
		r = -EPROTONOSUPPORT;
	} else if (stored_len != plain_len) {
		r = -EBADMSG;
	}
	if (r == 0)
		*ret_len = plain_len;
	return r;
}

/* ret_stored: of the stored bytes, for version 2. The payload is left in the scratch. */
static int open_one(struct cas_suite *suite, const void *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *h, void *out, size_t out_size,
	size_t *ret_len, struct cas_hash *ret_stored)
{
	const uint8_t *plain;
	struct cas_sha256 hash;
	int r;

	r = cas_suite_need_scratch(suite);
	if (r == 0)
		r = decrypt(suite, sealed, len, key, suite->scratch);
	if (r < 0)
		return r;
	hash = to_hash(suite->scratch, len, ret_stored);
	cas_suite_sha256(suite, hash.data, hash.len, hash.ret);
	r = check_hash(suite, suite->scratch, key, ret_stored, h);
	if (r == 0)
		r = unpack(suite, suite->scratch + cas_chunk_clear(suite->scratch), out, out_size,
			&plain, ret_len);
	if (r == 0 && plain != out)
		memcpy(out, plain, *ret_len);
	return r;
}

int cas_chunk_open(struct cas_suite *suite, const void *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *h, void *out, size_t out_size,
	size_t *ret_len)
{
	struct cas_hash stored;

	return open_one(suite, sealed, len, key, h, out, out_size, ret_len, &stored);
}

static bool is_of(struct cas_suite *suite, const struct cas_hash *h, const struct cas_hash *digest)
{
	struct cas_hash is;

	cas_chunk_h(suite, digest, &is);
	return CRYPTO_memcmp(is.b, h->b, sizeof(is.b)) == 0;
}

bool cas_chunk_is(struct cas_suite *suite, const struct cas_hash *h, const void *plain, size_t len)
{
	struct cas_hash digest;

	cas_suite_sha256(suite, plain, len, digest.b);
	return is_of(suite, h, &digest);
}

int cas_chunk_verify(struct cas_suite *suite, const void *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *h, void *out, size_t out_size,
	size_t *ret_len, bool *ret_is_h)
{
	struct cas_hash stored;
	int r = open_one(suite, sealed, len, key, h, out, out_size, ret_len, &stored);

	if (r < 0)
		return r;
	/* An h of version 1 is none of plain bytes. */
	if (is_old(suite->scratch))
		*ret_is_h = false;
	else if (suite->scratch[PAYLOAD + 4] == COMPRESSION_NONE)
		*ret_is_h = is_of(suite, h, &stored);
	else
		*ret_is_h = cas_chunk_is(suite, h, out, *ret_len);
	return 0;
}

static void open_few(struct cas_suite *suite, struct cas_opening *openings, size_t num)
{
	struct cas_sha256 hashes[CAS_OPENINGS_AT_ONCE];
	struct cas_hash found[CAS_OPENINGS_AT_ONCE];
	size_t num_hashes = 0;

	for (size_t i = 0; i < num; i++) {
		struct cas_opening *o = &openings[i];

		if (o->err == 0)
			o->err = decrypt(suite, o->buf, o->len, o->key, o->buf);
		if (o->err == 0)
			hashes[num_hashes++] = to_hash(o->buf, o->len, &found[i]);
	}
	cas_sha256_all(suite, hashes, num_hashes);
	for (size_t i = 0; i < num; i++) {
		struct cas_opening *o = &openings[i];

		if (o->err == 0)
			o->err = check_hash(suite, o->buf, o->key, &found[i], o->h);
		if (o->err == 0)
			o->err = unpack(suite, o->buf + cas_chunk_clear(o->buf), o->out,
				o->out_size, &o->plain, &o->plain_len);
	}
}

void cas_chunks_open(struct cas_suite *suite, struct cas_opening *openings, size_t num)
{
	for (size_t i = 0; i < num; i += CAS_OPENINGS_AT_ONCE)
		open_few(suite, openings + i,
			num - i < CAS_OPENINGS_AT_ONCE ? num - i : CAS_OPENINGS_AT_ONCE);
}
