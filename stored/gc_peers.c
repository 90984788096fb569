#include "stored/gc_state.h"
#include "stored/rows.h"
#include "stored/settings.h"
#include "stored/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROW_KEY	  37
#define ROW_SIZE  24
#define DAY_NS	  (86400 * UINT64_C(1000000000))
#define PEERS_MAX 4096

static int note_peer(struct gc *gc, const uint8_t key[32], uint64_t passed)
{
	struct gc_peer *peers;
	size_t i;

	for (i = 0; i < gc->num_peers; i++) {
		if (memcmp(gc->peers[i].key, key, 32) != 0)
			continue;
		if (passed < gc->peers[i].passed)
			gc->peers[i].passed = passed;
		return 0;
	}
	if (gc->num_peers == PEERS_MAX)
		return 0;
	peers = realloc(gc->peers, (gc->num_peers + 1) * sizeof(*peers));
	if (!peers)
		return -ENOMEM;
	gc->peers = peers;
	memcpy(peers[gc->num_peers].key, key, 32);
	peers[gc->num_peers++].passed = passed;
	return 0;
}

/* Of a removed volume, or a peer that may not pull it any more, nothing is waited for. */
static bool is_allowed(struct engine *engine, const uint8_t *key)
{
	const struct volume *vol = volume_numbered(engine, be32_get(key + 33));

	return vol && settings_peer_may_pull(engine, key + 1, vol->id);
}

int gc_peers_load(struct engine *engine, struct gc *gc)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_GC, "p", 1, NULL, 0);
	while (r == 1) {
		r = 0;
		if (it.key_len == ROW_KEY && it.value_len == ROW_SIZE && is_allowed(engine, it.key))
			r = note_peer(gc, it.key + 1, le64_get(it.value));
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

/* Lowers known to what the peer of a row 'p' knows. */
static int meet(struct engine *engine, const uint8_t *peer_key, struct tree_knowledge *known)
{
	struct tree_knowledge peer = { 0 };
	uint8_t key[ROW_KEY];
	const uint8_t *row;
	size_t len;
	int r;

	memcpy(key, peer_key, sizeof(key));
	key[0] = 'k';
	r = db_get(txn(engine), DB_GC, key, sizeof(key), &row, &len);
	if (r == 0)
		r = tree_knowledge_decode(&peer, row, len);
	/* Not told, for it pulled from an older program: nothing. */
	if (r == 0 || r == -ENOENT)
		tree_knowledge_meet(known, &peer);
	tree_knowledge_release(&peer);
	return r == -ENOENT ? 0 : r;
}

int gc_peers_known(
	struct engine *engine, const struct volume *vol, uint64_t now, struct tree_knowledge *known)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_GC, "p", 1, NULL, 0);
	while (r == 1) {
		uint64_t served = it.value_len == ROW_SIZE ? le64_get(it.value + 8) : 0;

		r = 0;
		if (it.key_len == ROW_KEY && be32_get(it.key + 33) == vol->number &&
			is_allowed(engine, it.key) &&
			(now < served || now - served <= GC_PEERS_DAYS * DAY_NS))
			r = meet(engine, it.key, known);
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static void tell(struct gc_report *report, const uint8_t key[32])
{
	for (size_t i = 0; i < report->num_holders; i++)
		if (memcmp(report->holders[i], key, 32) == 0)
			return;
	if (report->num_holders < GC_HOLDERS_MAX)
		memcpy(report->holders[report->num_holders++], key, 32);
}

bool gc_peers_hold(struct gc *gc, uint64_t dead)
{
	bool is_held = false;

	if (gc->now > dead && gc->now - dead > GC_PEERS_DAYS * DAY_NS)
		return false;
	for (size_t i = 0; i < gc->num_peers; i++) {
		if (gc->peers[i].passed > dead)
			continue;
		tell(&gc->report, gc->peers[i].key);
		is_held = true;
	}
	return is_held;
}

int gc_peer_served(struct engine *engine, const struct volume *vol, const uint8_t peer[32],
	const uint8_t *asked, size_t len, bool now_complete)
{
	uint64_t now = engine->io->now(engine->io->ctx), passed = 0, served = 0, epoch = 0;
	uint32_t replica = vol->state.clock.replica;
	struct tree_knowledge known = { 0 };
	uint8_t key[ROW_KEY] = { 'p' }, row[ROW_SIZE];
	const uint8_t *was;
	size_t was_len;
	int r;

	memcpy(key + 1, peer, 32);
	be32_put(key + 33, vol->number);
	r = tree_knowledge_decode(&known, asked, len);
	if (r < 0)
		return r;
	r = db_get(txn(engine), DB_GC, key, sizeof(key), &was, &was_len);
	if (r == 0 && was_len == ROW_SIZE) {
		passed = le64_get(was);
		served = le64_get(was + 8);
		epoch = le64_get(was + 16);
	}
	if (now_complete)
		passed = now;
	else if (served > 0 && tree_knowledge_epoch(&known, replica) >= epoch)
		passed = served;
	tree_knowledge_release(&known);
	if (r < 0 && r != -ENOENT)
		return r;
	le64_put(row, passed);
	le64_put(row + 8, now);
	/* Serving has frozen the epoch: what was served is the one before. */
	le64_put(row + 16, tree_knowledge_epoch(&vol->state.known, replica));
	r = db_put(txn(engine), DB_GC, key, sizeof(key), row, sizeof(row));
	key[0] = 'k';
	if (r == 0)
		r = db_put(txn(engine), DB_GC, key, sizeof(key), asked, len);
	engine->ops++;
	return r;
}
