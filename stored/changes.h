/* The list of what became other than mountd knows (struct engine_changes of stored/engine.h). */
#ifndef BAZIL_STORED_CHANGES_H
#define BAZIL_STORED_CHANGES_H

#include "stored/engine.h"

/* Adds one, or sets `all` when there are too many. */
int engine_changes_add(struct engine_changes *changes, const struct engine_change *change);

#endif
