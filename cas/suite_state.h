/*
 * What a suite is made of; for the files of cas/ only. See cas/suite.h.
 *
 * The compressor, the decompressor and the scratch memory are made when first used: a process that
 * only hashes never pays for them. scratch holds what is in clear and the largest payload.
 */
#ifndef BAZIL_CAS_SUITE_STATE_H
#define BAZIL_CAS_SUITE_STATE_H

#include "cas/id.h"
#include "cas/suite.h"

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>
#include <zstd.h>

struct cas_suite {
	EVP_MD *sha256;
	EVP_CIPHER *chacha;
	EVP_MD_CTX *hash;
	EVP_CIPHER_CTX *sealer;
	EVP_CIPHER_CTX *opener;
	ZSTD_CCtx *compressor;
	ZSTD_DCtx *decompressor;
	uint8_t *scratch;
};

/* SHA-256. Aborts when libcrypto fails: its memory is there already, so it has no reason to. */
void cas_suite_sha256(struct cas_suite *suite, const void *data, size_t len, uint8_t ret[32]);

/* Makes the parts that are made late. -ENOMEM. */
int cas_suite_need_scratch(struct cas_suite *suite);
int cas_suite_need_compressor(struct cas_suite *suite);
int cas_suite_need_decompressor(struct cas_suite *suite);

#endif
