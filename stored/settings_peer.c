#include "stored/settings.h"

#include "stored/change.h"
#include "stored/location.h"
#include "stored/rows.h"
#include "stored/settings_rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	return settings_put_row(engine, key, sizeof(key), row, peer_row(peer, row));
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

int settings_peer_nicknamed(struct engine *engine, const char *nickname, struct settings_peer *ret)
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

	if (settings_hex_key(peer, key))
		r = settings_peer_get(engine, key, ret);
	else if (settings_is_name(peer))
		r = settings_peer_nicknamed(engine, peer, ret);
	if (r == -ENOENT)
		engine_fail(engine, r,
			"peer %s: not known; `bazil peer list` shows those that are, `bazil peer "
			"add` "
			"adds one",
			settings_is_name(peer) ? peer : "?");
	return r;
}

static int check_nickname(struct engine *engine, const char *nickname, const uint8_t *own_key)
{
	struct settings_peer other;
	uint8_t key[32];

	if (!*nickname)
		return 0;
	if (settings_check_name(engine, "nickname", nickname) < 0)
		return -EINVAL;
	if (settings_hex_key(nickname, key) || strcmp(nickname, STORAGE_LOCAL) == 0)
		return engine_fail(engine, -EINVAL,
			"nickname %s: would be taken for something else; choose another", nickname);
	if (settings_peer_nicknamed(engine, nickname, &other) == 0 &&
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

	if (!settings_hex_key(hex, peer.key))
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
	r = settings_begin(engine);
	if (r == 0)
		r = change_row(engine, key, sizeof(key), NULL, 0);
	if (r == 0)
		r = settings_drop_rows(engine, prefix, sizeof(prefix), 1, peer.key, 32);
	return settings_finish(engine, 0, r);
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
		return settings_put_row(engine, key, sizeof(key), NULL, 0);
	r = settings_begin(engine);
	if (r == 0)
		r = change_row(engine, key, sizeof(key), NULL, 0);
	return settings_finish(engine, 0, r);
}

bool settings_peer_may_pull(struct engine *engine, const uint8_t peer[32], const uint8_t volume[16])
{
	struct settings_peer known;
	uint8_t key[49];

	allow_key(key, peer, volume);
	return settings_peer_get(engine, peer, &known) == 0 &&
	       db_has(txn(engine), DB_SETTINGS, key, sizeof(key));
}
