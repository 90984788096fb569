/*
 * What the settings of volumes, peers and storages share (stored/settings.h): durable changes of
 * their rows, and the names that people give. Errors as there.
 */
#ifndef BAZIL_STORED_SETTINGS_ROWS_H
#define BAZIL_STORED_SETTINGS_ROWS_H

#include "stored/settings.h"

#define STORAGE_LOCAL "local"

/* A change of several rows: settings_begin; change_row and its like; settings_finish with how it
 * went so far. Then it is durable, or as if it had never begun. vol: the number of the volume whose
 * state changes, or 0. */
int settings_begin(struct engine *engine);
int settings_finish(struct engine *engine, uint32_t vol, int r);
/* One row; value NULL: an empty one. */
int settings_put_row(struct engine *engine, const uint8_t *key, size_t key_len,
	const uint8_t *value, size_t len);
/* Deletes the rows with a prefix that have match at match_at; between begin and finish. */
int settings_drop_rows(struct engine *engine, const uint8_t *prefix, size_t len, size_t match_at,
	const uint8_t *match, size_t match_len);
/* Returns the key's length. */
size_t settings_storage_row(
	uint8_t key[17 + ENGINE_STORAGE_MAX], const uint8_t volume[16], const char *storage);

bool settings_is_name(const char *name);
/* what: is named in the error. */
int settings_check_name(struct engine *engine, const char *what, const char *name);
/* 64 hex digits, of either case. */
bool settings_hex_key(const char *hex, uint8_t ret_key[32]);
/* -ENOENT. */
int settings_peer_nicknamed(struct engine *engine, const char *nickname, struct settings_peer *ret);

#endif
