#include "cas/suite.h"

#include "cas/object.h"
#include "cas/sha256.h"
#include "cas/suite_state.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdlib.h>

#define SCRATCH_SIZE (CAS_OBJECT_HEADER + CAS_CHUNK_SIV + CAS_CHUNK_PAYLOAD_MAX)

struct cas_suite *cas_suite_new(void)
{
	struct cas_suite *suite = calloc(1, sizeof(*suite));

	if (!suite)
		return NULL;
	/* Without this the first fetch opens openssl.cnf, which a sandbox answers by a kill. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	suite->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	suite->chacha = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
	suite->hash = EVP_MD_CTX_new();
	suite->sealer = EVP_CIPHER_CTX_new();
	suite->opener = EVP_CIPHER_CTX_new();
	if (!suite->sha256 || !suite->chacha || !suite->hash || !suite->sealer || !suite->opener)
		goto fail;
	/* Binding the algorithms now takes the memory that later calls would ask for. */
	if (EVP_DigestInit_ex2(suite->hash, suite->sha256, NULL) != 1 ||
		EVP_EncryptInit_ex2(suite->sealer, suite->chacha, NULL, NULL, NULL) != 1 ||
		EVP_DecryptInit_ex2(suite->opener, suite->chacha, NULL, NULL, NULL) != 1)
		goto fail;
	return suite;
fail:
	cas_suite_free(suite);
	return NULL;
}

void cas_suite_free(struct cas_suite *suite)
{
	if (!suite)
		return;
	ZSTD_freeCCtx(suite->compressor);
	ZSTD_freeDCtx(suite->decompressor);
	if (suite->scratch)
		sodium_memzero(suite->scratch, SCRATCH_SIZE);
	free(suite->scratch);
	EVP_CIPHER_CTX_free(suite->opener);
	EVP_CIPHER_CTX_free(suite->sealer);
	EVP_MD_CTX_free(suite->hash);
	EVP_CIPHER_free(suite->chacha);
	EVP_MD_free(suite->sha256);
	free(suite);
}

void cas_suite_sha256(struct cas_suite *suite, const void *data, size_t len, uint8_t ret[32])
{
	if (EVP_DigestInit_ex2(suite->hash, NULL, NULL) != 1 ||
		EVP_DigestUpdate(suite->hash, data, len) != 1 ||
		EVP_DigestFinal_ex(suite->hash, ret, NULL) != 1)
		abort();
}

void cas_sha256_all(struct cas_suite *suite, const struct cas_sha256 *jobs, size_t num)
{
	if (cas_sha256_many(jobs, num))
		return;
	for (size_t i = 0; i < num; i++)
		cas_suite_sha256(suite, jobs[i].data, jobs[i].len, jobs[i].ret);
}

int cas_suite_need_scratch(struct cas_suite *suite)
{
	if (!suite->scratch)
		suite->scratch = malloc(SCRATCH_SIZE);
	return suite->scratch ? 0 : -ENOMEM;
}

int cas_suite_need_compressor(struct cas_suite *suite)
{
	if (suite->compressor)
		return 0;
	suite->compressor = ZSTD_createCCtx();
	if (!suite->compressor)
		return -ENOMEM;
	/* The chunk's head has the length and the AEAD the checksum: bytes and time saved. */
	ZSTD_CCtx_setParameter(suite->compressor, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(suite->compressor, ZSTD_c_checksumFlag, 0);
	ZSTD_CCtx_setParameter(suite->compressor, ZSTD_c_dictIDFlag, 0);
	return 0;
}

int cas_suite_need_decompressor(struct cas_suite *suite)
{
	if (!suite->decompressor)
		suite->decompressor = ZSTD_createDCtx();
	return suite->decompressor ? 0 : -ENOMEM;
}
