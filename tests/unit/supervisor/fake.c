/*
 * A worker of any role that does as little as it can: the program's name says which. It enters the
 * role's real sandbox and answers the supervisor. Tests of the supervisor run with it, so that they
 * say something of the supervisor alone. What it should do wrong is in its directory's or its
 * volume's name, since nothing else reaches a worker:
 *
 *   volume "dies"      its mountd exits as soon as it is mounted
 *   volume "refuses"   its mountd refuses the mount
 */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "worker/log.h"
#include "worker/scope.h"
#include "worker/start.h"

/* Another one, to be refused. */
#ifndef FAKE_BUILD
#define FAKE_BUILD NULL
#endif

struct ctl_server {
	struct worker *worker;
	struct ipc_chan *ctl;
	struct ev_io fuse;
	bool has_dir, was_rebuilt;
	unsigned num_edges, num_listeners, num_addresses, num_mounts;
};

static void closed(void *self, struct ipc_chan *chan, int err)
{
	((struct ctl_server *)self)->ctl = NULL;
	ipc_chan_close(chan);
}

/* Every request of the control channel that a worker serves gets the same answer. */
#define REFUSE(name)                                                                               \
	void on_##name(struct ctl_server *self, struct ipc_call *call, const struct name *req);    \
	void on_##name(struct ctl_server *self, struct ipc_call *call, const struct name *req)     \
	{                                                                                          \
		ipc_call_fail(call, -ENOTSUP, "fake: " #name);                                     \
	}
REFUSE(ctl_ping)
REFUSE(ctl_status)
REFUSE(ctl_stop)
REFUSE(ctl_sharing_add)
REFUSE(ctl_sharing_list)
REFUSE(ctl_sharing_remove)
REFUSE(ctl_volume_create)
REFUSE(ctl_volume_add)
REFUSE(ctl_volume_connect)
REFUSE(ctl_volume_storage_add)
REFUSE(ctl_volume_storage_remove)
REFUSE(ctl_volume_mount)
REFUSE(ctl_volume_unmount)
REFUSE(ctl_volume_sync)
REFUSE(ctl_auto_set)
REFUSE(ctl_volume_retention)
REFUSE(ctl_sync_list)
REFUSE(ctl_sync_undo)
REFUSE(ctl_peer_add)
REFUSE(ctl_peer_remove)
REFUSE(ctl_peer_storage)
REFUSE(ctl_peer_volume)
REFUSE(ctl_peer_nickname)
REFUSE(ctl_gc)
REFUSE(ctl_scrub)
REFUSE(ctl_store_rebuild)

void on_ctl_store_status(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_store_status *req)
{
	ctl_store_status_reply(
		call, &(struct ctl_store_status_reply){ .rebuilt = self->was_rebuilt });
}

void on_ctl_pubkey(struct ctl_server *self, struct ipc_call *call, const struct ctl_pubkey *req)
{
	struct ctl_pubkey_reply reply = { .identity = { 1, 2, 3 } };

	ctl_pubkey_reply(call, &reply);
}

void on_ctl_volume_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_list *req)
{
	struct ctl_volume v = { .name = "v", .sharing = "default" };

	ctl_volume_list_reply(
		call, &(struct ctl_volume_list_reply){ .volumes = &v, .num_volumes = 1 });
}

void on_ctl_volume_remove(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_remove *req)
{
	ctl_volume_remove_reply(call, &(struct ctl_volume_remove_reply){ 0 });
}

void on_ctl_volume_status(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_status *req)
{
	if (strcmp(req->name, "absent") == 0 || strcmp(req->name, "w") == 0)
		ipc_call_fail(call, -ENOENT, "%s: no such volume", req->name);
	else
		ctl_volume_status_reply(
			call, &(struct ctl_volume_status_reply){
				      .volume = { .name = req->name, .sharing = "default" } });
}

void on_ctl_auto_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_auto_list *req)
{
	ctl_auto_list_reply(call, &(struct ctl_auto_list_reply){ 0 });
}

void on_ctl_peer_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_list *req)
{
	struct ctl_peer peer = { .key = { 7 }, .nickname = "p", .address = "127.0.0.1:9" };

	ctl_peer_list_reply(call, &(struct ctl_peer_list_reply){ .peers = &peer, .num_peers = 1 });
}

/* Tells the supervisor that peers changed, as stored does after it. */
void on_ctl_peer_location(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_peer_location *req)
{
	ctl_peer_location_reply(call, &(struct ctl_peer_location_reply){ 0 });
	ctl_peers_changed(self->ctl, &(struct ctl_peers_changed){ 0 });
}

static int prepare(void *arg, struct worker *worker)
{
	((struct ctl_server *)arg)->worker = worker;
	return 0;
}

static void edge(void *arg, struct ipc_call *call, const struct work_edge *req)
{
	struct ctl_server *self = arg;

	self->num_edges++;
	if (strcmp(req->kind, "ctl") == 0) {
		ipc_chan_close(self->ctl);
		ipc_chan_open(&self->ctl, worker_loop(self->worker), IPC_TAKE_FD(req->fd),
			&ctl_server_service, self, closed);
	}
	work_edge_reply(call, &(struct work_edge_reply){ 0 });
}

/* keyd and stored keep a file, so that a second creation is refused and a failure can be asked for.
 */
static void begin(void *arg, struct ipc_call *call, const struct work_begin *req)
{
	struct ctl_server *self = arg;
	int fd;

	if (faccessat(WORKER_DIR_FD, "dying", F_OK, 0) == 0)
		_exit(3);
	self->was_rebuilt = req->rebuild;
	if (req->rebuild)
		ipc_call_progress(call, 1, 2, "");
	/* Far longer than the watchdog is patient in the test, without a turn of the loop. */
	if (req->rebuild && faccessat(WORKER_DIR_FD, "slow", F_OK, 0) == 0)
		sleep(4);

	if (!((struct ctl_server *)arg)->has_dir) {
		work_begin_reply(call, &(struct work_begin_reply){ 0 });
		return;
	}
	fd = openat(WORKER_DIR_FD, "fake", req->create ? O_CREAT | O_EXCL | O_RDWR : O_RDWR, 0600);
	if (fd < 0) {
		ipc_call_fail(call, -errno, "fake: its file: %s", strerror(errno));
		return;
	}
	close(fd);
	if (faccessat(WORKER_DIR_FD, "broken", F_OK, 0) == 0)
		ipc_call_fail(call, -EBADMSG, "fake: it is broken: mend it");
	else
		work_begin_reply(call, &(struct work_begin_reply){ 0 });
}

static void status(void *arg, struct ipc_call *call)
{
	struct ctl_server *self = arg;
	struct work_counter counters[] = { { "edges", self->num_edges },
		{ "listeners", self->num_listeners }, { "addresses", self->num_addresses },
		{ "mounts", self->num_mounts } };

	work_status_reply(
		call, &(struct work_status_reply){ .counters = counters, .num_counters = 4 });
}

static void listener(void *arg, struct ipc_call *call, const struct work_listener *req)
{
	((struct ctl_server *)arg)->num_listeners++;
	work_listener_reply(call, &(struct work_listener_reply){ 0 });
}

static void addresses(void *arg, struct ipc_call *call, const struct work_addresses *req)
{
	((struct ctl_server *)arg)->num_addresses += req->num_addresses;
	work_addresses_reply(call, &(struct work_addresses_reply){ 0 });
}

static void on_fuse(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct ctl_server *self = w->data;
	char buf[1 << 17];

	/* Requests are never answered; only the end of the connection counts. */
	if (read(w->fd, buf, sizeof(buf)) < 0 && errno == ENODEV) {
		work_unmounted(worker_chan(self->worker), &(struct work_unmounted){ 0 });
		worker_exit(self->worker, 0);
	}
}

static void mount(void *arg, struct ipc_call *call, const struct work_mount *req)
{
	struct ctl_server *self = arg;

	if (strcmp(req->volume_name, "refuses") == 0) {
		ipc_call_fail(call, -EBADMSG, "fake: it refuses");
		return;
	}
	if (strcmp(req->volume_name, "dies") == 0)
		_exit(3);
	self->num_mounts++;
	ev_io_init(&self->fuse, on_fuse, IPC_TAKE_FD(req->fuse), EV_READ);
	self->fuse.data = self;
	ev_io_start(worker_loop(self->worker), &self->fuse);
	work_mount_reply(call, &(struct work_mount_reply){ 0 });
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "keyd", "stored", "mountd", "syncd", "dialer" };
	static const struct worker_ops ops = { .prepare = prepare,
		.edge = edge,
		.begin = begin,
		.status = status,
		.listener = listener,
		.addresses = addresses,
		.mount = mount };
	const char *dash = strrchr(argv[0], '-');
	struct ctl_server self = { 0 };

	for (int i = 0; dash && i < 5; i++)
		if (strcmp(dash + 1, names[i]) == 0) {
			/* Profiles are numbered in this order. */
			self.has_dir = i < 2;
			struct worker_role role = { names[i], (enum sandbox_profile)i, FAKE_BUILD };

			int r = worker_run(&role, &ops, &self);

			ipc_chan_close(self.ctl);
			return r;
		}
	return 2;
}
