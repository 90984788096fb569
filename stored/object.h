/*
 * Sealed objects in the arenas and their rows in the index.
 */
#ifndef BAZIL_STORED_OBJECT_H
#define BAZIL_STORED_OBJECT_H

#include "stored/engine_state.h"

/* A row of `objects`. */
struct object_row {
	struct place place;
	bool is_leaf; /* known to refer to nothing; a row from before does not say so */
};
int object_row_parse(const uint8_t *value, size_t len, struct object_row *ret);
bool object_is_leaf(struct engine *engine, const uint8_t id[32]);

/* The later frame of an id wins. A hole is noted: a FRAME_FREED must name it, or it is damage. */
int object_replay(struct engine *engine, const struct frame_view *frame);
int object_replay_freed(struct engine *engine, const struct frame_view *frame);
/* Tells of the holes that nobody named, after all frames. */
void object_holes_end(struct engine *engine);

/*
 * Gives objects up: a FRAME_FREED, and their rows go, but of an object whose row names another
 * place, which is left. To be flushed as all changes. Only after an engine_checkpoint may the bytes
 * be punched.
 */
int object_free(struct engine *engine, const struct frame_freed *list, uint32_t num);
/* Puts a copy (its bytes verified by the caller) at the end; the row names that from now on. The
 * old place is to be given up by object_free. */
int object_move(struct engine *engine, const struct sealed_object *object, const uint8_t *sealed);
/* After a failed change: takes back what was not flushed, makes room in the index. The error to
 * return: -ERESTART, or -EIO. */
int engine_undo(struct engine *engine, int err);

/* The two rows of an object; tag zero: it has none and so no second row. A manifest never has a
 * tag; without one it is as the caller knows. */
int object_put_row(struct engine *engine, const uint8_t id[32], const uint8_t tag[32],
	struct place sealed, bool is_leaf);
int object_put_tag(struct engine *engine, const uint8_t id[32], const uint8_t tag[32]);

#endif
