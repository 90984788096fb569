/*
 * Volumes in memory: made from their settings row, their state read from and written to the index.
 */
#ifndef BAZIL_STORED_VOLUME_H
#define BAZIL_STORED_VOLUME_H

#include "stored/engine_state.h"

#define VOLUME_STATE_MAX (128 + 2 * TREE_KNOWLEDGE_SIZE)

struct volume *volume_numbered(struct engine *engine, uint32_t number);
/* Adds or changes the volume of a settings row. -EUCLEAN. */
int volume_configure(struct engine *engine, uint32_t number, const uint8_t *row, size_t len);
/* Forgets the volume and deletes all its rows but the settings row. */
int volume_drop(struct engine *engine, uint32_t number);
void volumes_release(struct engine *engine);
/* Out of the index's settings and state rows. Volumes in memory keep their address: those without a
 * row sleep until the replay comes to their creation; volumes_prune drops those that it did not. */
int volumes_load(struct engine *engine);
void volumes_prune(struct engine *engine);
/* Writes the state rows of those that changed. */
int volumes_save(struct engine *engine);

/* with_counters: for the index; without: for the log, where they are derived. */
size_t volume_state_emit(const struct volume *vol, bool with_counters, uint8_t *buf);
int volume_state_parse(struct volume *vol, bool with_counters, const uint8_t *data, size_t len);

/* A replica number under which nobody known of writes. */
int volume_new_replica(struct engine *engine, const struct volume *vol, uint32_t *ret);

#endif
