/*
 * bazil-dialer: connects to the configured addresses of peers, and to nothing else, and hands the
 * connected sockets to syncd, which sits in an empty network namespace.
 */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dialer/addresses.h"
#include "dialer/dial.h"
#include "dialer/resolve.h"
#include "ipc/chan.h"
#include "ipc/dial.gen.h"
#include "worker/log.h"
#include "worker/start.h"

#define TIMEOUT_MAX_MS 60000u

/* One process, one syncd: the state of both. */
struct dial_server {
	struct worker *worker;
	struct resolver *resolver;
	struct addresses addresses;
	struct ipc_chan *syncd;
	uint64_t num_dials;
};

static void dialed(void *arg, int err, int fd, const char *text)
{
	struct ipc_call *call = arg;

	if (err) {
		ipc_call_fail(call, err, "%s", text);
		return;
	}
	dial_peer_reply(call, &(struct dial_peer_reply){ .fd = fd, .address = text });
	close(fd);
}

void on_dial_peer(struct dial_server *self, struct ipc_call *call, const struct dial_peer *req)
{
	const char *address = addresses_find(&self->addresses, req->peer);
	uint32_t timeout = req->timeout_ms < TIMEOUT_MAX_MS ? req->timeout_ms : TIMEOUT_MAX_MS;
	int r;

	if (!address) {
		ipc_call_fail(call, -EADDRNOTAVAIL,
			"no address is known: set one with `bazil peer location set PEER "
			"HOST:PORT`");
		return;
	}
	self->num_dials++;
	r = dial_start(worker_loop(self->worker), self->resolver, address, timeout, dialed, call);
	if (r < 0)
		ipc_call_fail(call, r, "%s: %s", address, strerror(-r));
}

static int prepare(void *arg, struct worker *worker)
{
	struct addrinfo *list = NULL;

	((struct dial_server *)arg)->worker = worker;
	/* Modules of the resolver are loaded at its first use; inside nothing can be loaded. */
	if (getaddrinfo("localhost", NULL, NULL, &list) == 0)
		freeaddrinfo(list);
	return 0;
}

static int entered(void *arg, struct worker *worker)
{
	struct dial_server *self = arg;

	return resolver_start(&self->resolver, worker_loop(worker));
}

static void closed(void *arg, struct ipc_chan *chan, int err)
{
	struct dial_server *self = arg;

	if (self->syncd == chan)
		self->syncd = NULL;
	ipc_chan_close(chan);
}

static void edge(void *arg, struct ipc_call *call, const struct work_edge *req)
{
	struct dial_server *self = arg;
	int r;

	if (strcmp(req->kind, "dial") != 0) {
		ipc_call_fail(call, -EOPNOTSUPP, "dialer: no edge of this kind");
		return;
	}
	ipc_chan_close(self->syncd);
	self->syncd = NULL;
	r = ipc_chan_open(&self->syncd, worker_loop(self->worker), IPC_TAKE_FD(req->fd),
		&dial_server_service, self, closed);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	work_edge_reply(call, &(struct work_edge_reply){ 0 });
}

static void addresses(void *arg, struct ipc_call *call, const struct work_addresses *req)
{
	struct dial_server *self = arg;

	addresses_clear(&self->addresses);
	for (size_t i = 0; i < req->num_addresses; i++) {
		const struct work_address *a = &req->addresses[i];
		int r = addresses_add(&self->addresses, a->peer, a->address);

		if (r < 0)
			log_warn("an address of a peer cannot be used: %s", strerror(-r));
	}
	work_addresses_reply(call, &(struct work_addresses_reply){ 0 });
}

static void status(void *arg, struct ipc_call *call)
{
	struct dial_server *self = arg;
	struct work_counter counters[] = { { "dials", self->num_dials },
		{ "addresses", self->addresses.num } };

	work_status_reply(
		call, &(struct work_status_reply){ .counters = counters, .num_counters = 2 });
}

int main(void)
{
	static const struct worker_role role = { .name = "dialer", .profile = SANDBOX_DIALER };
	static const struct worker_ops ops = { .prepare = prepare,
		.entered = entered,
		.edge = edge,
		.addresses = addresses,
		.status = status };
	struct dial_server self = { 0 };

	return worker_run(&role, &ops, &self);
}
