/*
 * The reserve: a file of real blocks, given up when the disk is full, so that what is in flight can
 * be written and files can be deleted (deleting writes, too). Made again when there is room; until
 * then nothing else may use that much.
 */
#ifndef BAZIL_STORED_RESERVE_H
#define BAZIL_STORED_RESERVE_H

#include <stdint.h>

struct engine;

/* Makes sure that it is there, as well as it can. */
void reserve_open(struct engine *engine);
/* Bytes; 0: it was given up, or could not be made. */
uint64_t reserve_size(const struct engine *engine);

#endif
