/*
 * Content ids. The id of an object is the SHA-256 (FIPS 180-4) of all its sealed bytes, so
 * whoever holds an object can check it with no key: a blind peer, a scrub, a person with
 * sha256sum.
 *
 * struct cas_id is public: it is shown to stored, syncd and peers. struct cas_hash is a hash of
 * plaintext (h of cas/object.h): it is what confirms a guess of the contents, so it leaves mountd
 * only towards keyd and is never logged. The types differ to make the compiler tell them apart.
 * The all-zero id means "none".
 */
#ifndef BAZIL_CAS_ID_H
#define BAZIL_CAS_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAS_ID_SIZE	32
#define CAS_ID_HEX_SIZE 65 /* with the NUL */

struct cas_suite;

struct cas_id {
	uint8_t b[CAS_ID_SIZE];
};

struct cas_hash {
	uint8_t b[32];
};

/* Cannot fail: memory was taken by cas_suite_new(). len may be 0. */
void cas_id_of(struct cas_suite *suite, const void *data, size_t len, struct cas_id *ret_id);

/* Ids are public, so the comparison need not take constant time. */
bool cas_id_equal(const struct cas_id *a, const struct cas_id *b);
int cas_id_compare(const struct cas_id *a, const struct cas_id *b);
bool cas_id_is_zero(const struct cas_id *id);

/* Writes 64 lower-case digits and a NUL; returns hex. */
char *cas_id_hex(const struct cas_id *id, char hex[CAS_ID_HEX_SIZE]);

/* Exactly 64 hex digits of either case followed by NUL, else -EINVAL. */
int cas_id_parse(const char *hex, struct cas_id *ret_id);

#endif
