/*
 * The key schedule: everything that is derived from a sharing key.
 *
 *	S       sharing key, 32 random bytes                               never leaves keyd
 *	Kck     kdf(S, 1, "bzl1chnk")  chunk-key PRF                       never leaves keyd
 *	Ktag    kdf(S, 2, "bzl1dtag")  dedup-tag PRF                       never leaves keyd
 *	Kcdc    kdf(S, 3, "bzl1gear")  chunker key                         to mountd
 *	Kvol    kdf(S, 4, "bzl1vol_")  parent of the volumes' keys         never leaves keyd
 *	keyid   first 8 bytes of kdf(S, 9, "bzl1kid_")                     public name of S
 *	V       BLAKE2b-256(key = Kvol, volume id, personal "bazil.volume.v1")
 *	        kdf(V, 1..4, "bzl1meta"): seal, siv, name, value           to mountd of that volume
 *
 * kdf is libsodium's crypto_kdf (BLAKE2b with the number as salt and the context as personal);
 * the "1" in each label is the version of the schedule. The chunker key is the same for all
 * volumes of a sharing key, because chunks are shared between them.
 *
 * Chunk key = BLAKE2b-256(key = Kck, type || h), dedup tag = BLAKE2b-256(key = Ktag, type || h),
 *for the h and the K of cas/object.h. This is the key server of DupLESS (eprint 2013/429) within
 *one machine: who holds a ciphertext but not S cannot try guesses of the contents, and a broken
 *mountd has a countable oracle only.
 *
 * struct cas_sharing_keys and the functions that take it belong to keyd alone; keep it in locked
 * memory. struct cas_volume_keys goes to mountd. Nothing here fails: inputs have fixed sizes.
 */
#ifndef BAZIL_CAS_KDF_H
#define BAZIL_CAS_KDF_H

#include "cas/id.h"

#include <stdint.h>

#define CAS_KEY_SIZE	32
#define CAS_VOLUME_SIZE 16
#define CAS_KEYID_SIZE	8

struct cas_sharing_keys {
	uint8_t chunk[CAS_KEY_SIZE];
	uint8_t tag[CAS_KEY_SIZE];
	uint8_t chunker[CAS_KEY_SIZE];
	uint8_t volume[CAS_KEY_SIZE];
	uint8_t keyid[CAS_KEYID_SIZE];
};

struct cas_volume_keys {
	uint8_t chunker[CAS_KEY_SIZE]; /* cas/chunker.h */
	uint8_t seal[CAS_KEY_SIZE];    /* encrypts records and manifests */
	uint8_t siv[CAS_KEY_SIZE];     /* their synthetic nonces */
	uint8_t name[CAS_KEY_SIZE];    /* tags of names */
	uint8_t value[CAS_KEY_SIZE];   /* tags of values */
};

void cas_kdf_sharing(const uint8_t secret[CAS_KEY_SIZE], struct cas_sharing_keys *ret_keys);
void cas_kdf_volume(const struct cas_sharing_keys *keys, const uint8_t volume[CAS_VOLUME_SIZE],
	struct cas_volume_keys *ret_keys);

/* type is the object type, cas/object.h: a hash of one type never gives a key of another. */
void cas_prf_chunk_key(const struct cas_sharing_keys *keys, uint8_t type, const struct cas_hash *h,
	uint8_t ret_key[CAS_KEY_SIZE]);
void cas_prf_dedup_tag(const struct cas_sharing_keys *keys, uint8_t type, const struct cas_hash *h,
	uint8_t ret_tag[CAS_KEY_SIZE]);

#endif
