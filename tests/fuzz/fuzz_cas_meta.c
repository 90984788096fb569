/*
 * Sealed parts of records: as they come, and names inside those that somebody with the keys made.
 */
#include "cas/metaseal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct cas_volume_keys keys;
	uint8_t again[CAS_NAME_ROOM], *out = malloc(size + CAS_META_OVERHEAD);
	uint8_t *back = malloc(size + 1);
	const char *name;
	size_t len, used;

	if (!out || !back)
		abort();
	if (cas_meta_open(&keys, "aad", 3, data, size, out) == 0 && size < CAS_META_OVERHEAD)
		abort();
	cas_meta_seal(&keys, "aad", 3, data, size, out);
	if (cas_meta_open(&keys, "aad", 3, out, size + CAS_META_OVERHEAD, back) < 0 ||
		memcmp(back, data, size) != 0)
		abort();
	if (cas_name_get(data, size, &name, &len, &used) == 0 &&
		(used > size || cas_name_put(name, len, again) != used ||
			memcmp(again, data, used) != 0))
		abort();
	free(out);
	free(back);
	return 0;
}
