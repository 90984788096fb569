/*
 * What the index says of itself: the rows of the table `meta` that have a name (stored/rows.h).
 */
#ifndef BAZIL_STORED_META_H
#define BAZIL_STORED_META_H

#include "stored/engine_state.h"

/* 1: there is one of this name; 0: there is none. */
int meta_get(struct engine *engine, const char *name, const uint8_t **ret, size_t *ret_len);
int meta_put(struct engine *engine, const char *name, const void *row, size_t len);

/* That the index covers the log up to here, and how far numbers have come; to be committed with
 * what it says. The volumes are saved as well. */
int meta_save(struct engine *engine, struct place position);
/* Sets what the engine knows by these rows; of an index that covers nothing all is zero. -EUCLEAN:
 * its rows are others than this program's, or nothing says what they cover. */
int meta_load(struct engine *engine);

/* engine->lost_at, and engine->from (stored/base.h), which are set. */
int meta_save_lost(struct engine *engine);
int meta_save_from(struct engine *engine);

#endif
