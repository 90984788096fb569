/*
 * The reserve: a file of real blocks, given up when the disk is full, so that what is in flight can
 * be written and files can be deleted (deleting writes, too). Made again when there is room.
 */
#ifndef BAZIL_STORED_RESERVE_H
#define BAZIL_STORED_RESERVE_H

struct engine;

/* Makes sure that it is there, as well as it can. */
void reserve_open(struct engine *engine);

#endif
