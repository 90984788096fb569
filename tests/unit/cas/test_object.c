#include "cas/object.h"

#include "cas/pad.h"

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

/* Prepares, asks for the key and seals into sealed[]. */
static size_t seal_chunk(int level, const uint8_t *p, size_t len, struct cas_hash *h, uint8_t *key)
{
	size_t n;

	assert_int_equal(cas_chunk_prepare(suite, level, p, len, buf, sizeof(buf), &n, h), 0);
	cas_prf_chunk_key(&k.sharing, CAS_TYPE_CHUNK, h, key);
	cas_chunk_seal(suite, buf, n, key, sealed, NULL);
	return n;
}

static void object__maxima_are_what_the_header_says(void **state)
{
	assert_int_equal(CAS_OBJECT_MAX, 270360);
	assert_int_equal(cas_chunk_bound(CAS_CHUNK_PLAIN_MAX), CAS_OBJECT_MAX);
	assert_int_equal(cas_chunk_bound(1), CAS_OBJECT_MIN);
	assert_int_equal(cas_manifest_bound(CAS_MANIFEST_PLAIN_MAX), CAS_MANIFEST_MAX);
}

static void chunk__vector(void **state)
{
	uint8_t key[32], tag[32];
	struct cas_hash h;
	struct cas_id id;
	size_t n, m;

	for (size_t i = 0; i < 1000; i++)
		plain[i] = (uint8_t)(i * 7);
	assert_int_equal(cas_chunk_prepare(suite, 0, plain, 1000, buf, sizeof(buf), &n, &h), 0);
	assert_hex(h.b, 32, VECTOR_CHUNK_H);
	cas_prf_chunk_key(&k.sharing, CAS_TYPE_CHUNK, &h, key);
	assert_hex(key, 32, VECTOR_CHUNK_KEY);
	cas_prf_dedup_tag(&k.sharing, CAS_TYPE_CHUNK, &h, tag);
	assert_hex(tag, 32, VECTOR_CHUNK_TAG);
	cas_chunk_seal(suite, buf, n, key, buf, &id);
	assert_hex(id.b, 32, VECTOR_CHUNK_ID);
	assert_int_equal(cas_chunk_open(suite, buf, n, key, &h, out, sizeof(out), &m), 0);
	assert_int_equal(m, 1000);
	assert_memory_equal(out, plain, 1000);
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

static void chunk__prepare_refuses_bad_arguments(void **state)
{
	struct cas_hash h;
	size_t n;

	assert_int_equal(cas_chunk_prepare(suite, 1, plain, 0, buf, sizeof(buf), &n, &h), -EINVAL);
	assert_int_equal(cas_chunk_prepare(suite, 1, plain, CAS_CHUNK_PLAIN_MAX + 1, buf,
				 sizeof(buf), &n, &h),
		-EINVAL);
	assert_int_equal(cas_chunk_prepare(suite, 20, plain, 1, buf, sizeof(buf), &n, &h), -EINVAL);
	assert_int_equal(
		cas_chunk_prepare(suite, 1, plain, 5000, buf, cas_chunk_bound(5000) - 1, &n, &h),
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
	assert_int_equal(cas_chunk_prepare(other, 5, plain, 500, buf, sizeof(buf), &n2, &h2), 0);
	assert_int_equal(cas_chunk_prepare(other, 1, plain, 90000, buf, sizeof(buf), &n2, &h2), 0);
	assert_memory_equal(&h, &h2, sizeof(h));
	cas_chunk_seal(other, buf, n2, key, buf, NULL);
	assert_int_equal(n, n2);
	assert_memory_equal(buf, sealed, n);
	cas_suite_free(other);
}

/* The rule that makes the constant nonce safe: other bytes to encrypt, another key. */
static void chunk__another_level_gives_another_key(void **state)
{
	uint8_t keys[6][32];
	size_t len[6];

	fill_text(plain, 60000);
	for (int level = 0; level < 6; level++) {
		struct cas_hash h;

		len[level] = seal_chunk(level, plain, 60000, &h, keys[level]);
		memcpy(out + level * 100, buf + CAS_OBJECT_HEADER, 100);
	}
	for (int a = 0; a < 6; a++)
		for (int b = 0; b < a; b++)
			if (len[a] != len[b] || memcmp(out + a * 100, out + b * 100, 100) != 0)
				assert_memory_not_equal(keys[a], keys[b], 32);
	assert_memory_not_equal(keys[0], keys[1], 32);
	assert_memory_not_equal(keys[1], keys[5], 32);
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

static void chunk__refuses_wrong_key_and_wrong_hash(void **state)
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
	h.b[31] ^= 128;
	assert_int_equal(
		cas_chunk_open(suite, sealed, len, key, &h, out, sizeof(out), &m), -EILSEQ);
}

/* What somebody who has the keys could seal: payload of any contents, made authentic. */
static int open_payload(const uint8_t *payload, size_t len, size_t out_size)
{
	static const uint8_t header[CAS_OBJECT_HEADER] = { 'B', 'Z', 'O', '1', 1, 1, 1, 0 };
	uint8_t key[32];
	struct cas_hash h;
	struct cas_id id;
	size_t n = CAS_OBJECT_HEADER + len + CAS_OBJECT_TAG, m;

	memcpy(buf, header, sizeof(header));
	memcpy(buf + sizeof(header), payload, len);
	cas_id_of(suite, buf, sizeof(header) + len, &id);
	memcpy(h.b, id.b, sizeof(h.b));
	cas_prf_chunk_key(&k.sharing, CAS_TYPE_CHUNK, &h, key);
	cas_chunk_seal(suite, buf, n, key, sealed, NULL);
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
	assert_int_equal(len, CAS_OBJECT_MIN);
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
	/* A manifest is longer by its nonce. */
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

static void manifest__round_trips_and_is_deterministic(void **state)
{
	for (size_t len = 1; len <= CAS_MANIFEST_PLAIN_MAX; len += 1 + len / 7) {
		struct cas_id id, again;
		size_t n, m;

		rng_fill(&rng, plain, len);
		n = seal_manifest(plain, len, &id);
		assert_int_equal(n, cas_manifest_bound(len));
		assert_int_equal(open_manifest(&id, n, &m), 0);
		assert_int_equal(m, len);
		assert_memory_equal(out, plain, len);
		seal_manifest(plain, len, &again);
		assert_true(cas_id_equal(&id, &again));
	}
	assert_int_equal(
		cas_manifest_seal(suite, &k.keys, k.volume, plain, CAS_MANIFEST_PLAIN_MAX + 1,
			sealed, sizeof(sealed), &(size_t){ 0 }, &(struct cas_id){ { 0 } }),
		-EINVAL);
}

static void manifest__refuses_every_changed_byte_even_under_a_new_id(void **state)
{
	struct cas_id id, now;
	size_t len, m;

	rng_fill(&rng, plain, 500);
	len = seal_manifest(plain, 500, &id);
	for (size_t i = 0; i < len; i++) {
		int r;

		sealed[i] ^= 4;
		r = open_manifest(&id, len, &m);
		if (i >= 8)
			assert_int_equal(r, -EILSEQ);
		assert_true(r < 0);
		cas_id_of(suite, sealed, len, &now);
		r = open_manifest(&now, len, &m);
		assert_int_equal(r, i >= 4 && i <= 6 ? -EPROTONOSUPPORT : -EBADMSG);
		sealed[i] ^= 4;
	}
	assert_int_equal(open_manifest(&id, len, &m), 0);
}

static void manifest__belongs_to_volume_and_keys(void **state)
{
	struct cas_id id;
	size_t len, m;

	rng_fill(&rng, plain, 500);
	len = seal_manifest(plain, 500, &id);
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
		cmocka_unit_test(chunk__old_compressed_object_opens),
		cmocka_unit_test(chunk__round_trips),
		cmocka_unit_test(chunk__longest_round_trips),
		cmocka_unit_test(chunk__prepare_refuses_bad_arguments),
		cmocka_unit_test(chunk__equal_bytes_give_equal_objects),
		cmocka_unit_test(chunk__another_level_gives_another_key),
		cmocka_unit_test(chunk__refuses_every_changed_byte),
		cmocka_unit_test(chunk__refuses_wrong_key_and_wrong_hash),
		cmocka_unit_test(chunk__refuses_authentic_nonsense),
		cmocka_unit_test(chunk__refuses_bombs),
		cmocka_unit_test(object__check_needs_no_key),
		cmocka_unit_test(manifest__vector),
		cmocka_unit_test(manifest__round_trips_and_is_deterministic),
		cmocka_unit_test(manifest__refuses_every_changed_byte_even_under_a_new_id),
		cmocka_unit_test(manifest__belongs_to_volume_and_keys),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, setup, teardown);
}
