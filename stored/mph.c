#include "stored/mph.h"

#include <cmph.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Bytes a key that CMPH takes at most at once, while it makes a hash of either kind. */
#define WORK_BYTES 48u
#define WORK_FIXED 65536u

struct source {
	const struct mph_keys *keys;
	uint32_t next;
};

static int source_read(void *arg, char **ret_key, cmph_uint32 *ret_len)
{
	struct source *source = arg;

	/* CMPH gives it back to source_dispose and changes nothing. */
	*ret_key = (char *)(uintptr_t)source->keys->keys[source->next++];
	*ret_len = source->keys->len;
	return (int)source->keys->len;
}

static void source_dispose(void *arg, char *key, cmph_uint32 len)
{
}

static void source_rewind(void *arg)
{
	struct source *source = arg;

	source->next = 0;
}

/* CMPH writes to what malloc returned without a look: memory is asked for here, where it may be
 * refused, and is there again a moment later. */
static bool has_memory(const struct mph_keys *keys)
{
	/* Or the compiler would leave both calls out. */
	void *volatile p = malloc((size_t)keys->num * WORK_BYTES + WORK_FIXED);
	bool has = p != NULL;

	free(p);
	return has;
}

/* CMPH is not trusted with the result either: it must be one slot for each key. */
static int find_slots(void *mph, const struct mph_keys *keys, uint32_t *ret_slots)
{
	uint8_t *taken = calloc(1, (size_t)keys->num / 8 + 1);
	uint32_t i, slot;
	int r = taken ? 0 : -ENOMEM;

	for (i = 0; r == 0 && i < keys->num; i++) {
		slot = mph_find(mph, keys->keys[i], keys->len);
		if (slot >= keys->num || taken[slot / 8] & 1u << slot % 8)
			r = -ERANGE;
		else
			taken[slot / 8] |= (uint8_t)(1u << slot % 8);
		ret_slots[i] = slot;
	}
	free(taken);
	return r;
}

static cmph_t *make(enum mph_kind kind, const struct mph_keys *keys)
{
	struct source source = { .keys = keys };
	cmph_io_adapter_t adapter = { &source, keys->num, source_read, source_dispose,
		source_rewind };
	cmph_config_t *config = cmph_config_new(&adapter);
	cmph_t *made = NULL;

	if (config) {
		cmph_config_set_algo(config, kind == MPH_CHD ? CMPH_CHD : CMPH_BDZ);
		made = cmph_new(config);
		cmph_config_destroy(config);
	}
	return made;
}

int mph_make(enum mph_kind kind, const struct mph_keys *keys, uint32_t *ret_slots, void **ret,
	uint32_t *ret_len)
{
	cmph_t *made;
	int r;

	if (!has_memory(keys))
		return -ENOMEM;
	made = make(kind, keys);
	if (!made)
		return -ERANGE;
	*ret_len = cmph_packed_size(made);
	*ret = calloc(1, *ret_len);
	if (*ret)
		cmph_pack(made, *ret);
	cmph_destroy(made);
	if (!*ret)
		return -ENOMEM;
	r = find_slots(*ret, keys, ret_slots);
	if (r < 0)
		free(*ret);
	return r;
}

uint32_t mph_find(void *mph, const uint8_t *key, uint32_t len)
{
	return cmph_search_packed(mph, (const char *)key, len);
}
