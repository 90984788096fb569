#include "syncd/serve.h"

#include "ipc/chan.h"
#include "ipc/peer.gen.h"
#include "ipc/sync.gen.h"
#include "syncd/syncd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Calls for objects at stored at once, over all sessions: one is answered while the next is read.
 */
#define ASKED_MAX      2
#define OBJECT_IDS_MAX 64

/* A pull of the peer: its number on the session, and stored's. */
struct serve {
	struct serve *next;
	uint64_t number, at_stored;
	uint64_t generation;
};

/* A question passed on to stored. Holds the link. */
struct question {
	struct link *link;
	struct ipc_call *call;
	uint64_t generation;
};

static const char no_such_volume[] = "no such volume, or this node may not have it";

static struct link *link_of(struct peer_server *self)
{
	return self->owner;
}

static struct question *question_new(struct peer_server *self, struct ipc_call *call)
{
	struct link *link = link_of(self);
	struct syncd *d = link->syncd;
	struct question *q;

	if (link->is_dead || !syncd_store(d)) {
		ipc_call_fail(call, -EAGAIN, "the store is being restarted");
		return NULL;
	}
	if (link->num_calls >= SERVE_CALLS_MAX) {
		ipc_call_fail(call, -EBUSY, "too many calls at once");
		return NULL;
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return NULL;
	}
	q->link = link_ref(link);
	q->call = call;
	q->generation = d->sync_generation;
	link->num_calls++;
	return q;
}

static void question_free(struct question *q)
{
	q->link->num_calls--;
	link_unref(q->link);
	free(q);
}

/* The question was not answered: what the peer is told does not depend on why it may not. */
static void question_fail(struct question *q, int err)
{
	if (err == -ENOENT || err == -EPERM)
		err = -EACCES;
	ipc_call_fail(q->call, err == -ECONNRESET ? -EAGAIN : err, "%s",
		err == -EACCES	     ? no_such_volume
		: err == -ECONNRESET ? "the store is being restarted"
				     : strerror(-err));
	question_free(q);
}

/* ---- volumes ---- */

void on_peer_ping(struct peer_server *self, struct ipc_call *call, const struct peer_ping *req)
{
	peer_ping_reply(call, &(struct peer_ping_reply){ 0 });
}

static void volume_done(void *arg, int err, const struct sync_volume_reply *reply)
{
	struct question *q = arg;
	struct peer_volume_reply out;

	if (err < 0) {
		question_fail(q, err);
		return;
	}
	memcpy(out.volume, reply->volume, sizeof(out.volume));
	memcpy(out.keyid, reply->keyid, sizeof(out.keyid));
	peer_volume_reply(q->call, &out);
	question_free(q);
}

void on_peer_volume(struct peer_server *self, struct ipc_call *call, const struct peer_volume *req)
{
	struct question *q = question_new(self, call);
	struct sync_volume ask = { .name = req->name };
	int r;

	if (!q)
		return;
	memcpy(ask.peer, q->link->key, sizeof(ask.peer));
	r = sync_volume(q->link->syncd->sync, &ask, volume_done, q);
	if (r < 0)
		question_fail(q, r);
}

/* ---- pulls ---- */

static struct serve *find_serve(struct link *link, uint64_t number)
{
	for (struct serve *s = link->serves; s; s = s->next)
		if (s->number == number && s->generation == link->syncd->sync_generation)
			return s;
	return NULL;
}

static void ended(void *arg, int err, const struct sync_serve_end_reply *reply)
{
}

static void end_at_stored(struct syncd *d, uint64_t at_stored, uint64_t generation)
{
	struct sync_serve_end req = { .serve = at_stored };

	if (syncd_store(d) && generation == d->sync_generation)
		sync_serve_end(d->sync, &req, ended, NULL);
}

static void remove_serve(struct link *link, struct serve *serve)
{
	struct serve **p = &link->serves;

	while (*p != serve)
		p = &(*p)->next;
	*p = serve->next;
	link->num_serves--;
	end_at_stored(link->syncd, serve->at_stored, serve->generation);
	free(serve);
}

/* A peer that begins one more has given up its oldest one. */
static struct serve *add_serve(struct link *link, uint64_t at_stored)
{
	struct serve *serve = calloc(1, sizeof(*serve)), **p = &link->serves;

	if (!serve)
		return NULL;
	if (link->num_serves >= SERVE_PULLS_MAX)
		remove_serve(link, link->serves);
	while (*p)
		p = &(*p)->next;
	*p = serve;
	serve->at_stored = at_stored;
	serve->generation = link->syncd->sync_generation;
	serve->number = ++link->last_serve;
	link->num_serves++;
	return serve;
}

static void begin_done(void *arg, int err, const struct sync_serve_begin_reply *reply)
{
	struct question *q = arg;
	struct peer_pull_reply out = { 0 };

	if (err < 0) {
		question_fail(q, err);
		return;
	}
	if (!reply->nothing) {
		struct serve *serve = q->link->is_dead ? NULL : add_serve(q->link, reply->serve);
		if (!serve) {
			end_at_stored(q->link->syncd, reply->serve, q->generation);
			question_fail(q, -ENOMEM);
			return;
		}
		out.serve = serve->number;
	}
	out.knowledge = reply->knowledge;
	out.full = reply->full;
	out.nothing = reply->nothing;
	out.num_records = reply->num_records;
	peer_pull_reply(q->call, &out);
	question_free(q);
}

void on_peer_pull(struct peer_server *self, struct ipc_call *call, const struct peer_pull *req)
{
	struct question *q = question_new(self, call);
	struct sync_serve_begin ask = { .knowledge = req->knowledge };
	int r;

	if (!q)
		return;
	memcpy(ask.peer, q->link->key, sizeof(ask.peer));
	memcpy(ask.volume, req->volume, sizeof(ask.volume));
	r = sync_serve_begin(q->link->syncd->sync, &ask, begin_done, q);
	if (r < 0)
		question_fail(q, r);
}

static void page_done(void *arg, int err, const struct sync_serve_page_reply *reply)
{
	struct question *q = arg;

	if (err < 0) {
		question_fail(q, err);
		return;
	}
	peer_pull_page_reply(q->call, &(struct peer_pull_page_reply){
					      .records = reply->records,
					      .dead = reply->dead,
					      .cursor = reply->cursor,
					      .end = reply->end,
				      });
	question_free(q);
}

void on_peer_pull_page(
	struct peer_server *self, struct ipc_call *call, const struct peer_pull_page *req)
{
	struct serve *serve = find_serve(link_of(self), req->serve);
	struct sync_serve_page ask = { .cursor = req->cursor };
	struct question *q;
	int r;

	if (!serve) {
		ipc_call_fail(call, -ESTALE, "this pull is over");
		return;
	}
	q = question_new(self, call);
	if (!q)
		return;
	ask.serve = serve->at_stored;
	r = sync_serve_page(q->link->syncd->sync, &ask, page_done, q);
	if (r < 0)
		question_fail(q, r);
}

static void registers_done(void *arg, int err, const struct sync_serve_registers_reply *reply)
{
	struct question *q = arg;

	if (err < 0) {
		question_fail(q, err);
		return;
	}
	peer_pull_registers_reply(
		q->call, &(struct peer_pull_registers_reply){ .records = reply->records });
	question_free(q);
}

void on_peer_pull_registers(
	struct peer_server *self, struct ipc_call *call, const struct peer_pull_registers *req)
{
	struct serve *serve = find_serve(link_of(self), req->serve);
	struct sync_serve_registers ask = { .keys = req->keys };
	struct question *q;
	int r;

	if (!serve) {
		ipc_call_fail(call, -ESTALE, "this pull is over");
		return;
	}
	q = question_new(self, call);
	if (!q)
		return;
	ask.serve = serve->at_stored;
	r = sync_serve_registers(q->link->syncd->sync, &ask, registers_done, q);
	if (r < 0)
		question_fail(q, r);
}

void on_peer_pull_end(
	struct peer_server *self, struct ipc_call *call, const struct peer_pull_end *req)
{
	struct link *link = link_of(self);
	struct serve *serve = find_serve(link, req->serve);

	if (serve)
		remove_serve(link, serve);
	peer_pull_end_reply(call, &(struct peer_pull_end_reply){ 0 });
}

/* ---- objects ---- */

enum objects_state { OBJECTS_WAIT, OBJECTS_ASKED, OBJECTS_SENDING };

/* A call for objects. Holds the link; in its list until answered. */
struct serve_objects {
	struct serve_objects *next;
	struct link *link;
	struct ipc_call *call;
	enum objects_state state;
	size_t num_ids;
	uint8_t ids[OBJECT_IDS_MAX][32];
	uint32_t lens[OBJECT_IDS_MAX];
	/* taken from stored and not yet on the wire */
	size_t num_left, bytes;
	int err;
};

/* Answers, unless the session is gone (then this goes nowhere), and lets the next one begin. */
static void objects_over(struct serve_objects *o, int err)
{
	struct link *link = o->link;
	struct syncd *d = link->syncd;
	struct serve_objects **p = &link->first_objects;

	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	if (!*p)
		link->last_objects = p;
	link->num_objects--;
	if (o->state != OBJECTS_WAIT)
		link->is_sending = false;
	d->serve.bytes -= o->bytes;
	if (err < 0)
		ipc_call_fail(o->call, err == -ENOENT ? -EACCES : err, NULL);
	else
		peer_objects_reply(o->call,
			&(struct peer_objects_reply){ .lens = o->lens, .num_lens = o->num_ids });
	free(o);
	link_unref(link);
}

static void sent(void *arg, int err)
{
	struct serve_objects *o = arg;
	struct syncd *d = o->link->syncd;

	if (err < 0)
		o->err = err;
	else
		d->counters[SYNCD_OBJECTS_OUT]++;
	if (--o->num_left > 0)
		return;
	objects_over(o, o->err);
	serve_run(d);
}

/* What stored sent for this call goes to the wire; the answer follows it there. */
static void send_objects(struct serve_objects *o)
{
	struct link *link = link_ref(o->link);
	struct syncd *d = link->syncd;
	size_t num = 0;

	o->state = OBJECTS_SENDING;
	for (size_t i = 0; i < o->num_ids; i++)
		num += o->lens[i] != 0;
	/* One more than there are: o is not gone before the loop is through. */
	o->num_left = num + 1;
	for (size_t i = 0; i < o->num_ids; i++) {
		struct object *object = o->lens[i] ? objects_take(&d->objects) : NULL;
		if (!object)
			continue;
		if (object->len != o->lens[i])
			o->err = -EIO;
		o->bytes += object->len;
		d->serve.bytes += object->len;
		session_object(link->session, o->ids[i], object->data, object->len, sent, o);
		free(object);
		num--;
	}
	/* stored has said more than it sent: it is not to be understood any more. */
	if (num > 0) {
		o->err = -EIO;
		o->num_left -= num;
	}
	if (--o->num_left == 0)
		objects_over(o, o->err);
	link_unref(link);
	serve_run(d);
}

static void objects_done(void *arg, int err, const struct sync_objects_reply *reply)
{
	struct serve_objects *o = arg;
	struct syncd *d = o->link->syncd;

	d->serve.num_asked--;
	/* stored died: its successor is asked (serve_restarted). */
	if (err == -ECONNRESET && !o->link->is_dead) {
		o->state = OBJECTS_WAIT;
		o->link->is_sending = false;
		return;
	}
	if (err == 0 && reply->num_lens != o->num_ids)
		err = -EIO;
	if (err < 0) {
		objects_over(o, err);
		serve_run(d);
		return;
	}
	objects_run(&d->objects, d->sync);
	memcpy(o->lens, reply->lens, o->num_ids * sizeof(*o->lens));
	send_objects(o);
}

/* The session that has waited longest for a turn. */
static struct link *next_turn(struct syncd *d)
{
	struct link *best = NULL;

	for (struct link *l = peers_next_link(&d->peers, NULL); l;
		l = peers_next_link(&d->peers, l))
		if (l->first_objects && !l->is_sending && (!best || l->turn < best->turn))
			best = l;
	return best;
}

void serve_run(struct syncd *d)
{
	struct link *link;

	while (syncd_store(d) && d->serve.num_asked < ASKED_MAX &&
		d->serve.bytes < SERVE_BYTES_MAX && (link = next_turn(d))) {
		struct serve_objects *o = link->first_objects;
		struct sync_objects ask = { .ids = o->ids, .num_ids = o->num_ids };
		int r;

		link->turn = ++d->serve.turn;
		link->is_sending = true;
		o->state = OBJECTS_ASKED;
		memcpy(ask.peer, link->key, sizeof(ask.peer));
		r = sync_objects(d->sync, &ask, objects_done, o);
		if (r < 0)
			objects_over(o, r);
		else
			d->serve.num_asked++;
	}
}

void on_peer_objects(
	struct peer_server *self, struct ipc_call *call, const struct peer_objects *req)
{
	struct link *link = link_of(self);
	struct serve_objects *o;

	if (link->is_dead || link->num_objects >= SERVE_OBJECTS_MAX) {
		ipc_call_fail(call, -EBUSY, "too many calls at once");
		return;
	}
	o = calloc(1, sizeof(*o));
	if (!o) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	o->link = link_ref(link);
	o->call = call;
	o->num_ids = req->num_ids;
	if (req->num_ids > 0)
		memcpy(o->ids, req->ids, req->num_ids * 32);
	*link->last_objects = o;
	link->last_objects = &o->next;
	link->num_objects++;
	serve_run(link->syncd);
}

/* ---- ends ---- */

void serve_closed(struct link *link)
{
	struct serve_objects *o, *next;

	while (link->serves)
		remove_serve(link, link->serves);
	/* Those at stored end by its answer; what was being sent has ended. */
	link_ref(link);
	for (o = link->first_objects; o; o = next) {
		next = o->next;
		if (o->state == OBJECTS_WAIT)
			objects_over(o, -ECONNRESET);
	}
	link_unref(link);
}

void serve_restarted(struct syncd *d)
{
	for (struct link *l = peers_next_link(&d->peers, NULL); l;
		l = peers_next_link(&d->peers, l)) {
		/* Their numbers mean nothing to the new one. */
		while (l->serves)
			remove_serve(l, l->serves);
	}
	serve_run(d);
}
