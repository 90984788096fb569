/*
 * From a connected socket to ciphers and a proved identity: Noise_XX_25519_ChaChaPoly_BLAKE2b with
 * the prologue "bazil/1\0", introductions (syncd/intro.h) as payloads, and the static
 * Diffie-Hellman done by keyd.
 *
 * The one who dialled (expected != NULL) fails at once, before it has shown its own identity, when
 * the other side is not whom it expects. The one who was called shows no reason: whatever is wrong
 * (a key that nobody added, a bad signature, versions, garbage), nothing more is sent, and the
 * connection is closed limits->refusal after the last message.
 *
 * handshake_start() takes fd. done() comes exactly once, from the event loop: with err 0 and the
 * wire, which is then the receiver's; or with an error:
 *   -EKEYREJECTED     not the peer that was dialled
 *   -EPROTONOSUPPORT  no common version; -EBADMSG: not this protocol, or tampered with
 *   -ELOOP            it is this node itself
 *   -EACCES           refused by us
 *   -ETIMEDOUT, -ECONNRESET, other errors of the socket
 * A handshake can be given up by handshake_cancel(): no done().
 *
 * At most limits->max_handshakes at once, and few from one address (IPv6: from one /64): -EBUSY,
 * before any cryptography. keyd being restarted is waited for.
 */
#ifndef BAZIL_SYNCD_HANDSHAKE_H
#define BAZIL_SYNCD_HANDSHAKE_H

#include "noise/cipher.h"

#include <stdbool.h>
#include <stdint.h>

struct handshake;
struct syncd;
struct wire;

struct handshake_result {
	struct wire *wire;
	struct noise_cipher send, receive;
	uint8_t identity[32];
};

typedef void handshake_done_fn(void *arg, int err, struct handshake_result *result);

int handshake_start(struct syncd *d, int fd, const uint8_t *expected, handshake_done_fn *done,
	void *arg, struct handshake **ret);
void handshake_cancel(struct handshake *hs);

/* keyd is back: asks it again. */
void handshakes_resume(struct syncd *d);

#endif
