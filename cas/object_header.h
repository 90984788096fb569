/*
 * The bytes that every object starts with; for the files of cas/ only.
 */
#ifndef BAZIL_CAS_OBJECT_HEADER_H
#define BAZIL_CAS_OBJECT_HEADER_H

#include "cas/object.h"

/* Of the version that is written. */
void cas_object_header(enum cas_type type, uint8_t header[CAS_OBJECT_HEADER]);
/* Bytes before the encrypted ones of a chunk, of whichever version its header says. */
static inline size_t cas_chunk_clear(const uint8_t *object)
{
	return CAS_OBJECT_HEADER + (object[4] == 1 ? 0 : CAS_CHUNK_SIV);
}

#endif
