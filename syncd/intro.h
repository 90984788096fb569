/*
 * How two nodes introduce themselves: the payloads of the three handshake messages. Pure: no I/O.
 *
 *   message 1, in clear:    magic "BZN1" | u8 n | n x u16 protocol version
 *   messages 2, 3, sealed:  magic "BZN1" | u8 n | n x u16 protocol version | u64 features |
 *                           identity[32] | vouch[64]
 *
 * Little-endian. Message 1 is bound into the handshake's hash, so nobody in the middle can take
 * versions away from it. More bytes may follow in later versions and are passed over, up to the
 * caps. features is zero today: bits that both sides have set are to be used.
 *
 * Whether the vouch is true and the identity welcome is for the caller to check
 * (syncd/handshake.c).
 */
#ifndef BAZIL_SYNCD_INTRO_H
#define BAZIL_SYNCD_INTRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The one version of the protocol that is spoken: the schema of ipc/peer.msg in fragments. */
#define INTRO_VERSION	   1
#define INTRO_VERSIONS_MAX 16
/* Longest payload that is looked at. */
#define INTRO_HELLO_MAX	   64
#define INTRO_MAX	   512

struct intro {
	uint16_t versions[INTRO_VERSIONS_MAX];
	size_t num_versions;
	uint64_t features;
	uint8_t identity[32];
	uint8_t vouch[64];
};

/* Message 1 carries the versions alone. Emits at most INTRO_HELLO_MAX or INTRO_MAX bytes; the
 * length. */
size_t intro_emit_hello(const struct intro *intro, uint8_t out[INTRO_HELLO_MAX]);
size_t intro_emit(const struct intro *intro, uint8_t out[INTRO_MAX]);

/* -EBADMSG: not an introduction. */
int intro_parse_hello(struct intro *ret, const uint8_t *data, size_t len);
int intro_parse(struct intro *ret, const uint8_t *data, size_t len);

/* The highest version that both have; 0: none. */
uint16_t intro_common_version(const struct intro *a, const struct intro *b);

#endif
