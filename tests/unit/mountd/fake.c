#include "tests/unit/mountd/fake.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cas/id.h"
#include "cas/kdf.h"
#include "cas/suite.h"
#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/ring.h"
#include "ipc/store.gen.h"
#include "stored/intake.h"
#include "tree/record.h"

struct rec {
	struct tree_record parsed;
	size_t len;
	uint8_t *data;
};

struct object {
	struct cas_id id;
	uint8_t tag[32];
	uint64_t offset;
	uint32_t len;
	bool is_far;
};

struct store_server {
	struct fake *fake;
};

struct key_server {
	struct fake *fake;
};

struct fake {
	pthread_t thread;
	pthread_mutex_t lock;
	bool stop, unreachable;
	struct store_server store_self;
	struct key_server key_self;
	struct ipc_chan *store, *key;
	int new_store, new_key; /* server ends for the thread to open; -1 */
	struct ipc_ring *ring;
	int ring_fd, arena_fd;
	uint64_t arena_len;
	struct cas_suite *suite;
	struct cas_sharing_keys keys;
	struct rec *recs;
	size_t num_recs, cap_recs;
	struct object *objects;
	size_t num_objects, cap_objects;
	uint32_t next_oid;
	uint64_t lamport;
};

static const uint8_t volume[16] = "test volume 0001";

/* --- intake --- */

static bool same_key(const struct tree_key *a, const struct tree_key *b)
{
	return tree_key_compare(a, b) == 0;
}

static void remove_key(struct fake *fake, const struct tree_key *key)
{
	for (size_t i = 0; i < fake->num_recs;)
		if (same_key(&fake->recs[i].parsed.e.key, key)) {
			free(fake->recs[i].data);
			fake->recs[i] = fake->recs[--fake->num_recs];
		} else {
			i++;
		}
}

static void remove_inode(struct fake *fake, uint64_t oid)
{
	for (size_t i = 0; i < fake->num_recs;)
		if (fake->recs[i].parsed.e.key.kind != TREE_LINK &&
			fake->recs[i].parsed.e.key.id == oid) {
			free(fake->recs[i].data);
			fake->recs[i] = fake->recs[--fake->num_recs];
		} else {
			i++;
		}
}

static void put(struct fake *fake, const uint8_t *data, size_t len)
{
	struct rec rec = { .data = malloc(len), .len = len };

	memcpy(rec.data, data, len);
	tree_record_restamp(
		rec.data, (struct tree_stamp){ .replica = 7, .epoch = 1 }, ++fake->lamport);
	if (tree_record_parse(rec.data, len, &rec.parsed) < 0)
		abort();
	remove_key(fake, &rec.parsed.e.key);
	if (fake->num_recs == fake->cap_recs) {
		fake->cap_recs = fake->cap_recs ? fake->cap_recs * 2 : 64;
		fake->recs = realloc(fake->recs, fake->cap_recs * sizeof(rec));
	}
	fake->recs[fake->num_recs++] = rec;
}

static void take_batch(struct fake *fake, const uint8_t *data, size_t len)
{
	struct intake_batch head;
	size_t at = sizeof(head);

	memcpy(&head, data, sizeof(head));
	if (head.version != INTAKE_VERSION)
		abort();
	for (uint32_t i = 0; i < head.num_ops; i++) {
		struct intake_op op;
		struct tree_key key;

		memcpy(&op, data + at, sizeof(op));
		at += sizeof(op);
		if (op.type == INTAKE_PUT) {
			put(fake, data + at, op.len);
		} else {
			if (op.len != TREE_KEY_SIZE || tree_key_unpack(data + at, &key) < 0)
				abort();
			remove_key(fake, &key);
			if (key.kind == TREE_ATTR)
				remove_inode(fake, key.id);
		}
		at += INTAKE_PAD(op.len);
	}
	if (at != len)
		abort();
}

static void take_object(struct fake *fake, const uint8_t *data, size_t len)
{
	struct object object = { .offset = fake->arena_len,
		.len = (uint32_t)(len - INTAKE_TAG_SIZE) };

	memcpy(object.tag, data, 32);
	cas_id_of(fake->suite, data + 32, object.len, &object.id);
	if (pwrite(fake->arena_fd, data + 32, object.len, (off_t)fake->arena_len) < 0)
		abort();
	fake->arena_len += object.len;
	if (fake->num_objects == fake->cap_objects) {
		fake->cap_objects = fake->cap_objects ? fake->cap_objects * 2 : 64;
		fake->objects = realloc(fake->objects, fake->cap_objects * sizeof(object));
	}
	fake->objects[fake->num_objects++] = object;
}

static int drain(struct fake *fake)
{
	const void *data;
	uint64_t end;
	uint32_t type, len;
	int num = 0;

	while (ipc_ring_peek(fake->ring, &end, &type, &data, &len) == 1) {
		if (type == INTAKE_BATCH)
			take_batch(fake, data, len);
		else if (type == INTAKE_OBJECT)
			take_object(fake, data, len);
		else
			abort();
		ipc_ring_release(fake->ring, end);
		num++;
	}
	if (num > 0 && ipc_ring_must_kick(fake->ring) && fake->store != NULL)
		store_room(fake->store, &(struct store_room){ 0 });
	return num;
}

/* --- answers --- */

struct answer {
	uint8_t data[110000];
	size_t len;
	struct store_node nodes[1024];
	size_t num_nodes;
};

static bool add_record(struct answer *answer, const struct rec *rec)
{
	if (answer->len + rec->len > sizeof(answer->data))
		return false;
	memcpy(answer->data + answer->len, rec->data, rec->len);
	answer->len += rec->len;
	return true;
}

static bool add_inode(struct fake *fake, struct answer *answer, uint64_t oid)
{
	struct store_node node = { .oid = oid };
	bool found = false;

	for (size_t i = 0; i < fake->num_recs; i++) {
		const struct tree_element *e = &fake->recs[i].parsed.e;

		if (e->key.kind == TREE_LINK && e->target == oid)
			node.nlink++;
		if (e->key.kind == TREE_LINK && e->parent == oid) {
			node.entries++;
			node.subdirs += e->flags & TREE_DIRECTORY ? 1 : 0;
		}
		if (e->key.kind == TREE_XATTR && e->key.id == oid)
			node.num_xattrs++;
	}
	for (int kind = TREE_ATTR; kind >= TREE_BODY; kind--)
		for (size_t i = 0; i < fake->num_recs; i++)
			if (fake->recs[i].parsed.e.key.kind == kind &&
				fake->recs[i].parsed.e.key.id == oid) {
				if (!add_record(answer, &fake->recs[i]))
					return false;
				found = found || kind == TREE_ATTR;
			}
	if (found)
		answer->nodes[answer->num_nodes++] = node;
	return found;
}

void on_store_attach(
	struct store_server *self, struct ipc_call *call, const struct store_attach *req)
{
	struct store_attach_reply reply = { .replica = 7, .view = 1 };

	memcpy(reply.volume, volume, 16);
	store_attach_reply(call, &reply);
}

void on_store_oids(struct store_server *self, struct ipc_call *call, const struct store_oids *req)
{
	struct store_oids_reply reply = { .first = tree_oid(7, self->fake->next_oid),
		.count = req->count };

	self->fake->next_oid += req->count;
	store_oids_reply(call, &reply);
}

static struct answer *new_answer(void)
{
	struct answer *answer = calloc(1, sizeof(*answer));

	if (answer == NULL)
		abort();
	return answer;
}

void on_store_lookup(
	struct store_server *self, struct ipc_call *call, const struct store_lookup *req)
{
	struct fake *fake = self->fake;
	struct answer *answer = new_answer();
	struct store_lookup_reply reply;

	drain(fake);
	for (size_t i = 0; i < fake->num_recs; i++) {
		const struct tree_element *e = &fake->recs[i].parsed.e;

		if (e->key.kind == TREE_LINK && e->parent == req->parent &&
			memcmp(e->tag, req->tag, 16) == 0) {
			add_record(answer, &fake->recs[i]);
			add_inode(fake, answer, e->target);
		}
	}
	reply = (struct store_lookup_reply){ .records = { answer->data, answer->len },
		.nodes = answer->nodes,
		.num_nodes = answer->num_nodes };
	if (answer->len == 0)
		ipc_call_fail(call, -ENOENT, NULL);
	else
		store_lookup_reply(call, &reply);
	free(answer);
}

/* The link with the smallest id above after. */
static const struct rec *next_link(struct fake *fake, uint64_t parent, uint64_t after)
{
	const struct rec *best = NULL;

	for (size_t i = 0; i < fake->num_recs; i++) {
		const struct tree_element *e = &fake->recs[i].parsed.e;

		if (e->key.kind == TREE_LINK && e->parent == parent && e->key.id > after &&
			(best == NULL || e->key.id < best->parsed.e.key.id))
			best = &fake->recs[i];
	}
	return best;
}

void on_store_dir(struct store_server *self, struct ipc_call *call, const struct store_dir *req)
{
	struct fake *fake = self->fake;
	struct answer *answer = new_answer();
	struct store_dir_reply reply = { 0 };
	const struct rec *link;
	uint64_t after = req->after;
	uint32_t num = 0;

	drain(fake);
	while ((link = next_link(fake, req->parent, after)) != NULL) {
		if (answer->len > 90000 || num == 100 || (req->max != 0 && num == req->max))
			break;
		add_record(answer, link);
		add_inode(fake, answer, link->parsed.e.target);
		after = link->parsed.e.key.id;
		num++;
	}
	reply.records = (struct ipc_bytes){ answer->data, answer->len };
	reply.nodes = answer->nodes;
	reply.num_nodes = answer->num_nodes;
	reply.end = link == NULL;
	reply.next = after;
	store_dir_reply(call, &reply);
	free(answer);
}

void on_store_inode(struct store_server *self, struct ipc_call *call, const struct store_inode *req)
{
	struct fake *fake = self->fake;
	struct answer *answer = new_answer();
	struct store_inode_reply reply = { 0 };
	bool found;

	drain(fake);
	found = add_inode(fake, answer, req->oid);
	for (size_t i = 0; i < fake->num_recs; i++)
		if (fake->recs[i].parsed.e.key.kind == TREE_LINK &&
			fake->recs[i].parsed.e.target == req->oid)
			add_record(answer, &fake->recs[i]);
	reply.records = (struct ipc_bytes){ answer->data, answer->len };
	reply.nodes = answer->nodes;
	reply.num_nodes = answer->num_nodes;
	if (found)
		store_inode_reply(call, &reply);
	else
		ipc_call_fail(call, -ENOENT, NULL);
	free(answer);
}

void on_store_xattrs(
	struct store_server *self, struct ipc_call *call, const struct store_xattrs *req)
{
	struct fake *fake = self->fake;
	struct store_xattrs_reply reply = { .end = true };
	struct answer *answer = new_answer();
	const struct rec *best;
	uint8_t after[16];

	drain(fake);
	memcpy(after, req->after, 16);
	do {
		best = NULL;
		for (size_t i = 0; i < fake->num_recs; i++) {
			const struct tree_element *e = &fake->recs[i].parsed.e;

			if (e->key.kind == TREE_XATTR && e->key.id == req->oid &&
				memcmp(e->tag, after, 16) > 0 &&
				(best == NULL || memcmp(e->tag, best->parsed.e.tag, 16) < 0))
				best = &fake->recs[i];
		}
		if (best != NULL && !add_record(answer, best)) {
			reply.end = false;
			break;
		}
		if (best != NULL)
			memcpy(after, best->parsed.e.tag, 16);
	} while (best != NULL);
	reply.records = (struct ipc_bytes){ answer->data, answer->len };
	store_xattrs_reply(call, &reply);
	free(answer);
}

void on_store_locate(
	struct store_server *self, struct ipc_call *call, const struct store_locate *req)
{
	struct fake *fake = self->fake;
	struct store_place places[256] = { 0 };

	drain(fake);
	for (size_t i = 0; i < req->num_ids; i++)
		for (size_t j = 0; j < fake->num_objects; j++)
			if (memcmp(fake->objects[j].id.b, req->ids[i], 32) == 0 &&
				!fake->objects[j].is_far)
				places[i] = (struct store_place){ .arena = 1,
					.len = fake->objects[j].len,
					.offset = fake->objects[j].offset };
	store_locate_reply(
		call, &(struct store_locate_reply){ .places = places, .num_places = req->num_ids });
}

void on_store_arena(struct store_server *self, struct ipc_call *call, const struct store_arena *req)
{
	store_arena_reply(call, &(struct store_arena_reply){ .fd = self->fake->arena_fd });
}

void on_store_have(struct store_server *self, struct ipc_call *call, const struct store_have *req)
{
	struct fake *fake = self->fake;
	uint8_t ids[256][32] = { 0 };

	drain(fake);
	for (size_t i = 0; i < req->num_tags; i++)
		for (size_t j = 0; j < fake->num_objects; j++)
			if (memcmp(fake->objects[j].tag, req->tags[i], 32) == 0)
				memcpy(ids[i], fake->objects[j].id.b, 32);
	store_have_reply(call, &(struct store_have_reply){ .ids = ids, .num_ids = req->num_tags });
}

void on_store_fetch(struct store_server *self, struct ipc_call *call, const struct store_fetch *req)
{
	struct fake *fake = self->fake;

	if (fake->unreachable) {
		ipc_call_fail(call, -EHOSTUNREACH, NULL);
		return;
	}
	for (size_t i = 0; i < req->num_ids; i++)
		for (size_t j = 0; j < fake->num_objects; j++)
			if (memcmp(fake->objects[j].id.b, req->ids[i], 32) == 0)
				fake->objects[j].is_far = false;
	store_fetch_reply(call, &(struct store_fetch_reply){ 0 });
}

void on_store_sync(struct store_server *self, struct ipc_call *call, const struct store_sync *req)
{
	drain(self->fake);
	store_sync_reply(call, &(struct store_sync_reply){ 0 });
}

void on_store_statfs(
	struct store_server *self, struct ipc_call *call, const struct store_statfs *req)
{
	store_statfs_reply(call, &(struct store_statfs_reply){ .block_size = 4096,
					 .blocks = 1 << 20,
					 .blocks_free = 1 << 19,
					 .blocks_available = 1 << 19,
					 .inodes = self->fake->num_recs });
}

void on_store_orphans(
	struct store_server *self, struct ipc_call *call, const struct store_orphans *req)
{
	store_orphans_reply(call, &(struct store_orphans_reply){ .end = true });
}

void on_store_snapshot_create(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_create *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_snapshot_list(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_list *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_snapshot_remove(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_remove *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_versions(
	struct store_server *self, struct ipc_call *call, const struct store_versions *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_diff(struct store_server *self, struct ipc_call *call, const struct store_diff *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_span(struct store_server *self, struct ipc_call *call, const struct store_span *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_kick(struct store_server *self, const struct store_kick *msg)
{
	drain(self->fake);
}

void on_store_flushed(struct store_server *self, const struct store_flushed *msg)
{
}

void on_key_volume(struct key_server *self, struct ipc_call *call, const struct key_volume *req)
{
	struct key_volume_reply reply;
	struct cas_volume_keys keys;

	cas_kdf_volume(&self->fake->keys, volume, &keys);
	memcpy(reply.chunker, keys.chunker, 32);
	memcpy(reply.seal, keys.seal, 32);
	memcpy(reply.siv, keys.siv, 32);
	memcpy(reply.name, keys.name, 32);
	memcpy(reply.value, keys.value, 32);
	key_volume_reply(call, &reply);
}

void on_key_chunks(struct key_server *self, struct ipc_call *call, const struct key_chunks *req)
{
	uint8_t keys[256][32], tags[256][32];

	for (size_t i = 0; i < req->num_hashes; i++) {
		struct cas_hash h;

		memcpy(h.b, req->hashes[i], 32);
		cas_prf_chunk_key(&self->fake->keys, req->type, &h, keys[i]);
		cas_prf_dedup_tag(&self->fake->keys, req->type, &h, tags[i]);
	}
	key_chunks_reply(call, &(struct key_chunks_reply){ .keys = keys,
				       .num_keys = req->num_hashes,
				       .tags = tags,
				       .num_tags = req->num_hashes });
}

/* --- the thread --- */

static void closed(void *self, struct ipc_chan *chan, int err)
{
}

static void pump(struct ipc_chan **chan)
{
	if (*chan == NULL)
		return;
	if (ipc_chan_pump(*chan, 0) < 0) {
		ipc_chan_close(*chan);
		*chan = NULL;
	}
}

static void take_new(struct fake *fake)
{
	if (fake->new_store >= 0) {
		ipc_chan_close(fake->store);
		ipc_chan_open(&fake->store, NULL, fake->new_store, &store_server_service,
			&fake->store_self, closed);
		fake->new_store = -1;
	}
	if (fake->new_key >= 0) {
		ipc_chan_close(fake->key);
		ipc_chan_open(&fake->key, NULL, fake->new_key, &key_server_service, &fake->key_self,
			closed);
		fake->new_key = -1;
	}
}

static void *fake_main(void *arg)
{
	struct fake *fake = arg;
	bool stop = false;

	while (!stop) {
		pthread_mutex_lock(&fake->lock);
		take_new(fake);
		pump(&fake->store);
		pump(&fake->key);
		drain(fake);
		stop = fake->stop;
		pthread_mutex_unlock(&fake->lock);
		usleep(5);
	}
	return NULL;
}

static void make_edges(struct fake *fake, struct fake_edges *ret)
{
	int store[2], key[2];

	if (ipc_pair(store) < 0 || ipc_pair(key) < 0)
		abort();
	fake->new_store = store[1];
	fake->new_key = key[1];
	*ret = (struct fake_edges){
		.store_fd = store[0], .key_fd = key[0], .ring_fd = fake->ring_fd
	};
}

struct fake *fake_start(struct fake_edges *ret)
{
	static const uint8_t secret[32] = "a sharing key for tests only....";
	struct fake *fake = calloc(1, sizeof(*fake));

	fake->store_self.fake = fake->key_self.fake = fake;
	fake->next_oid = 1;
	fake->suite = cas_suite_new();
	cas_kdf_sharing(secret, &fake->keys);
	fake->arena_fd = memfd_create("arena", MFD_CLOEXEC);
	if (ipc_ring_create(8u << 20, &fake->ring_fd) < 0 ||
		ipc_ring_map(&fake->ring, fake->ring_fd, IPC_RING_CONSUMER) < 0)
		abort();
	make_edges(fake, ret);
	pthread_mutex_init(&fake->lock, NULL);
	if (pthread_create(&fake->thread, NULL, fake_main, fake) != 0)
		abort();
	return fake;
}

void fake_restart(struct fake *fake, struct fake_edges *ret)
{
	pthread_mutex_lock(&fake->lock);
	make_edges(fake, ret);
	pthread_mutex_unlock(&fake->lock);
}

void fake_hide_all(struct fake *fake, bool reachable)
{
	pthread_mutex_lock(&fake->lock);
	drain(fake);
	for (size_t i = 0; i < fake->num_objects; i++)
		fake->objects[i].is_far = true;
	fake->unreachable = !reachable;
	pthread_mutex_unlock(&fake->lock);
}

void fake_set_error(struct fake *fake, uint32_t error)
{
	struct intake_area *area = ipc_ring_user(fake->ring);

	atomic_store(&area->error, error);
}

size_t fake_num_records(struct fake *fake)
{
	size_t num;

	pthread_mutex_lock(&fake->lock);
	drain(fake);
	num = fake->num_recs;
	pthread_mutex_unlock(&fake->lock);
	return num;
}

size_t fake_num_objects(struct fake *fake)
{
	size_t num;

	pthread_mutex_lock(&fake->lock);
	drain(fake);
	num = fake->num_objects;
	pthread_mutex_unlock(&fake->lock);
	return num;
}

void fake_stop(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->stop = true;
	pthread_mutex_unlock(&fake->lock);
	pthread_join(fake->thread, NULL);
	ipc_chan_close(fake->store);
	ipc_chan_close(fake->key);
	ipc_ring_unmap(fake->ring);
	close(fake->ring_fd);
	close(fake->arena_fd);
	for (size_t i = 0; i < fake->num_recs; i++)
		free(fake->recs[i].data);
	free(fake->recs);
	free(fake->objects);
	cas_suite_free(fake->suite);
	free(fake);
}
