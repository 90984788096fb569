/*
 * The running hash and chaining key of a Noise handshake (SymmetricState, revision 34, section
 * 5.2, with BLAKE2b): what both sides have said and agreed on so far. Used by noise/handshake.c
 * alone; apart, so that it can be checked against the specification line by line.
 *
 * init -> prologue by mix_hash -> mix_key, mix_hash, encrypt_and_hash, decrypt_and_hash in the
 * order of the pattern -> split -> wipe. Errors as in noise/cipher.h.
 */
#ifndef BAZIL_NOISE_SYMMETRIC_H
#define BAZIL_NOISE_SYMMETRIC_H

#include "noise/cipher.h"

#include <stdbool.h>

#define NOISE_HASH_SIZE 64

struct noise_symmetric {
	struct noise_cipher cipher;
	bool has_key;
	uint8_t chaining_key[NOISE_HASH_SIZE];
	uint8_t hash[NOISE_HASH_SIZE];
};

/* name: the protocol's name, at most NOISE_HASH_SIZE bytes, e.g. "Noise_XX_25519_...". */
void noise_symmetric_init(struct noise_symmetric *sym, const char *name);

void noise_symmetric_mix_hash(struct noise_symmetric *sym, const uint8_t *data, size_t len);

/* shared: the 32 bytes of a Diffie-Hellman. */
void noise_symmetric_mix_key(struct noise_symmetric *sym, const uint8_t shared[32]);

/* Bytes that a message grows by here: 0 before the first mix_key, then NOISE_TAG_SIZE. */
size_t noise_symmetric_overhead(const struct noise_symmetric *sym);

/* Encrypts in the open before the first mix_key, as the specification wants it. */
int noise_symmetric_encrypt_and_hash(struct noise_symmetric *sym, const uint8_t *plain, size_t len,
	uint8_t *out, size_t out_size, size_t *ret_len);
/* out must not be the same memory as message: the ciphertext is hashed after it is opened. */
int noise_symmetric_decrypt_and_hash(struct noise_symmetric *sym, const uint8_t *message,
	size_t len, uint8_t *out, size_t out_size, size_t *ret_len);

/* first: from initiator to responder; second: the way back. */
void noise_symmetric_split(const struct noise_symmetric *sym, struct noise_cipher *ret_first,
	struct noise_cipher *ret_second);

void noise_symmetric_wipe(struct noise_symmetric *sym);

#endif
