/*
 * Keyed content-defined chunking: where a stream is cut depends on its bytes and on a secret
 * table, so an insertion moves the cuts near it only, and equal stretches of two files become
 * equal chunks.
 *
 * A gear hash over a window of 64 bytes (fp = 2 fp + table[byte]; Xia et al., FastCDC, ATC 2016)
 * is compared with a threshold that is strict before `normal` bytes and lax after (normalised
 * chunking), which keeps sizes near the mean. No cut before min; a cut at max at the latest. The
 * first min - 64 bytes of a chunk are not even read, hence the speed: 4.7 GB/s a core, measured
 * by tests/bench/cas.c on text and on noise.
 *
 * A cut depends on the bytes since the previous cut alone: not on how the data is fed, nor on
 * where in the file it is. So chunking started at any old cut finds the old cuts again.
 *
 * What the key does and does not: the table comes from the chunker key, so a stranger cannot
 * compute the chunk sizes of a known file. Who can make us store files of his choice and sees the
 * exact lengths of many chunks can solve for such tables (Alexeev, Percival, Zhang, eprint
 * 2025/532, did so for other systems' chunkers). What stands against it here is that nobody sees
 * exact lengths: compression and Padmé (cas/pad.h) blur each one to a bucket. This makes the
 * attack harder; it is not a proof. The rolling value itself never leaves the function.
 *
 * The sizes: of the tar of cas/zstd.h, all at level 4, 64 KiB leave 299 MB after compression, and a
 * byte in front and 1 % of its files edited add 11.3 MB; 80 leave 296 and add 13.5, 96 leave 295
 * and add 15.8, 128 leave 292. Each chunk has some 350 bytes of heads, manifest and index besides.
 * 84 is where both are well within what the peers need (tests/bench/backup.py). Lengths that differ
 * less (32 to 160, 48 to 256) change nothing. A read of one byte opens a chunk.
 *
 * Use: cas_chunker_init() once per volume key; then cas_chunker_cut() at each chunk start. The
 * struct is read-only afterwards and may be shared by threads; it is secret as the key is: wipe
 * it with sodium_memzero(). 2.1 KiB.
 */
#ifndef BAZIL_CAS_CHUNKER_H
#define BAZIL_CAS_CHUNKER_H

#include "cas/kdf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAS_CHUNKER_MIN	 (21u * 1024)
#define CAS_CHUNKER_MEAN (84u * 1024)
#define CAS_CHUNKER_MAX	 (256u * 1024)

struct cas_chunker_sizes {
	uint32_t min, mean, max; /* bytes; 64 <= min < mean < max <= CAS_CHUNK_PLAIN_MAX */
};

struct cas_chunker {
	uint64_t table[256];
	uint64_t strict, lax; /* a cut where the rolling value is below */
	uint32_t min, normal, max;
};

/* sizes NULL: the defaults above. -EINVAL: sizes out of range. */
int cas_chunker_init(struct cas_chunker *chunker, const uint8_t key[CAS_KEY_SIZE],
	const struct cas_chunker_sizes *sizes);

/*
 * data starts where the previous chunk ended. Returns the length of the chunk that starts there,
 * or 0 when more data is needed to tell; never 0 for len >= max, nor when is_end says that the
 * stream ends after len > 0 bytes. A 0 costs a scan of all of len: call with max bytes, or at the
 * end.
 */
size_t cas_chunker_cut(
	const struct cas_chunker *chunker, const uint8_t *data, size_t len, bool is_end);

#endif
