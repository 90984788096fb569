/*
 * The requests of a mountd. Each but store_have first takes what was published before it was sent.
 */
#include "ipc/store.gen.h"
#include "stored/collect.h"
#include "stored/stored.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* NULL: answered by an error already. */
static struct volume *ready(struct store_server *self, struct ipc_call *call)
{
	struct volume *vol;

	intake_run(self);
	self->stored->counters.reads++;
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

void on_store_attach(
	struct store_server *self, struct ipc_call *call, const struct store_attach *req)
{
	struct volume *vol = ready(self, call);
	struct store_attach_reply reply = { 0 };
	struct volume_info info;

	if (!vol)
		return;
	self->is_reader = req->reader;
	volume_info(vol, &info);
	memcpy(reply.volume, info.id, sizeof(reply.volume));
	reply.replica = info.replica;
	reply.view = info.view;
	reply.applied = self->released;
	store_attach_reply(call, &reply);
}

void on_store_oids(struct store_server *self, struct ipc_call *call, const struct store_oids *req)
{
	struct volume *vol = ready(self, call);
	struct store_oids_reply reply = { .count = req->count };
	int r;

	if (!vol)
		return;
	if (self->is_reader) {
		ipc_call_fail(call, -EROFS, NULL);
		return;
	}
	if (reply.count > 1u << 20)
		reply.count = 1u << 20;
	r = engine_oids(self->stored->engine, vol, reply.count, &reply.first);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		store_oids_reply(call, &reply);
}

/* ---- records */

struct nodes {
	struct engine_node engine[STORE_DIR_REPLY_NODES_MAX];
	struct store_node store[STORE_DIR_REPLY_NODES_MAX];
};

static void convert_nodes(struct nodes *nodes, size_t num)
{
	size_t i;

	for (i = 0; i < num; i++)
		nodes->store[i] = (struct store_node){
			.oid = nodes->engine[i].oid,
			.nlink = nodes->engine[i].nlink,
			.entries = nodes->engine[i].entries,
			.subdirs = nodes->engine[i].subdirs,
			.num_xattrs = nodes->engine[i].num_xattrs,
			.is_fallen = nodes->engine[i].is_fallen,
			.strays = nodes->engine[i].strays,
		};
}

static struct engine_page page_of(
	struct store_server *self, uint64_t at, size_t cap, struct nodes *nodes, size_t max)
{
	return (struct engine_page){ .at = at,
		.records = self->stored->page,
		.cap = cap,
		.nodes = nodes ? nodes->engine : NULL,
		.max_nodes = max };
}

void on_store_lookup(
	struct store_server *self, struct ipc_call *call, const struct store_lookup *req)
{
	struct volume *vol = ready(self, call);
	struct nodes nodes;
	struct engine_page page = page_of(self, req->at, STORE_LOOKUP_REPLY_RECORDS_MAX, &nodes,
		STORE_LOOKUP_REPLY_NODES_MAX);
	int r;

	if (!vol)
		return;
	r = engine_lookup(self->stored->engine, vol, req->parent, req->tag, &page);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	convert_nodes(&nodes, page.num_nodes);
	store_lookup_reply(
		call, &(struct store_lookup_reply){ .records = { page.records, page.len },
			      .nodes = nodes.store,
			      .num_nodes = page.num_nodes });
}

void on_store_dir(struct store_server *self, struct ipc_call *call, const struct store_dir *req)
{
	struct volume *vol = ready(self, call);
	struct nodes nodes;
	struct engine_page page = page_of(
		self, req->at, STORE_DIR_REPLY_RECORDS_MAX, &nodes, STORE_DIR_REPLY_NODES_MAX);
	int r;

	if (!vol)
		return;
	r = engine_dir(self->stored->engine, vol, req->parent, req->after, req->max, &page);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	convert_nodes(&nodes, page.num_nodes);
	store_dir_reply(call, &(struct store_dir_reply){ .records = { page.records, page.len },
				      .nodes = nodes.store,
				      .num_nodes = page.num_nodes,
				      .end = page.end,
				      .next = page.next });
}

void on_store_inode(struct store_server *self, struct ipc_call *call, const struct store_inode *req)
{
	struct volume *vol = ready(self, call);
	struct nodes nodes;
	struct engine_page page = page_of(
		self, req->at, STORE_INODE_REPLY_RECORDS_MAX, &nodes, STORE_INODE_REPLY_NODES_MAX);
	int r;

	if (!vol)
		return;
	r = engine_inode(self->stored->engine, vol, req->oid, &page);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	convert_nodes(&nodes, page.num_nodes);
	store_inode_reply(call, &(struct store_inode_reply){ .records = { page.records, page.len },
					.nodes = nodes.store,
					.num_nodes = page.num_nodes });
}

void on_store_xattrs(
	struct store_server *self, struct ipc_call *call, const struct store_xattrs *req)
{
	struct volume *vol = ready(self, call);
	struct engine_page page = page_of(self, req->at, STORE_XATTRS_REPLY_RECORDS_MAX, NULL, 0);
	int r;

	if (!vol)
		return;
	r = engine_xattrs(self->stored->engine, vol, req->oid, req->after, &page);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		store_xattrs_reply(
			call, &(struct store_xattrs_reply){
				      .records = { page.records, page.len }, .end = page.end });
}

void on_store_orphans(
	struct store_server *self, struct ipc_call *call, const struct store_orphans *req)
{
	struct volume *vol = ready(self, call);
	uint64_t oids[STORE_ORPHANS_REPLY_OIDS_MAX];
	struct store_orphans_reply reply = { .oids = oids };
	int r;

	if (!vol)
		return;
	r = engine_orphans(self->stored->engine, vol, req->after, oids,
		STORE_ORPHANS_REPLY_OIDS_MAX, &reply.num_oids, &reply.end);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		store_orphans_reply(call, &reply);
}

/* ---- objects */

void on_store_locate(
	struct store_server *self, struct ipc_call *call, const struct store_locate *req)
{
	struct store_place places[STORE_LOCATE_REPLY_PLACES_MAX] = { 0 };
	struct place place;
	size_t i;

	if (!ready(self, call))
		return;
	for (i = 0; i < req->num_ids; i++)
		if (engine_locate(self->stored->engine, req->ids[i], &place) == 0)
			places[i] = (struct store_place){ place.arena, place.len, place.offset };
	store_locate_reply(
		call, &(struct store_locate_reply){ .places = places, .num_places = req->num_ids });
}

void on_store_arena(struct store_server *self, struct ipc_call *call, const struct store_arena *req)
{
	int fd;

	if (!ready(self, call))
		return;
	fd = engine_arena_open(self->stored->engine, req->arena);
	if (fd < 0) {
		ipc_call_fail(call, fd, NULL);
		return;
	}
	store_arena_reply(call, &(struct store_arena_reply){ .fd = fd });
	close(fd);
}

void on_store_have(struct store_server *self, struct ipc_call *call, const struct store_have *req)
{
	uint8_t ids[STORE_HAVE_REPLY_IDS_MAX][32] = { 0 };
	size_t i;

	self->stored->active = ev_now(self->stored->loop);
	for (i = 0; i < req->num_tags; i++)
		engine_have(self->stored->engine, req->tags[i], ids[i]);
	store_have_reply(call, &(struct store_have_reply){ .ids = ids, .num_ids = req->num_tags });
}

/* ---- durability and numbers */

void on_store_sync(struct store_server *self, struct ipc_call *call, const struct store_sync *req)
{
	int r;

	if (!ready(self, call))
		return;
	if (req->position > self->released) {
		/* Not taken: the disk is full, or it was never published. */
		ipc_call_fail(call, self->is_full ? -ENOSPC : -EINVAL, NULL);
		return;
	}
	r = commit_wait(self, call);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
}

void on_store_statfs(
	struct store_server *self, struct ipc_call *call, const struct store_statfs *req)
{
	struct volume *vol = ready(self, call);
	struct store_statfs_reply reply = { 0 };
	struct volume_info info;
	struct engine_stat stat;
	int r;

	if (!vol)
		return;
	r = engine_stat(self->stored->engine, &stat);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	volume_info(vol, &info);
	reply.block_size = (uint32_t)stat.fs.f_frsize;
	reply.blocks = stat.fs.f_blocks;
	reply.blocks_free = stat.fs.f_bfree;
	reply.blocks_available = stat.fs.f_bavail;
	reply.inodes = info.inodes;
	reply.logical = stat.object_bytes;
	reply.stored = stat.object_bytes;
	store_statfs_reply(call, &reply);
}

void on_store_kick(struct store_server *self, const struct store_kick *msg)
{
	/* Having ended the wait is all: the loop takes from the rings before the next one. */
}

/* What cannot be noted is compressed once more. */
void on_store_tags(struct store_server *self, const struct store_tags *msg)
{
	for (size_t i = 0; i < msg->num_tags; i++)
		(void)engine_learn_tag(self->stored->engine, msg->tags[i].tag, msg->tags[i].id);
}

void on_store_flushed(struct store_server *self, const struct store_flushed *msg)
{
	sync_flushed(self->stored, self->volume, msg->token);
	undo_flushed(self->stored, self->volume, msg->token);
	collect_flushed(self->stored, self, msg->token);
}

void on_store_seen(struct store_server *self, const struct store_seen *msg)
{
	seen_view(self->stored, self->volume, msg->view);
}
