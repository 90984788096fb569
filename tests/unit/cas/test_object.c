#include "cas/object.h"

#include "cas/manifest.h"
#include "cas/pad.h"
#include "cas/zstd.h"

#include "cas_test.h"
#include "frozen.h"
#include "vectors.h"

#include <errno.h>
#include <zstd.h>

static struct cas_suite *suite;
static struct test_keys k;
static struct rng rng;
static uint8_t buf[CAS_OBJECT_MAX], sealed[CAS_OBJECT_MAX], out[CAS_CHUNK_PLAIN_MAX];
static uint8_t plain[CAS_CHUNK_PLAIN_MAX];

static int setup(void **state)
{
	suite = cas_suite_new();
	k = test_keys();
	rng_start(&rng);
	return suite ? 0 : -1;
}

static int teardown(void **state)
{
	cas_suite_free(suite);
	return 0;
}

static void fill_text(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)("the quick brown fox "[i % 20] + (rng_below(&rng, 11) == 0));
}

static void sha256(const void *data, size_t len, struct cas_hash *ret)
{
	struct cas_id id;

	cas_id_of(suite, data, len, &id);
	memcpy(ret->b, id.b, sizeof(ret->b));
}

/* Prepares into buf[] and seals into out, all of it as a writer does. */
static size_t seal_with(struct cas_suite *with, int level, const uint8_t *p, size_t len,
	struct cas_hash *h, uint8_t *key, void *to)
{
	struct cas_hash digest;
	const void *stored;
	size_t n, stored_len;

	sha256(p, len, &digest);
	cas_chunk_h(with, &digest, h);
	cas_prf_chunk_key(&k.sharing, CAS_TYPE_CHUNK, h, key);
	assert_int_equal(cas_chunk_prepare(with, level, p, len, buf, sizeof(buf), &n), 0);
	stored = cas_chunk_stored(buf, &stored_len);
	if (stored)
		sha256(stored, stored_len, &digest);
	cas_chunk_seal(with, buf, n, key, &digest, to, NULL);
	return n;
}

static size_t seal_chunk(int level, const uint8_t *p, size_t len, struct cas_hash *h, uint8_t *key)
{
	return seal_with(suite, level, p, len, h, key, sealed);
}

static void object__maxima_are_what_the_header_says(void **state)
{
	assert_int_equal(CAS_OBJECT_MAX, 270376);
	assert_int_equal(cas_chunk_bound(CAS_CHUNK_PLAIN_MAX), CAS_OBJECT_MAX);
	assert_int_equal(cas_chunk_bound(1), CAS_OBJECT_MIN + CAS_CHUNK_SIV);
	assert_int_equal(CAS_MANIFEST_MAX, 34864);
}

static void chunk__vector(void **state)
{
	uint8_t key[32], tag[32];
	struct cas_hash h;
	struct cas_id id;
	size_t n, m;

	for (size_t i = 0; i < 1000; i++)
		plain[i] = (uint8_t)(i * 7);
	n = seal_with(suite, 0, plain, 1000, &h, key, buf);
	assert_hex(h.b, 32, VECTOR_CHUNK_H);
	assert_hex(key, 32, VECTOR_CHUNK_KEY);
	cas_prf_dedup_tag(&k.sharing, CAS_TYPE_CHUNK, &h, tag);
	assert_hex(tag, 32, VECTOR_CHUNK_TAG);
	assert_hex(buf + CAS_OBJECT_HEADER, CAS_CHUNK_SIV, VECTOR_CHUNK_SIV);
	cas_id_of(suite, buf, n, &id);
	assert_hex(id.b, 32, VECTOR_CHUNK_ID);
	assert_int_equal(cas_chunk_open(suite, buf, n, key, &h, out, sizeof(out), &m), 0);
	assert_int_equal(m, 1000);
	assert_memory_equal(out, plain, 1000);
}

/* Other bytes, sealed under the key of an h that is not theirs: they open, and are not h's. */
static void chunk__a_lie_is_opened_and_not_verified(void **state)
{
	static uint8_t lie[50000];
	uint8_t key[32];
	struct cas_hash h, of_lie, digest;
	size_t n, m, stored_len = 0;
	const void *stored;
	bool is_h;

	memset(plain, 'a', sizeof(lie));
	memset(lie, 'b', sizeof(lie));
	for (int level = 0; level <= 3; level += 3) {
		n = seal_with(suite, level, plain, sizeof(lie), &h, key, sealed);
		assert_int_equal(
			cas_chunk_verify(suite, sealed, n, key, &h, out, sizeof(out), &m, &is_h),
			0);
		assert_true(is_h && m == sizeof(lie) && cas_chunk_is(suite, &h, out, m));
		sha256(lie, sizeof(lie), &digest);
		cas_chunk_h(suite, &digest, &of_lie);
		assert_int_equal(
			cas_chunk_prepare(suite, level, lie, sizeof(lie), buf, sizeof(buf), &n), 0);
		stored = cas_chunk_stored(buf, &stored_len);
		sha256(stored ? stored : lie, stored ? stored_len : sizeof(lie), &digest);
		cas_chunk_seal(suite, buf, n, key, &digest, sealed, NULL);
		assert_int_equal(
			cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), 0);
		assert_int_equal(
			cas_chunk_verify(suite, sealed, n, key, &h, out, sizeof(out), &m, &is_h),
			0);
		assert_memory_equal(out, lie, sizeof(lie));
		assert_true(!is_h && !cas_chunk_is(suite, &h, out, m));
		assert_true(cas_chunk_is(suite, &of_lie, out, m));
	}
}

/* Version 1 as it was written: h of the payload, and the key of h right under it. */
static void chunk__old_version_opens_and_is_checked(void **state)
{
	uint8_t key[32], payload[1024];
	bool is_h = true;
	struct cas_hash h;
	size_t n, m;

	assert_int_equal(sodium_hex2bin(sealed, sizeof(sealed), VECTOR_CHUNK_OLD,
				 strlen(VECTOR_CHUNK_OLD), NULL, &n, NULL),
		0);
	assert_int_equal(sodium_hex2bin(h.b, 32, VECTOR_CHUNK_OLD_H, strlen(VECTOR_CHUNK_OLD_H),
				 NULL, &m, NULL),
		0);
	assert_true(n < sizeof(payload) + CAS_OBJECT_MIN);
	cas_prf_chunk_key(&k.sharing, CAS_TYPE_CHUNK, &h, key);
	assert_int_equal(cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), 0);
	assert_int_equal(m, 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(out[i], (uint8_t)(i * 7));
	/* Its h is of the payload: nobody asks for it any more. */
	assert_int_equal(
		cas_chunk_verify(suite, sealed, n, key, &h, out, sizeof(out), &m, &is_h), 0);
	assert_false(is_h);
	h.b[0] ^= 1;
	assert_int_equal(cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), -EILSEQ);
	h.b[0] ^= 1;
	/* Nor is it taken for the other. */
	sealed[4] = 2;
	assert_int_equal(cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), -EBADMSG);
	sealed[4] = 1;
	for (size_t i = CAS_OBJECT_HEADER; i < n; i++) {
		sealed[i] ^= 16;
		assert_int_equal(
			cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), -EBADMSG);
		sealed[i] ^= 16;
	}
}

/* An object of an early version, compressed: whatever zstd becomes, this must open. */
static void chunk__old_compressed_object_opens(void **state)
{
	uint8_t key[32];
	struct cas_hash h;
	size_t n, m;

	assert_int_equal(sodium_hex2bin(sealed, sizeof(sealed), FROZEN_CHUNK, strlen(FROZEN_CHUNK),
				 NULL, &n, NULL),
		0);
	assert_int_equal(
		sodium_hex2bin(h.b, 32, FROZEN_CHUNK_H, strlen(FROZEN_CHUNK_H), NULL, &m, NULL), 0);
	cas_prf_chunk_key(&k.sharing, CAS_TYPE_CHUNK, &h, key);
	assert_int_equal(cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), 0);
	assert_int_equal(m, 2000);
	for (size_t i = 0; i < m; i++)
		assert_int_equal(out[i], "a chunk that was sealed long ago\n"[i % 33]);
}

static void chunk__round_trips(void **state)
{
	for (int run = 0; run < 400; run++) {
		size_t len = 1 + rng_below(&rng, run % 4 ? 5000 : CAS_CHUNK_PLAIN_MAX), n, m;
		int level = (int)rng_below(&rng, 6);
		uint8_t key[32];
		struct cas_hash h;

		if (run % 2)
			fill_text(plain, len);
		else
			rng_fill(&rng, plain, len);
		n = seal_chunk(level, plain, len, &h, key);
		assert_true(n <= cas_chunk_bound(len));
		if (run % 2 == 0 || level == 0)
			assert_int_equal(n, cas_chunk_bound(len));
		else if (len > 5000)
			assert_true(n < len);
		assert_int_equal(cas_object_check(sealed, n, NULL), 0);
		assert_int_equal(cas_chunk_open(suite, sealed, n, key, &h, out, len, &m), 0);
		assert_int_equal(m, len);
		assert_memory_equal(out, plain, len);
		assert_int_equal(
			cas_chunk_open(suite, sealed, n, key, &h, out, len - 1, &m), -EMSGSIZE);
	}
}

static void chunk__longest_round_trips(void **state)
{
	uint8_t key[32];
	struct cas_hash h;
	size_t n, m;

	rng_fill(&rng, plain, sizeof(plain));
	n = seal_chunk(1, plain, sizeof(plain), &h, key);
	assert_int_equal(n, CAS_OBJECT_MAX);
	assert_int_equal(cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m), 0);
	assert_memory_equal(out, plain, sizeof(plain));
}

/* What somebody who has the key could seal: buf[] into sealed[] as by seal_chunk(), but for the
 * siv. */
static void reseal_with_siv(const uint8_t key[32], size_t len)
{
	static const uint8_t personal[16] = "bazil.chunk.key", nonce[12];
	uint8_t chunk_key[32], *siv = sealed + CAS_OBJECT_HEADER;
	size_t head = CAS_OBJECT_HEADER + CAS_CHUNK_SIV;

	siv[3] ^= 4;
	crypto_generichash_blake2b_salt_personal(
		chunk_key, 32, siv, CAS_CHUNK_SIV, key, 32, NULL, personal);
	crypto_aead_chacha20poly1305_ietf_encrypt(sealed + head, NULL, buf + head,
		len - head - CAS_OBJECT_TAG, sealed, head, NULL, nonce, chunk_key);
}

/* Many at once: text and noise of all lengths, whole and damaged. */
static void chunk__several_open_as_each_alone(void **state)
{
	enum { NUM = CAS_OPENINGS_AT_ONCE + 11, LEN = 70000 };
	static uint8_t plains[NUM][LEN], bufs[NUM][LEN + 4096], outs[NUM][LEN];
	struct cas_opening openings[NUM];
	struct cas_hash hashes[NUM];
	uint8_t keys[NUM][32];

	for (size_t i = 0; i < NUM; i++) {
		size_t len = 1 + rng_below(&rng, LEN), n;

		if (i % 2)
			fill_text(plains[i], len);
		else
			rng_fill(&rng, plains[i], len);
		n = seal_chunk(3, plains[i], len, &hashes[i], keys[i]);
		if (i == 5)
			reseal_with_siv(keys[i], n);
		memcpy(bufs[i], sealed, n);
		openings[i] = (struct cas_opening){ bufs[i], n, keys[i], &hashes[i], outs[i], len,
			NULL, len, 0 };
	}
	bufs[3][100] ^= 1;
	bufs[4][0] ^= 1;
	openings[6].out_size--;
	openings[7].len = 3;
	openings[8].err = -EIO;
	cas_chunks_open(suite, openings, NUM);
	for (size_t i = 0; i < NUM; i++) {
		static const int damage[] = { -EBADMSG, -EBADMSG, -EILSEQ, -EMSGSIZE, -EBADMSG,
			-EIO };

		assert_int_equal(openings[i].err, i < 3 || i > 8 ? 0 : damage[i - 3]);
		if (openings[i].err == 0)
			assert_memory_equal(openings[i].plain, plains[i], openings[i].plain_len);
	}
}

static void chunk__prepare_refuses_bad_arguments(void **state)
{
	size_t n;

	assert_int_equal(cas_chunk_prepare(suite, 1, plain, 0, buf, sizeof(buf), &n), -EINVAL);
	assert_int_equal(
		cas_chunk_prepare(suite, 1, plain, CAS_CHUNK_PLAIN_MAX + 1, buf, sizeof(buf), &n),
		-EINVAL);
	assert_int_equal(cas_chunk_prepare(suite, 20, plain, 1, buf, sizeof(buf), &n), -EINVAL);
	assert_int_equal(
		cas_chunk_prepare(suite, 1, plain, 5000, buf, cas_chunk_bound(5000) - 1, &n),
		-EMSGSIZE);
}

static void chunk__equal_bytes_give_equal_objects(void **state)
{
	struct cas_suite *other = cas_suite_new();
	struct cas_hash h, h2;
	uint8_t key[32];
	size_t n, n2;

	fill_text(plain, 90000);
	n = seal_chunk(1, plain, 90000, &h, key);
	/* Another context, and one that has compressed something else at another level. */
	assert_int_equal(cas_chunk_prepare(other, 5, plain, 500, buf, sizeof(buf), &n2), 0);
	n2 = seal_with(other, 1, plain, 90000, &h2, key, buf);
	assert_memory_equal(&h, &h2, sizeof(h));
	assert_int_equal(n, n2);
	assert_memory_equal(buf, sealed, n);
	cas_suite_free(other);
}

/* The rule that makes the constant nonce safe: other bytes to encrypt, another siv and so another
 * key. Who wrote them finds them by the same h, and whoever reads either has the same bytes. */
static void chunk__another_level_has_the_same_h_and_another_key_stream(void **state)
{
	enum { LEVELS = 6, HEAD = CAS_OBJECT_HEADER + CAS_CHUNK_SIV, SHOWN = 100 };
	static uint8_t payloads[LEVELS][SHOWN], bodies[LEVELS][SHOWN];
	uint8_t keys[LEVELS][32], sivs[LEVELS][CAS_CHUNK_SIV];
	struct cas_hash h[LEVELS];

	fill_text(plain, 60000);
	for (int level = 0; level < LEVELS; level++) {
		size_t n = seal_chunk(level, plain, 60000, &h[level], keys[level]), m;

		memcpy(payloads[level], buf + HEAD, SHOWN);
		memcpy(bodies[level], sealed + HEAD, SHOWN);
		memcpy(sivs[level], sealed + CAS_OBJECT_HEADER, CAS_CHUNK_SIV);
		assert_memory_equal(&h[level], &h[0], sizeof(h[0]));
		assert_memory_equal(keys[level], keys[0], 32);
		assert_int_equal(
			cas_chunk_open(suite, sealed, n, keys[0], &h[0], out, sizeof(out), &m), 0);
		assert_memory_equal(out, plain, 60000);
	}
	assert_memory_not_equal(sivs[0], sivs[1], CAS_CHUNK_SIV);
	assert_memory_not_equal(sivs[1], sivs[5], CAS_CHUNK_SIV);
	for (int a = 0; a < LEVELS; a++)
		for (int b = 0; b < a; b++) {
			size_t same = 0;

			if (memcmp(sivs[a], sivs[b], CAS_CHUNK_SIV) == 0)
				continue;
			for (size_t i = 0; i < SHOWN; i++)
				same += (payloads[a][i] ^ bodies[a][i]) ==
					(payloads[b][i] ^ bodies[b][i]);
			assert_in_range(same, 0, 12);
		}
}

static void chunk__text_is_worth_more(void **state)
{
	static uint8_t data[65536];

	(void)state;
	memset(data, 'a', sizeof(data));
	assert_int_equal(cas_zstd_level(data, sizeof(data)), 5);
	data[sizeof(data) - 1] = 0x80;
	assert_int_equal(cas_zstd_level(data, sizeof(data)), 4);
	assert_int_equal(cas_zstd_level(data, sizeof(data) - 1), 5);
	assert_int_equal(cas_zstd_level(data, 16385), 5);
	assert_int_equal(cas_zstd_level(data, 16384), 3);
	assert_int_equal(cas_zstd_level(data, 0), 3);
}

static void chunk__refuses_every_changed_byte(void **state)
{
	uint8_t key[32];
	struct cas_hash h;
	size_t len, m;

	for (int level = 0; level < 2; level++) {
		fill_text(plain, 3000);
		len = seal_chunk(level, plain, 3000, &h, key);
		for (size_t i = 0; i < len; i++) {
			uint8_t change = (uint8_t)(1 + rng_below(&rng, 255));
			int r;

			sealed[i] ^= change;
			r = cas_chunk_open(suite, sealed, len, key, &h, out, sizeof(out), &m);
			assert_int_equal(
				r, i >= 4 && i <= 6 && (i < 6 || sealed[6] != CAS_TYPE_MANIFEST)
					   ? -EPROTONOSUPPORT
					   : -EBADMSG);
			sealed[i] ^= change;
		}
		for (size_t n = 0; n < len; n++)
			assert_int_equal(
				cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m),
				-EBADMSG);
		memset(sealed + len, 0, 1000);
		for (size_t n = len + 1; n < len + 1000; n++)
			assert_int_equal(
				cas_chunk_open(suite, sealed, n, key, &h, out, sizeof(out), &m),
				-EBADMSG);
		assert_int_equal(
			cas_chunk_open(suite, sealed, len, key, &h, out, sizeof(out), &m), 0);
	}
}

static void chunk__refuses_wrong_key_and_wrong_siv(void **state)
{
	uint8_t key[32];
	struct cas_hash h;
	size_t len, m;

	fill_text(plain, 3000);
	len = seal_chunk(1, plain, 3000, &h, key);
	key[5] ^= 1;
	assert_int_equal(
		cas_chunk_open(suite, sealed, len, key, &h, out, sizeof(out), &m), -EBADMSG);
	key[5] ^= 1;
	reseal_with_siv(key, len);
	assert_int_equal(
		cas_chunk_open(suite, sealed, len, key, &h, out, sizeof(out), &m), -EILSEQ);
}

/* What somebody who has the keys could seal: payload of any contents, made authentic. */
static int open_payload(const uint8_t *payload, size_t len, size_t out_size)
{
	static const uint8_t header[CAS_OBJECT_HEADER] = { 'B', 'Z', 'O', '1', 2, 1, 1, 0 };
	static const uint8_t key[32] = { 9 };
	size_t head = CAS_OBJECT_HEADER + CAS_CHUNK_SIV, n = head + len + CAS_OBJECT_TAG, m;
	size_t stored_len =
		(size_t)payload[8] | (size_t)payload[9] << 8 | (size_t)payload[10] << 16;
	struct cas_hash h = { { 0 } }, digest;

	memcpy(buf, header, sizeof(header));
	memcpy(buf + head, payload, len);
	if (stored_len > len - CAS_CHUNK_HEAD)
		stored_len = len - CAS_CHUNK_HEAD;
	sha256(payload + CAS_CHUNK_HEAD, stored_len, &digest);
	cas_chunk_seal(suite, buf, n, key, &digest, sealed, NULL);
	return cas_chunk_open(suite, sealed, n, key, &h, out, out_size, &m);
}

static void put32(uint8_t *p, size_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static int open_crafted(size_t plain_len, int compression, const void *stored, size_t stored_len,
	size_t claimed_len)
{
	static uint8_t payload[CAS_CHUNK_PAYLOAD_MAX];

	memset(payload, 0, sizeof(payload));
	put32(payload, plain_len);
	payload[4] = (uint8_t)compression;
	put32(payload + 8, claimed_len);
	memcpy(payload + CAS_CHUNK_HEAD, stored, stored_len);
	return open_payload(payload, cas_pad_object(CAS_CHUNK_HEAD + stored_len), sizeof(out));
}

static void chunk__refuses_authentic_nonsense(void **state)
{
	uint8_t payload[512] = { 0 };

	memset(plain, 7, 1000);
	assert_int_equal(open_crafted(100, 0, plain, 100, 100), 0);
	assert_int_equal(open_crafted(0, 0, plain, 0, 0), -EBADMSG);
	assert_int_equal(open_crafted(100, 0, plain, 99, 99), -EBADMSG);
	assert_int_equal(open_crafted(99, 0, plain, 100, 100), -EBADMSG);
	assert_int_equal(open_crafted(100, 2, plain, 100, 100), -EPROTONOSUPPORT);
	assert_int_equal(open_crafted(1000, 0, plain, 100, 1000), -EBADMSG);
	assert_int_equal(open_crafted(UINT32_MAX, 0, plain, 100, UINT32_MAX), -EBADMSG);
	assert_int_equal(open_crafted(CAS_CHUNK_PLAIN_MAX + 1, 1, plain, 100, 100), -EBADMSG);
	/* More room than needed: a second spelling of one payload. */
	put32(payload, 100);
	put32(payload + 8, 100);
	assert_int_equal(open_payload(payload, 256, sizeof(out)), 0);
	assert_int_equal(open_payload(payload, 272, sizeof(out)), -EBADMSG);
	for (size_t i = 5; i < 256; i++) {
		if (i >= 8 && i < CAS_CHUNK_HEAD + 100)
			continue;
		payload[i] = 1;
		assert_int_equal(open_payload(payload, 256, sizeof(out)), -EBADMSG);
		payload[i] = 0;
	}
}

static void chunk__refuses_bombs(void **state)
{
	uint8_t *zero = calloc(1, 1 << 20), frame[8192];
	size_t n;

	/* A megabyte in a few bytes; the head says what it likes. */
	n = ZSTD_compress(frame, sizeof(frame), zero, 1 << 20, 1);
	assert_false(ZSTD_isError(n));
	assert_int_equal(open_crafted(CAS_CHUNK_PLAIN_MAX, 1, frame, n, n), -EBADMSG);
	assert_int_equal(open_crafted(1000, 1, frame, n, n), -EBADMSG);
	/* Exactly right, then one off in each direction, then followed by something. */
	n = ZSTD_compress(frame, sizeof(frame), zero, 1000, 1);
	assert_int_equal(open_crafted(1000, 1, frame, n, n), 0);
	assert_int_equal(open_crafted(1001, 1, frame, n, n), -EBADMSG);
	assert_int_equal(open_crafted(999, 1, frame, n, n), -EBADMSG);
	assert_int_equal(open_crafted(1000, 1, frame, n + 1, n + 1), -EBADMSG);
	assert_int_equal(open_crafted(1000, 1, frame, n - 1, n - 1), -EBADMSG);
	memcpy(frame + n, frame, n);
	assert_int_equal(open_crafted(2000, 1, frame, 2 * n, 2 * n), -EBADMSG);
	/* A skippable frame of 4 bytes after the real one decompresses to nothing more. */
	memcpy(frame + n, "\x50\x2a\x4d\x18\4\0\0\0abcd", 12);
	assert_int_equal(open_crafted(1000, 1, frame, n + 12, n + 12), -EBADMSG);
	/* Noise instead of a frame. */
	for (int i = 0; i < 1000; i++) {
		rng_fill(&rng, frame + 4, 200);
		assert_int_equal(open_crafted(1000, 1, frame, 204, 204), -EBADMSG);
	}
	free(zero);
}

static void object__check_needs_no_key(void **state)
{
	uint8_t key[32], old;
	struct cas_hash h;
	enum cas_type type;
	size_t len;

	len = seal_chunk(0, (const uint8_t *)"x", 1, &h, key);
	assert_int_equal(len, CAS_OBJECT_MIN + CAS_CHUNK_SIV);
	assert_int_equal(cas_object_check(sealed, len, &type), 0);
	assert_int_equal(type, CAS_TYPE_CHUNK);
	assert_int_equal(cas_object_check(sealed, len - 1, &type), -EBADMSG);
	assert_int_equal(cas_object_check(sealed, len + 1, &type), -EBADMSG);
	for (size_t i = 0; i < 8; i++) {
		old = sealed[i];
		sealed[i] = 99;
		assert_int_equal(cas_object_check(sealed, len, &type),
			i >= 4 && i <= 6 ? -EPROTONOSUPPORT : -EBADMSG);
		sealed[i] = old;
	}
	sealed[4] = 3;
	assert_int_equal(cas_object_check(sealed, len, &type), -EPROTONOSUPPORT);
	/* A chunk of version 1 is shorter by its siv, a manifest of version 1 longer by its nonce.
	 */
	sealed[4] = 1;
	len -= CAS_CHUNK_SIV;
	assert_int_equal(cas_object_check(sealed, len, &type), 0);
	sealed[6] = CAS_TYPE_MANIFEST;
	assert_int_equal(cas_object_check(sealed, len, &type), -EBADMSG);
	assert_int_equal(cas_object_check(sealed, len + CAS_OBJECT_NONCE, &type), 0);
	assert_int_equal(type, CAS_TYPE_MANIFEST);
}

static size_t seal_manifest(const uint8_t *p, size_t len, struct cas_id *id)
{
	size_t n;

	assert_int_equal(
		cas_manifest_seal(suite, &k.keys, k.volume, p, len, sealed, sizeof(sealed), &n, id),
		0);
	return n;
}

static int open_manifest(const struct cas_id *id, size_t len, size_t *ret_len)
{
	return cas_manifest_open(
		suite, &k.keys, k.volume, id, sealed, len, out, sizeof(out), ret_len);
}

static void manifest__vector(void **state)
{
	uint8_t node[96];
	struct cas_id id;
	size_t n, m;

	sodium_hex2bin(node, sizeof(node), VECTOR_NODE, strlen(VECTOR_NODE), NULL, &n, NULL);
	assert_int_equal(n, sizeof(node));
	n = seal_manifest(node, sizeof(node), &id);
	assert_hex(id.b, 32, VECTOR_MANIFEST_ID);
	assert_int_equal(open_manifest(&id, n, &m), 0);
	assert_int_equal(m, sizeof(node));
	assert_memory_equal(out, node, m);
}

static void manifest__of_version_1_opens_and_hides_its_refs(void **state)
{
	const uint8_t *ids;
	struct cas_id id;
	uint8_t node[96];
	size_t n, m, num;

	sodium_hex2bin(node, sizeof(node), VECTOR_NODE, strlen(VECTOR_NODE), NULL, &n, NULL);
	sodium_hex2bin(sealed, sizeof(sealed), VECTOR_MANIFEST_OLD, strlen(VECTOR_MANIFEST_OLD),
		NULL, &n, NULL);
	cas_id_of(suite, sealed, n, &id);
	assert_int_equal(open_manifest(&id, n, &m), 0);
	assert_int_equal(m, sizeof(node));
	assert_memory_equal(out, node, m);
	assert_int_equal(cas_object_refs(sealed, n, &ids, &num), -ENODATA);
	sealed[n - 1] ^= 1;
	cas_id_of(suite, sealed, n, &id);
	assert_int_equal(open_manifest(&id, n, &m), -EBADMSG);
}

/* A leaf or inner node of count entries that refer to up to `ids` different objects. */
static size_t random_node(size_t count, bool is_leaf, uint8_t num_ids, uint8_t *node)
{
	static struct cas_extent extents[CAS_NODE_FANOUT];
	static struct cas_child children[CAS_NODE_FANOUT];

	for (size_t i = 0; i < count; i++) {
		struct cas_id id = { { 0 } };
		uint32_t name = rng_below(&rng, num_ids);

		children[i].len = 1 + rng_below(&rng, 1 << 20);
		extents[i] = cas_extent_hole(children[i].len);
		memset(id.b, (int)name + 1, sizeof(id.b));
		children[i].id = id;
		if (name == 0)
			continue;
		extents[i].id = id;
		memset(extents[i].h.b, (int)name, 32);
		extents[i].chunk_len = 1000 + name;
		extents[i].chunk_off = rng_below(&rng, 1000);
		extents[i].len = 1 + rng_below(&rng, 1000 + name - extents[i].chunk_off);
	}
	return is_leaf ? cas_node_emit_leaf(extents, count, node)
		       : cas_node_emit_inner(children, count, 3, node);
}

/* Every id of the node is in the list, once, and nothing else is. */
static void check_refs(const uint8_t *node, size_t len, size_t sealed_len)
{
	struct cas_node parsed;
	const uint8_t *ids;
	size_t num, seen = 0;
	bool used[CAS_NODE_FANOUT] = { false };

	assert_int_equal(cas_node_parse(node, len, &parsed), 0);
	assert_int_equal(cas_object_refs(sealed, sealed_len, &ids, &num), 0);
	for (size_t i = 0; i < parsed.count; i++) {
		struct cas_extent extent;
		struct cas_child child;
		size_t at = 0;

		if (parsed.level == 0) {
			cas_node_extent(&parsed, i, &extent);
			if (cas_extent_is_hole(&extent))
				continue;
			child.id = extent.id;
		} else {
			cas_node_child(&parsed, i, &child);
		}
		while (at < num && memcmp(ids + 32 * at, child.id.b, 32) != 0)
			at++;
		assert_true(at < num);
		seen += !used[at];
		used[at] = true;
	}
	assert_int_equal(seen, num);
}

static void manifest__round_trips_and_is_deterministic(void **state)
{
	for (size_t round = 0; round < 200; round++) {
		size_t count = round == 0 ? CAS_NODE_FANOUT : 1 + rng_below(&rng, CAS_NODE_FANOUT);
		size_t len = random_node(
			count, round % 2 == 0, (uint8_t)(1 + rng_below(&rng, 255)), plain);
		struct cas_id id, again;
		size_t n, m;

		n = seal_manifest(plain, len, &id);
		assert_true(n <= CAS_MANIFEST_MAX);
		assert_int_equal(open_manifest(&id, n, &m), 0);
		assert_int_equal(m, len);
		assert_memory_equal(out, plain, len);
		check_refs(plain, len, n);
		seal_manifest(plain, len, &again);
		assert_true(cas_id_equal(&id, &again));
	}
	rng_fill(&rng, plain, 500);
	assert_int_equal(cas_manifest_seal(suite, &k.keys, k.volume, plain, 500, sealed,
				 sizeof(sealed), &(size_t){ 0 }, &(struct cas_id){ { 0 } }),
		-EINVAL);
}

static void manifest__refuses_every_changed_byte_even_under_a_new_id(void **state)
{
	struct cas_id id, now;
	size_t len, m;

	len = seal_manifest(plain, random_node(9, true, 5, plain), &id);
	for (size_t i = 0; i < len; i++) {
		int r;

		sealed[i] ^= 4;
		r = open_manifest(&id, len, &m);
		if (i >= 16)
			assert_int_equal(r, -EILSEQ);
		assert_true(r < 0);
		cas_id_of(suite, sealed, len, &now);
		r = open_manifest(&now, len, &m);
		assert_int_equal(r, i >= 4 && i <= 6 ? -EPROTONOSUPPORT : -EBADMSG);
		sealed[i] ^= 4;
	}
	assert_int_equal(open_manifest(&id, len, &m), 0);
}

static void manifest__refs_are_strict(void **state)
{
	const uint8_t *ids;
	size_t len, num;
	struct cas_id id;

	len = seal_manifest(plain, random_node(200, true, 90, plain), &id);
	assert_int_equal(cas_object_refs(sealed, len, &ids, &num), 0);
	assert_in_range(num, 20, 90);
	for (size_t n = 0, least = 16 + 32 * num + 24 + 256 + 16; n < least; n++)
		assert_int_equal(cas_object_refs(sealed, n, &ids, &num), -EBADMSG);
	assert_int_equal(cas_object_refs(sealed, len - 1, &ids, &num), -EBADMSG);
	assert_int_equal(cas_object_refs(sealed, len + 1, &ids, &num), -EBADMSG);
	sealed[9] = 2; /* 512 more */
	assert_int_equal(cas_object_refs(sealed, len, &ids, &num), -EBADMSG);
	sealed[9] = 0;
	sealed[11] = 1;
	assert_int_equal(cas_object_refs(sealed, len, &ids, &num), -EBADMSG);
	sealed[11] = 0;
	memset(sealed + 16, 0, 32);
	assert_int_equal(cas_object_refs(sealed, len, &ids, &num), -EBADMSG);
}

static void manifest__sparse_node_has_one_spelling(void **state)
{
	static uint8_t sparse[CAS_SPARSE_MAX], node[CAS_NODE_MAX];
	uint8_t ids[96];
	size_t n;

	memset(ids, 7, sizeof(ids));
	memcpy(sparse, "BZM1\2\1\3\0", 8);
	for (size_t i = 0; i < 3; i++) {
		sparse[8 + 12 * i] = 50;
		sparse[16 + 12 * i] = (uint8_t)(i + 1);
	}
	assert_int_equal(cas_node_join(sparse, 44, ids, 3, node, &n), 0);
	assert_int_equal(cas_node_join(sparse, 44, ids, 2, node, &n), -EBADMSG);
	assert_int_equal(cas_node_join(sparse, 43, ids, 3, node, &n), -EBADMSG);
	sparse[16] = 2; /* not in the order of first use */
	sparse[28] = 1;
	assert_int_equal(cas_node_join(sparse, 44, ids, 3, node, &n), -EBADMSG);
	sparse[16] = sparse[28] = 1;
	sparse[40] = 2; /* the third is never used */
	assert_int_equal(cas_node_join(sparse, 44, ids, 3, node, &n), -EBADMSG);
	assert_int_equal(cas_node_join(sparse, 44, ids, 2, node, &n), 0);
	sparse[40] = 0; /* an interior node has no holes */
	assert_int_equal(cas_node_join(sparse, 44, ids, 1, node, &n), -EBADMSG);
	sparse[4] = 3;
	assert_int_equal(cas_node_join(sparse, 44, ids, 2, node, &n), -EPROTONOSUPPORT);
}

static void manifest__belongs_to_volume_and_keys(void **state)
{
	struct cas_id id;
	size_t len, m;

	len = seal_manifest(plain, random_node(5, true, 3, plain), &id);
	k.volume[3] ^= 1;
	assert_int_equal(open_manifest(&id, len, &m), -EBADMSG);
	k.volume[3] ^= 1;
	k.keys.seal[0] ^= 1;
	assert_int_equal(open_manifest(&id, len, &m), -EBADMSG);
	k.keys.seal[0] ^= 1;
	id.b[0] ^= 1;
	assert_int_equal(open_manifest(&id, len, &m), -EILSEQ);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(object__maxima_are_what_the_header_says),
		cmocka_unit_test(chunk__vector),
		cmocka_unit_test(chunk__a_lie_is_opened_and_not_verified),
		cmocka_unit_test(chunk__old_version_opens_and_is_checked),
		cmocka_unit_test(chunk__old_compressed_object_opens),
		cmocka_unit_test(chunk__round_trips),
		cmocka_unit_test(chunk__longest_round_trips),
		cmocka_unit_test(chunk__several_open_as_each_alone),
		cmocka_unit_test(chunk__prepare_refuses_bad_arguments),
		cmocka_unit_test(chunk__equal_bytes_give_equal_objects),
		cmocka_unit_test(chunk__another_level_has_the_same_h_and_another_key_stream),
		cmocka_unit_test(chunk__text_is_worth_more),
		cmocka_unit_test(chunk__refuses_every_changed_byte),
		cmocka_unit_test(chunk__refuses_wrong_key_and_wrong_siv),
		cmocka_unit_test(chunk__refuses_authentic_nonsense),
		cmocka_unit_test(chunk__refuses_bombs),
		cmocka_unit_test(object__check_needs_no_key),
		cmocka_unit_test(manifest__vector),
		cmocka_unit_test(manifest__of_version_1_opens_and_hides_its_refs),
		cmocka_unit_test(manifest__refs_are_strict),
		cmocka_unit_test(manifest__sparse_node_has_one_spelling),
		cmocka_unit_test(manifest__round_trips_and_is_deterministic),
		cmocka_unit_test(manifest__refuses_every_changed_byte_even_under_a_new_id),
		cmocka_unit_test(manifest__belongs_to_volume_and_keys),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, setup, teardown);
}
