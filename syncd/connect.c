#include "syncd/connect.h"

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/peer.gen.h"
#include "syncd/pull.h"
#include "syncd/syncd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct connect {
	struct connect *next;
	struct syncd *syncd;
	struct ipc_call *call;
	char volume[65], peer[65];
	struct peer_wait wait;
	struct link *link;
	/* a question is under way: its answer frees */
	bool is_asking, is_over;
	struct ev_timer deadline;
};

/* The call was answered. */
static void finish(struct connect *c)
{
	struct connect **p = &c->syncd->connects;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	ev_timer_stop(c->syncd->loop, &c->deadline);
	peers_wait_cancel(&c->wait);
	link_unref(c->link);
	c->link = NULL;
	c->is_over = true;
	if (!c->is_asking)
		free(c);
}

static void on_deadline(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct connect *c = timer->data;

	ipc_call_fail(c->call, -ETIMEDOUT,
		"peer %s: no answer for %.0f seconds: is it busy? run the command again", c->peer,
		c->syncd->limits->stage);
	finish(c);
}

static void on_asker_gone(struct ipc_call *call, void *arg)
{
	struct connect *c = arg;

	ipc_call_fail(call, -ECONNRESET, NULL);
	finish(c);
}

static void answered(void *arg, int err, const struct peer_volume_reply *reply)
{
	struct connect *c = arg;
	struct ctl_volume_connect_reply out;

	c->is_asking = false;
	if (c->is_over) {
		free(c);
		return;
	}
	if (err == 0) {
		memcpy(out.id, reply->volume, sizeof(out.id));
		memcpy(out.keyid, reply->keyid, sizeof(out.keyid));
		ctl_volume_connect_reply(c->call, &out);
	} else if (err == -EACCES) {
		ipc_call_fail(c->call, err,
			"volume %s: peer %s does not have it, or does not allow it to this node: "
			"on "
			"that node, run `bazil peer volume allow` with this node's key",
			c->volume, c->peer);
	} else {
		ipc_call_fail(c->call, err,
			"peer %s: the connection broke off (%s): run the command again", c->peer,
			strerror(-err));
	}
	finish(c);
}

static void connected(void *arg, int err, struct link *link, const char *why)
{
	struct connect *c = arg;
	struct peer_volume ask = { .name = c->volume };
	struct ipc_chan *peer;

	if (err < 0) {
		peer_unreachable(c->call, c->peer, err, why);
		finish(c);
		return;
	}
	c->link = link_ref(link);
	peer = session_asker(link->session);
	c->is_asking = true;
	err = peer ? peer_volume(peer, &ask, answered, c) : -ECONNRESET;
	if (err < 0)
		answered(c, err, NULL);
}

void on_ctl_volume_connect(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_connect *req)
{
	struct syncd *d = self->syncd;
	struct peer *peer = peers_find(&d->peers, req->peer);
	struct connect *c;

	if (!d->peers.is_known) {
		ipc_call_fail(call, -EAGAIN, "the store is being restarted: run the command again");
		return;
	}
	if (!peer) {
		peer_unknown(call, req->peer);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	c->syncd = d;
	c->call = call;
	snprintf(c->volume, sizeof(c->volume), "%s", req->name);
	snprintf(c->peer, sizeof(c->peer), "%s", req->peer);
	c->next = d->connects;
	d->connects = c;
	ev_timer_init(&c->deadline, on_deadline, d->limits->stage, 0);
	c->deadline.data = c;
	ev_timer_start(d->loop, &c->deadline);
	ipc_call_on_dead(call, on_asker_gone, c);
	peers_wait(peer, &c->wait, true, connected, c);
}

void connects_release(struct syncd *d)
{
	while (d->connects) {
		struct connect *c = d->connects;
		ipc_call_fail(c->call, -ECONNRESET, "bazil is being stopped");
		finish(c);
	}
}
