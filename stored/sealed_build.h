/* What building a footer (sealed_build.c) and reading one (sealed_arena.c) share; for nobody else.
 */
#ifndef BAZIL_STORED_SEALED_BUILD_H
#define BAZIL_STORED_SEALED_BUILD_H

#include "stored/sealed_arena.h"

enum sealed_kind {
	SEALED_SORTED = 0,
	SEALED_MPH = 1,
};

#define SEALED_OBJECT_SIZE 80
#define SEALED_OTHER_SIZE  16

void sealed_trailer_emit(const struct sealed_trailer *t, uint32_t number, const uint8_t id[16],
	uint8_t ret_data[SEALED_TRAILER_SIZE]);
void sealed_object_emit(const struct sealed_object *object, const uint8_t arena_id[16],
	uint8_t ret_data[SEALED_OBJECT_SIZE]);

#endif
