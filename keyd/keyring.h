/*
 * The keyring: all secrets of a node, in memory.
 *
 * The node's identity (Ed25519), its Noise static key (X25519) with the identity's vouch for it, up
 * to KEYRING_SHARING_MAX named sharing keys, and the key that keyd/keyfile.h seals the file with.
 * Secrets and what is derived from them lie in one area of locked memory between guard pages, kept
 * out of core dumps and of swap, which can be read only while an operation of this file runs.
 * Public keys, names and key ids lie outside of it.
 *
 * keyring_new -> keyring_generate or keyring_unpack -> operations -> keyring_free. Nothing here
 * touches a file: a change is durable after keyfile_replace. sodium_init() must have been called.
 *
 * Errors: -EINVAL not a name, -EEXIST the name is taken, -ENOTUNIQ the key has another name
 * already, -ENOSPC full, -ENOKEY no sharing key of that name, -EPERM `default` stays, -EBADMSG
 * malformed or a low-order point, -EPROTONOSUPPORT unknown version, -ENOMEM.
 */
#ifndef BAZIL_KEYD_KEYRING_H
#define BAZIL_KEYD_KEYRING_H

#include "cas/kdf.h"
#include "noise/vouch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYRING_SHARING_MAX 64
#define KEYRING_NAME_MAX    64
#define KEYRING_SECRET_SIZE 32
/* The sharing key that every node has from the start. */
#define KEYRING_DEFAULT	    "default"

/*
 * The packed form, of the same size however many keys there are, so that the sealed file tells
 *nobody:
 *
 *	0 "BZKR" | 4 le16 version 1 | 6 le16 number of sharing keys | 8 identity seed[32]
 *	40 Noise secret[32] | 72 zero[56] | 128 entries: KEYRING_SHARING_MAX of 128 bytes each
 *	entry: 0 u8 length of the name | 1 zero[7] | 8 name[64], zero padded | 72 key[32] | 104
 *zero[24]
 */
#define KEYRING_PACKED_SIZE (128 + KEYRING_SHARING_MAX * 128)

struct keyring;

/* Empty, with memory locked as far as the system allows. */
int keyring_new(struct keyring **ret);
/* Wipes. NULL is allowed. */
void keyring_free(struct keyring *ring);

/* False: RLIMIT_MEMLOCK is too low and secrets may reach swap. */
bool keyring_is_locked(const struct keyring *ring);

/* A new node: fresh keys from the system's random source, and the sharing key `default`. */
int keyring_generate(struct keyring *ring);

/* packed holds secrets: it belongs into sodium_malloc'd memory. A failed unpack leaves ring empty.
 */
void keyring_pack(struct keyring *ring, uint8_t packed[KEYRING_PACKED_SIZE]);
int keyring_unpack(struct keyring *ring, const uint8_t *packed, size_t len);

/* The key that the keyring's file is sealed with, put into the care of the ring. */
void keyring_set_file_key(struct keyring *ring, const uint8_t key[32]);
void keyring_get_file_key(struct keyring *ring, uint8_t ret[32]);

const uint8_t *keyring_identity(const struct keyring *ring);
const uint8_t *keyring_noise_static(const struct keyring *ring);
const uint8_t *keyring_vouch(const struct keyring *ring);

/* Diffie-Hellman of the Noise static key. */
int keyring_dh(struct keyring *ring, const uint8_t peer[32], uint8_t ret_shared[32]);

/* 1 to KEYRING_NAME_MAX of A-Z a-z 0-9 . _ - */
bool keyring_name_is_valid(const char *name);

int keyring_add(struct keyring *ring, const char *name, const uint8_t secret[KEYRING_SECRET_SIZE],
	uint8_t ret_keyid[CAS_KEYID_SIZE]);
int keyring_remove(struct keyring *ring, const char *name);

/* In order of their adding; valid until the next change. */
size_t keyring_num_sharing(const struct keyring *ring);
const char *keyring_sharing_name(const struct keyring *ring, size_t i);
const uint8_t *keyring_sharing_keyid(const struct keyring *ring, size_t i);
/* NULL: none. */
const char *keyring_name_of_keyid(const struct keyring *ring, const uint8_t keyid[CAS_KEYID_SIZE]);

/* The keys of a volume of this sharing key. The caller wipes them. */
int keyring_volume_keys(struct keyring *ring, const char *name,
	const uint8_t volume[CAS_VOLUME_SIZE], struct cas_volume_keys *ret);

/* num chunk keys and dedup tags, in the order of the hashes. The caller wipes them. */
int keyring_chunk_keys(struct keyring *ring, const char *name, uint8_t type,
	const struct cas_hash *hashes, size_t num, uint8_t (*ret_keys)[CAS_KEY_SIZE],
	uint8_t (*ret_tags)[CAS_KEY_SIZE]);

#endif
