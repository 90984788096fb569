/*
 * Directories that fell into the root because concurrent moves closed a cycle (tree/view.h). Their
 * set is derived from the links alone; it is kept in a table so that listing the root finds them,
 * and brought up to date at the end of every frame of changes that moved a directory.
 */
#ifndef BAZIL_STORED_FALLEN_H
#define BAZIL_STORED_FALLEN_H

#include "stored/engine.h"

/* The winning link of directory oid has another parent now. */
int fallen_moved(struct engine *engine, uint64_t oid);
/* *ret_changed: the set is another one than before. */
int fallen_update(struct engine *engine, struct volume *vol, bool *ret_changed);
bool fallen_has(struct engine *engine, const struct volume *vol, uint64_t oid);

#endif
