#include "ipc/ctl.gen.h"
#include "ipc/fetch.gen.h"
#include "ipc/store.gen.h"
#include "ipc/sync.gen.h"
#include "stored/collect.h"
#include "stored/intake.h"
#include "stored/stored.h"
#include "worker/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An edge handed over before the engine is open. */
struct waiting_edge {
	struct waiting_edge *next;
	char kind[17];
	uint64_t id, incarnation;
	uint8_t volume[16];
	int fd, ring_in, ring_out;
};

static void edge_free(struct waiting_edge *edge)
{
	if (edge->fd >= 0)
		close(edge->fd);
	if (edge->ring_in >= 0)
		close(edge->ring_in);
	if (edge->ring_out >= 0)
		close(edge->ring_out);
	free(edge);
}

static int take_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

/* ---- store: a mountd */

void mount_close(struct store_server *mount)
{
	struct stored *stored = mount->stored;
	struct store_server **link = &stored->mounts;
	struct volume *vol;
	uint8_t volume[16];

	memcpy(volume, mount->volume, sizeof(volume));
	while (*link != mount)
		link = &(*link)->next;
	*link = mount->next;
	commit_forget(mount);
	ipc_chan_close(mount->chan);
	ipc_ring_unmap(mount->ring);
	vol = engine_volume(stored->engine, mount->volume);
	if (vol && !stored_mount_of(stored, mount->volume))
		volume_attached(vol, false);
	free(mount->syncs);
	free(mount);
	sync_flushed(stored, volume, 0);
	collect_flushed(stored, NULL, 0);
	undo_flushed(stored, volume, 0);
	seen_view(stored, volume, UINT64_MAX);
}

static void mount_closed(void *self, struct ipc_chan *chan, int err)
{
	struct store_server *mount = self;

	if (err < 0) {
		log_warn("closed the edge to a mountd: %s", ipc_chan_error(chan));
		mount->stored->counters.broken++;
	}
	/* What it had published is still ours to take. */
	intake_run(mount);
	mount_close(mount);
}

static int mount_open(struct stored *stored, struct waiting_edge *edge)
{
	struct volume *vol = engine_volume(stored->engine, edge->volume);
	struct store_server *mount, *old;
	uint64_t applied;
	int r;

	if (!vol)
		return -ENOENT;
	for (old = stored->mounts; old; old = old->next) {
		if (old->id != edge->id)
			continue;
		intake_run(old);
		mount_close(old);
		break;
	}
	mount = calloc(1, sizeof(*mount));
	if (!mount)
		return -ENOMEM;
	mount->stored = stored;
	mount->id = edge->id;
	mount->incarnation = edge->incarnation;
	memcpy(mount->volume, edge->volume, sizeof(mount->volume));
	r = ipc_ring_map(&mount->ring, edge->ring_in, IPC_RING_CONSUMER);
	if (r == 0)
		r = ipc_chan_open(&mount->chan, stored->loop, take_fd(&edge->fd),
			&store_server_service, mount, mount_closed);
	if (r < 0) {
		ipc_ring_unmap(mount->ring);
		free(mount);
		return r;
	}
	/* A predecessor may have taken entries without having told the ring. */
	mount->taken = mount->released = ipc_ring_tail(mount->ring);
	applied = engine_taken(vol, mount->incarnation);
	if (applied > mount->taken && applied <= ipc_ring_head(mount->ring)) {
		ipc_ring_release(mount->ring, applied);
		mount->taken = mount->released = applied;
	}
	mount->next = stored->mounts;
	stored->mounts = mount;
	volume_attached(vol, true);
	intake_check_room(stored);
	/* It may wait for room that the predecessor made and did not tell of. */
	store_room(mount->chan, &(struct store_room){ 0 });
	return 0;
}

struct store_server *stored_mount_of(struct stored *stored, const uint8_t volume[16])
{
	struct store_server *mount, *reader = NULL;

	for (mount = stored->mounts; mount; mount = mount->next) {
		if (memcmp(mount->volume, volume, 16) != 0)
			continue;
		if (!mount->is_reader)
			return mount;
		reader = mount;
	}
	return reader;
}

/* ---- sync and fetch: syncd */

void sync_close(struct stored *stored)
{
	struct sync_server *sync = stored->sync;

	if (!sync)
		return;
	stored->sync = NULL;
	sync_release(sync);
	ipc_chan_close(sync->chan);
	ipc_ring_unmap(sync->in);
	ipc_ring_unmap(sync->out);
	free(sync);
}

static void sync_closed(void *self, struct ipc_chan *chan, int err)
{
	struct sync_server *sync = self;

	if (err < 0) {
		log_warn("closed the edge to syncd: %s", ipc_chan_error(chan));
		sync->stored->counters.broken++;
	}
	sync_close(sync->stored);
}

static int sync_open(struct stored *stored, struct waiting_edge *edge)
{
	struct sync_server *sync;
	int r;

	sync_close(stored);
	sync = calloc(1, sizeof(*sync));
	if (!sync)
		return -ENOMEM;
	sync->stored = stored;
	sync->next_id = 1;
	sync->last_job = &sync->jobs;
	r = ipc_ring_map(&sync->in, edge->ring_in, IPC_RING_CONSUMER);
	if (r == 0)
		r = ipc_ring_map(&sync->out, edge->ring_out, IPC_RING_PRODUCER);
	if (r == 0)
		r = ipc_chan_open(&sync->chan, stored->loop, take_fd(&edge->fd),
			&sync_server_service, sync, sync_closed);
	if (r < 0) {
		ipc_ring_unmap(sync->in);
		ipc_ring_unmap(sync->out);
		free(sync);
		return r;
	}
	stored->sync = sync;
	sync_room(sync->chan, &(struct sync_room){ 0 });
	fetch_resume(stored);
	return 0;
}

static void fetch_closed(void *self, struct ipc_chan *chan, int err)
{
	struct fetch_client *fetch = self;

	fetch_close(fetch->stored);
}

static int fetch_open(struct stored *stored, struct waiting_edge *edge)
{
	struct fetch_client *fetch;
	int r;

	fetch_close(stored);
	fetch = calloc(1, sizeof(*fetch));
	if (!fetch)
		return -ENOMEM;
	fetch->stored = stored;
	r = ipc_chan_open(&fetch->chan, stored->loop, take_fd(&edge->fd), &fetch_client_service,
		fetch, fetch_closed);
	if (r < 0) {
		free(fetch);
		return r;
	}
	stored->fetch = fetch;
	fetch_resume(stored);
	return 0;
}

/* ---- ctl */

static void ctl_close(struct ctl_server *ctl)
{
	struct ctl_server **link = &ctl->stored->ctls;

	while (*link != ctl)
		link = &(*link)->next;
	*link = ctl->next;
	undo_close(ctl->stored, ctl);
	seen_close(ctl->stored, ctl->chan);
	ipc_chan_close(ctl->chan);
	free(ctl);
}

static void ctl_closed(void *self, struct ipc_chan *chan, int err)
{
	ctl_close(self);
}

static int ctl_open(struct stored *stored, struct waiting_edge *edge)
{
	struct ctl_server *ctl;
	int r;

	for (ctl = stored->ctls; ctl; ctl = ctl->next) {
		if (ctl->id != edge->id)
			continue;
		ctl_close(ctl);
		break;
	}
	ctl = calloc(1, sizeof(*ctl));
	if (!ctl)
		return -ENOMEM;
	ctl->stored = stored;
	ctl->id = edge->id;
	r = ipc_chan_open(&ctl->chan, stored->loop, take_fd(&edge->fd), &ctl_server_stored_service,
		ctl, ctl_closed);
	if (r < 0) {
		free(ctl);
		return r;
	}
	ctl->next = stored->ctls;
	stored->ctls = ctl;
	return 0;
}

/* ---- any */

static const struct {
	const char *kind;
	int (*open)(struct stored *stored, struct waiting_edge *edge);
} kinds[] = {
	{ "store", mount_open },
	{ "sync", sync_open },
	{ "fetch", fetch_open },
	{ "ctl", ctl_open },
};

static int edge_open(struct stored *stored, struct waiting_edge *edge)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].kind, edge->kind) == 0)
			return kinds[i].open(stored, edge);
	return -EOPNOTSUPP;
}

static bool is_kind(const char *kind)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].kind, kind) == 0)
			return true;
	return false;
}

int stored_edge(struct stored *stored, const struct work_edge *req)
{
	struct waiting_edge *edge, **link;
	int r;

	if (!is_kind(req->kind))
		return -EOPNOTSUPP;
	edge = calloc(1, sizeof(*edge));
	if (!edge)
		return -ENOMEM;
	memcpy(edge->kind, req->kind, strlen(req->kind));
	edge->id = req->id;
	edge->incarnation = req->incarnation;
	memcpy(edge->volume, req->volume, sizeof(edge->volume));
	edge->fd = IPC_TAKE_FD(req->fd);
	edge->ring_in = IPC_TAKE_FD(req->ring_in);
	edge->ring_out = IPC_TAKE_FD(req->ring_out);
	if (!stored->engine) {
		for (link = &stored->waiting; *link; link = &(*link)->next)
			;
		*link = edge;
		return 0;
	}
	r = edge_open(stored, edge);
	edge_free(edge);
	return r;
}

void stored_edges_begin(struct stored *stored)
{
	struct waiting_edge *edge;
	int r;

	while (stored->waiting) {
		edge = stored->waiting;
		stored->waiting = edge->next;
		r = edge_open(stored, edge);
		if (r < 0)
			log_error_errno(r, "opening an edge of kind %s", edge->kind);
		edge_free(edge);
	}
}

void stored_edges_close(struct stored *stored)
{
	while (stored->mounts)
		mount_close(stored->mounts);
	sync_close(stored);
	fetch_close(stored);
	while (stored->ctls)
		ctl_close(stored->ctls);
}
