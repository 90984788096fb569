#include "keyd/keyring.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PACKED_VERSION	1
#define OFF_VERSION	4
#define OFF_NUM		6
#define OFF_IDENTITY	8
#define OFF_NOISE	40
#define OFF_RESERVED	72
#define OFF_ENTRIES	128
#define ENTRY_SIZE	128
#define ENTRY_OFF_NAME	8
#define ENTRY_OFF_KEY	72
#define ENTRY_OFF_AFTER 104

struct vault_sharing {
	uint8_t secret[KEYRING_SECRET_SIZE];
	struct cas_sharing_keys derived;
};

/* Everything secret, in locked memory without access between two operations. */
struct vault {
	uint8_t identity_seed[crypto_sign_SEEDBYTES];
	uint8_t noise_secret[crypto_scalarmult_SCALARBYTES];
	struct vault_sharing sharing[KEYRING_SHARING_MAX];
	/* Last: clear() leaves it alone. */
	uint8_t file_key[32];
};

struct sharing {
	char name[KEYRING_NAME_MAX + 1];
	uint8_t keyid[CAS_KEYID_SIZE];
};

struct keyring {
	struct vault *vault;
	bool is_locked;
	uint8_t identity[crypto_sign_PUBLICKEYBYTES];
	uint8_t noise_static[crypto_scalarmult_BYTES];
	uint8_t vouch[NOISE_VOUCH_SIZE];
	size_t num_sharing;
	/* sharing[i] names vault->sharing[i]. */
	struct sharing sharing[KEYRING_SHARING_MAX];
};

/* mprotect of memory that is ours fails only if the kernel cannot split a mapping; then we stop. */
static const struct vault *vault_read(struct keyring *ring)
{
	if (sodium_mprotect_readonly(ring->vault) < 0)
		abort();
	return ring->vault;
}

static struct vault *vault_write(struct keyring *ring)
{
	if (sodium_mprotect_readwrite(ring->vault) < 0)
		abort();
	return ring->vault;
}

static void vault_close(struct keyring *ring)
{
	if (sodium_mprotect_noaccess(ring->vault) < 0)
		abort();
}

static void clear(struct keyring *ring)
{
	sodium_memzero(vault_write(ring), offsetof(struct vault, file_key));
	vault_close(ring);
	memset(ring->identity, 0, sizeof(ring->identity));
	memset(ring->noise_static, 0, sizeof(ring->noise_static));
	memset(ring->vouch, 0, sizeof(ring->vouch));
	ring->num_sharing = 0;
}

int keyring_new(struct keyring **ret)
{
	struct keyring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	ring->vault = sodium_malloc(sizeof(*ring->vault));
	if (!ring->vault) {
		free(ring);
		return -ENOMEM;
	}
	/* sodium_malloc locks too but does not say whether it could; locks of a page do not add up.
	 */
	ring->is_locked = sodium_mlock(ring->vault, sizeof(*ring->vault)) == 0;
	sodium_memzero(ring->vault, sizeof(*ring->vault));
	clear(ring);
	*ret = ring;
	return 0;
}

void keyring_free(struct keyring *ring)
{
	if (!ring)
		return;
	sodium_free(ring->vault);
	free(ring);
}

bool keyring_is_locked(const struct keyring *ring)
{
	return ring->is_locked;
}

/* Public halves and the vouch from the private ones. */
static void derive_public(struct keyring *ring, const struct vault *vault)
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES];

	crypto_sign_seed_keypair(ring->identity, secret, vault->identity_seed);
	crypto_scalarmult_base(ring->noise_static, vault->noise_secret);
	noise_vouch_make(secret, ring->noise_static, ring->vouch);
	sodium_memzero(secret, sizeof(secret));
}

static void put_sharing(struct keyring *ring, struct vault *vault, size_t i, const char *name,
	const uint8_t secret[KEYRING_SECRET_SIZE])
{
	struct vault_sharing *keys = &vault->sharing[i];

	memcpy(keys->secret, secret, KEYRING_SECRET_SIZE);
	cas_kdf_sharing(keys->secret, &keys->derived);
	memcpy(ring->sharing[i].keyid, keys->derived.keyid, CAS_KEYID_SIZE);
	memset(ring->sharing[i].name, 0, sizeof(ring->sharing[i].name));
	memcpy(ring->sharing[i].name, name, strlen(name));
}

int keyring_generate(struct keyring *ring)
{
	struct vault *vault;
	uint8_t secret[KEYRING_SECRET_SIZE];

	clear(ring);
	vault = vault_write(ring);
	randombytes_buf(vault->identity_seed, sizeof(vault->identity_seed));
	randombytes_buf(vault->noise_secret, sizeof(vault->noise_secret));
	randombytes_buf(vault->file_key, sizeof(vault->file_key));
	derive_public(ring, vault);
	randombytes_buf(secret, sizeof(secret));
	put_sharing(ring, vault, 0, KEYRING_DEFAULT, secret);
	sodium_memzero(secret, sizeof(secret));
	ring->num_sharing = 1;
	vault_close(ring);
	return 0;
}

static void put_le16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

void keyring_pack(struct keyring *ring, uint8_t packed[KEYRING_PACKED_SIZE])
{
	const struct vault *vault = vault_read(ring);

	memset(packed, 0, KEYRING_PACKED_SIZE);
	memcpy(packed, "BZKR", 4);
	put_le16(packed + OFF_VERSION, PACKED_VERSION);
	put_le16(packed + OFF_NUM, (unsigned)ring->num_sharing);
	memcpy(packed + OFF_IDENTITY, vault->identity_seed, 32);
	memcpy(packed + OFF_NOISE, vault->noise_secret, 32);
	for (size_t i = 0; i < ring->num_sharing; i++) {
		uint8_t *entry = packed + OFF_ENTRIES + i * ENTRY_SIZE;
		size_t len = strlen(ring->sharing[i].name);

		entry[0] = (uint8_t)len;
		memcpy(entry + ENTRY_OFF_NAME, ring->sharing[i].name, len);
		memcpy(entry + ENTRY_OFF_KEY, vault->sharing[i].secret, KEYRING_SECRET_SIZE);
	}
	vault_close(ring);
}

/* The index of a name among the first num_sharing, or -ENOKEY. */
static int find(const struct keyring *ring, const char *name)
{
	for (size_t i = 0; i < ring->num_sharing; i++) {
		if (strcmp(ring->sharing[i].name, name) == 0)
			return (int)i;
	}
	return -ENOKEY;
}

static int unpack_entry(struct keyring *ring, struct vault *vault, const uint8_t *entry)
{
	char name[KEYRING_NAME_MAX + 1] = "";
	size_t len = entry[0];

	if (len < 1 || len > KEYRING_NAME_MAX)
		return -EBADMSG;
	memcpy(name, entry + ENTRY_OFF_NAME, len);
	if (strlen(name) != len || !keyring_name_is_valid(name) || find(ring, name) >= 0)
		return -EBADMSG;
	if (!sodium_is_zero(entry + 1, 7) ||
		!sodium_is_zero(entry + ENTRY_OFF_NAME + len, KEYRING_NAME_MAX - len) ||
		!sodium_is_zero(entry + ENTRY_OFF_AFTER, ENTRY_SIZE - ENTRY_OFF_AFTER))
		return -EBADMSG;
	put_sharing(ring, vault, ring->num_sharing, name, entry + ENTRY_OFF_KEY);
	ring->num_sharing++;
	return 0;
}

static int unpack(struct keyring *ring, struct vault *vault, const uint8_t *packed)
{
	size_t num = packed[OFF_NUM] | packed[OFF_NUM + 1] << 8;
	const uint8_t *entries = packed + OFF_ENTRIES;
	int r;

	if (num > KEYRING_SHARING_MAX ||
		!sodium_is_zero(packed + OFF_RESERVED, OFF_ENTRIES - OFF_RESERVED))
		return -EBADMSG;
	memcpy(vault->identity_seed, packed + OFF_IDENTITY, 32);
	memcpy(vault->noise_secret, packed + OFF_NOISE, 32);
	for (size_t i = 0; i < num; i++) {
		r = unpack_entry(ring, vault, entries + i * ENTRY_SIZE);
		if (r < 0)
			return r;
	}
	if (!sodium_is_zero(entries + num * ENTRY_SIZE, (KEYRING_SHARING_MAX - num) * ENTRY_SIZE))
		return -EBADMSG;
	derive_public(ring, vault);
	return 0;
}

int keyring_unpack(struct keyring *ring, const uint8_t *packed, size_t len)
{
	int r;

	clear(ring);
	if (len < OFF_NUM || memcmp(packed, "BZKR", 4) != 0)
		return -EBADMSG;
	if (packed[OFF_VERSION] != PACKED_VERSION || packed[OFF_VERSION + 1] != 0)
		return -EPROTONOSUPPORT;
	if (len != KEYRING_PACKED_SIZE)
		return -EBADMSG;
	r = unpack(ring, vault_write(ring), packed);
	vault_close(ring);
	if (r < 0)
		clear(ring);
	return r;
}

void keyring_set_file_key(struct keyring *ring, const uint8_t key[32])
{
	memcpy(vault_write(ring)->file_key, key, 32);
	vault_close(ring);
}

void keyring_get_file_key(struct keyring *ring, uint8_t ret[32])
{
	memcpy(ret, vault_read(ring)->file_key, 32);
	vault_close(ring);
}

const uint8_t *keyring_identity(const struct keyring *ring)
{
	return ring->identity;
}

const uint8_t *keyring_noise_static(const struct keyring *ring)
{
	return ring->noise_static;
}

const uint8_t *keyring_vouch(const struct keyring *ring)
{
	return ring->vouch;
}

int keyring_dh(struct keyring *ring, const uint8_t peer[32], uint8_t ret_shared[32])
{
	int r = crypto_scalarmult(ret_shared, vault_read(ring)->noise_secret, peer);

	vault_close(ring);
	return r == 0 ? 0 : -EBADMSG;
}

bool keyring_name_is_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";
	size_t len = strspn(name, allowed);

	return len >= 1 && len <= KEYRING_NAME_MAX && name[len] == '\0';
}

int keyring_add(struct keyring *ring, const char *name, const uint8_t secret[KEYRING_SECRET_SIZE],
	uint8_t ret_keyid[CAS_KEYID_SIZE])
{
	size_t i = ring->num_sharing;

	if (!keyring_name_is_valid(name))
		return -EINVAL;
	if (find(ring, name) >= 0)
		return -EEXIST;
	if (i == KEYRING_SHARING_MAX)
		return -ENOSPC;
	put_sharing(ring, vault_write(ring), i, name, secret);
	/* Two names for one key: the key id that others know it by would be ambiguous. */
	if (keyring_name_of_keyid(ring, ring->sharing[i].keyid)) {
		sodium_memzero(&ring->vault->sharing[i], sizeof(struct vault_sharing));
		vault_close(ring);
		return -ENOTUNIQ;
	}
	vault_close(ring);
	ring->num_sharing++;
	memcpy(ret_keyid, ring->sharing[i].keyid, CAS_KEYID_SIZE);
	return 0;
}

int keyring_remove(struct keyring *ring, const char *name)
{
	int i = find(ring, name);
	struct vault *vault;
	size_t last;

	if (i < 0)
		return i;
	if (strcmp(name, KEYRING_DEFAULT) == 0)
		return -EPERM;
	vault = vault_write(ring);
	last = --ring->num_sharing;
	memmove(&vault->sharing[i], &vault->sharing[i + 1],
		(last - (size_t)i) * sizeof(vault->sharing[0]));
	memmove(&ring->sharing[i], &ring->sharing[i + 1],
		(last - (size_t)i) * sizeof(ring->sharing[0]));
	sodium_memzero(&vault->sharing[last], sizeof(vault->sharing[0]));
	vault_close(ring);
	return 0;
}

size_t keyring_num_sharing(const struct keyring *ring)
{
	return ring->num_sharing;
}

const char *keyring_sharing_name(const struct keyring *ring, size_t i)
{
	return ring->sharing[i].name;
}

const uint8_t *keyring_sharing_keyid(const struct keyring *ring, size_t i)
{
	return ring->sharing[i].keyid;
}

const char *keyring_name_of_keyid(const struct keyring *ring, const uint8_t keyid[CAS_KEYID_SIZE])
{
	for (size_t i = 0; i < ring->num_sharing; i++) {
		if (memcmp(ring->sharing[i].keyid, keyid, CAS_KEYID_SIZE) == 0)
			return ring->sharing[i].name;
	}
	return NULL;
}

int keyring_volume_keys(struct keyring *ring, const char *name,
	const uint8_t volume[CAS_VOLUME_SIZE], struct cas_volume_keys *ret)
{
	int i = find(ring, name);

	if (i < 0)
		return i;
	cas_kdf_volume(&vault_read(ring)->sharing[i].derived, volume, ret);
	vault_close(ring);
	return 0;
}

int keyring_chunk_keys(struct keyring *ring, const char *name, uint8_t type,
	const struct cas_hash *hashes, size_t num, uint8_t (*ret_keys)[CAS_KEY_SIZE],
	uint8_t (*ret_tags)[CAS_KEY_SIZE])
{
	int i = find(ring, name);
	const struct cas_sharing_keys *keys;

	if (i < 0)
		return i;
	keys = &vault_read(ring)->sharing[i].derived;
	for (size_t n = 0; n < num; n++) {
		cas_prf_chunk_key(keys, type, &hashes[n], ret_keys[n]);
		cas_prf_dedup_tag(keys, type, &hashes[n], ret_tags[n]);
	}
	vault_close(ring);
	return 0;
}
