/*
 * Where the far parts of records are (stored/element.h): whoever reads the record reads them there,
 * so that their frames stay however old the changes in them are. A bit for each block: 32 KiB for a
 * GiB of log in which there are any.
 */
#include "stored/gc_state.h"

#include <errno.h>
#include <stdlib.h>

static int note(struct gc *gc, struct place sealed)
{
	struct gc_arena *arena = gc_arena(gc, sealed.arena);
	uint64_t block = sealed.offset / GC_BLOCK;

	if (!arena || sealed.arena >= gc->begin.arena || sealed.len == 0)
		return 0;
	if (!arena->far)
		arena->far = calloc(1, arena->num_far / 8 + 1);
	if (!arena->far)
		return -ENOMEM;
	for (; block * GC_BLOCK < sealed.offset + sealed.len; block++)
		if (block < arena->num_far)
			arena->far[block / 8] |= (uint8_t)(1u << block % 8);
	return 0;
}

int gc_far_note(struct gc *gc, const struct reg *reg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < reg->num; i++)
		if (reg->e[i].is_far)
			r = note(gc, reg->e[i].sealed);
	return r;
}

bool gc_far_has(const struct gc *gc, struct place payload)
{
	const struct gc_arena *arena = gc_arena(gc, payload.arena);
	uint64_t block = payload.offset / GC_BLOCK;

	if (!arena)
		return true;
	if (!arena->far)
		return false;
	for (; block * GC_BLOCK < payload.offset + payload.len; block++)
		if (block < arena->num_far && arena->far[block / 8] & 1u << block % 8)
			return true;
	return false;
}
