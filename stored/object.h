/*
 * Sealed objects in the arenas and their rows in the index.
 */
#ifndef BAZIL_STORED_OBJECT_H
#define BAZIL_STORED_OBJECT_H

#include "stored/engine_state.h"

int object_replay(struct engine *engine, const struct frame_view *frame);
/* After a failed change: takes back what was not flushed, makes room in the index. The error to
 * return: -ERESTART, or -EIO. */
int engine_undo(struct engine *engine, int err);

#endif
