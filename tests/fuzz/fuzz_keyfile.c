/*
 * The keyring's file, as somebody else wrote it. First byte: 0 the bytes as they are, 1 with a
 * right checksum, 2 the packed keyring inside, 3 that sealed by us. What is accepted must come out
 * the same when written again.
 */
#include "keyd/sealed.h"

#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t unlock[32] = "unlock", file_key[32] = "file key", nonce[24] = "nonce";
static const uint8_t random_bytes[40] = "random";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_packed(const uint8_t *packed, size_t len)
{
	static struct keyring *ring;
	uint8_t again[KEYRING_PACKED_SIZE];

	if (!ring && keyring_new(&ring) < 0)
		abort();
	if (keyring_unpack(ring, packed, len) < 0) {
		if (keyring_num_sharing(ring) != 0)
			abort();
		return;
	}
	keyring_pack(ring, again);
	if (len != sizeof(again) || memcmp(packed, again, len) != 0)
		abort();
}

static void read_sealed(const uint8_t *data, size_t len)
{
	static uint8_t packed[KEYRING_PACKED_SIZE];
	struct sealed_slots slots;
	uint64_t generation;
	uint8_t key[32];

	if (sealed_read(data, len, unlock, &slots, &generation, key, packed) == 0)
		read_packed(packed, sizeof(packed));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t packed[KEYRING_PACKED_SIZE], sealed[SEALED_SIZE];
	struct sealed_slots slots = { 0 };
	uint8_t *copy;

	if (size < 1 || sodium_init() < 0)
		return 0;
	switch (data[0] & 3) {
	case 0:
		read_sealed(data + 1, size - 1);
		break;
	case 1:
		if (size < 33)
			return 0;
		copy = malloc(size - 1);
		if (!copy)
			return 0;
		memcpy(copy, data + 1, size - 1);
		crypto_generichash(copy + size - 33, 32, copy, size - 33, NULL, 0);
		read_sealed(copy, size - 1);
		free(copy);
		break;
	case 2:
		read_packed(data + 1, size - 1);
		break;
	case 3:
		memset(packed, 0, sizeof(packed));
		memcpy(packed, data + 1, size - 1 < sizeof(packed) ? size - 1 : sizeof(packed));
		sealed_set_key_slot(&slots, 0, unlock, file_key, random_bytes);
		sealed_write(&slots, 1, file_key, nonce, packed, sealed);
		read_sealed(sealed, sizeof(sealed));
		break;
	}
	return 0;
}
