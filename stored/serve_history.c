/*
 * The requests about the past: of a mountd about its volume, and of people.
 */
#include "ipc/ctl.gen.h"
#include "ipc/store.gen.h"
#include "stored/prune.h"
#include "stored/snapshot.h"
#include "stored/stored.h"

#include <errno.h>
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
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_diff(struct store_server *self, struct ipc_call *call, const struct store_diff *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
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

void on_ctl_volume_retention(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_retention *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, "not supported by this build");
}

void on_ctl_sync_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sync_list *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, "not supported by this build");
}

void on_ctl_sync_undo(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sync_undo *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, "not supported by this build");
}
