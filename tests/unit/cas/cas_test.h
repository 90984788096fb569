/* What every test of cas/ includes: cmocka, random numbers, a set of keys, hex. */
#ifndef BAZIL_TESTS_UNIT_CAS_CAS_TEST_H
#define BAZIL_TESTS_UNIT_CAS_CAS_TEST_H

#include "cas/kdf.h"
#include "cas/suite.h"

#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

/* secret 0 1 2 .. 31, volume 100 101 .. 115: those of vectors.py */
struct test_keys {
	uint8_t volume[CAS_VOLUME_SIZE];
	struct cas_sharing_keys sharing;
	struct cas_volume_keys keys;
};

static inline struct test_keys test_keys(void)
{
	struct test_keys k;
	uint8_t secret[CAS_KEY_SIZE];

	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(k.volume); i++)
		k.volume[i] = (uint8_t)(100 + i);
	cas_kdf_sharing(secret, &k.sharing);
	cas_kdf_volume(&k.sharing, k.volume, &k.keys);
	return k;
}

static inline void assert_hex(const uint8_t *data, size_t len, const char *hex)
{
	char *text = malloc(2 * len + 1);

	assert_non_null(text);
	sodium_bin2hex(text, 2 * len + 1, data, len);
	assert_string_equal(text, hex);
	free(text);
}

#endif
