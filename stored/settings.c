#include "stored/settings.h"

#include "stored/change.h"
#include "stored/location.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORAGE_LOCAL "local"
#define PEERKEY	      "peerkey:"

/* ---- transactions */

static int begin(struct engine *engine)
{
	int r = engine_flush(engine);

	return r < 0 ? r : change_begin(engine);
}

/* Durable, or as if it had never begun. r: how it went so far. */
static int finish(struct engine *engine, uint32_t vol, int r)
{
	struct change_head head = { .vol = vol };

	if (r == 0) {
		head.time = engine->io->now(engine->io->ctx);
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	}
	if (r == 0)
		r = engine_sync(engine);
	else {
		change_cancel(engine);
		engine_rollback(engine);
	}
	if (r == -ENOSPC)
		return engine_fail(engine, r, "the disk is full; free some space and try again");
	if (r < 0)
		return engine_fail(engine, r, "the store cannot be written: %s", strerror(-r));
	return 0;
}

static int put_row(
	struct engine *engine, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	static const uint8_t nothing[1];
	int r = begin(engine);

	if (r == 0)
		r = change_row(engine, key, key_len, value ? value : nothing, value ? len : 0);
	return finish(engine, 0, r);
}

/* ---- names */

static bool is_name(const char *name)
{
	size_t len = strlen(name), i;

	if (len == 0 || len > ENGINE_NAME_MAX)
		return false;
	for (i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			    c == '.' || c == '_' || c == '-'))
			return false;
	}
	return name[0] != '.' && name[0] != '-';
}

static int check_name(struct engine *engine, const char *what, const char *name)
{
	if (is_name(name))
		return 0;
	return engine_fail(engine, -EINVAL,
		"%s: not a name; use 1 to %d of A-Z a-z 0-9 . _ - and begin with a letter, a digit "
		"or _",
		what, ENGINE_NAME_MAX);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool hex_key(const char *hex, uint8_t ret_key[32])
{
	size_t i;

	if (strlen(hex) != 64)
		return false;
	for (i = 0; i < 32; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret_key[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static void key_hex(const uint8_t key[32], char ret_hex[65])
{
	size_t i;

	for (i = 0; i < 32; i++)
		snprintf(ret_hex + 2 * i, 3, "%02x", key[i]);
}

/* ---- volumes */

struct volume *settings_volume(struct engine *engine, const char *name)
{
	struct volume *vol = engine_volume_named(engine, name);

	if (!vol)
		engine_fail(engine, -ENOENT,
			"volume %s: there is none of this name; `bazil volume list` shows those "
			"that "
			"there are",
			is_name(name) ? name : "?");
	return vol;
}

static uint32_t free_number(const struct engine *engine)
{
	uint32_t number = 1;
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->number >= number)
			number = engine->volumes[i]->number + 1;
	return number;
}

static size_t volume_row(uint8_t row[26 + 2 * ENGINE_NAME_MAX], const uint8_t id[16],
	const uint8_t keyid[8], const char *name, const char *sharing)
{
	size_t name_len = strlen(name), sharing_len = strlen(sharing);

	memcpy(row, id, 16);
	memcpy(row + 16, keyid, 8);
	row[24] = (uint8_t)name_len;
	memcpy(row + 25, name, name_len);
	row[25 + name_len] = (uint8_t)sharing_len;
	memcpy(row + 26 + name_len, sharing, sharing_len);
	return 26 + name_len + sharing_len;
}

static size_t storage_key(
	uint8_t key[17 + ENGINE_STORAGE_MAX], const uint8_t volume[16], const char *storage)
{
	key[0] = 's';
	memcpy(key + 1, volume, 16);
	memcpy(key + 17, storage, strlen(storage));
	return 17 + strlen(storage);
}

static int volume_make(struct engine *engine, uint32_t number, const uint8_t id[16],
	const uint8_t keyid[8], const char *name, const char *sharing)
{
	uint8_t key[5] = "v", row[26 + 2 * ENGINE_NAME_MAX], storage[17 + ENGINE_STORAGE_MAX];
	struct volume *vol;
	uint32_t replica;
	int r;

	/* 0 is the root's and 1 is what mountd writes for "not stamped yet". */
	do {
		r = engine->io->random(engine->io->ctx, &replica, sizeof(replica));
		if (r < 0)
			return r;
		replica &= TREE_REPLICA_MAX;
	} while (replica <= 1);
	be32_put(key + 1, number);
	r = change_row(engine, key, sizeof(key), row, volume_row(row, id, keyid, name, sharing));
	if (r == 0)
		r = change_row(engine, storage, storage_key(storage, id, STORAGE_LOCAL),
			(const uint8_t *)sharing, strlen(sharing));
	if (r < 0)
		return r;
	vol = engine_volume(engine, id);
	vol->state.clock.replica = replica;
	return change_state(engine, vol);
}

int settings_volume_add(struct engine *engine, const char *name, const uint8_t id[16],
	const char *sharing, const uint8_t keyid[8])
{
	uint32_t number = free_number(engine);
	uint8_t fresh[16];
	int r;

	if (check_name(engine, "volume", name) < 0 ||
		check_name(engine, "sharing key", sharing) < 0)
		return -EINVAL;
	if (engine_volume_named(engine, name))
		return engine_fail(engine, -EEXIST,
			"volume %s: exists already; choose another name or remove it first", name);
	if (id && engine_volume(engine, id))
		return engine_fail(engine, -EEXIST, "volume %s: is here already under the name %s",
			name, engine_volume(engine, id)->name);
	if (engine->num_volumes >= SETTINGS_VOLUMES_MAX)
		return engine_fail(engine, -ENOSPC, "volume %s: there are %d volumes already", name,
			SETTINGS_VOLUMES_MAX);
	if (!id) {
		r = engine->io->random(engine->io->ctx, fresh, sizeof(fresh));
		if (r < 0)
			return r;
		id = fresh;
	}
	r = begin(engine);
	if (r == 0)
		r = volume_make(engine, number, id, keyid, name, sharing);
	return finish(engine, number, r);
}

/* Deletes the rows with a prefix, one change each. */
static int drop_rows(struct engine *engine, const uint8_t *prefix, size_t len, size_t match_at,
	const uint8_t *match, size_t match_len)
{
	uint8_t key[DB_KEY_MAX];
	struct db_iter it;
	size_t key_len;
	bool again;
	int r;

	do {
		again = false;
		r = db_iter_first(&it, txn(engine), DB_SETTINGS, prefix, len, NULL, 0);
		while (r == 1 && !again) {
			again = it.key_len >= match_at + match_len &&
				memcmp(it.key + match_at, match, match_len) == 0;
			if (again) {
				key_len = it.key_len;
				memcpy(key, it.key, key_len);
			} else {
				r = db_iter_next(&it);
			}
		}
		db_iter_close(&it);
		if (again)
			r = change_row(engine, key, key_len, NULL, 0);
	} while (r == 0 && again);
	return r;
}

int settings_volume_remove(struct engine *engine, const char *name)
{
	struct volume *vol = settings_volume(engine, name);
	uint8_t key[5] = "v", id[16];
	int r;

	if (!vol)
		return -ENOENT;
	if (vol->pull)
		return engine_fail(
			engine, -EBUSY, "volume %s: a sync is running; wait for it to end", name);
	memcpy(id, vol->id, sizeof(id));
	be32_put(key + 1, vol->number);
	r = begin(engine);
	if (r == 0)
		r = drop_rows(engine, (const uint8_t *)"s", 1, 1, id, sizeof(id));
	if (r == 0)
		r = drop_rows(engine, (const uint8_t *)"a", 1, 33, id, sizeof(id));
	if (r == 0)
		r = change_row(engine, key, sizeof(key), NULL, 0);
	return finish(engine, 0, r);
}

/* ---- peers */

static size_t peer_row(const struct settings_peer *peer, uint8_t *row)
{
	size_t nick = strlen(peer->nickname), address = strlen(peer->address);

	row[0] = peer->may_store;
	row[1] = (uint8_t)nick;
	memcpy(row + 2, peer->nickname, nick);
	le16_put(row + 2 + nick, (uint16_t)address);
	memcpy(row + 4 + nick, peer->address, address);
	return 4 + nick + address;
}

static int peer_parse(struct settings_peer *ret, const uint8_t *key, const uint8_t *row, size_t len)
{
	size_t nick, address;

	if (len < 4)
		return -EUCLEAN;
	nick = row[1];
	if (nick > ENGINE_NAME_MAX || len < 4 + nick)
		return -EUCLEAN;
	address = le16_get(row + 2 + nick);
	if (address > SETTINGS_ADDRESS_MAX || len != 4 + nick + address)
		return -EUCLEAN;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->key, key, 32);
	ret->may_store = row[0];
	memcpy(ret->nickname, row + 2, nick);
	memcpy(ret->address, row + 4 + nick, address);
	return 0;
}

static int peer_put(struct engine *engine, const struct settings_peer *peer)
{
	uint8_t key[33] = "p", row[4 + ENGINE_NAME_MAX + SETTINGS_ADDRESS_MAX];

	memcpy(key + 1, peer->key, 32);
	return put_row(engine, key, sizeof(key), row, peer_row(peer, row));
}

int settings_peer_get(struct engine *engine, const uint8_t peer[32], struct settings_peer *ret)
{
	uint8_t key[33] = "p";
	const uint8_t *row;
	size_t len;
	int r;

	memcpy(key + 1, peer, 32);
	r = db_get(txn(engine), DB_SETTINGS, key, sizeof(key), &row, &len);
	return r < 0 ? r : peer_parse(ret, peer, row, len);
}

int settings_peers(struct engine *engine, struct settings_peer *ret, size_t max, size_t *ret_num)
{
	struct db_iter it;
	int r;

	*ret_num = 0;
	r = db_iter_first(&it, txn(engine), DB_SETTINGS, "p", 1, NULL, 0);
	while (r == 1 && *ret_num < max) {
		r = it.key_len == 33
			    ? peer_parse(&ret[*ret_num], it.key + 1, it.value, it.value_len)
			    : -EUCLEAN;
		if (r < 0)
			break;
		++*ret_num;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : 0;
}

static int peer_nicknamed(struct engine *engine, const char *nickname, struct settings_peer *ret)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_SETTINGS, "p", 1, NULL, 0);
	if (r == 0)
		r = -ENOENT;
	while (r == 1) {
		r = it.key_len == 33 ? peer_parse(ret, it.key + 1, it.value, it.value_len)
				     : -EUCLEAN;
		if (r < 0 || strcmp(ret->nickname, nickname) == 0)
			break;
		r = db_iter_next(&it);
		if (r == 0)
			r = -ENOENT;
		else if (r == 1)
			continue;
	}
	db_iter_close(&it);
	return r;
}

static int peer_find(struct engine *engine, const char *peer, struct settings_peer *ret)
{
	uint8_t key[32];
	int r = -ENOENT;

	if (hex_key(peer, key))
		r = settings_peer_get(engine, key, ret);
	else if (is_name(peer))
		r = peer_nicknamed(engine, peer, ret);
	if (r == -ENOENT)
		engine_fail(engine, r,
			"peer %s: not known; `bazil peer list` shows those that are, `bazil peer "
			"add` "
			"adds one",
			is_name(peer) ? peer : "?");
	return r;
}

static int check_nickname(struct engine *engine, const char *nickname, const uint8_t *own_key)
{
	struct settings_peer other;
	uint8_t key[32];

	if (!*nickname)
		return 0;
	if (check_name(engine, "nickname", nickname) < 0)
		return -EINVAL;
	if (hex_key(nickname, key) || strcmp(nickname, STORAGE_LOCAL) == 0)
		return engine_fail(engine, -EINVAL,
			"nickname %s: would be taken for something else; choose another", nickname);
	if (peer_nicknamed(engine, nickname, &other) == 0 &&
		(!own_key || memcmp(other.key, own_key, 32) != 0))
		return engine_fail(engine, -EEXIST,
			"nickname %s: another peer has it already; choose another", nickname);
	return 0;
}

static int peers_count(struct engine *engine, size_t *ret_num)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_SETTINGS, "p", 1, NULL, 0);
	while (r == 1) {
		++*ret_num;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

int settings_peer_add(struct engine *engine, const char *hex, const char *nickname)
{
	struct settings_peer peer = { 0 };
	size_t num = 0;
	int r;

	if (!hex_key(hex, peer.key))
		return engine_fail(engine, -EINVAL,
			"peer: a key has 64 hex digits; `bazil pubkey` on the other computer "
			"prints it");
	if (settings_peer_get(engine, peer.key, &peer) == 0)
		return engine_fail(engine, -EEXIST, "peer: known already");
	r = check_nickname(engine, nickname, NULL);
	if (r == 0)
		r = peers_count(engine, &num);
	if (r < 0)
		return r;
	if (num >= SETTINGS_PEERS_MAX)
		return engine_fail(engine, -ENOSPC, "peer: there are %d peers already; remove one",
			SETTINGS_PEERS_MAX);
	snprintf(peer.nickname, sizeof(peer.nickname), "%s", nickname);
	return peer_put(engine, &peer);
}

int settings_peer_remove(struct engine *engine, const char *name)
{
	uint8_t key[33] = "p", prefix[33] = "a";
	struct settings_peer peer;
	int r;

	r = peer_find(engine, name, &peer);
	if (r < 0)
		return r;
	memcpy(key + 1, peer.key, 32);
	memcpy(prefix + 1, peer.key, 32);
	r = begin(engine);
	if (r == 0)
		r = change_row(engine, key, sizeof(key), NULL, 0);
	if (r == 0)
		r = drop_rows(engine, prefix, sizeof(prefix), 1, peer.key, 32);
	return finish(engine, 0, r);
}

int settings_peer_location(struct engine *engine, const char *name, const char *address)
{
	struct settings_peer peer;
	int r;

	r = peer_find(engine, name, &peer);
	if (r < 0)
		return r;
	/* Empty: where it is, is forgotten. */
	if (strlen(address) > SETTINGS_ADDRESS_MAX || (*address && !location_is_valid(address)))
		return engine_fail(engine, -EINVAL,
			"%.80s: not an address: write HOST:PORT or [V6]:PORT, with a port of 1 to "
			"65535",
			address);
	snprintf(peer.address, sizeof(peer.address), "%s", address);
	return peer_put(engine, &peer);
}

int settings_peer_storage(
	struct engine *engine, const char *name, const char *storage, bool is_allowed)
{
	struct settings_peer peer;
	int r;

	r = peer_find(engine, name, &peer);
	if (r < 0)
		return r;
	if (strcmp(storage, STORAGE_LOCAL) != 0)
		return engine_fail(engine, -EINVAL,
			"storage: only the storage `local` can be allowed to peers");
	peer.may_store = is_allowed;
	return peer_put(engine, &peer);
}

int settings_peer_nickname(struct engine *engine, const char *name, const char *nickname)
{
	struct settings_peer peer;
	int r;

	r = peer_find(engine, name, &peer);
	if (r == 0)
		r = check_nickname(engine, nickname, peer.key);
	if (r < 0)
		return r;
	snprintf(peer.nickname, sizeof(peer.nickname), "%s", nickname);
	return peer_put(engine, &peer);
}

static void allow_key(uint8_t ret[49], const uint8_t peer[32], const uint8_t volume[16])
{
	ret[0] = 'a';
	memcpy(ret + 1, peer, 32);
	memcpy(ret + 33, volume, 16);
}

int settings_peer_volume(
	struct engine *engine, const char *name, const char *volume, bool is_allowed)
{
	struct settings_peer peer;
	struct volume *vol;
	uint8_t key[49];
	int r;

	r = peer_find(engine, name, &peer);
	if (r < 0)
		return r;
	vol = settings_volume(engine, volume);
	if (!vol)
		return -ENOENT;
	allow_key(key, peer.key, vol->id);
	if (is_allowed)
		return put_row(engine, key, sizeof(key), NULL, 0);
	r = begin(engine);
	if (r == 0)
		r = change_row(engine, key, sizeof(key), NULL, 0);
	return finish(engine, 0, r);
}

bool settings_peer_may_pull(struct engine *engine, const uint8_t peer[32], const uint8_t volume[16])
{
	struct settings_peer known;
	uint8_t key[49];

	allow_key(key, peer, volume);
	return settings_peer_get(engine, peer, &known) == 0 &&
	       db_has(txn(engine), DB_SETTINGS, key, sizeof(key));
}

/* ---- storages */

bool settings_storage_key(const char *storage, uint8_t ret_key[32])
{
	size_t len = sizeof(PEERKEY) - 1;

	return strncmp(storage, PEERKEY, len) == 0 && hex_key(storage + len, ret_key);
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
	if (!settings_storage_key(storage, key) && !hex_key(storage, key)) {
		const char *nickname = strncmp(storage, PEERKEY, sizeof(PEERKEY) - 1) == 0
					       ? storage + sizeof(PEERKEY) - 1
					       : storage;

		if (!is_name(nickname) || peer_nicknamed(engine, nickname, &peer) != 0)
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
		r = check_name(engine, "sharing key", sharing);
	if (r == 0)
		r = settings_storages(engine, vol->id, have, SETTINGS_STORAGES_MAX, &num);
	if (r < 0)
		return r;
	len = storage_key(key, vol->id, name);
	if (db_has(txn(engine), DB_SETTINGS, key, len))
		return engine_fail(
			engine, -EEXIST, "volume %s: has this storage already", vol->name);
	if (num >= SETTINGS_STORAGES_MAX)
		return engine_fail(engine, -ENOSPC, "volume %s: has %d storages already", vol->name,
			SETTINGS_STORAGES_MAX);
	return put_row(engine, key, len, (const uint8_t *)sharing, strlen(sharing));
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
	len = storage_key(key, vol->id, name);
	if (!db_has(txn(engine), DB_SETTINGS, key, len))
		return engine_fail(engine, -ENOENT,
			"volume %s: does not have this storage; `bazil volume status` shows those "
			"it "
			"has",
			vol->name);
	r = begin(engine);
	if (r == 0)
		r = change_row(engine, key, len, NULL, 0);
	return finish(engine, 0, r);
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
