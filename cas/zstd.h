/*
 * One piece of data as one zstd frame (RFC 8878) without content size, checksum and dictionary: who
 * keeps the frame keeps both lengths, and authenticates it.
 *
 * What a frame looks like depends on zstd's version; that it opens does not. So nothing may be
 * derived from plain data whose frame is then sealed under a fixed nonce (cas/object.h).
 */
#ifndef BAZIL_CAS_ZSTD_H
#define BAZIL_CAS_ZSTD_H

#include <stddef.h>

struct cas_suite;

/* Bytes written to out, at most room; 0: it takes more, or memory is short. zstd gives up as soon
 * as room is out of reach, so ask for no more than what is worth it. */
size_t cas_zstd_pack(
	struct cas_suite *suite, int level, const void *plain, size_t len, void *out, size_t room);

/* Exactly one frame that is exactly plain_len bytes: -EBADMSG otherwise, -ENOMEM. */
int cas_zstd_unpack(struct cas_suite *suite, const void *packed, size_t packed_len, void *out,
	size_t plain_len);

#endif
