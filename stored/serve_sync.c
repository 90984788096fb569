/*
 * The requests of syncd. It speaks for peers, but which peer may do what is decided here.
 */
#include "ipc/store.gen.h"
#include "ipc/sync.gen.h"
#include "stored/gc.h"
#include "stored/intake.h"
#include "stored/settings.h"
#include "stored/stored.h"
#include "worker/log.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>

#define SERVE_IDLE_SECONDS 60.0
#define NEED_MAX	   60000
#define KNOWN_MAX	   65536
#define FLUSH_SECONDS	   10.0 /* a peer waits no longer for a mountd */

/* ---- settings */

static int config_storages(struct engine *engine, struct sync_storage *ret, size_t max)
{
	struct settings_storage some[SETTINGS_STORAGES_MAX];
	struct volume_info info;
	struct volume *vol;
	size_t num = 0, n, i, v;
	int r;

	for (v = 0; (vol = engine_volume_at(engine, v)); v++) {
		volume_info(vol, &info);
		r = settings_storages(engine, info.id, some, SETTINGS_STORAGES_MAX, &n);
		if (r < 0)
			return r;
		for (i = 0; i < n && num < max; i++) {
			if (!settings_storage_key(some[i].storage, ret[num].peer))
				continue;
			memcpy(ret[num++].volume, info.id, 16);
		}
	}
	return (int)num;
}

void on_sync_config(struct sync_server *self, struct ipc_call *call, const struct sync_config *req)
{
	struct engine *engine = self->stored->engine;
	struct settings_peer *peers = calloc(SETTINGS_PEERS_MAX, sizeof(*peers));
	struct sync_peer *out = calloc(SETTINGS_PEERS_MAX, sizeof(*out));
	struct sync_storage *storages = calloc(SYNC_CONFIG_REPLY_STORAGES_MAX, sizeof(*storages));
	size_t num = 0, i;
	int r = -ENOMEM;

	if (peers && out && storages)
		r = settings_peers(engine, peers, SETTINGS_PEERS_MAX, &num);
	for (i = 0; r == 0 && i < num; i++) {
		memcpy(out[i].key, peers[i].key, 32);
		out[i].nickname = peers[i].nickname;
		out[i].has_address = peers[i].address[0] != '\0';
	}
	if (r == 0)
		r = config_storages(engine, storages, SYNC_CONFIG_REPLY_STORAGES_MAX);
	if (r < 0)
		ipc_call_fail(call, r, NULL);
	else
		sync_config_reply(call, &(struct sync_config_reply){ .peers = out,
						.num_peers = num,
						.storages = storages,
						.num_storages = (size_t)r });
	free(peers);
	free(out);
	free(storages);
}

void on_sync_volume(struct sync_server *self, struct ipc_call *call, const struct sync_volume *req)
{
	struct engine *engine = self->stored->engine;
	struct volume *vol = engine_volume_named(engine, req->name);
	struct sync_volume_reply reply = { 0 };
	struct volume_info info;

	/* One answer for "not there" and "not for you". */
	if (vol)
		volume_info(vol, &info);
	if (!vol || !settings_peer_may_pull(engine, req->peer, info.id)) {
		ipc_call_fail(call, -EACCES, NULL);
		return;
	}
	memcpy(reply.volume, info.id, sizeof(reply.volume));
	memcpy(reply.keyid, info.keyid, sizeof(reply.keyid));
	sync_volume_reply(call, &reply);
}

/* ---- pulls */

static int pull_slot(const struct sync_server *self, uint64_t id)
{
	int i;

	for (i = 0; i < STORED_PULLS_MAX; i++)
		if (self->pulls[i].id == id)
			return i;
	return -1;
}

void on_sync_pull_begin(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_begin *req)
{
	struct engine *engine = self->stored->engine;
	struct volume *vol = settings_volume(engine, req->volume_name);
	struct sync_pull_begin_reply reply = { 0 };
	uint8_t known[TREE_KNOWLEDGE_SIZE];
	struct store_server *mount;
	struct volume_info info;
	struct pull *pull;
	int i = pull_slot(self, 0), r;
	size_t len;

	if (!vol) {
		ipc_call_fail(call, -ENOENT, "%s", engine_error(engine));
		return;
	}
	if (i < 0) {
		ipc_call_fail(call, -EBUSY, "too many syncs at once; try again later");
		return;
	}
	volume_info(vol, &info);
	mount = stored_mount_of(self->stored, info.id);
	if (mount)
		intake_run(mount);
	r = engine_pull_begin(engine, vol, &pull, known, &len);
	if (r < 0) {
		ipc_call_fail(call, r, "%s", r == -EBUSY ? engine_error(engine) : strerror(-r));
		return;
	}
	engine_pull_name(pull, req->peer);
	self->pulls[i].id = self->next_id++;
	self->pulls[i].pull = pull;
	memcpy(self->pulls[i].volume, info.id, 16);
	reply.pull = self->pulls[i].id;
	memcpy(reply.volume, info.id, 16);
	reply.knowledge = (struct ipc_bytes){ known, len };
	sync_pull_begin_reply(call, &reply);
}

void on_sync_pull_put(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_put *req)
{
	struct engine *engine = self->stored->engine;
	int i = req->pull ? pull_slot(self, req->pull) : -1, r;

	if (i < 0) {
		ipc_call_fail(call, -ESTALE, NULL);
		return;
	}
	r = engine_pull_put(engine, self->pulls[i].pull, req->records.data, req->records.len,
		req->dead.data, req->dead.len);
	if (r == -EIO)
		stored_die(r, "staging a sync");
	if (r < 0)
		ipc_call_fail(call, r, "%s", r == -ENOSPC ? engine_error(engine) : strerror(-r));
	else
		sync_pull_put_reply(call, &(struct sync_pull_put_reply){ 0 });
}

struct pull_waiting {
	struct seen_waiting seen;
	uint64_t num_changed, num_conflicts;
};

static void pull_answer(struct seen_waiting *seen)
{
	struct pull_waiting *w = (struct pull_waiting *)seen;

	sync_pull_step_reply(
		seen->call, &(struct sync_pull_step_reply){ .num_changed = w->num_changed,
				    .num_conflicts = w->num_conflicts });
	free(w);
}

static void pull_ended(struct sync_server *self, struct ipc_call *call, int i, uint64_t since,
	const struct pull_result *result)
{
	struct volume *vol = engine_volume(self->stored->engine, self->pulls[i].volume);
	struct pull_waiting *w = calloc(1, sizeof(*w));

	self->stored->counters.pulls++;
	if (!w)
		abort();
	w->num_changed = result->num_changed;
	w->num_conflicts = result->num_conflicts;
	w->seen.chan = self->chan;
	w->seen.call = call;
	w->seen.answer = pull_answer;
	if (vol)
		seen_tell(&w->seen, self->stored, vol, since, &result->changes);
	else
		pull_answer(&w->seen);
}

void on_sync_pull_step(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_step *req)
{
	struct engine *engine = self->stored->engine;
	uint8_t need[NEED_MAX];
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	int i = req->pull ? pull_slot(self, req->pull) : -1, r;
	struct volume_info before = { 0 };
	struct store_server *mount;
	struct volume *vol;

	if (i < 0) {
		ipc_call_fail(call, -ESTALE, NULL);
		return;
	}
	vol = engine_volume(engine, self->pulls[i].volume);
	if (vol)
		volume_info(vol, &before);
	/* What mountd wrote before comes before. */
	mount = stored_mount_of(self->stored, self->pulls[i].volume);
	if (mount)
		intake_run(mount);
	r = engine_pull_step(engine, self->pulls[i].pull, req->knowledge.data, req->knowledge.len,
		req->full, &result);
	if (r < 0 || result.need_len == 0)
		self->pulls[i].id = 0;
	if (r == -EIO)
		stored_die(r, "committing a sync");
	if (r < 0)
		ipc_call_fail(call, r, "%s", engine_error(engine));
	else if (result.need_len > 0)
		sync_pull_step_reply(
			call, &(struct sync_pull_step_reply){ .need = { need, result.need_len } });
	else
		pull_ended(self, call, i, before.view, &result);
	engine_changes_release(&result.changes);
}

void on_sync_pull_abort(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_abort *req)
{
	int i = req->pull ? pull_slot(self, req->pull) : -1;

	if (i >= 0) {
		engine_pull_abort(self->stored->engine, self->pulls[i].pull);
		self->pulls[i].id = 0;
	}
	sync_pull_abort_reply(call, &(struct sync_pull_abort_reply){ 0 });
}

/* ---- serving */

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

/* ---- objects for peers */

struct objects_job {
	struct objects_job *next;
	struct ipc_call *call;
	size_t num, done;
	uint8_t ids[SYNC_OBJECTS_IDS_MAX][32];
	uint32_t lens[SYNC_OBJECTS_IDS_MAX];
};

/* 1: put or not here; 0: no room in the ring yet. */
static int job_object(struct sync_server *self, struct objects_job *job)
{
	const uint8_t *id = job->ids[job->done];
	struct place place;
	uint8_t *entry;

	if (engine_locate(self->stored->engine, id, &place) < 0)
		return 1;
	entry = ipc_ring_reserve(self->out, INTAKE_TAG_SIZE + place.len);
	if (!entry) {
		/* Announce first, then look again: room made in between would not be told. */
		ipc_ring_sleep_begin(self->out);
		entry = ipc_ring_reserve(self->out, INTAKE_TAG_SIZE + place.len);
		if (!entry)
			return 0;
		ipc_ring_sleep_end(self->out);
	}
	memset(entry, 0, INTAKE_TAG_SIZE);
	/* A damaged object is not here: the peer shall ask another one. */
	if (engine_read_object(self->stored->engine, id, place, entry + INTAKE_TAG_SIZE) < 0) {
		ipc_ring_abort(self->out);
		return 1;
	}
	ipc_ring_publish(self->out, INTAKE_OBJECT, INTAKE_TAG_SIZE + place.len);
	job->lens[job->done] = place.len;
	return 1;
}

void sync_jobs_run(struct sync_server *self)
{
	struct objects_job *job;

	while ((job = self->jobs)) {
		for (; job->done < job->num && !ipc_call_dead(job->call); job->done++)
			if (job_object(self, job) == 0)
				return;
		self->jobs = job->next;
		if (!self->jobs)
			self->last_job = &self->jobs;
		sync_objects_reply(job->call, &(struct sync_objects_reply){ .lens = job->lens,
						      .num_lens = job->num,
						      .position = ipc_ring_head(self->out) });
		free(job);
	}
}

void on_sync_objects(
	struct sync_server *self, struct ipc_call *call, const struct sync_objects *req)
{
	struct settings_peer peer;
	struct objects_job *job;

	if (settings_peer_get(self->stored->engine, req->peer, &peer) < 0 || !peer.may_store) {
		ipc_call_fail(call, -EACCES, NULL);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	job->call = call;
	job->num = req->num_ids;
	memcpy(job->ids, req->ids, req->num_ids * 32);
	*self->last_job = job;
	self->last_job = &job->next;
	sync_jobs_run(self);
}

void on_sync_kick(struct sync_server *self, const struct sync_kick *msg)
{
	ipc_ring_sleep_end(self->out);
	sync_jobs_run(self);
}

void sync_release(struct sync_server *self)
{
	struct serve_waiting *w;
	struct objects_job *job;
	int i;

	while ((w = self->waiting)) {
		waiting_end(w);
		ipc_call_fail(w->call, -ECONNRESET, NULL);
		free(w);
	}
	seen_close(self->stored, self->chan);
	while ((job = self->jobs)) {
		self->jobs = job->next;
		ipc_call_fail(job->call, -ECONNRESET, NULL);
		free(job);
	}
	for (i = 0; i < STORED_PULLS_MAX; i++)
		if (self->pulls[i].id)
			engine_pull_abort(self->stored->engine, self->pulls[i].pull);
	for (i = 0; i < ENGINE_SERVES_MAX; i++)
		if (self->serves[i].id)
			serve_drop(self, i);
}
