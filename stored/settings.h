/*
 * Settings: volumes, where their objects may be, peers and what they may do. Every change is
 * durable when its function returns; engine_error then has a text for people if it failed.
 *
 * Rows of the table `settings`, each written to the log as it is:
 *   'v' u32be number          -> id[16] | keyid[8] | u8 n, name | u8 n, sharing
 *   'p' key[32]               -> u8 may store | u8 n, nickname | u16 n, address
 *   'a' key[32] volume[16]    -> nothing: the peer may pull this volume
 *   's' volume[16] storage    -> sharing
 *   'm' volume[16]            -> u32 flags | path: mounted there at every start
 *   'd' volume[16]            -> u64 ns since 1970: damage had taken changes of it away then
 *
 * A peer is named by its key, 64 hex digits, or by its nickname; a storage is "local" or
 * "peerkey:HEX" (written by people also as a nickname or bare hex).
 */
#ifndef BAZIL_STORED_SETTINGS_H
#define BAZIL_STORED_SETTINGS_H

#include "stored/engine.h"

#define SETTINGS_ADDRESS_MAX  256
#define SETTINGS_VOLUMES_MAX  256
#define SETTINGS_PEERS_MAX    256
#define SETTINGS_STORAGES_MAX 64 /* of one volume */
#define SETTINGS_MOUNTS_MAX   64
#define SETTINGS_PATH_MAX     4096

struct settings_peer {
	uint8_t key[32];
	bool may_store;
	char nickname[ENGINE_NAME_MAX + 1];
	char address[SETTINGS_ADDRESS_MAX + 1];
};

struct settings_storage {
	char storage[ENGINE_STORAGE_MAX + 1];
	char sharing[ENGINE_NAME_MAX + 1];
};

struct settings_mount {
	uint32_t flags; /* as ctl_volume_mount.flags; nothing is made of them here */
	char path[SETTINGS_PATH_MAX + 1];
};

/* id NULL: a new volume. With "local" as its storage. -EEXIST, -EINVAL. */
int settings_volume_add(struct engine *engine, const char *name, const uint8_t id[16],
	const char *sharing, const uint8_t keyid[8]);
int settings_volume_remove(struct engine *engine, const char *name);
/* NULL with engine_error set. */
struct volume *settings_volume(struct engine *engine, const char *name);

int settings_storage_add(
	struct engine *engine, const char *volume, const char *storage, const char *sharing);
int settings_storage_remove(struct engine *engine, const char *volume, const char *storage);
/* Up to max, in the order in which they are asked. */
int settings_storages(struct engine *engine, const uint8_t volume[16], struct settings_storage *ret,
	size_t max, size_t *ret_num);
/* The key of a "peerkey:HEX"; false for others. */
bool settings_storage_key(const char *storage, uint8_t ret_key[32]);

/* path "": nowhere. */
int settings_mount_set(struct engine *engine, const char *volume, const char *path, uint32_t flags);
/* -ENOENT. */
int settings_mount_get(struct engine *engine, const uint8_t volume[16], struct settings_mount *ret);

/*
 * A volume of which changes may be missing knows less than it says that it knows: whoever pulled
 * from it would take what is missing for deleted. So it is not served any more (engine_serve_begin:
 * -EUCLEAN); a new copy of a peer's takes its place. Each volume is marked that is there when such
 * damage is met (engine->has_lost_changes): whose changes they were cannot be told. 0, or an error
 * of writing: then it is for later.
 */
int settings_lost_note(struct engine *engine);
/* When that was; 0: never. */
uint64_t settings_lost_at(struct engine *engine, const uint8_t volume[16]);

int settings_peer_add(struct engine *engine, const char *hex, const char *nickname);
int settings_peer_remove(struct engine *engine, const char *peer);
int settings_peer_location(struct engine *engine, const char *peer, const char *address);
int settings_peer_storage(
	struct engine *engine, const char *peer, const char *storage, bool is_allowed);
int settings_peer_volume(
	struct engine *engine, const char *peer, const char *volume, bool is_allowed);
int settings_peer_nickname(struct engine *engine, const char *peer, const char *nickname);
int settings_peers(struct engine *engine, struct settings_peer *ret, size_t max, size_t *ret_num);
/* -ENOENT. */
int settings_peer_get(struct engine *engine, const uint8_t key[32], struct settings_peer *ret);
bool settings_peer_may_pull(struct engine *engine, const uint8_t key[32], const uint8_t volume[16]);

#endif
