#include "syncd/fetch.h"

#include "ipc/chan.h"
#include "ipc/fetch.gen.h"
#include "ipc/peer.gen.h"
#include "syncd/syncd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FETCH_IDS_MAX 64
#define PENDING	      UINT32_MAX
/* Before all storages are asked again, one of which was there a moment ago. */
#define AGAIN	      0.3

/* A question to one peer; outlives the fetch when that ends early. */
struct ask {
	struct fetch *fetch;
	struct link *link;
};

struct fetch {
	struct fetch *next;
	struct syncd *syncd;
	struct ipc_call *call;
	uint8_t volume[16];
	uint8_t (*ids)[32];
	/* 0: not here yet; PENDING: waits for room in the ring */
	uint32_t *lens;
	size_t num_ids, num_left, num_found;
	uint64_t position;
	/* which storage is asked */
	size_t storage;
	bool is_repeated, was_answered, is_any_recent;
	struct peer_wait wait;
	struct ask *ask;
	/* objects of this fetch that wait for room in the ring */
	size_t num_waiting;
	struct ev_timer deadline, again;
};

static void next_storage(struct fetch *f);

/* ---- the end ---- */

static void fetch_free(struct fetch *f)
{
	struct fetch **p = &f->syncd->fetches;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	ev_timer_stop(f->syncd->loop, &f->deadline);
	ev_timer_stop(f->syncd->loop, &f->again);
	peers_wait_cancel(&f->wait);
	if (f->ask)
		f->ask->fetch = NULL;
	free(f->ids);
	free(f->lens);
	free(f);
}

/* err: why what is missing is missing. */
static void finish(struct fetch *f, int err)
{
	struct fetch_objects_reply reply = {
		.lens = f->lens, .num_lens = f->num_ids, .position = f->position
	};

	for (size_t i = 0; i < f->num_ids; i++)
		if (f->lens[i] == PENDING)
			f->lens[i] = 0;
	if (f->num_found > 0 || err == 0)
		fetch_objects_reply(f->call, &reply);
	else
		ipc_call_fail(f->call, err, NULL);
	fetch_free(f);
}

static void on_deadline(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	finish(timer->data, -ETIMEDOUT);
}

static void on_asker_gone(struct ipc_call *call, void *arg)
{
	finish(arg, -ECONNRESET);
}

/* ---- one storage after the other ---- */

static const uint8_t *storage_peer(const struct fetch *f)
{
	const struct peers *peers = &f->syncd->peers;
	size_t n = 0;

	for (size_t i = 0; i < peers->num_storages; i++)
		if (memcmp(peers->storages[i].volume, f->volume, 16) == 0 && n++ == f->storage)
			return peers->storages[i].peer;
	return NULL;
}

/* The peer has said all that it has, and all of that is in the ring. */
static void storage_done(struct fetch *f)
{
	if (f->ask || f->wait.peer || f->num_waiting > 0)
		return;
	f->storage++;
	f->is_repeated = false;
	next_storage(f);
}

static void objects_done(void *arg, int err, const struct peer_objects_reply *reply)
{
	struct ask *ask = arg;
	struct fetch *f = ask->fetch;

	link_unref(ask->link);
	free(ask);
	if (!f)
		return;
	f->ask = NULL;
	if (err == 0 || err == -EACCES)
		f->was_answered = true;
	f->is_any_recent |= err == -ECONNRESET;
	/* A session that broke may have been an old one: once more, on a new one. */
	if (err == -ECONNRESET && !f->is_repeated) {
		f->is_repeated = true;
		next_storage(f);
		return;
	}
	storage_done(f);
}

static void ask_peer(struct fetch *f, struct link *link)
{
	struct ask *ask = calloc(1, sizeof(*ask));
	uint8_t ids[FETCH_IDS_MAX][32];
	struct peer_objects req = { .ids = ids };
	int r = -ENOMEM;

	for (size_t i = 0; i < f->num_ids; i++)
		if (f->lens[i] == 0)
			memcpy(ids[req.num_ids++], f->ids[i], 32);
	if (ask) {
		ask->fetch = f;
		ask->link = link_ref(link);
		f->ask = ask;
		r = session_asker(link->session)
			    ? peer_objects(session_asker(link->session), &req, objects_done, ask)
			    : -ECONNRESET;
	}
	if (r == 0)
		return;
	f->ask = NULL;
	if (ask)
		link_unref(link);
	free(ask);
	storage_done(f);
}

/* From the first storage again, later. */
static void ask_again(struct fetch *f)
{
	f->storage = 0;
	f->is_repeated = f->was_answered = f->is_any_recent = false;
	ev_timer_set(&f->again, AGAIN, 0);
	ev_timer_start(f->syncd->loop, &f->again);
}

static void on_again(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	next_storage(timer->data);
}

static void peer_ready(void *arg, int err, struct link *link, const char *why)
{
	struct fetch *f = arg;

	if (err < 0) {
		const uint8_t *key = storage_peer(f);
		const struct peer *peer = key ? peers_find_key(&f->syncd->peers, key) : NULL;
		f->is_any_recent |= peer && peer_is_recent(peer);
		storage_done(f);
	} else {
		ask_peer(f, link);
	}
}

static void next_storage(struct fetch *f)
{
	const uint8_t *key = storage_peer(f);
	struct peer *peer;

	if (f->num_left == 0) {
		finish(f, 0);
		return;
	}
	if (!key && f->is_any_recent) {
		ask_again(f);
		return;
	}
	if (!key) {
		finish(f, f->was_answered ? -ENODATA : -EHOSTUNREACH);
		return;
	}
	peer = peers_find_key(&f->syncd->peers, key);
	if (peer)
		peers_wait(peer, &f->wait, peer_is_recent(peer), peer_ready, f);
	else
		storage_done(f);
}

void on_fetch_objects(
	struct fetch_server *self, struct ipc_call *call, const struct fetch_objects *req)
{
	struct syncd *d = self->syncd;
	struct fetch *f = calloc(1, sizeof(*f));

	if (f) {
		f->ids = calloc(req->num_ids + 1, sizeof(*f->ids));
		f->lens = calloc(req->num_ids + 1, sizeof(*f->lens));
	}
	if (!f || !f->ids || !f->lens) {
		if (f) {
			free(f->ids);
			free(f->lens);
		}
		free(f);
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	f->syncd = d;
	f->call = call;
	memcpy(f->volume, req->volume, 16);
	for (size_t i = 0; i < req->num_ids; i++)
		memcpy(f->ids[i], req->ids[i], 32);
	f->num_ids = f->num_left = req->num_ids;
	f->next = d->fetches;
	d->fetches = f;
	ev_timer_init(&f->deadline, on_deadline, req->deadline_ms / 1000.0, 0);
	ev_init(&f->again, on_again);
	f->deadline.data = f->again.data = f;
	ev_timer_start(d->loop, &f->deadline);
	ipc_call_on_dead(call, on_asker_gone, f);
	next_storage(f);
}

/* ---- what arrives ---- */

/* An object between its arrival and the ring. */
struct arrival {
	struct link *link;
	uint8_t id[32];
	size_t len;
};

/* The place of id in what f still waits for from this session; -1: none. */
static ptrdiff_t wanted(const struct fetch *f, const struct link *link, const uint8_t id[32])
{
	if (!f->ask || f->ask->link != link)
		return -1;
	for (size_t i = 0; i < f->num_ids; i++)
		if (f->lens[i] == 0 && memcmp(f->ids[i], id, 32) == 0)
			return (ptrdiff_t)i;
	return -1;
}

static bool is_wanted(const struct link *link, const uint8_t id[32])
{
	for (const struct fetch *f = link->syncd->fetches; f; f = f->next)
		if (wanted(f, link, id) >= 0)
			return true;
	return false;
}

/* All that wait for this object have it, whichever session it came by. */
static void settle(struct fetch *f, const struct arrival *a, int err, uint64_t position)
{
	bool was_waiting = f->num_waiting > 0;

	for (size_t i = 0; i < f->num_ids; i++) {
		if (f->lens[i] != PENDING || memcmp(f->ids[i], a->id, 32) != 0)
			continue;
		f->lens[i] = err < 0 ? 0 : (uint32_t)a->len;
		f->num_waiting--;
		if (err < 0)
			continue;
		f->num_left--;
		f->num_found++;
		f->position = position;
	}
	/* The peer's own answer came before the ring had room. */
	if (was_waiting && !f->ask)
		storage_done(f);
}

static void put_done(void *arg, int err, uint64_t position)
{
	struct arrival *a = arg;
	struct syncd *d = a->link->syncd;
	struct fetch *next;

	session_credit(a->link->session, a->len);
	for (struct fetch *f = d->fetches; f; f = next) {
		next = f->next;
		settle(f, a, err, position);
	}
	d->counters[SYNCD_OBJECTS_IN] += err == 0;
	link_unref(a->link);
	free(a);
}

void fetch_arrived(struct link *link, const uint8_t id[32], uint8_t *data, size_t len)
{
	struct syncd *d = link->syncd;
	struct arrival *a;

	if (!syncd_store(d) || !is_wanted(link, id) || !(a = calloc(1, sizeof(*a)))) {
		session_credit(link->session, len);
		free(data);
		return;
	}
	if (!objects_are(&d->objects, id, data, len)) {
		d->counters[SYNCD_OBJECTS_WRONG]++;
		session_credit(link->session, len);
		free(data);
		free(a);
		return;
	}
	a->link = link_ref(link);
	memcpy(a->id, id, 32);
	a->len = len;
	for (struct fetch *f = d->fetches; f; f = f->next) {
		ptrdiff_t i;
		/* The same id may have been asked for twice in one call. */
		while ((i = wanted(f, link, id)) >= 0) {
			f->lens[i] = PENDING;
			f->num_waiting++;
		}
	}
	objects_put(&d->objects, d->sync, data, len, put_done, a);
}

void fetch_release(struct syncd *d)
{
	while (d->fetches)
		finish(d->fetches, -ECONNRESET);
}
