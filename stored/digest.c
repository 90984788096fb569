#include "stored/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return NULL;
	digest->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	digest->ctx = EVP_MD_CTX_new();
	if (!digest->md || !digest->ctx) {
		digest_free(digest);
		return NULL;
	}
	return digest;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->ctx);
	EVP_MD_free(digest->md);
	free(digest);
}

int digest_of(struct digest *digest, const void *data, size_t len, uint8_t ret_id[32])
{
	if (!EVP_DigestInit_ex2(digest->ctx, digest->md, NULL) ||
		!EVP_DigestUpdate(digest->ctx, data, len) ||
		!EVP_DigestFinal_ex(digest->ctx, ret_id, NULL))
		return -EIO;
	return 0;
}
