/*
 * Peers pull from here. syncd speaks for them, but which peer may do what is decided here. First
 * the volume's mountd is asked to store what is dirty, so that who writes and then has another node
 * sync finds it there.
 */
#include "ipc/store.gen.h"
#include "ipc/sync.gen.h"
#include "stored/gc.h"
#include "stored/settings.h"
#include "stored/stored.h"
#include "worker/log.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>

#define SERVE_IDLE_SECONDS 60.0
#define KNOWN_MAX	   65536
#define FLUSH_SECONDS	   10.0 /* a peer waits no longer for a mountd */

/* ---- pulls that are served, by number */

static struct serve *serve_find(struct sync_server *self, uint64_t id)
{
	int i;

	for (i = 0; id && i < ENGINE_SERVES_MAX; i++) {
		if (self->serves[i].id != id)
			continue;
		self->serves[i].used = ev_now(self->stored->loop);
		return self->serves[i].serve;
	}
	return NULL;
}

static void serve_drop(struct sync_server *self, int i)
{
	engine_serve_end(self->serves[i].serve);
	self->serves[i].id = 0;
}

void sync_expire(struct sync_server *self)
{
	int i;

	for (i = 0; i < ENGINE_SERVES_MAX; i++)
		if (self->serves[i].id &&
			ev_now(self->stored->loop) - self->serves[i].used > SERVE_IDLE_SECONDS)
			serve_drop(self, i);
}

static int serve_keep(struct sync_server *self, struct serve *serve, uint64_t *ret_id)
{
	int i;

	for (i = 0; i < ENGINE_SERVES_MAX; i++) {
		if (self->serves[i].id)
			continue;
		*ret_id = self->serves[i].id = self->next_id++;
		self->serves[i].serve = serve;
		self->serves[i].used = ev_now(self->stored->loop);
		return 0;
	}
	engine_serve_end(serve);
	return -EBUSY;
}

/* ---- beginning */

static void serve_begin(struct sync_server *self, struct ipc_call *call, const uint8_t peer[32],
	const uint8_t volume[16], struct ipc_bytes knowledge)
{
	struct engine *engine = self->stored->engine;
	struct volume *vol = engine_volume(engine, volume);
	uint8_t known[2 * TREE_KNOWLEDGE_SIZE];
	struct serve_info info = { .known = known };
	struct sync_serve_begin_reply reply = { 0 };
	struct store_server *mount;
	struct serve *serve = NULL;
	int r;

	if (!vol || !settings_peer_may_pull(engine, peer, volume)) {
		ipc_call_fail(call, -EACCES, NULL);
		return;
	}
	mount = stored_mount_of(self->stored, volume);
	if (mount)
		intake_run(mount);
	r = engine_serve_begin(engine, vol, knowledge.data, knowledge.len, &serve, &info);
	if (r == -EIO)
		stored_die(r, "serving a peer");
	if (r == 0 && info.known_len > KNOWN_MAX) {
		if (serve)
			engine_serve_end(serve);
		serve = NULL;
		r = -E2BIG;
	}
	if (r == 0 && serve)
		r = serve_keep(self, serve, &reply.serve);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	r = gc_peer_served(engine, vol, peer, knowledge.data, knowledge.len, info.has_nothing);
	if (r < 0)
		log_error_errno(r, "stored: noting what a peer has pulled");
	self->stored->counters.serves++;
	reply.knowledge = (struct ipc_bytes){ known, info.known_len };
	reply.full = info.is_full;
	reply.nothing = info.has_nothing;
	reply.num_records = info.num_units;
	sync_serve_begin_reply(call, &reply);
}

/* Takes it out of the list; the caller answers its call. */
static void waiting_end(struct serve_waiting *w)
{
	struct serve_waiting **link = &w->sync->waiting;

	while (*link != w)
		link = &(*link)->next;
	*link = w->next;
	ev_timer_stop(w->sync->stored->loop, &w->timer);
}

static void waiting_go(struct serve_waiting *w)
{
	waiting_end(w);
	serve_begin(
		w->sync, w->call, w->peer, w->volume, (struct ipc_bytes){ w->known, w->known_len });
	free(w);
}

static void on_flush_late(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	log_warn("a mountd did not store what is dirty in time: a peer gets the rest later");
	waiting_go(timer->data);
}

/* False: nobody to ask, or no memory; the pull is served as things stand. */
static bool ask_to_flush(struct sync_server *self, struct ipc_call *call,
	const struct sync_serve_begin *req, struct store_server *mount)
{
	struct serve_waiting *w = calloc(1, sizeof(*w) + req->knowledge.len);

	if (!w)
		return false;
	w->token = ++self->stored->flush_token;
	if (store_flush(mount->chan, &(struct store_flush){ .token = w->token }) < 0) {
		free(w);
		return false;
	}
	w->sync = self;
	w->call = call;
	memcpy(w->peer, req->peer, sizeof(w->peer));
	memcpy(w->volume, req->volume, sizeof(w->volume));
	w->known_len = req->knowledge.len;
	if (w->known_len)
		memcpy(w->known, req->knowledge.data, w->known_len);
	ev_timer_init(&w->timer, on_flush_late, FLUSH_SECONDS, 0.);
	w->timer.data = w;
	ev_timer_start(self->stored->loop, &w->timer);
	w->next = self->waiting;
	self->waiting = w;
	return true;
}

void sync_flushed(struct stored *stored, const uint8_t volume[16], uint64_t token)
{
	struct serve_waiting *w, *next;

	for (w = stored->sync ? stored->sync->waiting : NULL; w; w = next) {
		next = w->next;
		/* Tokens rise, and one flush answers all that were asked before it. */
		if (memcmp(w->volume, volume, 16) == 0 && (token == 0 || w->token <= token))
			waiting_go(w);
	}
}

void on_sync_serve_begin(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_begin *req)
{
	struct store_server *mount = NULL;

	/* Only who may pull can make a mountd work. */
	if (settings_peer_may_pull(self->stored->engine, req->peer, req->volume))
		mount = stored_mount_of(self->stored, req->volume);
	if (!mount || !ask_to_flush(self, call, req, mount))
		serve_begin(self, call, req->peer, req->volume, req->knowledge);
}

/* ---- what there is to say */

void on_sync_serve_page(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_page *req)
{
	struct serve *serve = serve_find(self, req->serve);
	struct sync_serve_page_reply reply = { 0 };
	uint8_t *page = self->stored->page;
	uint64_t cursor = 0;
	size_t len;
	int r;

	if (!serve || (req->cursor.len != 0 && req->cursor.len != sizeof(cursor))) {
		ipc_call_fail(call, -ESTALE, NULL);
		return;
	}
	if (req->cursor.len == sizeof(cursor))
		memcpy(&cursor, req->cursor.data, sizeof(cursor));
	r = engine_serve_page(
		serve, &cursor, page, SYNC_SERVE_PAGE_REPLY_RECORDS_MAX, &len, &reply.end);
	/* A record larger than one field goes through both: they are one run of bytes. */
	if (r == -ENOBUFS)
		r = engine_serve_page(serve, &cursor, page,
			SYNC_SERVE_PAGE_REPLY_RECORDS_MAX + SYNC_SERVE_PAGE_REPLY_DEAD_MAX, &len,
			&reply.end);
	if (r < 0) {
		ipc_call_fail(call, r, NULL);
		return;
	}
	reply.records = (struct ipc_bytes){ page, len };
	if (len > SYNC_SERVE_PAGE_REPLY_RECORDS_MAX) {
		reply.records.len = SYNC_SERVE_PAGE_REPLY_RECORDS_MAX;
		reply.dead = (struct ipc_bytes){ page + SYNC_SERVE_PAGE_REPLY_RECORDS_MAX,
			len - SYNC_SERVE_PAGE_REPLY_RECORDS_MAX };
	}
	reply.cursor = (struct ipc_bytes){ (const uint8_t *)&cursor, sizeof(cursor) };
	sync_serve_page_reply(call, &reply);
}

void on_sync_serve_registers(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_registers *req)
{
	struct serve *serve = serve_find(self, req->serve);
	size_t len;
	int r;

	if (!serve) {
		ipc_call_fail(call, -ESTALE, NULL);
		return;
	}
	r = engine_serve_inodes(serve, req->keys.data, req->keys.len, self->stored->page,
		SYNC_SERVE_REGISTERS_REPLY_RECORDS_MAX, &len);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		sync_serve_registers_reply(call, &(struct sync_serve_registers_reply){
							 .records = { self->stored->page, len } });
}

void on_sync_serve_end(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_end *req)
{
	int i;

	for (i = 0; req->serve && i < ENGINE_SERVES_MAX; i++)
		if (self->serves[i].id == req->serve)
			serve_drop(self, i);
	sync_serve_end_reply(call, &(struct sync_serve_end_reply){ 0 });
}

void peers_release(struct sync_server *self)
{
	struct serve_waiting *w;
	int i;

	while ((w = self->waiting)) {
		waiting_end(w);
		ipc_call_fail(w->call, -ECONNRESET, NULL);
		free(w);
	}
	for (i = 0; i < ENGINE_SERVES_MAX; i++)
		if (self->serves[i].id)
			serve_drop(self, i);
}
