/*
 * The requests of syncd for this store: what peers and volumes there are, and pulls. Those for
 * peers are in serve_peer.c and serve_objects.c.
 */
#include "ipc/store.gen.h"
#include "ipc/sync.gen.h"
#include "stored/settings.h"
#include "stored/stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NEED_MAX 60000

/* ---- settings */

static int config_storages(struct engine *engine, struct sync_storage *ret, size_t max)
{
	struct settings_storage some[SETTINGS_STORAGES_MAX];
	struct volume_info info;
	struct volume *vol;
	size_t num = 0, n, i, v;
	int r;

	for (v = 0; (vol = engine_volume_at(engine, v)); v++) {
		volume_info(vol, &info);
		r = settings_storages(engine, info.id, some, SETTINGS_STORAGES_MAX, &n);
		if (r < 0)
			return r;
		for (i = 0; i < n && num < max; i++) {
			if (!settings_storage_key(some[i].storage, ret[num].peer))
				continue;
			memcpy(ret[num++].volume, info.id, 16);
		}
	}
	return (int)num;
}

void on_sync_config(struct sync_server *self, struct ipc_call *call, const struct sync_config *req)
{
	struct engine *engine = self->stored->engine;
	struct settings_peer *peers = calloc(SETTINGS_PEERS_MAX, sizeof(*peers));
	struct sync_peer *out = calloc(SETTINGS_PEERS_MAX, sizeof(*out));
	struct sync_storage *storages = calloc(SYNC_CONFIG_REPLY_STORAGES_MAX, sizeof(*storages));
	size_t num = 0, i;
	int r = -ENOMEM;

	if (peers && out && storages)
		r = settings_peers(engine, peers, SETTINGS_PEERS_MAX, &num);
	for (i = 0; r == 0 && i < num; i++) {
		memcpy(out[i].key, peers[i].key, 32);
		out[i].nickname = peers[i].nickname;
		out[i].has_address = peers[i].address[0] != '\0';
	}
	if (r == 0)
		r = config_storages(engine, storages, SYNC_CONFIG_REPLY_STORAGES_MAX);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		sync_config_reply(call, &(struct sync_config_reply){ .peers = out,
						.num_peers = num,
						.storages = storages,
						.num_storages = (size_t)r });
	free(peers);
	free(out);
	free(storages);
}

void on_sync_volume(struct sync_server *self, struct ipc_call *call, const struct sync_volume *req)
{
	struct engine *engine = self->stored->engine;
	struct volume *vol = engine_volume_named(engine, req->name);
	struct sync_volume_reply reply = { 0 };
	struct volume_info info;

	/* One answer for "not there" and "not for you". */
	if (vol)
		volume_info(vol, &info);
	if (!vol || !settings_peer_may_pull(engine, req->peer, info.id)) {
		ipc_call_fail(call, -EACCES, NULL);
		return;
	}
	memcpy(reply.volume, info.id, sizeof(reply.volume));
	memcpy(reply.keyid, info.keyid, sizeof(reply.keyid));
	sync_volume_reply(call, &reply);
}

/* ---- pulls */

static int pull_slot(const struct sync_server *self, uint64_t id)
{
	int i;

	for (i = 0; i < STORED_PULLS_MAX; i++)
		if (self->pulls[i].id == id)
			return i;
	return -1;
}

void on_sync_pull_begin(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_begin *req)
{
	struct engine *engine = self->stored->engine;
	struct volume *vol = settings_volume(engine, req->volume_name);
	struct sync_pull_begin_reply reply = { 0 };
	uint8_t known[TREE_KNOWLEDGE_SIZE];
	struct store_server *mount;
	struct volume_info info;
	struct pull *pull;
	int i = pull_slot(self, 0), r;
	size_t len;

	if (!vol) {
		ipc_call_fail(call, -ENOENT, "%s", engine_error(engine));
		return;
	}
	if (i < 0) {
		ipc_call_fail(call, -EBUSY, "too many syncs at once; try again later");
		return;
	}
	volume_info(vol, &info);
	mount = stored_mount_of(self->stored, info.id);
	if (mount)
		intake_run(mount);
	r = engine_pull_begin(engine, vol, &pull, known, &len);
	if (r < 0) {
		ipc_call_fail(call, r, "%s", r == -EBUSY ? engine_error(engine) : strerror(-r));
		return;
	}
	engine_pull_name(pull, req->peer);
	self->pulls[i].id = self->next_id++;
	self->pulls[i].pull = pull;
	memcpy(self->pulls[i].volume, info.id, 16);
	reply.pull = self->pulls[i].id;
	memcpy(reply.volume, info.id, 16);
	reply.knowledge = (struct ipc_bytes){ known, len };
	sync_pull_begin_reply(call, &reply);
}

void on_sync_pull_put(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_put *req)
{
	struct engine *engine = self->stored->engine;
	int i = req->pull ? pull_slot(self, req->pull) : -1, r;

	if (i < 0) {
		ipc_call_fail(call, -ESTALE, NULL);
		return;
	}
	r = engine_pull_put(engine, self->pulls[i].pull, req->records.data, req->records.len,
		req->dead.data, req->dead.len);
	if (r == -EIO)
		stored_die(r, "staging a sync");
	if (r < 0)
		ipc_call_fail(call, r, "%s", r == -ENOSPC ? engine_error(engine) : strerror(-r));
	else
		sync_pull_put_reply(call, &(struct sync_pull_put_reply){ 0 });
}

struct pull_waiting {
	struct seen_waiting seen;
	uint64_t num_changed, num_conflicts;
};

static void pull_answer(struct seen_waiting *seen)
{
	struct pull_waiting *w = (struct pull_waiting *)seen;

	sync_pull_step_reply(
		seen->call, &(struct sync_pull_step_reply){ .num_changed = w->num_changed,
				    .num_conflicts = w->num_conflicts });
	free(w);
}

static void pull_ended(struct sync_server *self, struct ipc_call *call, int i, uint64_t since,
	const struct pull_result *result)
{
	struct volume *vol = engine_volume(self->stored->engine, self->pulls[i].volume);
	struct pull_waiting *w = calloc(1, sizeof(*w));

	self->stored->counters.pulls++;
	if (!w)
		abort();
	w->num_changed = result->num_changed;
	w->num_conflicts = result->num_conflicts;
	w->seen.chan = self->chan;
	w->seen.call = call;
	w->seen.answer = pull_answer;
	if (vol)
		seen_tell(&w->seen, self->stored, vol, since, &result->changes);
	else
		pull_answer(&w->seen);
}

void on_sync_pull_step(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_step *req)
{
	struct engine *engine = self->stored->engine;
	uint8_t need[NEED_MAX];
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	int i = req->pull ? pull_slot(self, req->pull) : -1, r;
	struct volume_info before = { 0 };
	struct store_server *mount;
	struct volume *vol;

	if (i < 0) {
		ipc_call_fail(call, -ESTALE, NULL);
		return;
	}
	vol = engine_volume(engine, self->pulls[i].volume);
	if (vol)
		volume_info(vol, &before);
	/* What mountd wrote before comes before. */
	mount = stored_mount_of(self->stored, self->pulls[i].volume);
	if (mount)
		intake_run(mount);
	r = engine_pull_step(engine, self->pulls[i].pull, req->knowledge.data, req->knowledge.len,
		req->full, &result);
	if (r < 0 || result.need_len == 0)
		self->pulls[i].id = 0;
	if (r == -EIO)
		stored_die(r, "committing a sync");
	if (r < 0)
		ipc_call_fail(call, r, "%s", engine_error(engine));
	else if (result.need_len > 0)
		sync_pull_step_reply(
			call, &(struct sync_pull_step_reply){ .need = { need, result.need_len } });
	else
		pull_ended(self, call, i, before.view, &result);
	engine_changes_release(&result.changes);
}

void on_sync_pull_abort(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_abort *req)
{
	int i = req->pull ? pull_slot(self, req->pull) : -1;

	if (i >= 0) {
		engine_pull_abort(self->stored->engine, self->pulls[i].pull);
		self->pulls[i].id = 0;
	}
	sync_pull_abort_reply(call, &(struct sync_pull_abort_reply){ 0 });
}

void sync_release(struct sync_server *self)
{
	int i;

	peers_release(self);
	objects_release(self);
	seen_close(self->stored, self->chan);
	for (i = 0; i < STORED_PULLS_MAX; i++)
		if (self->pulls[i].id)
			engine_pull_abort(self->stored->engine, self->pulls[i].pull);
}
