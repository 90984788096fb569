/*
 * Writing the 8 bytes that every object starts with; for the files of cas/ only.
 */
#ifndef BAZIL_CAS_OBJECT_HEADER_H
#define BAZIL_CAS_OBJECT_HEADER_H

#include "cas/object.h"

void cas_object_header(enum cas_type type, uint8_t header[CAS_OBJECT_HEADER]);

#endif
