/*
 * Opening chunks. An input is a byte that says how, then bytes:
 *	even: a sealed object from anybody, opened under fixed keys
 *	odd:  the payload of a chunk from somebody who has the keys, so that the fuzzer gets past
 *the seal
 */
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

static void open_crafted(const uint8_t *data, size_t size)
{
	static const uint8_t header[CAS_OBJECT_HEADER] = { 'B', 'Z', 'O', '1', 1, 1, 1, 0 };
	static const uint8_t key[CAS_KEY_SIZE];
	uint8_t *out;
	struct cas_hash h;
	struct cas_id id;
	size_t len, n, room = size > 3 ? data[0] | data[1] << 8 | (data[2] & 3) << 16 : 0;

	if (size > CAS_CHUNK_PAYLOAD_MAX)
		return;
	/* What the seal demands of every length is given, as the parser behind it is meant. */
	len = cas_pad_object(size);
	memcpy(buf, header, sizeof(header));
	memcpy(buf + sizeof(header), data, size);
	memset(buf + sizeof(header) + size, 0, len - size);
	cas_id_of(suite, buf, sizeof(header) + len, &id);
	memcpy(h.b, id.b, sizeof(h.b));
	len += sizeof(header) + CAS_OBJECT_TAG;
	cas_chunk_seal(suite, buf, len, key, buf, NULL);
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
