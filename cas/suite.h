/*
 * A suite: the algorithms of format suite 1, fetched once, and the working memory of one thread.
 *
 *	ids, payload hashes    SHA-256
 *	chunks                 zstd, ChaCha20-Poly1305 (RFC 8439)
 *	manifests, records     XChaCha20-Poly1305 with a synthetic nonce
 *	keys, tags, nonces     BLAKE2b
 *
 * Make one per thread with cas_suite_new() before the first hash; fetching an algorithm from
 * libcrypto costs more than hashing a small record, so it is done here and never again. Reads no
 * configuration file and no random source: it may be called before or after a sandbox is entered.
 * A suite must never be used by two threads at once. It holds plaintext in its scratch memory,
 * which cas_suite_free() wipes; libcrypto's contexts keep the last chunk key that was used.
 *
 * The process calls sodium_init() once before anything of cas/: without it BLAKE2b works, but
 * slowly.
 */
#ifndef BAZIL_CAS_SUITE_H
#define BAZIL_CAS_SUITE_H

struct cas_suite;

/* NULL: no memory, or a libcrypto without these algorithms. */
struct cas_suite *cas_suite_new(void);

/* NULL is allowed. */
void cas_suite_free(struct cas_suite *suite);

#endif
