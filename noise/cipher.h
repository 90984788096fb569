/*
 * One direction of an encrypted conversation: a key and a message counter (the CipherState of
 * the Noise Protocol Framework, revision 34, section 5.1, with ChaCha20-Poly1305).
 *
 * noise_cipher_init -> encrypt or decrypt, strictly in the order of the wire -> noise_cipher_wipe.
 * Both ends of a direction count alike: a lost, repeated or reordered message fails to decrypt,
 * and after a failure the direction is of no more use, since an attacker is talking or the ends are
 * out of step. Pure: no I/O, no clock, no randomness, no allocation.
 *
 * A message is its plaintext followed by a tag of 16 bytes, NOISE_MESSAGE_MAX bytes at most. Source
 * and destination of encrypt and decrypt may be the same address; they must not overlap otherwise.
 *
 * Errors: -EMSGSIZE longer than a Noise message, -ENOBUFS the destination is too small (both leave
 * the state alone), -EBADMSG not authentic or too short (the counter does not move), -EOVERFLOW
 * 2^64 - 1 messages are used up.
 */
#ifndef BAZIL_NOISE_CIPHER_H
#define BAZIL_NOISE_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#define NOISE_KEY_SIZE	    32
#define NOISE_TAG_SIZE	    16
#define NOISE_MESSAGE_MAX   65535
#define NOISE_PLAINTEXT_MAX (NOISE_MESSAGE_MAX - NOISE_TAG_SIZE)

struct noise_cipher {
	uint8_t key[NOISE_KEY_SIZE];
	/* Number of the next message; 2^64 - 1 is kept for rekeying and never sent. */
	uint64_t nonce;
};

void noise_cipher_init(struct noise_cipher *cipher, const uint8_t key[NOISE_KEY_SIZE]);

/* Writes len + NOISE_TAG_SIZE bytes. ad is authenticated, not sent; NULL when ad_len is 0. */
int noise_cipher_encrypt(struct noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
	const uint8_t *plain, size_t len, uint8_t *out, size_t out_size, size_t *ret_len);

/* Writes len - NOISE_TAG_SIZE bytes, and nothing readable when it fails. */
int noise_cipher_decrypt(struct noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
	const uint8_t *message, size_t len, uint8_t *out, size_t out_size, size_t *ret_len);

/*
 * Replaces the key by a one-way function of itself (section 4.2): who steals the new key cannot
 * read what went before. Both ends must do so between the same two messages. The counter goes on.
 */
void noise_cipher_rekey(struct noise_cipher *cipher);

void noise_cipher_wipe(struct noise_cipher *cipher);

#endif
