/*
 * The id of an object: SHA-256 of its sealed bytes (libcrypto). A digest is made once and reused,
 * since fetching the algorithm costs more than hashing a small object.
 */
#ifndef BAZIL_STORED_DIGEST_H
#define BAZIL_STORED_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct digest;

struct digest *digest_new(void); /* NULL: no memory or no SHA-256 */
void digest_free(struct digest *digest);
int digest_of(struct digest *digest, const void *data, size_t len, uint8_t ret_id[32]);
/* The same piece by piece: begin, any number of add, end. One at a time for each digest. */
int digest_begin(struct digest *digest);
int digest_add(struct digest *digest, const void *data, size_t len);
int digest_end(struct digest *digest, uint8_t ret_id[32]);

#endif
