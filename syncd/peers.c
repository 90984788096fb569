#include "syncd/peers.h"

#include "ipc/chan.h"
#include "ipc/dial.gen.h"
#include "ipc/sync.gen.h"
#include "syncd/fetch.h"
#include "syncd/handshake.h"
#include "syncd/serve.h"
#include "syncd/syncd.h"
#include "syncd/wire.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two sessions that began within this time are a simultaneous dial. */
#define SAME_MOMENT 10.0
/* How long a session that is not preferred is kept for what the peer may still have begun on it. */
#define DRAIN	    10.0
/* How soon an older session must answer when a new one came. */
#define PROBE	    5.0
#define BACKOFF_MAX 60.0

struct peer {
	struct peer *next;
	struct peers *peers;
	uint8_t key[32];
	char nickname[65];
	bool has_address, is_kept, is_gone;
	/* newest first */
	struct link *links;
	struct peer_wait *waits;
	/* between the request to the dialer and the peer's welcome */
	bool is_asking;
	struct handshake *handshake;
	struct link *candidate;
	ev_tstamp dial_at;
	struct ev_timer dial_timer, drain_timer;
	char address[257];
	/* after a failure */
	double backoff;
	ev_tstamp retry_at, lost_at;
	int last_err;
	char last_why[700];
};

static void dial(struct peer *peer);

static bool is_dialling(const struct peer *peer)
{
	return peer->is_asking || peer->handshake || peer->candidate;
}

/* ---- links ---- */

struct link *link_ref(struct link *link)
{
	link->refs++;
	return link;
}

void link_unref(struct link *link)
{
	if (!link || --link->refs > 0)
		return;
	session_unref(link->session);
	free(link);
}

/* The one of two that both nodes choose. */
static struct link *prefer(struct link *old, struct link *new)
{
	const struct syncd *d = new->syncd;
	bool we_are_smaller;

	if (old->is_initiator == new->is_initiator || new->since - old->since > SAME_MOMENT)
		return new;
	we_are_smaller = memcmp(d->identity, new->key, 32) < 0;
	return new->is_initiator == we_are_smaller ? new : old;
}

static struct link *best_link(const struct peer *peer)
{
	struct link *best = NULL;

	for (struct link *link = peer->links; link; link = link->next) {
		if (session_is_dead(link->session))
			continue;
		best = best ? prefer(link, best) : link;
	}
	return best;
}

static void detach(struct link *link)
{
	struct peer *peer = link->peer;

	if (!peer)
		return;
	if (peer->candidate == link)
		peer->candidate = NULL;
	for (struct link **p = &peer->links; *p; p = &(*p)->next) {
		if (*p == link) {
			*p = link->next;
			break;
		}
	}
	link->peer = NULL;
	link->is_dead = true;
}

static bool is_idle(const struct link *link)
{
	return link->refs == 1 && link->num_calls == 0 && !link->serves;
}

static void on_drain(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct peer *peer = timer->data;
	struct link *best = best_link(peer);
	bool is_left = false;

	for (struct link *link = peer->links; link; link = link->next) {
		if (link == best)
			continue;
		if (is_idle(link))
			session_end(link->session, 0);
		else
			is_left = true;
	}
	if (!is_left)
		ev_timer_stop(loop, timer);
}

/* ---- waiting ---- */

static void wake(struct peer *peer, int err, struct link *link, const char *why)
{
	struct peer_wait *wait, *all = peer->waits;

	/* Those who begin to wait inside a done() wait for the next event. */
	peer->waits = NULL;
	for (wait = all; wait; wait = wait->next)
		wait->peer = NULL;
	while ((wait = all)) {
		all = wait->next;
		wait->done(wait->arg, err, link, why);
	}
}

static void free_if_gone(struct peer *peer)
{
	struct peers *peers = peer->peers;

	if (!peer->is_gone || is_dialling(peer) || peer->links)
		return;
	for (struct peer **p = &peers->gone; *p; p = &(*p)->next) {
		if (*p == peer) {
			*p = peer->next;
			break;
		}
	}
	ev_timer_stop(peers->syncd->loop, &peer->dial_timer);
	ev_timer_stop(peers->syncd->loop, &peer->drain_timer);
	free(peer);
}

static void dial_failed(struct peer *peer, int err, const char *why)
{
	struct ev_loop *loop = peer->peers->syncd->loop;

	ev_timer_stop(loop, &peer->dial_timer);
	peer->backoff = peer->backoff == 0 ? 1 : peer->backoff * 2;
	if (peer->backoff > BACKOFF_MAX)
		peer->backoff = BACKOFF_MAX;
	peer->retry_at = ev_now(loop) + peer->backoff;
	peer->last_err = err;
	snprintf(peer->last_why, sizeof(peer->last_why), "%s", why);
	/* It may have called us meanwhile. */
	if (!best_link(peer))
		wake(peer, err, NULL, peer->last_why);
	free_if_gone(peer);
}

static void became_ready(struct peer *peer)
{
	struct link *link = best_link(peer);

	peer->backoff = 0;
	peer->retry_at = 0;
	if (link)
		wake(peer, 0, link, NULL);
}

/* ---- a session begins and ends ---- */

static void add_link(struct peer *peer, struct link *link)
{
	struct ev_loop *loop = peer->peers->syncd->loop;
	struct link *best;
	size_t n = 0;

	peer->peers->syncd->counters[SYNCD_SESSIONS]++;
	link->next = peer->links;
	peer->links = link;
	best = best_link(peer);
	for (struct link *l = peer->links; l; l = l->next) {
		if (l == link)
			continue;
		session_probe(l->session, PROBE);
		/* Two are enough for every honest case. */
		if (++n > 1 && l != best)
			session_end(l->session, 0);
	}
	if (n > 0) {
		ev_timer_stop(loop, &peer->drain_timer);
		ev_timer_set(&peer->drain_timer, DRAIN, DRAIN);
		ev_timer_start(loop, &peer->drain_timer);
	}
	became_ready(peer);
}

static void on_up(void *self, struct session *s)
{
	struct link *link = self;
	struct peer *peer = link->peer;

	/* The responder knew already. */
	if (!peer || peer->candidate != link)
		return;
	peer->candidate = NULL;
	ev_timer_stop(link->syncd->loop, &peer->dial_timer);
	add_link(peer, link);
}

static void on_object(
	void *self, struct session *s, const uint8_t id[32], uint8_t *data, size_t len)
{
	fetch_arrived(self, id, data, len);
}

static void on_closed(void *self, struct session *s, int err)
{
	struct link *link = self;
	struct peer *peer = link->peer;
	bool was_candidate = peer && peer->candidate == link;

	if (peer && !was_candidate)
		peer->lost_at = ev_now(link->syncd->loop);
	detach(link);
	serve_closed(link);
	if (was_candidate) {
		char why[600];
		snprintf(why, sizeof(why),
			"%s closed the connection: does it know this node? On it, run "
			"`bazil peer add` with the key that `bazil debug pubkey` prints here",
			peer->address);
		dial_failed(peer, -ECONNREFUSED, why);
	} else if (peer) {
		free_if_gone(peer);
	}
	link_unref(link);
}

static const struct session_ops session_ops = {
	.up = on_up, .object = on_object, .closed = on_closed
};

/* Takes the wire. The link's reference is the session's, until closed. */
static struct link *open_link(struct peer *peer, struct handshake_result *result, bool is_initiator)
{
	struct syncd *d = peer->peers->syncd;
	struct link *link = calloc(1, sizeof(*link));
	struct session_params params = {
		.loop = d->loop,
		.limits = &d->limits->session,
		.wire = result->wire,
		.send = &result->send,
		.receive = &result->receive,
		.ops = &session_ops,
		.self = link,
	};

	if (!link) {
		wire_close(result->wire);
		return NULL;
	}
	link->refs = 1;
	link->syncd = d;
	link->peer = peer;
	link->is_initiator = is_initiator;
	link->since = ev_now(d->loop);
	link->last_objects = &link->first_objects;
	memcpy(link->key, peer->key, 32);
	if (session_open(&link->session, &params) < 0) {
		free(link);
		return NULL;
	}
	return link;
}

void peers_accepted(struct peers *peers, struct handshake_result *result)
{
	struct peer *peer = peers_find_key(peers, result->identity);
	struct link *link;

	/* Removed while it shook hands. */
	if (!peer) {
		wire_close(result->wire);
		return;
	}
	link = open_link(peer, result, false);
	if (link)
		add_link(peer, link);
}

/* ---- dialling, in order ---- */

static void on_dial_timeout(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct peer *peer = timer->data;
	char why[400];

	/* The dialer has its own deadline and answers. */
	if (peer->is_asking)
		return;
	if (is_dialling(peer))
		snprintf(why, sizeof(why), "%s does not answer", peer->address);
	else
		snprintf(why, sizeof(why), "the dialer is not running");
	if (peer->handshake) {
		handshake_cancel(peer->handshake);
		peer->handshake = NULL;
	} else if (peer->candidate) {
		struct link *link = peer->candidate;
		detach(link);
		session_end(link->session, -ETIMEDOUT);
	}
	dial_failed(peer, -ETIMEDOUT, why);
}

static void handshake_done(void *arg, int err, struct handshake_result *result)
{
	struct peer *peer = arg;
	struct syncd *d = peer->peers->syncd;
	char why[400];

	peer->handshake = NULL;
	if (peer->is_gone && err == 0) {
		wire_close(result->wire);
		err = -ENOENT;
	}
	if (err == 0) {
		peer->candidate = open_link(peer, result, true);
		if (peer->candidate)
			return;
		err = -ENOMEM;
	}
	d->counters[SYNCD_HANDSHAKES_REFUSED]++;
	switch (err) {
	case -EKEYREJECTED:
		snprintf(why, sizeof(why),
			"%s is another node than this peer: check `bazil peer location set`",
			peer->address);
		break;
	case -ELOOP:
		snprintf(why, sizeof(why), "%s is this node itself", peer->address);
		break;
	case -EPROTONOSUPPORT:
		snprintf(why, sizeof(why),
			"%s speaks another version of the protocol: upgrade the older bazil",
			peer->address);
		break;
	case -EBADMSG:
	case -EMSGSIZE:
		snprintf(why, sizeof(why), "%s does not speak bazil's protocol", peer->address);
		break;
	default:
		snprintf(why, sizeof(why), "%s: %s", peer->address, strerror(-err));
	}
	dial_failed(peer, err, why);
}

static void dialled(void *arg, int err, const struct dial_peer_reply *reply)
{
	struct peer *peer = arg;
	struct syncd *d = peer->peers->syncd;

	peer->is_asking = false;
	if (peer->is_gone) {
		dial_failed(peer, -ENOENT, "the peer was removed");
		return;
	}
	if (err < 0) {
		const char *why = d->dial ? ipc_chan_error(d->dial) : NULL;
		dial_failed(peer, err, why && *why ? why : strerror(-err));
		return;
	}
	snprintf(peer->address, sizeof(peer->address), "%s", reply->address);
	err = handshake_start(
		d, IPC_TAKE_FD(reply->fd), peer->key, handshake_done, peer, &peer->handshake);
	if (err < 0)
		dial_failed(peer, err, strerror(-err));
}

static void dial(struct peer *peer)
{
	struct syncd *d = peer->peers->syncd;
	struct dial_peer req = { .timeout_ms = (uint32_t)(d->limits->dial * 500) };
	int r;

	memcpy(req.peer, peer->key, 32);
	/* The dialer is back within a second; until then the demand waits. */
	if (!d->dial) {
		ev_timer_stop(d->loop, &peer->dial_timer);
		ev_timer_set(&peer->dial_timer, d->limits->dial, 0);
		ev_timer_start(d->loop, &peer->dial_timer);
		return;
	}
	r = dial_peer(d->dial, &req, dialled, peer);
	if (r < 0) {
		dial_failed(peer, r, strerror(-r));
		return;
	}
	peer->is_asking = true;
	ev_timer_stop(d->loop, &peer->dial_timer);
	ev_timer_set(&peer->dial_timer, d->limits->dial, d->limits->dial);
	ev_timer_start(d->loop, &peer->dial_timer);
}

bool peer_is_recent(const struct peer *peer)
{
	const struct syncd *d = peer->peers->syncd;

	return best_link(peer) || ev_now(d->loop) - peer->lost_at < d->limits->recent;
}

void peers_wait(
	struct peer *peer, struct peer_wait *wait, bool is_urgent, peer_ready_fn *done, void *arg)
{
	struct link *link = best_link(peer);
	ev_tstamp now = ev_now(peer->peers->syncd->loop);

	if (link) {
		done(arg, 0, link, NULL);
		return;
	}
	if (!is_dialling(peer) && !peer->has_address) {
		done(arg, -EDESTADDRREQ, NULL, "has no location and is not connected to this node");
		return;
	}
	if (!is_dialling(peer) && !is_urgent && now < peer->retry_at) {
		done(arg, peer->last_err, NULL, peer->last_why);
		return;
	}
	*wait = (struct peer_wait){
		.next = peer->waits, .peer = peer, .done = done, .arg = arg, .is_urgent = is_urgent
	};
	peer->waits = wait;
	if (!is_dialling(peer))
		dial(peer);
}

void peers_wait_cancel(struct peer_wait *wait)
{
	if (!wait->peer)
		return;
	for (struct peer_wait **p = &wait->peer->waits; *p; p = &(*p)->next) {
		if (*p == wait) {
			*p = wait->next;
			break;
		}
	}
	wait->peer = NULL;
}

/* ---- the table ---- */

void peers_init(struct peers *peers, struct syncd *d)
{
	*peers = (struct peers){ .syncd = d };
}

static struct peer *peer_new(struct peers *peers, const uint8_t key[32])
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		return NULL;
	peer->peers = peers;
	memcpy(peer->key, key, 32);
	ev_timer_init(&peer->dial_timer, on_dial_timeout, 0, 0);
	ev_timer_init(&peer->drain_timer, on_drain, 0, 0);
	peer->dial_timer.data = peer->drain_timer.data = peer;
	peer->next = peers->first;
	peers->first = peer;
	return peer;
}

/* Already out of the list. */
static void remove_peer(struct peer *peer)
{
	struct peers *peers = peer->peers;

	peer->is_gone = true;
	peer->next = peers->gone;
	peers->gone = peer;
	for (struct link *link = peer->links; link; link = link->next)
		session_end(link->session, -ENOENT);
	if (peer->candidate)
		session_end(peer->candidate->session, -ENOENT);
	if (peer->handshake) {
		handshake_cancel(peer->handshake);
		peer->handshake = NULL;
	}
	wake(peer, -ENOENT, NULL, "the peer was removed");
	free_if_gone(peer);
}

static int set_storages(struct peers *peers, const struct sync_config_reply *config)
{
	struct storage *storages = calloc(config->num_storages + 1, sizeof(*storages));

	if (!storages)
		return -ENOMEM;
	for (size_t i = 0; i < config->num_storages; i++) {
		memcpy(storages[i].volume, config->storages[i].volume, 16);
		memcpy(storages[i].peer, config->storages[i].peer, 32);
	}
	free(peers->storages);
	peers->storages = storages;
	peers->num_storages = config->num_storages;
	return 0;
}

int peers_set(struct peers *peers, const struct sync_config_reply *config)
{
	struct peer **p;

	for (struct peer *peer = peers->first; peer; peer = peer->next)
		peer->is_kept = false;
	for (size_t i = 0; i < config->num_peers; i++) {
		const struct sync_peer *c = &config->peers[i];
		struct peer *peer = peers_find_key(peers, c->key);
		if (!peer)
			peer = peer_new(peers, c->key);
		if (!peer)
			return -ENOMEM;
		peer->is_kept = true;
		/* A new address deserves a new attempt. */
		peer->retry_at = 0;
		peer->backoff = 0;
		peer->has_address = c->has_address;
		snprintf(peer->nickname, sizeof(peer->nickname), "%s", c->nickname);
	}
	for (p = &peers->first; *p;) {
		struct peer *peer = *p;
		if (peer->is_kept) {
			p = &peer->next;
			continue;
		}
		*p = peer->next;
		remove_peer(peer);
		/* done()s ran: the list may be another one. */
		p = &peers->first;
	}
	peers->is_known = true;
	return set_storages(peers, config);
}

void peers_release(struct peers *peers)
{
	struct peer *peer;

	while ((peer = peers->first)) {
		peers->first = peer->next;
		remove_peer(peer);
	}
	free(peers->storages);
	peers->storages = NULL;
	peers->num_storages = 0;
}

struct peer *peers_find_key(const struct peers *peers, const uint8_t key[32])
{
	struct peer *found = NULL;

	/* Always to the end: the time does not tell who is known. */
	for (struct peer *peer = peers->first; peer; peer = peer->next)
		if (sodium_memcmp(peer->key, key, 32) == 0)
			found = peer;
	return found;
}

struct peer *peers_find(const struct peers *peers, const char *text)
{
	uint8_t key[32];
	size_t len;

	for (struct peer *peer = peers->first; peer; peer = peer->next)
		if (*peer->nickname && strcmp(peer->nickname, text) == 0)
			return peer;
	if (strlen(text) != 64 ||
		sodium_hex2bin(key, sizeof(key), text, 64, NULL, &len, NULL) != 0 || len != 32)
		return NULL;
	return peers_find_key(peers, key);
}

const char *peer_name(const struct peer *peer, char ret[65])
{
	if (*peer->nickname)
		return peer->nickname;
	sodium_bin2hex(ret, 65, peer->key, 8);
	return ret;
}

const uint8_t *peer_key(const struct peer *peer)
{
	return peer->key;
}

size_t peers_num_sessions(const struct peers *peers)
{
	size_t n = 0;

	for (const struct peer *peer = peers->first; peer; peer = peer->next)
		for (const struct link *link = peer->links; link; link = link->next)
			n++;
	return n;
}

struct link *peers_next_link(const struct peers *peers, const struct link *previous)
{
	struct peer *peer;

	if (previous && previous->next)
		return previous->next;
	for (peer = previous ? previous->peer->next : peers->first; peer; peer = peer->next)
		if (peer->links)
			return peer->links;
	return NULL;
}

/* The dialer is back. */
void peers_redial(struct peers *peers)
{
	struct peer *next;

	for (struct peer *peer = peers->first; peer; peer = next) {
		next = peer->next;
		if (peer->waits && !is_dialling(peer))
			dial(peer);
	}
}
