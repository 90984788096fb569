/*
 * CRC-32C (Castagnoli, RFC 3720 B.4), which finds accidents, not attacks. Chained: start with 0 and
 * hand the result of one piece to the next.
 */
#ifndef BAZIL_STORED_CRC32C_H
#define BAZIL_STORED_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
