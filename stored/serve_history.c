/*
 * The requests about the past: of a mountd about its volume, and of people.
 */
#include "ipc/ctl.gen.h"
#include "ipc/store.gen.h"
#include "stored/prune.h"
#include "stored/settings.h"
#include "stored/snapshot.h"
#include "stored/stored.h"
#include "stored/undo.h"
#include "stored/versions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* NULL: answered by an error already. */
static struct volume *ready(struct store_server *self, struct ipc_call *call)
{
	struct volume *vol;

	intake_run(self);
	self->stored->active = ev_now(self->stored->loop);
	vol = engine_volume(self->stored->engine, self->volume);
	if (self->is_broken) {
		ipc_call_fail(call, -EPROTO, NULL);
		return NULL;
	}
	if (!vol)
		ipc_call_fail(call, -ENOENT, "the volume was removed");
	return vol;
}

/* ---- snapshots */

void on_store_snapshot_create(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_create *req)
{
	struct volume *vol = ready(self, call);
	struct store_snapshot_create_reply reply = { 0 };
	int r;

	if (!vol)
		return;
	r = snapshot_create(
		self->stored->engine, vol, req->tag, req->name.data, req->name.len, &reply.time);
	if (r == -EIO)
		stored_die(r, "making a snapshot");
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		store_snapshot_create_reply(call, &reply);
}

void on_store_snapshot_list(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_list *req)
{
	struct store_snapshot out[STORE_SNAPSHOT_LIST_REPLY_SNAPSHOTS_MAX];
	struct snapshot list[STORE_SNAPSHOT_LIST_REPLY_SNAPSHOTS_MAX];
	struct store_snapshot_list_reply reply = { .snapshots = out };
	struct volume *vol = ready(self, call);
	size_t i;
	int r;

	if (!vol)
		return;
	r = snapshot_list(self->stored->engine, vol, req->after, list,
		STORE_SNAPSHOT_LIST_REPLY_SNAPSHOTS_MAX, &reply.num_snapshots, &reply.end);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	for (i = 0; i < reply.num_snapshots; i++) {
		memcpy(out[i].tag, list[i].tag, sizeof(out[i].tag));
		out[i].name = (struct ipc_bytes){ list[i].name, list[i].name_len };
		out[i].time = list[i].time;
	}
	store_snapshot_list_reply(call, &reply);
}

void on_store_snapshot_remove(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_remove *req)
{
	struct volume *vol = ready(self, call);
	int r;

	if (!vol)
		return;
	r = snapshot_remove(self->stored->engine, vol, req->tag);
	if (r == -EIO)
		stored_die(r, "removing a snapshot");
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		store_snapshot_remove_reply(call, &(struct store_snapshot_remove_reply){ 0 });
}

/* ---- versions and differences */

void on_store_versions(
	struct store_server *self, struct ipc_call *call, const struct store_versions *req)
{
	struct store_version out[STORE_VERSIONS_REPLY_VERSIONS_MAX];
	struct version list[STORE_VERSIONS_REPLY_VERSIONS_MAX];
	struct versions versions = { .list = list, .max = STORE_VERSIONS_REPLY_VERSIONS_MAX };
	struct engine_page page = { .records = self->stored->page,
		.cap = STORE_VERSIONS_REPLY_RECORDS_MAX };
	struct tree_key key = { .kind = req->kind, .id = req->id };
	struct volume *vol = ready(self, call);
	size_t i;
	int r;

	if (!vol)
		return;
	if (key.kind < TREE_LINK || key.kind > TREE_XATTR) {
		ipc_call_fail(call, -EINVAL, NULL);
		return;
	}
	memcpy(key.tag, req->tag, sizeof(key.tag));
	r = engine_versions(
		self->stored->engine, vol, &key, req->parent, req->after, &page, &versions);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	for (i = 0; i < versions.num; i++)
		out[i] = (struct store_version){ list[i].since, list[i].until, list[i].size };
	store_versions_reply(
		call, &(struct store_versions_reply){ .records = { page.records, page.len },
			      .versions = out,
			      .num_versions = versions.num,
			      .end = versions.end });
}

void on_store_diff(struct store_server *self, struct ipc_call *call, const struct store_diff *req)
{
	struct store_diff_key out[STORE_DIFF_REPLY_KEYS_MAX] = { 0 };
	struct tree_key keys[STORE_DIFF_REPLY_KEYS_MAX];
	uint8_t cursor[DIFF_CURSOR_SIZE] = { 0 };
	struct store_diff_reply reply = { .keys = out };
	struct volume *vol = ready(self, call);
	size_t i;
	int r;

	if (!vol)
		return;
	if (req->after.len > 0 && req->after.len != sizeof(cursor)) {
		ipc_call_fail(call, -EINVAL, NULL);
		return;
	}
	if (req->after.len > 0)
		memcpy(cursor, req->after.data, sizeof(cursor));
	r = engine_diff(self->stored->engine, vol, req->from, req->to, cursor, keys,
		STORE_DIFF_REPLY_KEYS_MAX, &reply.num_keys, &reply.end);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	for (i = 0; i < reply.num_keys; i++) {
		out[i].kind = keys[i].kind;
		out[i].id = keys[i].id;
		memcpy(out[i].tag, keys[i].tag, sizeof(out[i].tag));
	}
	reply.next = (struct ipc_bytes){ cursor, sizeof(cursor) };
	store_diff_reply(call, &reply);
}

void on_store_span(struct store_server *self, struct ipc_call *call, const struct store_span *req)
{
	struct volume *vol = ready(self, call);
	struct store_span_reply reply = { 0 };
	struct volume_info info;

	if (!vol)
		return;
	volume_info(vol, &info);
	reply.oldest = prune_oldest(self->stored->engine, vol);
	reply.now = info.time;
	reply.kept = req->at ? prune_newest(self->stored->engine, vol, req->at) : info.time;
	store_span_reply(call, &reply);
}

/* ---- what people ask for */

/* What the volume's mountd published before comes before. NULL: answered. */
static struct volume *named(struct ctl_server *self, struct ipc_call *call, const char *name)
{
	struct volume *vol = settings_volume(self->stored->engine, name);
	struct store_server *mount;
	struct volume_info info;

	if (!vol) {
		ipc_call_fail(call, -ENOENT, "%s", engine_error(self->stored->engine));
		return NULL;
	}
	volume_info(vol, &info);
	mount = stored_mount_of(self->stored, info.id);
	if (mount)
		intake_run(mount);
	return vol;
}

void on_ctl_volume_retention(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_retention *req)
{
	struct engine *engine = self->stored->engine;
	struct volume *vol = named(self, call, req->volume);
	struct retention_policy policy = { req->policy.keep_all_s, req->policy.hourly,
		req->policy.daily, req->policy.weekly, req->policy.monthly };
	struct ctl_volume_retention_reply reply = { 0 };
	struct volume_info info;
	int r = 0;

	if (!vol)
		return;
	if (req->set)
		r = prune_policy_set(engine, vol, &policy);
	if (r == -EIO)
		stored_die(r, "changing the settings");
	if (r < 0) {
		ipc_call_fail(call, r, "%s", engine_error(engine));
		return;
	}
	prune_policy(vol, &policy);
	volume_info(vol, &info);
	reply.policy = (struct ctl_retention){ policy.keep_all, policy.hourly, policy.daily,
		policy.weekly, policy.monthly };
	reply.history = info.history;
	reply.oldest = prune_oldest(engine, vol);
	ctl_volume_retention_reply(call, &reply);
}

/* Hex, or the nickname if there is one; nothing for an undo. */
static void peer_name(struct engine *engine, const uint8_t key[32], char ret[65])
{
	static const uint8_t nobody[32];
	struct settings_peer peer;
	size_t i;

	ret[0] = '\0';
	if (memcmp(key, nobody, sizeof(nobody)) == 0)
		return;
	if (settings_peer_get(engine, key, &peer) == 0 && peer.nickname[0] != '\0') {
		snprintf(ret, 65, "%s", peer.nickname);
		return;
	}
	for (i = 0; i < 32; i++)
		snprintf(ret + 2 * i, 3, "%02x", key[i]);
}

void on_ctl_sync_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sync_list *req)
{
	struct pulled list[CTL_SYNC_LIST_REPLY_SYNCS_MAX];
	struct ctl_sync out[CTL_SYNC_LIST_REPLY_SYNCS_MAX];
	char names[CTL_SYNC_LIST_REPLY_SYNCS_MAX][65];
	struct ctl_sync_list_reply reply = { .syncs = out };
	struct volume *vol = named(self, call, req->volume);
	size_t i;
	int r;

	if (!vol)
		return;
	r = undo_list(self->stored->engine, vol, req->before, list, CTL_SYNC_LIST_REPLY_SYNCS_MAX,
		&reply.num_syncs, &reply.end);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	for (i = 0; i < reply.num_syncs; i++) {
		peer_name(self->stored->engine, list[i].peer, names[i]);
		out[i] = (struct ctl_sync){ list[i].time, names[i], list[i].num_changed,
			list[i].is_undone };
	}
	ctl_sync_list_reply(call, &reply);
}
