/*
 * A node's identity (Ed25519) vouches for its Noise static key (X25519) by a signature, so that
 * neither key serves two purposes and the static one can be replaced: the scheme of libp2p's Noise
 * handshake. The signed bytes are a label, with its version and its final NUL, and the static key:
 * a signature made here means nothing elsewhere, nor the other way round.
 *
 * keyd makes the vouch; syncd carries it in the encrypted payload of handshake messages 2 and 3 and
 * checks the other side's against noise_handshake_remote_static, the key proved by the handshake.
 * The vouch is no secret and proves nothing without that.
 */
#ifndef BAZIL_NOISE_VOUCH_H
#define BAZIL_NOISE_VOUCH_H

#include <stdbool.h>
#include <stdint.h>

#define NOISE_VOUCH_SIZE 64

/* identity_secret: as libsodium holds it, seed then public key. */
void noise_vouch_make(const uint8_t identity_secret[64], const uint8_t static_public[32],
	uint8_t ret[NOISE_VOUCH_SIZE]);

/* Not constant time, as nothing here is secret. False for low-order identities too. */
bool noise_vouch_is_valid(const uint8_t identity[32], const uint8_t static_public[32],
	const uint8_t vouch[NOISE_VOUCH_SIZE]);

#endif
