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

int digest_begin(struct digest *digest)
{
	return EVP_DigestInit_ex2(digest->ctx, digest->md, NULL) ? 0 : -EIO;
}

int digest_add(struct digest *digest, const void *data, size_t len)
{
	return EVP_DigestUpdate(digest->ctx, data, len) ? 0 : -EIO;
}

int digest_end(struct digest *digest, uint8_t ret_id[32])
{
	return EVP_DigestFinal_ex(digest->ctx, ret_id, NULL) ? 0 : -EIO;
}

int digest_of(struct digest *digest, const void *data, size_t len, uint8_t ret_id[32])
{
	int r = digest_begin(digest);

	if (r == 0)
		r = digest_add(digest, data, len);
	return r < 0 ? r : digest_end(digest, ret_id);
}
