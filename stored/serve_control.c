/*
 * The requests of people about volumes, peers and storages. Texts go to the terminal as they are.
 */
#include "ipc/ctl.gen.h"
#include "ipc/sync.gen.h"
#include "stored/prune.h"
#include "stored/settings.h"
#include "stored/stored.h"
#include "worker/scope.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int fail(struct ctl_server *self, struct ipc_call *call, int r)
{
	if (r == -EIO)
		stored_die(r, "changing the settings");
	return ipc_call_fail(call, r, "%s", engine_error(self->stored->engine));
}

void control_changed(struct stored *stored)
{
	struct ctl_server *ctl;

	for (ctl = stored->ctls; ctl; ctl = ctl->next)
		ctl_peers_changed(ctl->chan, &(struct ctl_peers_changed){ 0 });
	if (stored->sync)
		sync_config_changed(stored->sync->chan, &(struct sync_config_changed){ 0 });
}

/* ---- volumes */

void on_ctl_volume_create(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_create *req)
{
	int r = settings_volume_add(
		self->stored->engine, req->name, NULL, req->sharing, req->keyid);

	if (r < 0)
		fail(self, call, r);
	else
		ctl_volume_create_reply(call, &(struct ctl_volume_create_reply){ 0 });
}

void on_ctl_volume_add(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_add *req)
{
	int r = settings_volume_add(
		self->stored->engine, req->name, req->id, req->sharing, req->keyid);

	if (r < 0)
		fail(self, call, r);
	else
		ctl_volume_add_reply(call, &(struct ctl_volume_add_reply){ 0 });
}

static struct ctl_volume describe(const struct volume *vol)
{
	struct ctl_volume ret = { 0 };
	struct volume_info info;

	volume_info(vol, &info);
	ret.name = info.name;
	ret.sharing = info.sharing;
	ret.replica = info.replica;
	memcpy(ret.id, info.id, sizeof(ret.id));
	memcpy(ret.keyid, info.keyid, sizeof(ret.keyid));
	return ret;
}

static int name_compare(const void *x, const void *y)
{
	return strcmp(((const struct ctl_volume *)x)->name, ((const struct ctl_volume *)y)->name);
}

void on_ctl_volume_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_list *req)
{
	struct ctl_volume volumes[SETTINGS_VOLUMES_MAX];
	struct volume *vol;
	size_t num = 0;

	while (num < SETTINGS_VOLUMES_MAX && (vol = engine_volume_at(self->stored->engine, num)))
		volumes[num++] = describe(vol);
	if (num > 0)
		qsort(volumes, num, sizeof(*volumes), name_compare);
	ctl_volume_list_reply(
		call, &(struct ctl_volume_list_reply){ .volumes = volumes, .num_volumes = num });
}

void on_ctl_volume_remove(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_remove *req)
{
	struct volume *vol = settings_volume(self->stored->engine, req->name);
	struct volume_info info;
	int r;

	if (!vol) {
		fail(self, call, -ENOENT);
		return;
	}
	volume_info(vol, &info);
	if (stored_mount_of(self->stored, info.id)) {
		ipc_call_fail(call, -EBUSY, "volume %s: is mounted; unmount it first", info.name);
		return;
	}
	r = settings_volume_remove(self->stored->engine, req->name);
	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_volume_remove_reply(call, &(struct ctl_volume_remove_reply){ 0 });
}

void on_ctl_volume_status(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_status *req)
{
	struct settings_storage have[SETTINGS_STORAGES_MAX];
	struct ctl_storage storages[SETTINGS_STORAGES_MAX];
	struct volume *vol = settings_volume(self->stored->engine, req->name);
	struct ctl_volume_status_reply reply = { .storages = storages };
	struct store_server *mount;
	struct volume_info info;
	struct engine_stat stat;
	size_t i;
	int r;

	if (!vol) {
		fail(self, call, -ENOENT);
		return;
	}
	volume_info(vol, &info);
	mount = stored_mount_of(self->stored, info.id);
	if (mount)
		intake_run(mount);
	volume_info(vol, &info);
	r = engine_stat(self->stored->engine, &stat);
	if (r == 0)
		r = settings_storages(self->stored->engine, info.id, have, SETTINGS_STORAGES_MAX,
			&reply.num_storages);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	for (i = 0; i < reply.num_storages; i++)
		storages[i] = (struct ctl_storage){ have[i].storage, have[i].sharing };
	reply.volume = describe(vol);
	reply.links = info.links;
	reply.inodes = info.inodes;
	reply.logical = stat.object_bytes;
	reply.conflicts = info.conflicts;
	reply.history = info.history;
	reply.oldest = prune_oldest(self->stored->engine, vol);
	reply.lost = settings_lost_at(self->stored->engine, info.id);
	reply.objects = stat.objects;
	reply.object_bytes = stat.object_bytes;
	ctl_volume_status_reply(call, &reply);
}

void on_ctl_volume_storage_add(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_storage_add *req)
{
	int r = settings_storage_add(self->stored->engine, req->volume, req->storage, req->sharing);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_volume_storage_add_reply(call, &(struct ctl_volume_storage_add_reply){ 0 });
}

void on_ctl_auto_set(struct ctl_server *self, struct ipc_call *call, const struct ctl_auto_set *req)
{
	int r = settings_mount_set(self->stored->engine, req->volume, req->path, req->flags);

	if (r < 0)
		fail(self, call, r);
	else
		ctl_auto_set_reply(call, &(struct ctl_auto_set_reply){ 0 });
}

void on_ctl_auto_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_auto_list *req)
{
	_cleanup_(freep) struct settings_mount *found = calloc(SETTINGS_MOUNTS_MAX, sizeof(*found));
	struct ctl_auto mounts[SETTINGS_MOUNTS_MAX];
	struct ctl_auto_list_reply reply = { .mounts = mounts };
	struct volume *vol;
	size_t i = 0;
	int r = found ? 0 : -ENOMEM;

	while (r == 0 && reply.num_mounts < SETTINGS_MOUNTS_MAX &&
		(vol = engine_volume_at(self->stored->engine, i++))) {
		struct settings_mount *mount = &found[reply.num_mounts];
		struct ctl_volume about = describe(vol);

		r = settings_mount_get(self->stored->engine, about.id, mount);
		if (r == 0)
			mounts[reply.num_mounts++] =
				(struct ctl_auto){ about.name, mount->path, mount->flags };
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		ctl_auto_list_reply(call, &reply);
}

void on_ctl_volume_storage_remove(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_storage_remove *req)
{
	int r = settings_storage_remove(self->stored->engine, req->volume, req->storage);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_volume_storage_remove_reply(call, &(struct ctl_volume_storage_remove_reply){ 0 });
}

/* ---- peers */

void on_ctl_peer_add(struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_add *req)
{
	int r = settings_peer_add(self->stored->engine, req->key, req->nickname);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_peer_add_reply(call, &(struct ctl_peer_add_reply){ 0 });
}

static size_t allowed(
	struct engine *engine, const uint8_t key[32], struct ctl_name *ret, size_t max)
{
	struct volume_info info;
	struct volume *vol;
	size_t num = 0, i;

	for (i = 0; num < max && (vol = engine_volume_at(engine, i)); i++) {
		volume_info(vol, &info);
		if (settings_peer_may_pull(engine, key, info.id))
			ret[num++].name = info.name;
	}
	return num;
}

static int list_peers(
	struct engine *engine, const struct settings_peer *peers, size_t num, struct ipc_call *call)
{
	struct ctl_peer *out = calloc(num + 1, sizeof(*out));
	struct ctl_name *names = calloc((num + 1) * SETTINGS_VOLUMES_MAX, sizeof(*names));
	size_t i;

	for (i = 0; out && names && i < num; i++) {
		memcpy(out[i].key, peers[i].key, 32);
		out[i].nickname = peers[i].nickname;
		out[i].address = peers[i].address;
		out[i].storage_allowed = peers[i].may_store;
		out[i].volumes = names + i * SETTINGS_VOLUMES_MAX;
		out[i].num_volumes =
			allowed(engine, peers[i].key, out[i].volumes, SETTINGS_VOLUMES_MAX);
	}
	if (out && names)
		ctl_peer_list_reply(
			call, &(struct ctl_peer_list_reply){ .peers = out, .num_peers = num });
	i = out && names;
	free(out);
	free(names);
	return i ? 0 : -ENOMEM;
}

void on_ctl_peer_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_list *req)
{
	struct settings_peer *peers = calloc(SETTINGS_PEERS_MAX, sizeof(*peers));
	size_t num = 0;
	int r = -ENOMEM;

	if (peers)
		r = settings_peers(self->stored->engine, peers, SETTINGS_PEERS_MAX, &num);
	if (r == 0)
		r = list_peers(self->stored->engine, peers, num, call);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	free(peers);
}

void on_ctl_peer_remove(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_remove *req)
{
	int r = settings_peer_remove(self->stored->engine, req->peer);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_peer_remove_reply(call, &(struct ctl_peer_remove_reply){ 0 });
}

void on_ctl_peer_location(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_location *req)
{
	int r = settings_peer_location(self->stored->engine, req->peer, req->address);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_peer_location_reply(call, &(struct ctl_peer_location_reply){ 0 });
}

void on_ctl_peer_storage(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_storage *req)
{
	int r = settings_peer_storage(self->stored->engine, req->peer, req->storage, req->allow);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_peer_storage_reply(call, &(struct ctl_peer_storage_reply){ 0 });
}

void on_ctl_peer_volume(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_volume *req)
{
	int r = settings_peer_volume(self->stored->engine, req->peer, req->volume, req->allow);

	if (r < 0)
		fail(self, call, r);
	else
		ctl_peer_volume_reply(call, &(struct ctl_peer_volume_reply){ 0 });
}

void on_ctl_peer_nickname(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_nickname *req)
{
	int r = settings_peer_nickname(self->stored->engine, req->peer, req->nickname);

	if (r < 0) {
		fail(self, call, r);
		return;
	}
	control_changed(self->stored);
	ctl_peer_nickname_reply(call, &(struct ctl_peer_nickname_reply){ 0 });
}
