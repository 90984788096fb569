/*
 * Is a text the place of a peer? HOST, HOST:PORT, [V6], [V6]:PORT or V6, as the dialer takes it
 * (dialer/addresses.h), which resolves HOST when it connects: a name may well be unknown today.
 * Pure.
 */
#ifndef BAZIL_STORED_LOCATION_H
#define BAZIL_STORED_LOCATION_H

#include <stdbool.h>

bool location_is_valid(const char *text);

#endif
