/*
 * Instants as people write them:
 *
 *	2026-11-21, 2026-11-21T10:00, 2026-11-21T10:00:00, ...:00.25   ISO 8601; a blank for the T
 *	the same and Z, +01:00, +0100 or +01                           with its zone; else local
 *time -2h, -1d12h, -90s                                              so long ago: w d h m s
 *	1763719200, 1763719200.25                                      seconds since 1970
 *
 * Local time is what TZ says (mktime). Everything else is pure.
 */
#ifndef BAZIL_TREE_INSTANT_H
#define BAZIL_TREE_INSTANT_H

#include <stdint.h>

/* now and *ret: ns since 1970. -EINVAL: it is none of these. */
int instant_parse(const char *text, int64_t now, int64_t *ret);

#endif
