#include "stored/sealed_build.h"

#include <cmph.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ID_LEN 32

struct source {
	const uint8_t *const *ids;
	uint32_t next;
};

static int source_read(void *arg, char **ret_key, cmph_uint32 *ret_len)
{
	struct source *source = arg;

	/* CMPH gives it back to source_dispose and changes nothing. */
	*ret_key = (char *)(uintptr_t)source->ids[source->next++];
	*ret_len = ID_LEN;
	return ID_LEN;
}

static void source_dispose(void *arg, char *key, cmph_uint32 len)
{
}

static void source_rewind(void *arg)
{
	struct source *source = arg;

	source->next = 0;
}

/* CMPH is trusted with memory, not with the result: it must be one slot for each id. */
static bool is_perfect(void *mph, const uint8_t *const *ids, uint32_t num)
{
	uint8_t *taken = calloc(1, (size_t)num / 8 + 1);
	bool is = taken != NULL;
	uint32_t i, slot;

	for (i = 0; is && i < num; i++) {
		slot = sealed_mph_find(mph, ids[i]);
		is = slot < num && !(taken[slot / 8] & 1u << slot % 8);
		if (is)
			taken[slot / 8] |= (uint8_t)(1u << slot % 8);
	}
	free(taken);
	return is;
}

int sealed_mph_make(const uint8_t *const *ids, uint32_t num, void **ret, uint32_t *ret_len)
{
	struct source source = { .ids = ids };
	cmph_io_adapter_t adapter = { &source, num, source_read, source_dispose, source_rewind };
	cmph_config_t *config = cmph_config_new(&adapter);
	cmph_t *made;

	if (!config)
		return -ENOMEM;
	cmph_config_set_algo(config, CMPH_CHD);
	made = cmph_new(config);
	cmph_config_destroy(config);
	if (!made)
		return -ERANGE;
	*ret_len = cmph_packed_size(made);
	*ret = calloc(1, *ret_len);
	if (*ret)
		cmph_pack(made, *ret);
	cmph_destroy(made);
	if (!*ret)
		return -ENOMEM;
	if (is_perfect(*ret, ids, num))
		return 0;
	free(*ret);
	return -ERANGE;
}

uint32_t sealed_mph_find(void *mph, const uint8_t id[32])
{
	return cmph_search_packed(mph, (const char *)id, ID_LEN);
}
