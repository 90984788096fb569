#include "syncd/pull.h"

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/peer.gen.h"
#include "ipc/sync.gen.h"
#include "syncd/syncd.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Pages at stored at once; the peer is asked for the next one only below this. */
#define PUTS_MAX       4
#define ATTEMPTS_MAX   2
#define KNOWLEDGE_MAX  65536
#define CURSOR_MAX     128
#define PROGRESS_EVERY 0.2

/*
 * One try. Every call under way holds a reference; when the pull has gone on without it, pull is
 * NULL and what comes is of no interest.
 */
struct attempt {
	unsigned int refs;
	struct pull *pull;
	struct link *link;
	uint64_t generation;
	bool has_pull, has_serve, is_full, is_asking, at_end, is_merging;
	uint64_t at_stored, at_peer;
	uint8_t *knowledge;
	size_t knowledge_len;
	uint8_t cursor[CURSOR_MAX];
	size_t cursor_len, num_puts;
};

struct pull {
	struct pull *next;
	struct syncd *syncd;
	struct ipc_call *call;
	char volume[65], peer[65];
	int num_attempts;
	struct attempt *attempt;
	struct peer_wait wait;
	bool waits_for_store;
	/* a merge was begun in some attempt: whether it was committed may be unknown */
	bool may_be_done;
	uint64_t num_records, bytes;
	/* progress */
	struct ev_timer watch, again;
	ev_tstamp moved_at, told_at;
	uint64_t answered;
};

static void pull_connect(struct pull *p);
static void pull_begin(struct pull *p, struct link *link);
static void pull_pages(struct attempt *a);
static void pull_merge(struct attempt *a);
static void pull_commit(struct attempt *a, const struct sync_pull_step_reply *reply);

/* ---- attempts and their calls ---- */

static void attempt_unref(struct attempt *a)
{
	if (--a->refs > 0)
		return;
	link_unref(a->link);
	free(a->knowledge);
	free(a);
}

/* At the beginning of each answer: false when nobody waits for it any more. */
static bool answered(struct attempt *a)
{
	struct pull *p = a->pull;

	/* The pull itself holds a reference. */
	attempt_unref(a);
	if (p)
		p->moved_at = ev_now(p->syncd->loop);
	return p != NULL;
}

static void ignore_abort(void *arg, int err, const struct sync_pull_abort_reply *reply)
{
}

static void ignore_end(void *arg, int err, const struct peer_pull_end_reply *reply)
{
}

/* Lets go of what it holds at stored and at the peer. */
static void attempt_end(struct pull *p)
{
	struct attempt *a = p->attempt;
	struct ipc_chan *store = syncd_store(p->syncd);
	struct ipc_chan *peer;

	if (!a)
		return;
	p->attempt = NULL;
	a->pull = NULL;
	peer = session_asker(a->link->session);
	if (a->has_pull && store && a->generation == p->syncd->sync_generation)
		sync_pull_abort(store, &(struct sync_pull_abort){ .pull = a->at_stored },
			ignore_abort, NULL);
	if (a->has_serve && peer)
		peer_pull_end(
			peer, &(struct peer_pull_end){ .serve = a->at_peer }, ignore_end, NULL);
	attempt_unref(a);
}

/* ---- the end ---- */

static void pull_free(struct pull *p)
{
	struct pull **pp = &p->syncd->pulls;

	while (*pp != p)
		pp = &(*pp)->next;
	*pp = p->next;
	ev_timer_stop(p->syncd->loop, &p->watch);
	ev_timer_stop(p->syncd->loop, &p->again);
	peers_wait_cancel(&p->wait);
	attempt_end(p);
	free(p);
}

__attribute__((format(printf, 3, 4))) static void pull_fail(
	struct pull *p, int err, const char *fmt, ...)
{
	char text[IPC_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->syncd->counters[SYNCD_PULLS_FAILED]++;
	ipc_call_fail(p->call, err, "%s", text);
	pull_free(p);
}

static const char *consequence(const struct pull *p)
{
	return p->may_be_done ? "whether the volume was changed is not known; run the command again"
			      : "nothing was changed here; run the command again";
}

/* The session or stored died: once more, then say so. */
static void pull_cut(struct pull *p, const char *what)
{
	attempt_end(p);
	p->moved_at = ev_now(p->syncd->loop);
	if (p->num_attempts < ATTEMPTS_MAX) {
		/* What died needs a moment to come back. */
		ev_timer_set(&p->again, p->syncd->limits->again, 0);
		ev_timer_start(p->syncd->loop, &p->again);
		return;
	}
	pull_fail(p, -ECONNRESET, "volume %s: %s during the sync: %s", p->volume, what,
		consequence(p));
}

static void on_again(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	pull_connect(timer->data);
}

/* stored refused a step. */
static void store_failed(struct pull *p, int err)
{
	struct ipc_chan *store = syncd_store(p->syncd);
	const char *why = store ? ipc_chan_error(store) : NULL;

	if (err == -ECONNRESET || !store)
		pull_cut(p, "the store was restarted");
	else
		pull_fail(p, err, "%s", why && *why ? why : strerror(-err));
}

static void peer_failed(struct pull *p, int err)
{
	switch (err) {
	case -ECONNRESET:
	case -EAGAIN:
	case -ESTALE:
		pull_cut(p, "the connection with the peer broke off");
		return;
	case -EACCES:
		pull_fail(p, err,
			"volume %s: peer %s does not have it, or does not allow it to this node: "
			"on "
			"that node, run `bazil peer volume allow` with this node's key",
			p->volume, p->peer);
		return;
	case -EUCLEAN:
		pull_fail(p, err,
			"volume %s: damage has taken changes away at peer %s, so that nothing is "
			"taken from there: on that node, see `bazil volume status %s`",
			p->volume, p->peer, p->volume);
		return;
	}
	pull_fail(p, err, "peer %s: it could not answer (%s): %s", p->peer, strerror(-err),
		consequence(p));
}

void peer_unknown(struct ipc_call *call, const char *name)
{
	ipc_call_fail(call, -ENOENT,
		"peer %s: not known here: add it by `bazil peer add`, or see `bazil peer list`",
		name);
}

void peer_unreachable(struct ipc_call *call, const char *name, int err, const char *why)
{
	if (err == -EDESTADDRREQ)
		ipc_call_fail(call, err,
			"peer %s: it %s: tell where it is by `bazil peer location set %s "
			"HOST:PORT`",
			name, why, name);
	else
		ipc_call_fail(call, err,
			"peer %s: cannot be reached: %s: is its server running, and is the "
			"location of `bazil peer list` right?",
			name, why);
}

/* ---- time ---- */

static void on_watch(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct pull *p = timer->data;
	struct attempt *a = p->attempt;
	const struct syncd_limits *l = p->syncd->limits;
	uint64_t n = a ? session_answered(a->link->session) : 0;
	double limit = a && a->is_merging ? l->merge : p->waits_for_store ? l->restart : l->stage;

	/* Part of a long answer is progress too; a ping is not. */
	if (n != p->answered) {
		p->answered = n;
		p->moved_at = ev_now(loop);
	}
	if (ev_now(loop) - p->moved_at <= limit)
		return;
	if (p->waits_for_store)
		pull_fail(p, -ETIMEDOUT,
			"volume %s: the store is not running: see `bazil server status`",
			p->volume);
	else if (a && a->is_merging)
		pull_fail(p, -ETIMEDOUT, "volume %s: the store takes too long to merge: %s",
			p->volume, consequence(p));
	else
		pull_fail(p, -ETIMEDOUT, "peer %s: no answer for %.0f seconds: %s", p->peer, limit,
			consequence(p));
}

static void tell_progress(struct pull *p)
{
	ev_tstamp now = ev_now(p->syncd->loop);
	char text[64];

	if (now - p->told_at < PROGRESS_EVERY)
		return;
	p->told_at = now;
	snprintf(text, sizeof(text), "%llu KiB of changes", (unsigned long long)(p->bytes / 1024));
	ipc_call_progress(p->call, p->bytes, 0, text);
}

static void on_asker_gone(struct ipc_call *call, void *arg)
{
	pull_fail(arg, -ECONNRESET, "%s", "");
}

/* ---- the stages ---- */

void on_ctl_volume_sync(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_sync *req)
{
	struct syncd *d = self->syncd;
	struct pull *p = calloc(1, sizeof(*p));

	if (!p) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	p->syncd = d;
	p->call = call;
	snprintf(p->volume, sizeof(p->volume), "%s", req->volume);
	snprintf(p->peer, sizeof(p->peer), "%s", req->peer);
	p->next = d->pulls;
	d->pulls = p;
	d->counters[SYNCD_PULLS]++;
	ev_timer_init(&p->watch, on_watch, d->limits->stage / 30, d->limits->stage / 30);
	ev_init(&p->again, on_again);
	p->watch.data = p->again.data = p;
	ev_timer_start(d->loop, &p->watch);
	ipc_call_on_dead(call, on_asker_gone, p);
	pull_connect(p);
}

static void connected(void *arg, int err, struct link *link, const char *why)
{
	struct pull *p = arg;

	if (err == 0) {
		pull_begin(p, link);
		return;
	}
	p->syncd->counters[SYNCD_PULLS_FAILED]++;
	peer_unreachable(p->call, p->peer, err, why);
	pull_free(p);
}

static void pull_connect(struct pull *p)
{
	struct syncd *d = p->syncd;
	struct peer *peer;

	p->moved_at = ev_now(d->loop);
	p->answered = 0;
	p->waits_for_store = !syncd_store(d) || !d->peers.is_known;
	if (p->waits_for_store)
		return;
	p->num_attempts++;
	peer = peers_find(&d->peers, p->peer);
	if (!peer) {
		d->counters[SYNCD_PULLS_FAILED]++;
		peer_unknown(p->call, p->peer);
		pull_free(p);
		return;
	}
	peers_wait(peer, &p->wait, true, connected, p);
}

void pulls_resume(struct syncd *d)
{
	struct pull *next;

	for (struct pull *p = d->pulls; p; p = next) {
		next = p->next;
		if (p->waits_for_store)
			pull_connect(p);
	}
}

static void pull_asked(void *arg, int err, const struct peer_pull_reply *reply)
{
	struct attempt *a = arg;
	struct pull *p = a->pull;

	if (!answered(a))
		return;
	if (err < 0) {
		peer_failed(p, err);
		return;
	}
	if (reply->nothing) {
		ctl_volume_sync_reply(p->call, &(struct ctl_volume_sync_reply){ 0 });
		pull_free(p);
		return;
	}
	a->has_serve = true;
	a->at_peer = reply->serve;
	a->is_full = reply->full;
	p->num_records = reply->num_records;
	p->bytes = 0;
	a->knowledge = malloc(reply->knowledge.len + 1);
	if (!a->knowledge) {
		pull_fail(p, -ENOMEM, "volume %s: out of memory", p->volume);
		return;
	}
	if (reply->knowledge.len > 0)
		memcpy(a->knowledge, reply->knowledge.data, reply->knowledge.len);
	a->knowledge_len = reply->knowledge.len;
	pull_pages(a);
}

static void begun(void *arg, int err, const struct sync_pull_begin_reply *reply)
{
	struct attempt *a = arg;
	struct pull *p = a->pull;
	struct syncd *d = a->link->syncd;
	struct peer_pull ask = { 0 };
	struct ipc_chan *peer;

	/* Given up meanwhile: stored must not keep it. */
	if (!p && err == 0 && syncd_store(d) && a->generation == d->sync_generation)
		sync_pull_abort(syncd_store(d), &(struct sync_pull_abort){ .pull = reply->pull },
			ignore_abort, NULL);
	if (!answered(a))
		return;
	if (err < 0) {
		store_failed(p, err);
		return;
	}
	a->has_pull = true;
	a->at_stored = reply->pull;
	memcpy(ask.volume, reply->volume, sizeof(ask.volume));
	ask.knowledge = reply->knowledge;
	peer = session_asker(a->link->session);
	err = peer ? peer_pull(peer, &ask, pull_asked, a) : -ECONNRESET;
	if (err < 0)
		peer_failed(p, err);
	else
		a->refs++;
}

static void pull_begin(struct pull *p, struct link *link)
{
	struct syncd *d = p->syncd;
	struct attempt *a = calloc(1, sizeof(*a));
	struct ipc_chan *store = syncd_store(d);
	struct sync_pull_begin ask = { 0 };
	int r;

	if (!a) {
		pull_fail(p, -ENOMEM, "volume %s: out of memory", p->volume);
		return;
	}
	a->refs = 1;
	a->pull = p;
	a->link = link_ref(link);
	a->generation = d->sync_generation;
	p->attempt = a;
	p->moved_at = ev_now(d->loop);
	p->answered = session_answered(link->session);
	ask.volume_name = p->volume;
	memcpy(ask.peer, link->key, sizeof(ask.peer));
	r = store ? sync_pull_begin(store, &ask, begun, a) : -ECONNRESET;
	if (r < 0)
		store_failed(p, r);
	else
		a->refs++;
}

static void put_done(void *arg, int err, const struct sync_pull_put_reply *reply)
{
	struct attempt *a = arg;
	struct pull *p = a->pull;

	a->num_puts--;
	if (!answered(a))
		return;
	if (err < 0)
		store_failed(p, err);
	else
		pull_pages(a);
}

/* Hands to stored what the peer sent; false: the attempt is over. */
static bool put(struct attempt *a, struct ipc_bytes records, struct ipc_bytes dead)
{
	struct pull *p = a->pull;
	struct sync_pull_put req = { .pull = a->at_stored, .records = records, .dead = dead };
	struct ipc_chan *store = syncd_store(p->syncd);
	int r = store && a->generation == p->syncd->sync_generation
			? sync_pull_put(store, &req, put_done, a)
			: -ECONNRESET;

	if (r < 0) {
		store_failed(p, r);
		return false;
	}
	a->refs++;
	a->num_puts++;
	p->bytes += records.len + dead.len;
	tell_progress(p);
	return true;
}

static void page_done(void *arg, int err, const struct peer_pull_page_reply *reply)
{
	struct attempt *a = arg;
	struct pull *p = a->pull;

	a->is_asking = false;
	if (!answered(a))
		return;
	if (err < 0) {
		peer_failed(p, err);
		return;
	}
	/* A peer that stands still would keep us for ever. */
	if (!reply->end &&
		((reply->records.len == 0 && reply->dead.len == 0) ||
			(reply->cursor.len == a->cursor_len &&
				memcmp(reply->cursor.data, a->cursor, a->cursor_len) == 0))) {
		peer_failed(p, -EPROTO);
		return;
	}
	a->at_end = reply->end;
	a->cursor_len = reply->cursor.len;
	if (reply->cursor.len > 0)
		memcpy(a->cursor, reply->cursor.data, reply->cursor.len);
	if (reply->records.len + reply->dead.len > 0 && !put(a, reply->records, reply->dead))
		return;
	pull_pages(a);
}

static void pull_pages(struct attempt *a)
{
	struct pull *p = a->pull;
	struct peer_pull_page ask = { .serve = a->at_peer,
		.cursor = { .data = a->cursor, .len = a->cursor_len } };
	struct ipc_chan *peer;
	int r;

	if (a->at_end && a->num_puts == 0 && !a->is_asking) {
		pull_merge(a);
		return;
	}
	if (a->at_end || a->is_asking || a->num_puts >= PUTS_MAX)
		return;
	peer = session_asker(a->link->session);
	r = peer ? peer_pull_page(peer, &ask, page_done, a) : -ECONNRESET;
	if (r < 0) {
		peer_failed(p, r);
		return;
	}
	a->refs++;
	a->is_asking = true;
}

static void registers_done(void *arg, int err, const struct peer_pull_registers_reply *reply)
{
	struct attempt *a = arg;
	struct pull *p = a->pull;

	a->is_asking = false;
	if (!answered(a))
		return;
	if (err < 0) {
		peer_failed(p, err);
		return;
	}
	/* Then the next step, by pull_pages(): nothing is asked any more. */
	put(a, reply->records, (struct ipc_bytes){ 0 });
}

static void ask_registers(struct attempt *a, struct ipc_bytes keys)
{
	struct ipc_chan *peer = session_asker(a->link->session);
	struct peer_pull_registers ask = { .serve = a->at_peer, .keys = keys };
	int r = peer ? peer_pull_registers(peer, &ask, registers_done, a) : -ECONNRESET;

	if (r < 0) {
		peer_failed(a->pull, r);
		return;
	}
	a->refs++;
	a->is_asking = true;
}

static void stepped(void *arg, int err, const struct sync_pull_step_reply *reply)
{
	struct attempt *a = arg;
	struct pull *p = a->pull;

	a->is_merging = false;
	if (!answered(a))
		return;
	if (err < 0)
		store_failed(p, err);
	else if (reply->need.len > 0)
		ask_registers(a, reply->need);
	else
		pull_commit(a, reply);
}

static void pull_merge(struct attempt *a)
{
	struct pull *p = a->pull;
	struct sync_pull_step req = {
		.pull = a->at_stored,
		.knowledge = { .data = a->knowledge, .len = a->knowledge_len },
		.full = a->is_full,
	};
	struct ipc_chan *store = syncd_store(p->syncd);
	int r = store && a->generation == p->syncd->sync_generation
			? sync_pull_step(store, &req, stepped, a)
			: -ECONNRESET;

	if (r < 0) {
		store_failed(p, r);
		return;
	}
	a->refs++;
	a->is_merging = true;
	p->may_be_done = true;
}

/* stored has it, durably; the pull is closed there. */
static void pull_commit(struct attempt *a, const struct sync_pull_step_reply *reply)
{
	struct pull *p = a->pull;

	a->has_pull = false;
	ctl_volume_sync_reply(p->call, &(struct ctl_volume_sync_reply){
					       .num_records = p->num_records,
					       .num_changed = reply->num_changed,
					       .num_conflicts = reply->num_conflicts,
				       });
	pull_free(p);
}

void pulls_release(struct syncd *d)
{
	while (d->pulls)
		pull_fail(d->pulls, -ECONNRESET, "volume %s: bazil is being stopped: %s",
			d->pulls->volume, consequence(d->pulls));
}
