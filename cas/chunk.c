/* Data chunks: the convergent objects of cas/object.h. */
#include "cas/bytes.h"
#include "cas/object.h"
#include "cas/object_header.h"
#include "cas/pad.h"
#include "cas/sha256.h"
#include "cas/suite_state.h"
#include "cas/zstd.h"

#include <errno.h>
#include <stdlib.h>

#define PAYLOAD (CAS_OBJECT_HEADER)
#define STORED	(CAS_OBJECT_HEADER + CAS_CHUNK_HEAD)

enum compression {
	COMPRESSION_NONE = 0,
	COMPRESSION_ZSTD = 1,
};

static const uint8_t zero_nonce[12];

size_t cas_chunk_bound(size_t len)
{
	return CAS_OBJECT_HEADER + cas_pad_object(CAS_CHUNK_HEAD + len) + CAS_OBJECT_TAG;
}

size_t cas_chunk_hashed(size_t len)
{
	return len - CAS_OBJECT_TAG;
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
	size_t buf_size, size_t *ret_len, struct cas_hash *ret_h)
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
	memset(p + PAYLOAD, 0, CAS_CHUNK_HEAD);
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
	if (ret_h)
		cas_suite_sha256(suite, p, CAS_OBJECT_HEADER + padded, ret_h->b);
	*ret_len = CAS_OBJECT_HEADER + padded + CAS_OBJECT_TAG;
	return 0;
}

void cas_chunk_seal(struct cas_suite *suite, const void *buf, size_t len,
	const uint8_t key[CAS_KEY_SIZE], void *out, struct cas_id *ret_id)
{
	const uint8_t *p = buf;
	uint8_t *o = out;
	size_t payload = len - CAS_OBJECT_HEADER - CAS_OBJECT_TAG;
	int n = 0;

	if (len < CAS_OBJECT_MIN || len > CAS_OBJECT_MAX)
		abort();
	if (EVP_EncryptInit_ex2(suite->sealer, NULL, key, zero_nonce, NULL) != 1 ||
		EVP_EncryptUpdate(suite->sealer, NULL, &n, p, CAS_OBJECT_HEADER) != 1 ||
		EVP_EncryptUpdate(suite->sealer, o + PAYLOAD, &n, p + PAYLOAD, (int)payload) != 1 ||
		EVP_EncryptFinal_ex(suite->sealer, o + PAYLOAD + n, &n) != 1 ||
		EVP_CIPHER_CTX_ctrl(suite->sealer, EVP_CTRL_AEAD_GET_TAG, CAS_OBJECT_TAG,
			o + PAYLOAD + payload) != 1)
		abort();
	if (o != p)
		memcpy(o, p, CAS_OBJECT_HEADER);
	if (ret_id)
		cas_id_of(suite, out, len, ret_id);
}

/* sealed -> header and payload in plain, which may be sealed. */
static int decrypt(struct cas_suite *suite, const uint8_t *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], uint8_t *plain)
{
	size_t payload = len - CAS_OBJECT_HEADER - CAS_OBJECT_TAG;
	uint8_t tag[CAS_OBJECT_TAG];
	enum cas_type type;
	int n = 0, r;

	r = cas_object_check(sealed, len, &type);
	if (r < 0)
		return r;
	if (type != CAS_TYPE_CHUNK)
		return -EBADMSG;
	memmove(plain, sealed, CAS_OBJECT_HEADER);
	memcpy(tag, sealed + PAYLOAD + payload, sizeof(tag));
	if (EVP_DecryptInit_ex2(suite->opener, NULL, key, zero_nonce, NULL) != 1 ||
		EVP_CIPHER_CTX_ctrl(suite->opener, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) != 1 ||
		EVP_DecryptUpdate(suite->opener, NULL, &n, plain, CAS_OBJECT_HEADER) != 1 ||
		EVP_DecryptUpdate(
			suite->opener, plain + PAYLOAD, &n, sealed + PAYLOAD, (int)payload) != 1)
		return -EBADMSG;
	return EVP_DecryptFinal_ex(suite->opener, plain + PAYLOAD + n, &n) == 1 ? 0 : -EBADMSG;
}

/* The bytes of a payload, where they lie or in out. header and payload are authentic; the sealing
 * side may still be wrong, or hostile. */
static int unpack(struct cas_suite *suite, const uint8_t *p, size_t padded, void *out,
	size_t out_size, const uint8_t **ret_plain, size_t *ret_len)
{
	size_t plain_len = le32_get(p + PAYLOAD);
	size_t stored_len = le32_get(p + PAYLOAD + 8);
	uint8_t compression = p[PAYLOAD + 4];
	int r = 0;

	if (plain_len < 1 || plain_len > CAS_CHUNK_PLAIN_MAX || stored_len < 1 ||
		stored_len > plain_len || !cas_all_zero(p + PAYLOAD + 5, 3))
		return -EBADMSG;
	if (cas_pad_object(CAS_CHUNK_HEAD + stored_len) != padded ||
		!cas_all_zero(p + STORED + stored_len, padded - CAS_CHUNK_HEAD - stored_len))
		return -EBADMSG;
	if (plain_len > out_size)
		return -EMSGSIZE;
	*ret_plain = p + STORED;
	if (compression == COMPRESSION_ZSTD) {
		r = cas_zstd_unpack(suite, p + STORED, stored_len, out, plain_len);
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

static int check_hash(const struct cas_hash *found, const struct cas_hash *h)
{
	return CRYPTO_memcmp(found->b, h->b, sizeof(found->b)) == 0 ? 0 : -EILSEQ;
}

int cas_chunk_open(struct cas_suite *suite, const void *sealed, size_t len,
	const uint8_t key[CAS_KEY_SIZE], const struct cas_hash *h, void *out, size_t out_size,
	size_t *ret_len)
{
	const uint8_t *plain;
	struct cas_hash found;
	int r;

	r = cas_suite_need_scratch(suite);
	if (r == 0)
		r = decrypt(suite, sealed, len, key, suite->scratch);
	if (r < 0)
		return r;
	cas_suite_sha256(suite, suite->scratch, cas_chunk_hashed(len), found.b);
	r = check_hash(&found, h);
	if (r == 0)
		r = unpack(suite, suite->scratch, len - CAS_OBJECT_HEADER - CAS_OBJECT_TAG, out,
			out_size, &plain, ret_len);
	if (r == 0 && plain != out)
		memcpy(out, plain, *ret_len);
	return r;
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
			hashes[num_hashes++] =
				(struct cas_sha256){ o->buf, cas_chunk_hashed(o->len), found[i].b };
	}
	cas_sha256_all(suite, hashes, num_hashes);
	for (size_t i = 0; i < num; i++) {
		struct cas_opening *o = &openings[i];

		if (o->err == 0)
			o->err = check_hash(&found[i], o->h);
		if (o->err == 0)
			o->err = unpack(suite, o->buf, o->len - CAS_OBJECT_HEADER - CAS_OBJECT_TAG,
				o->out, o->out_size, &o->plain, &o->plain_len);
	}
}

void cas_chunks_open(struct cas_suite *suite, struct cas_opening *openings, size_t num)
{
	for (size_t i = 0; i < num; i += CAS_OPENINGS_AT_ONCE)
		open_few(suite, openings + i,
			num - i < CAS_OPENINGS_AT_ONCE ? num - i : CAS_OPENINGS_AT_ONCE);
}
