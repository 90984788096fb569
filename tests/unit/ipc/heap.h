/*
 * Looks through the heap for bytes that should be nowhere in it: in blocks that are in use and in
 * each at the moment in which it is freed. For one thread. The program is linked with --wrap of
 * malloc, calloc, realloc and free, so that it sees what our own code does, and not that of shared
 * libraries.
 */
#ifndef BAZIL_TESTS_UNIT_IPC_HEAP_H
#define BAZIL_TESTS_UNIT_IPC_HEAP_H

#include <stddef.h>

/* What to look for from now on; it lives as long as that. */
void heap_watch(const void *bytes, size_t len);
/* Blocks in use that have them. */
unsigned heap_in_use(void);
/* Blocks that had them when they were freed. */
unsigned heap_freed(void);

#endif
