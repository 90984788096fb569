/*
 * SHA-256 of many messages at once, a word of sixteen of them in each register (AVX-512).
 *
 * A processor's SHA instructions wait for themselves from round to round (2.0 GB/s on Zen 5);
 * sixteen messages side by side do not. Hashing is most of what storing costs, so that whoever has
 * several objects hashes them together. The result is the same bytes.
 *
 * Ours because no library of Debian 12 does it: the jobs of libipsec-mb end at 64 KiB, a chunk at
 * 256, and isa-l_crypto is not packaged.
 */
#ifndef BAZIL_CAS_SHA256_H
#define BAZIL_CAS_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAS_SHA256_LANES 16
#define CAS_SHA256_FEW	 6 /* fewer are faster one by one */

struct cas_suite;

struct cas_sha256 {
	const void *data;
	size_t len;
	uint8_t *ret; /* 32 bytes, outside of all data */
};

/* Whether this processor can; where not, messages are better hashed one by one while they are in
 * the cache. */
bool cas_sha256_has_lanes(void);

/* False, and nothing was done: this processor cannot, or they are so few or so unlike in length
 * that one by one is faster. The longest are begun first; with a few for each lane, lengths then
 * even out (29 chunks: 3.35 GB/s, in the order of their coming 2.55). */
bool cas_sha256_many(const struct cas_sha256 *jobs, size_t num);

/* All of them, the way that is faster. */
void cas_sha256_all(struct cas_suite *suite, const struct cas_sha256 *jobs, size_t num);

#endif
