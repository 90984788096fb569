#include "stored/settings.h"

#include "stored/change.h"
#include "stored/rows.h"
#include "stored/settings_rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PEERKEY "peerkey:"

static void key_hex(const uint8_t key[32], char ret_hex[65])
{
	size_t i;

	for (i = 0; i < 32; i++)
		snprintf(ret_hex + 2 * i, 3, "%02x", key[i]);
}

bool settings_storage_key(const char *storage, uint8_t ret_key[32])
{
	size_t len = sizeof(PEERKEY) - 1;

	return strncmp(storage, PEERKEY, len) == 0 && settings_hex_key(storage + len, ret_key);
}

/* "local", "peerkey:HEX", bare hex or a nickname, as one spelling. */
static int storage_normal(
	struct engine *engine, const char *storage, char ret[ENGINE_STORAGE_MAX + 1])
{
	struct settings_peer peer;
	uint8_t key[32];
	char hex[65];

	if (strcmp(storage, STORAGE_LOCAL) == 0) {
		snprintf(ret, ENGINE_STORAGE_MAX + 1, "%s", storage);
		return 0;
	}
	if (!settings_storage_key(storage, key) && !settings_hex_key(storage, key)) {
		const char *nickname = strncmp(storage, PEERKEY, sizeof(PEERKEY) - 1) == 0
					       ? storage + sizeof(PEERKEY) - 1
					       : storage;

		if (!settings_is_name(nickname) ||
			settings_peer_nicknamed(engine, nickname, &peer) != 0)
			return engine_fail(engine, -EINVAL,
				"storage %.80s: not known; write local, peerkey:KEY or a peer's "
				"nickname",
				storage);
		memcpy(key, peer.key, 32);
	}
	key_hex(key, hex);
	snprintf(ret, ENGINE_STORAGE_MAX + 1, PEERKEY "%s", hex);
	return 0;
}

/* A stranger is never connected to, so nothing would ever be fetched from there. */
static int check_storage_peer(struct engine *engine, const char *storage)
{
	struct settings_peer peer;
	uint8_t key[32];

	if (!settings_storage_key(storage, key) || settings_peer_get(engine, key, &peer) == 0)
		return 0;
	return engine_fail(engine, -EINVAL,
		"storage %s: this node knows no such peer: introduce it by `bazil peer add` first",
		storage);
}

int settings_storage_add(
	struct engine *engine, const char *volume, const char *storage, const char *sharing)
{
	struct settings_storage have[SETTINGS_STORAGES_MAX];
	uint8_t key[17 + ENGINE_STORAGE_MAX];
	struct volume *vol = settings_volume(engine, volume);
	char name[ENGINE_STORAGE_MAX + 1];
	size_t len, num;
	int r;

	if (!vol)
		return -ENOENT;
	if (!*sharing)
		sharing = vol->sharing;
	r = storage_normal(engine, storage, name);
	if (r == 0)
		r = check_storage_peer(engine, name);
	if (r == 0)
		r = settings_check_name(engine, "sharing key", sharing);
	if (r == 0)
		r = settings_storages(engine, vol->id, have, SETTINGS_STORAGES_MAX, &num);
	if (r < 0)
		return r;
	len = settings_storage_row(key, vol->id, name);
	if (db_has(txn(engine), DB_SETTINGS, key, len))
		return engine_fail(
			engine, -EEXIST, "volume %s: has this storage already", vol->name);
	if (num >= SETTINGS_STORAGES_MAX)
		return engine_fail(engine, -ENOSPC, "volume %s: has %d storages already", vol->name,
			SETTINGS_STORAGES_MAX);
	return settings_put_row(engine, key, len, (const uint8_t *)sharing, strlen(sharing));
}

int settings_storage_remove(struct engine *engine, const char *volume, const char *storage)
{
	struct volume *vol = settings_volume(engine, volume);
	uint8_t key[17 + ENGINE_STORAGE_MAX];
	char name[ENGINE_STORAGE_MAX + 1];
	size_t len;
	int r;

	if (!vol)
		return -ENOENT;
	r = storage_normal(engine, storage, name);
	if (r < 0)
		return r;
	len = settings_storage_row(key, vol->id, name);
	if (!db_has(txn(engine), DB_SETTINGS, key, len))
		return engine_fail(engine, -ENOENT,
			"volume %s: does not have this storage; `bazil volume status` shows those "
			"it "
			"has",
			vol->name);
	r = settings_begin(engine);
	if (r == 0)
		r = change_row(engine, key, len, NULL, 0);
	return settings_finish(engine, 0, r);
}

int settings_storages(struct engine *engine, const uint8_t volume[16], struct settings_storage *ret,
	size_t max, size_t *ret_num)
{
	uint8_t prefix[17] = "s";
	struct db_iter it;
	int r;

	*ret_num = 0;
	memcpy(prefix + 1, volume, 16);
	r = db_iter_first(&it, txn(engine), DB_SETTINGS, prefix, sizeof(prefix), NULL, 0);
	while (r == 1 && *ret_num < max) {
		struct settings_storage *s = &ret[(*ret_num)++];
		size_t len = it.key_len - sizeof(prefix);

		if (len > ENGINE_STORAGE_MAX || it.value_len > ENGINE_NAME_MAX) {
			r = -EUCLEAN;
			break;
		}
		memset(s, 0, sizeof(*s));
		memcpy(s->storage, it.key + sizeof(prefix), len);
		memcpy(s->sharing, it.value, it.value_len);
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : 0;
}
