/*
 * The keyring at rest: the bytes of the file keys/keyring.
 *
 *	  0 "BZK1" | 4 version 1 | 5 suite 1 | 6 number of slots 4 | 7 zero
 *	  8 le64 generation | 16 le32 length of the sealed keyring | 20 zero[4]
 *	 24 nonce[24] | 48 commitment[32] | 80 slots: 4 of 128 bytes each
 *	592 XChaCha20-Poly1305(file key, nonce, associated data = bytes 0 to 591, packed keyring)
 *	end checksum[32] = BLAKE2b-256 of all before it; in every version the last 32 bytes
 *
 *	slot: 0 type (0 none, 1 key file, 2 passphrase) | 1 zero[3]
 *	      4 le32 Argon2id passes | 8 le32 Argon2id KiB | 12 le32 lanes (type 2; zero otherwise)
 *	      16 salt[16] | 32 nonce[24]
 *	      56 XChaCha20-Poly1305(KEK, nonce, associated data = file bytes 0 to 5, slot bytes 0 to
 *31, file key) 104 zero[24]
 *
 * A random file key seals the keyring; each slot is one way to that key (as in LUKS). KEK of type 1
 *= BLAKE2b-256(key = the 32 bytes of the file `unlock`, label, salt). Slots are copied unchanged
 *when the keyring is written anew, so the KEK is needed only to open. This build opens type 1 and
 *preserves type 2.
 *
 * Neither AEAD nor passphrase commits to a key: the commitment, a keyed BLAKE2b of the nonce, does,
 *so no file opens under two file keys. The checksum needs no key: it tells a torn or rotten file
 *(-EBADMSG) from a wrong unlock key (-EKEYREJECTED) and from one that somebody altered on purpose
 *(-EILSEQ).
 *
 * Pure: randomness comes as an argument, no files. Errors further: -EPROTONOSUPPORT unknown version
 *or suite, -ENOKEY no slot that a key file opens.
 */
#ifndef BAZIL_KEYD_SEALED_H
#define BAZIL_KEYD_SEALED_H

#include "keyd/keyring.h"

#include <stddef.h>
#include <stdint.h>

#define SEALED_NUM_SLOTS   4
#define SEALED_SLOT_SIZE   128
#define SEALED_HEADER_SIZE (80 + SEALED_NUM_SLOTS * SEALED_SLOT_SIZE)
#define SEALED_SIZE	   (SEALED_HEADER_SIZE + KEYRING_PACKED_SIZE + 16 + 32)
#define SEALED_KEY_SIZE	   32

enum sealed_slot_type {
	SEALED_SLOT_NONE = 0,
	SEALED_SLOT_KEY_FILE = 1,
	SEALED_SLOT_PASSPHRASE = 2,
};

/* What of a file is kept from one generation to the next. */
struct sealed_slots {
	uint8_t b[SEALED_NUM_SLOTS][SEALED_SLOT_SIZE];
};

/* Fills slot i. random: 40 fresh bytes. */
void sealed_set_key_slot(struct sealed_slots *slots, size_t i,
	const uint8_t unlock[SEALED_KEY_SIZE], const uint8_t file_key[SEALED_KEY_SIZE],
	const uint8_t random[40]);

/* nonce: 24 fresh random bytes. */
void sealed_write(const struct sealed_slots *slots, uint64_t generation,
	const uint8_t file_key[SEALED_KEY_SIZE], const uint8_t nonce[24],
	const uint8_t packed[KEYRING_PACKED_SIZE], uint8_t ret[SEALED_SIZE]);

/* ret_file_key and ret_packed belong into sodium_malloc'd memory. On failure they hold nothing. */
int sealed_read(const uint8_t *data, size_t len, const uint8_t unlock[SEALED_KEY_SIZE],
	struct sealed_slots *ret_slots, uint64_t *ret_generation,
	uint8_t ret_file_key[SEALED_KEY_SIZE], uint8_t ret_packed[KEYRING_PACKED_SIZE]);

#endif
