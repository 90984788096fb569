#include "keyd/sealed.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#define VERSION	       1
#define SUITE	       1
#define PREFIX_SIZE    6
#define OFF_NUM_SLOTS  6
#define OFF_GENERATION 8
#define OFF_BODY_LEN   16
#define OFF_NONCE      24
#define OFF_COMMITMENT 48
#define OFF_SLOTS      80
#define CHECKSUM_SIZE  32
#define BODY_SIZE      (KEYRING_PACKED_SIZE + 16)

#define SLOT_OFF_SALT	 16
#define SLOT_OFF_NONCE	 32
#define SLOT_OFF_WRAPPED 56
#define SLOT_OFF_AFTER	 104

_Static_assert(SEALED_HEADER_SIZE == 592, "format");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == 16, "format");

static const uint8_t prefix[PREFIX_SIZE] = { 'B', 'Z', 'K', '1', VERSION, SUITE };

static void put_le(uint8_t *p, uint64_t v, int n)
{
	for (int i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, int n)
{
	uint64_t v = 0;

	for (int i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static void checksum(const uint8_t *data, size_t len, uint8_t ret[CHECKSUM_SIZE])
{
	crypto_generichash(ret, CHECKSUM_SIZE, data, len, NULL, 0);
}

/* label includes its NUL, so that no label is the beginning of another. */
static void keyed_hash(
	const uint8_t key[32], const char *label, const uint8_t *data, size_t len, uint8_t ret[32])
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, key, 32, 32);
	crypto_generichash_update(&st, (const uint8_t *)label, strlen(label) + 1);
	crypto_generichash_update(&st, data, len);
	crypto_generichash_final(&st, ret, 32);
	sodium_memzero(&st, sizeof(st));
}

static void commitment(const uint8_t file_key[32], const uint8_t nonce[24], uint8_t ret[32])
{
	keyed_hash(file_key, "bazil keyring commitment v1", nonce, 24, ret);
}

static void slot_kek(const uint8_t unlock[32], const uint8_t *slot, uint8_t ret[32])
{
	keyed_hash(unlock, "bazil keyring unlock v1", slot + SLOT_OFF_SALT, 16, ret);
}

static void slot_ad(const uint8_t *slot, uint8_t ret[PREFIX_SIZE + SLOT_OFF_NONCE])
{
	memcpy(ret, prefix, PREFIX_SIZE);
	memcpy(ret + PREFIX_SIZE, slot, SLOT_OFF_NONCE);
}

void sealed_set_key_slot(struct sealed_slots *slots, size_t i,
	const uint8_t unlock[SEALED_KEY_SIZE], const uint8_t file_key[SEALED_KEY_SIZE],
	const uint8_t random[40])
{
	uint8_t *slot = slots->b[i], kek[32], ad[PREFIX_SIZE + SLOT_OFF_NONCE];

	memset(slot, 0, SEALED_SLOT_SIZE);
	slot[0] = SEALED_SLOT_KEY_FILE;
	memcpy(slot + SLOT_OFF_SALT, random, 16);
	memcpy(slot + SLOT_OFF_NONCE, random + 16, 24);
	slot_kek(unlock, slot, kek);
	slot_ad(slot, ad);
	crypto_aead_xchacha20poly1305_ietf_encrypt(slot + SLOT_OFF_WRAPPED, NULL, file_key, 32, ad,
		sizeof(ad), NULL, slot + SLOT_OFF_NONCE, kek);
	sodium_memzero(kek, sizeof(kek));
}

void sealed_write(const struct sealed_slots *slots, uint64_t generation,
	const uint8_t file_key[SEALED_KEY_SIZE], const uint8_t nonce[24],
	const uint8_t packed[KEYRING_PACKED_SIZE], uint8_t ret[SEALED_SIZE])
{
	memset(ret, 0, SEALED_HEADER_SIZE);
	memcpy(ret, prefix, PREFIX_SIZE);
	ret[OFF_NUM_SLOTS] = SEALED_NUM_SLOTS;
	put_le(ret + OFF_GENERATION, generation, 8);
	put_le(ret + OFF_BODY_LEN, BODY_SIZE, 4);
	memcpy(ret + OFF_NONCE, nonce, 24);
	commitment(file_key, nonce, ret + OFF_COMMITMENT);
	memcpy(ret + OFF_SLOTS, slots->b, sizeof(slots->b));
	crypto_aead_xchacha20poly1305_ietf_encrypt(ret + SEALED_HEADER_SIZE, NULL, packed,
		KEYRING_PACKED_SIZE, ret, SEALED_HEADER_SIZE, NULL, nonce, file_key);
	checksum(ret, SEALED_SIZE - CHECKSUM_SIZE, ret + SEALED_SIZE - CHECKSUM_SIZE);
}

static int open_slot(const uint8_t *slot, const uint8_t unlock[32], uint8_t ret_file_key[32])
{
	uint8_t kek[32], ad[PREFIX_SIZE + SLOT_OFF_NONCE];
	int r;

	if (!sodium_is_zero(slot + 1, SLOT_OFF_SALT - 1) ||
		!sodium_is_zero(slot + SLOT_OFF_AFTER, SEALED_SLOT_SIZE - SLOT_OFF_AFTER))
		return -EILSEQ;
	slot_kek(unlock, slot, kek);
	slot_ad(slot, ad);
	r = crypto_aead_xchacha20poly1305_ietf_decrypt(ret_file_key, NULL, NULL,
		slot + SLOT_OFF_WRAPPED, 48, ad, sizeof(ad), slot + SLOT_OFF_NONCE, kek);
	sodium_memzero(kek, sizeof(kek));
	return r == 0 ? 0 : -EKEYREJECTED;
}

/* The first slot that the unlock key opens; else why the last of its type did not. */
static int find_file_key(const uint8_t *slots, const uint8_t unlock[32], uint8_t ret_file_key[32])
{
	int r = -ENOKEY;

	for (size_t i = 0; i < SEALED_NUM_SLOTS; i++) {
		const uint8_t *slot = slots + i * SEALED_SLOT_SIZE;

		if (slot[0] != SEALED_SLOT_KEY_FILE)
			continue;
		r = open_slot(slot, unlock, ret_file_key);
		if (r == 0)
			return 0;
	}
	return r;
}

static int check_frame(const uint8_t *data, size_t len)
{
	uint8_t sum[CHECKSUM_SIZE];

	if (len < PREFIX_SIZE + CHECKSUM_SIZE || memcmp(data, prefix, 4) != 0)
		return -EBADMSG;
	checksum(data, len - CHECKSUM_SIZE, sum);
	if (sodium_memcmp(sum, data + len - CHECKSUM_SIZE, CHECKSUM_SIZE) != 0)
		return -EBADMSG;
	if (data[4] != VERSION || data[5] != SUITE)
		return -EPROTONOSUPPORT;
	if (len != SEALED_SIZE || data[OFF_NUM_SLOTS] != SEALED_NUM_SLOTS ||
		get_le(data + OFF_BODY_LEN, 4) != BODY_SIZE)
		return -EILSEQ;
	return 0;
}

static int open_body(
	const uint8_t *data, const uint8_t file_key[32], uint8_t ret_packed[KEYRING_PACKED_SIZE])
{
	uint8_t expected[32];

	commitment(file_key, data + OFF_NONCE, expected);
	if (sodium_memcmp(expected, data + OFF_COMMITMENT, 32) != 0)
		return -EILSEQ;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(ret_packed, NULL, NULL,
		    data + SEALED_HEADER_SIZE, BODY_SIZE, data, SEALED_HEADER_SIZE,
		    data + OFF_NONCE, file_key) != 0)
		return -EILSEQ;
	return 0;
}

int sealed_read(const uint8_t *data, size_t len, const uint8_t unlock[SEALED_KEY_SIZE],
	struct sealed_slots *ret_slots, uint64_t *ret_generation,
	uint8_t ret_file_key[SEALED_KEY_SIZE], uint8_t ret_packed[KEYRING_PACKED_SIZE])
{
	int r = check_frame(data, len);

	if (r < 0)
		return r;
	r = find_file_key(data + OFF_SLOTS, unlock, ret_file_key);
	if (r == 0)
		r = open_body(data, ret_file_key, ret_packed);
	if (r < 0) {
		sodium_memzero(ret_file_key, SEALED_KEY_SIZE);
		sodium_memzero(ret_packed, KEYRING_PACKED_SIZE);
		return r;
	}
	memcpy(ret_slots->b, data + OFF_SLOTS, sizeof(ret_slots->b));
	*ret_generation = get_le(data + OFF_GENERATION, 8);
	return 0;
}
