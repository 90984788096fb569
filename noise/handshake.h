/*
 * The handshake Noise_XX_25519_ChaChaPoly_BLAKE2b (Noise Protocol Framework, revision 34): two
 *nodes that hold an X25519 key each agree on fresh keys and learn each other's static key, which no
 * listener and no impostor learns from the one who checks first (the responder's is shown to
 *anybody who calls, the initiator's only to the responder whose key he has read).
 *
 *	initiator                        responder
 *	write 1  -> e                    read  1
 *	read  2  <- e, ee, s, es         write 2 *
 *	write 3 *-> s, se                read  3
 *	split                            split
 *
 * The private half of the local static key is not here: it stays in another process. At the steps
 * marked * write answers -EAGAIN and a public key, and has changed nothing; the caller has the
 * Diffie-Hellman of the static key with that public key done elsewhere, gives the 32 bytes to
 * noise_handshake_supply_dh and repeats the write. As soon as the message before has been read,
 * noise_handshake_needs_dh tells the same, so that the two can overlap.
 *
 * What a payload is worth: 1 is sent in the clear and unauthenticated; 2 is secret from listeners,
 * its receiver knows the sender, its sender knows nothing yet; 3 is secret and authentic. Whose key
 * the static key is, is not answered here (noise/vouch.h). Nobody may act on payload 2 or 3 before
 * having judged noise_handshake_remote_static.
 *
 * Errors. These leave the handshake as it was: -EAGAIN see above, -EINVAL not this side's turn,
 * -EMSGSIZE more than NOISE_MESSAGE_MAX, -ENOBUFS destination too small. These end it, wipe every
 * secret, and make all later calls -ECONNABORTED: -EBADMSG truncated, tampered with, or a
 * low-order point; -ELOOP the other side has our own static or ephemeral key (we talk to ourselves
 *or somebody reflects). Pure: the randomness is an argument. The struct holds secrets: wipe it.
 */
#ifndef BAZIL_NOISE_HANDSHAKE_H
#define BAZIL_NOISE_HANDSHAKE_H

#include "noise/cipher.h"
#include "noise/symmetric.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOISE_DH_SIZE 32

/* How much longer than its payload each message is. */
#define NOISE_XX_OVERHEAD_1 32
#define NOISE_XX_OVERHEAD_2 96
#define NOISE_XX_OVERHEAD_3 64

enum noise_step {
	NOISE_STEP_MESSAGE_1,
	NOISE_STEP_MESSAGE_2,
	NOISE_STEP_MESSAGE_3,
	NOISE_STEP_SPLIT,
	/* split was called: hash and remote static key remain readable. */
	NOISE_STEP_DONE,
	NOISE_STEP_FAILED,
};

struct noise_handshake {
	bool is_initiator;
	enum noise_step step;
	struct noise_symmetric sym;
	uint8_t static_public[NOISE_DH_SIZE];
	uint8_t ephemeral_secret[NOISE_DH_SIZE];
	uint8_t ephemeral_public[NOISE_DH_SIZE];
	uint8_t remote_static[NOISE_DH_SIZE];
	uint8_t remote_ephemeral[NOISE_DH_SIZE];
	/* The answer to -EAGAIN. */
	bool has_dh;
	uint8_t dh[NOISE_DH_SIZE];
};

/*
 * prologue: what both must have said or known before, e.g. a protocol's name and version; the
 * handshake fails when the two differ. ephemeral_secret: 32 fresh random bytes, used for this
 * handshake and never again; the caller wipes his copy.
 */
void noise_handshake_init(struct noise_handshake *hs, bool is_initiator, const uint8_t *prologue,
	size_t prologue_len, const uint8_t static_public[NOISE_DH_SIZE],
	const uint8_t ephemeral_secret[NOISE_DH_SIZE]);

/*
 * Makes the next message of this side: len + NOISE_XX_OVERHEAD_n bytes. payload and out must not
 * overlap. On -EAGAIN ret_peer is the public key for the Diffie-Hellman.
 */
int noise_handshake_write(struct noise_handshake *hs, const uint8_t *payload, size_t len,
	uint8_t *out, size_t out_size, size_t *ret_len, uint8_t ret_peer[NOISE_DH_SIZE]);

/* Takes the next message of the other side: len - NOISE_XX_OVERHEAD_n bytes of payload. */
int noise_handshake_read(struct noise_handshake *hs, const uint8_t *message, size_t len,
	uint8_t *payload, size_t payload_size, size_t *ret_len);

/* Is the next write waiting for a Diffie-Hellman with ret_peer? */
bool noise_handshake_needs_dh(const struct noise_handshake *hs, uint8_t ret_peer[NOISE_DH_SIZE]);

/* -EINVAL when none is wanted; -EBADMSG for all zero bytes, the result of a low-order point. */
int noise_handshake_supply_dh(struct noise_handshake *hs, const uint8_t shared[NOISE_DH_SIZE]);

/* All three messages are through and split may be called. */
bool noise_handshake_is_complete(const struct noise_handshake *hs);

/* The other side's static key; NULL while it is not known and proved (initiator: after message 2).
 */
const uint8_t *noise_handshake_remote_static(const struct noise_handshake *hs);

/* Names this conversation for both sides alike (channel binding); NULL before the last message. */
const uint8_t *noise_handshake_hash(const struct noise_handshake *hs);

/* The ciphers of the conversation; once. All secrets in hs are wiped. -EINVAL when not complete. */
int noise_handshake_split(struct noise_handshake *hs, struct noise_cipher *ret_send,
	struct noise_cipher *ret_receive);

void noise_handshake_wipe(struct noise_handshake *hs);

#endif
