/*
 * Opening chunks. An input is a byte that says how, then bytes:
 *	even: a sealed object from anybody, opened under fixed keys
 *	odd:  the payload of a chunk from somebody who has the keys, so that the fuzzer gets past
 *the seal
 */
#include "cas/bytes.h"
#include "cas/object.h"
#include "cas/pad.h"
#include "cas/suite.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cas_suite *suite;
static uint8_t buf[CAS_OBJECT_MAX], plain[CAS_CHUNK_PLAIN_MAX];

static void open_foreign(const uint8_t *data, size_t size)
{
	static const uint8_t key[CAS_KEY_SIZE], volume[CAS_VOLUME_SIZE];
	static const struct cas_volume_keys keys;
	static const struct cas_hash h;
	const uint8_t *ids;
	struct cas_id id;
	size_t n;

	if (cas_object_refs(data, size, &ids, &n) == 0 && n > 0 &&
		(ids < data || n > CAS_MANIFEST_REFS_MAX || ids + 32 * n > data + size))
		abort();
	if (cas_chunk_open(suite, data, size, key, &h, plain, sizeof(plain), &n) == 0)
		abort();
	cas_id_of(suite, data, size, &id);
	(void)cas_manifest_open(suite, &keys, volume, &id, data, size, plain, sizeof(plain), &n);
}

/* Of the bytes that the payload claims, so that its siv is right. */
static void hash_stored(const uint8_t *payload, size_t len, struct cas_hash *ret)
{
	size_t claimed = le32_get(payload + 8);
	struct cas_id id;

	if (claimed > len - CAS_CHUNK_HEAD)
		claimed = len - CAS_CHUNK_HEAD;
	cas_id_of(suite, payload + CAS_CHUNK_HEAD, claimed, &id);
	memcpy(ret->b, id.b, sizeof(ret->b));
}

static void open_crafted(const uint8_t *data, size_t size)
{
	static const uint8_t header[CAS_OBJECT_HEADER] = { 'B', 'Z', 'O', '1', 2, 1, 1, 0 };
	static const uint8_t key[CAS_KEY_SIZE];
	static const size_t head = CAS_OBJECT_HEADER + CAS_CHUNK_SIV;
	uint8_t *out;
	struct cas_hash h = { { 0 } };
	size_t len, n, room = size > 3 ? data[0] | data[1] << 8 | (data[2] & 3) << 16 : 0;

	if (size > CAS_CHUNK_PAYLOAD_MAX)
		return;
	/* What the seal demands of every length is given, as the parser behind it is meant. */
	len = cas_pad_object(size);
	memcpy(buf, header, sizeof(header));
	memcpy(buf + head, data, size);
	memset(buf + head + size, 0, len - size);
	hash_stored(buf + head, len, &h);
	len += head + CAS_OBJECT_TAG;
	cas_chunk_seal(suite, buf, len, key, &h, buf, NULL);
	/* Room for exactly what is claimed, so that a byte more is seen. */
	out = malloc(room ? room : 1);
	if (out && cas_chunk_open(suite, buf, len, key, &h, out, room, &n) == 0 && n > room)
		abort();
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!suite && (sodium_init() < 0 || !(suite = cas_suite_new())))
		abort();
	if (size < 1)
		return 0;
	if (data[0] & 1)
		open_crafted(data + 1, size - 1);
	else
		open_foreign(data + 1, size - 1);
	return 0;
}
