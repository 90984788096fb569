/* The channels with the other processes of this node: they come, go and are replaced. */
#include "syncd/syncd.h"

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/dial.gen.h"
#include "ipc/fetch.gen.h"
#include "ipc/ident.gen.h"
#include "ipc/sync.gen.h"
#include "syncd/connect.h"
#include "syncd/fetch.h"
#include "syncd/handshake.h"
#include "syncd/listen.h"
#include "syncd/pull.h"
#include "syncd/serve.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const struct syncd_limits syncd_default_limits = {
	.session = { .ping_after = 15,
		.dead_after = 30,
		.stall_after = 60,
		.rekey_after = 3600,
		.rekey_messages = 65536,
		.window = 4 * 1024 * 1024 },
	.handshake = 10,
	.refusal = 1,
	.max_handshakes = 64,
	.max_handshakes_per_address = 8,
	.dial = 20,
	.stage = 30,
	.merge = 600,
	.restart = 10,
	.again = 1,
	.recent = 5,
};

const char *syncd_counter_name(enum syncd_counter c)
{
	switch (c) {
	case SYNCD_SESSIONS:
		return "sessions";
	case SYNCD_HANDSHAKES_OK:
		return "handshakes accepted";
	case SYNCD_HANDSHAKES_REFUSED:
		return "handshakes failed";
	case SYNCD_CONNECTIONS_REFUSED:
		return "connections over the limit";
	case SYNCD_PULLS:
		return "pulls";
	case SYNCD_PULLS_FAILED:
		return "pulls failed";
	case SYNCD_OBJECTS_IN:
		return "objects received";
	case SYNCD_OBJECTS_OUT:
		return "objects sent";
	case SYNCD_OBJECTS_WRONG:
		return "objects refused";
	case SYNCD_NUM_COUNTERS:
		break;
	}
	return "";
}

struct ipc_chan *syncd_store(const struct syncd *d)
{
	return d->sync && !ipc_chan_dead(d->sync) ? d->sync : NULL;
}

/* ---- keyd ---- */

static void ident_closed(void *self, struct ipc_chan *chan, int err)
{
	struct syncd *d = self;

	ipc_chan_close(chan);
	if (d->ident == chan)
		d->ident = NULL;
}

static void public_done(void *arg, int err, const struct ident_public_reply *reply)
{
	struct syncd *d = arg;

	/* Without keys nobody can be talked to; the next keyd is asked again. */
	if (err < 0)
		return;
	memcpy(d->identity, reply->identity, sizeof(d->identity));
	memcpy(d->noise_static, reply->noise_static, sizeof(d->noise_static));
	memcpy(d->vouch, reply->vouch, sizeof(d->vouch));
	d->has_identity = true;
	handshakes_resume(d);
}

static int open_ident(struct syncd *d, int fd)
{
	int r;

	ipc_chan_close(d->ident);
	d->ident = NULL;
	r = ipc_chan_open(&d->ident, d->loop, fd, &ident_client_service, d, ident_closed);
	if (r < 0)
		return r;
	return ident_public(d->ident, &(struct ident_public){ 0 }, public_done, d);
}

/* ---- stored ---- */

static void ask_config(struct syncd *d);

static void config_done(void *arg, int err, const struct sync_config_reply *reply)
{
	struct syncd *d = arg;

	d->is_configuring = false;
	if (err == 0 && peers_set(&d->peers, reply) == 0) {
		serve_run(d);
		pulls_resume(d);
	}
	if (d->is_config_old)
		ask_config(d);
}

static void ask_config(struct syncd *d)
{
	struct ipc_chan *store = syncd_store(d);

	d->is_config_old = d->is_configuring;
	if (!store || d->is_configuring)
		return;
	d->is_configuring = sync_config(store, &(struct sync_config){ 0 }, config_done, d) == 0;
}

void on_sync_config_changed(struct sync_client *self, const struct sync_config_changed *msg)
{
	ask_config(self->syncd);
}

void on_sync_room(struct sync_client *self, const struct sync_room *msg)
{
	struct syncd *d = self->syncd;
	int r = objects_run(&d->objects, syncd_store(d));

	/* The ring is not to be understood: the supervisor sees the edge end and makes a new one.
	 */
	if (r < 0 && d->sync)
		ipc_chan_fail(d->sync, r);
}

static void sync_closed(void *self, struct ipc_chan *chan, int err)
{
	struct sync_client *client = self;
	struct syncd *d = client->syncd;

	ipc_chan_close(chan);
	if (d->sync != chan)
		return;
	d->sync = NULL;
	objects_detach(&d->objects);
}

static int open_sync(struct syncd *d, int fd, int ring_in, int ring_out)
{
	int r;

	ipc_chan_close(d->sync);
	d->sync = NULL;
	objects_detach(&d->objects);
	d->sync_generation++;
	r = objects_attach(&d->objects, ring_in, ring_out);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = ipc_chan_open(
		&d->sync, d->loop, fd, &sync_client_service, &d->sync_client, sync_closed);
	if (r < 0)
		return r;
	/* The syncd before may have died between an entry and its kick. */
	sync_kick(d->sync, &(struct sync_kick){ 0 });
	ask_config(d);
	serve_restarted(d);
	pulls_resume(d);
	return 0;
}

static void fetch_closed(void *self, struct ipc_chan *chan, int err)
{
	struct fetch_server *server = self;

	ipc_chan_close(chan);
	if (server->syncd->fetch == chan)
		server->syncd->fetch = NULL;
}

static int open_fetch(struct syncd *d, int fd)
{
	ipc_chan_close(d->fetch);
	d->fetch = NULL;
	return ipc_chan_open(
		&d->fetch, d->loop, fd, &fetch_server_service, &d->fetch_server, fetch_closed);
}

/* ---- the dialer and the supervisor ---- */

static void dial_closed(void *self, struct ipc_chan *chan, int err)
{
	struct syncd *d = self;

	ipc_chan_close(chan);
	if (d->dial == chan)
		d->dial = NULL;
}

static int open_dial(struct syncd *d, int fd)
{
	int r;

	ipc_chan_close(d->dial);
	d->dial = NULL;
	r = ipc_chan_open(&d->dial, d->loop, fd, &dial_client_service, d, dial_closed);
	if (r == 0)
		peers_redial(&d->peers);
	return r;
}

static void ctl_closed(void *self, struct ipc_chan *chan, int err)
{
	struct ctl_server *server = self;

	ipc_chan_close(chan);
	if (server->syncd->ctl == chan)
		server->syncd->ctl = NULL;
}

static int open_ctl(struct syncd *d, int fd)
{
	ipc_chan_close(d->ctl);
	d->ctl = NULL;
	return ipc_chan_open(
		&d->ctl, d->loop, fd, &ctl_server_syncd_service, &d->ctl_server, ctl_closed);
}

int syncd_edge(struct syncd *d, const char *kind, int fd, int ring_in, int ring_out)
{
	if (strcmp(kind, "sync") == 0)
		return open_sync(d, fd, ring_in, ring_out);
	if (ring_in >= 0)
		close(ring_in);
	if (ring_out >= 0)
		close(ring_out);
	if (strcmp(kind, "ident") == 0)
		return open_ident(d, fd);
	if (strcmp(kind, "fetch") == 0)
		return open_fetch(d, fd);
	if (strcmp(kind, "dial") == 0)
		return open_dial(d, fd);
	if (strcmp(kind, "ctl") == 0)
		return open_ctl(d, fd);
	close(fd);
	return -EINVAL;
}

/* ---- life ---- */

int syncd_init(struct syncd *d, struct ev_loop *loop, const struct syncd_limits *limits)
{
	*d = (struct syncd){ .loop = loop, .limits = limits };
	d->sync_client.syncd = d->fetch_server.syncd = d->ctl_server.syncd = d;
	peers_init(&d->peers, d);
	listen_init(d);
	return objects_init(&d->objects);
}

void syncd_stop(struct syncd *d)
{
	listen_release(d);
	pulls_release(d);
	connects_release(d);
	fetch_release(d);
}

void syncd_release(struct syncd *d)
{
	syncd_stop(d);
	peers_release(&d->peers);
	while (d->handshakes)
		handshake_cancel(d->handshakes);
	ipc_chan_close(d->ctl);
	ipc_chan_close(d->fetch);
	ipc_chan_close(d->dial);
	ipc_chan_close(d->sync);
	ipc_chan_close(d->ident);
	d->ctl = d->fetch = d->dial = d->sync = d->ident = NULL;
	/* Sessions tell their end from the loop. */
	while (d->peers.gone && ev_run(d->loop, EVRUN_ONCE))
		;
	objects_release(&d->objects);
}
