#include "net.h"

#include "cas/id.h"
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/dial.gen.h"
#include "ipc/fetch.gen.h"
#include "ipc/ident.gen.h"
#include "ipc/ring.h"
#include "ipc/sync.gen.h"
#include "noise/vouch.h"
#include "stored/intake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t volume_id[16] = "the-only-volume";

uint32_t net_random(struct net *net)
{
	net->random = net->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(net->random >> 33);
}

/* ---- keyd ---- */

void on_ident_public(
	struct ident_server *self, struct ipc_call *call, const struct ident_public *req)
{
	struct node *n = self->node;
	struct ident_public_reply reply;

	memcpy(reply.identity, n->identity, 32);
	memcpy(reply.noise_static, n->static_public, 32);
	noise_vouch_make(n->identity_secret, n->static_public, reply.vouch);
	ident_public_reply(call, &reply);
}

void on_ident_dh(struct ident_server *self, struct ipc_call *call, const struct ident_dh *req)
{
	struct ident_dh_reply reply;

	if (crypto_scalarmult(reply.shared, self->node->static_secret, req->peer) != 0)
		ipc_call_fail(call, -EINVAL, NULL);
	else
		ident_dh_reply(call, &reply);
}

/* ---- stored: settings ---- */

void on_sync_config(struct sync_server *self, struct ipc_call *call, const struct sync_config *req)
{
	struct node *n = self->node;
	struct sync_peer peers[NET_NODES];
	struct sync_storage storages[NET_NODES];
	struct sync_config_reply reply = { .peers = peers,
		.num_peers = n->num_known,
		.storages = storages,
		.num_storages = n->num_storages };

	for (size_t i = 0; i < n->num_known; i++) {
		peers[i] = (struct sync_peer){ .nickname = n->known[i].node->nickname,
			.has_address = n->known[i].port != 0 };
		memcpy(peers[i].key, n->known[i].node->identity, 32);
	}
	for (size_t i = 0; i < n->num_storages; i++) {
		memcpy(storages[i].volume, volume_id, 16);
		memcpy(storages[i].peer, n->storages[i]->identity, 32);
	}
	sync_config_reply(call, &reply);
}

static struct known *known_key(struct node *n, const uint8_t key[32])
{
	for (size_t i = 0; i < n->num_known; i++)
		if (memcmp(n->known[i].node->identity, key, 32) == 0)
			return &n->known[i];
	return NULL;
}

struct known *node_known(struct node *a, struct node *b)
{
	return known_key(a, b->identity);
}

static bool may_pull(struct node *n, const uint8_t key[32])
{
	struct known *k = known_key(n, key);

	return k && k->may_pull;
}

void on_sync_volume(struct sync_server *self, struct ipc_call *call, const struct sync_volume *req)
{
	struct sync_volume_reply reply = { .keyid = "keyid" };

	if (!may_pull(self->node, req->peer) || strcmp(req->name, "vol") != 0) {
		ipc_call_fail(call, -EACCES, "secret reason");
		return;
	}
	memcpy(reply.volume, volume_id, 16);
	sync_volume_reply(call, &reply);
}

/* ---- stored: items as records ---- */

/* A record: number, length, and bytes that follow from the number. */
static size_t item_size(uint32_t item)
{
	return 8 + (item * 7919u) % 3000;
}

static void item_emit(uint32_t item, uint8_t *out)
{
	uint32_t len = (uint32_t)item_size(item) - 8;

	memcpy(out, &item, 4);
	memcpy(out + 4, &len, 4);
	for (uint32_t i = 0; i < len; i++)
		out[8 + i] = (uint8_t)(item + i * 31);
}

static bool has_item(const struct node *n, uint32_t item)
{
	for (size_t i = 0; i < n->num_items; i++)
		if (n->items[i] == item)
			return true;
	return false;
}

void node_write(struct node *a, size_t num_items)
{
	for (size_t i = 0; i < num_items; i++) {
		assert_true(a->num_items < NET_ITEMS_MAX);
		a->items[a->num_items++] = net_random(a->net);
	}
}

bool node_has_all(const struct node *a, const struct node *b)
{
	for (size_t i = 0; i < b->num_items; i++)
		if (!has_item(a, b->items[i]))
			return false;
	return true;
}

/* Knowledge in this pretence: the numbers of all items. */
static struct ipc_bytes knowledge(const struct node *n)
{
	return (struct ipc_bytes){ .data = (const uint8_t *)n->items, .len = n->num_items * 4 };
}

static bool covers(struct ipc_bytes known, uint32_t item)
{
	for (size_t i = 0; i + 4 <= known.len; i += 4)
		if (memcmp(known.data + i, &item, 4) == 0)
			return true;
	return false;
}

/* False: it was asked to be silent, and is. */
static bool speaks(struct node *n, struct ipc_call *call)
{
	if (n->is_silent) {
		assert_true(n->num_unanswered < 32);
		n->unanswered[n->num_unanswered++] = call;
	}
	return !n->is_silent;
}

void on_sync_pull_begin(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_begin *req)
{
	struct node *n = self->node;
	struct sync_pull_begin_reply reply = { .knowledge = knowledge(n) };

	if (strcmp(req->volume_name, "vol") != 0) {
		ipc_call_fail(call, -ENOENT, "volume %s: does not exist", req->volume_name);
		return;
	}
	if (n->is_pulling) {
		ipc_call_fail(call, -EBUSY, "volume vol: is being synced already");
		return;
	}
	n->is_pulling = true;
	n->pull = ++n->num_pulls;
	n->staged_len = 0;
	n->needs_left = n->num_needs;
	reply.pull = n->pull;
	memcpy(reply.volume, volume_id, 16);
	sync_pull_begin_reply(call, &reply);
}

void on_sync_pull_put(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_put *req)
{
	struct node *n = self->node;

	assert_true(n->is_pulling && req->pull == n->pull);
	n->staged = realloc(n->staged, n->staged_len + req->records.len + 1);
	assert_non_null(n->staged);
	if (req->records.len > 0)
		memcpy(n->staged + n->staged_len, req->records.data, req->records.len);
	n->staged_len += req->records.len;
	sync_pull_put_reply(call, &(struct sync_pull_put_reply){ 0 });
}

/* All or nothing, as stored does: every byte of every record must be as it was written. */
static int commit(struct node *n, size_t *ret_num)
{
	uint8_t record[4096];
	size_t at, num = 0;

	for (at = 0; at + 8 <= n->staged_len; num++) {
		uint32_t item;
		memcpy(&item, n->staged + at, 4);
		if (item_size(item) > n->staged_len - at)
			return -EBADMSG;
		item_emit(item, record);
		if (memcmp(record, n->staged + at, item_size(item)) != 0)
			return -EBADMSG;
		at += item_size(item);
	}
	if (at != n->staged_len)
		return -EBADMSG;
	for (at = 0; at < n->staged_len;) {
		uint32_t item;
		memcpy(&item, n->staged + at, 4);
		at += item_size(item);
		if (!has_item(n, item))
			n->items[n->num_items++] = item;
	}
	*ret_num = num;
	return 0;
}

void on_sync_pull_step(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_step *req)
{
	struct node *n = self->node;
	struct sync_pull_step_reply reply = { 0 };
	size_t num;
	int r;

	assert_true(n->is_pulling && req->pull == n->pull);
	if (!speaks(n, call))
		return;
	if (n->needs_left > 0) {
		n->needs_left--;
		reply.need = (struct ipc_bytes){ .data = (const uint8_t *)"some key", .len = 8 };
		sync_pull_step_reply(call, &reply);
		return;
	}
	r = commit(n, &num);
	n->is_pulling = false;
	if (r < 0) {
		ipc_call_fail(call, r, "volume vol: the peer sent nonsense");
		return;
	}
	n->num_commits++;
	reply.num_changed = num;
	sync_pull_step_reply(call, &reply);
}

void on_sync_pull_abort(
	struct sync_server *self, struct ipc_call *call, const struct sync_pull_abort *req)
{
	struct node *n = self->node;

	assert_true(n->is_pulling && req->pull == n->pull);
	n->is_pulling = false;
	n->num_aborts++;
	sync_pull_abort_reply(call, &(struct sync_pull_abort_reply){ 0 });
}

/* ---- stored: serving ---- */

void on_sync_serve_begin(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_begin *req)
{
	struct node *n = self->node;
	struct sync_serve_begin_reply reply = { .knowledge = knowledge(n), .nothing = true };

	if (!may_pull(n, req->peer) || memcmp(req->volume, volume_id, 16) != 0) {
		ipc_call_fail(call, -EACCES, "secret reason");
		return;
	}
	if (!speaks(n, call))
		return;
	for (size_t i = 0; i < n->num_items; i++)
		if (!covers(req->knowledge, n->items[i])) {
			reply.nothing = false;
			reply.num_records++;
		}
	if (!reply.nothing) {
		assert_true(n->num_serves < 8);
		reply.serve = n->serve_ids[n->num_serves++] = 1000 + n->next_serve++;
	}
	sync_serve_begin_reply(call, &reply);
}

static bool is_serving(const struct node *n, uint64_t serve)
{
	for (size_t i = 0; i < n->num_serves; i++)
		if (n->serve_ids[i] == serve)
			return true;
	return false;
}

void on_sync_serve_page(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_page *req)
{
	struct node *n = self->node;
	uint8_t *page = malloc(60000);
	size_t at = 0, len = 0;
	struct sync_serve_page_reply reply = { 0 };

	assert_true(is_serving(n, req->serve));
	if (!speaks(n, call)) {
		free(page);
		return;
	}
	if (req->cursor.len == sizeof(at))
		memcpy(&at, req->cursor.data, sizeof(at));
	while (at < n->num_items && (len == 0 || len + item_size(n->items[at]) <= n->page_size)) {
		item_emit(n->items[at], page + len);
		len += item_size(n->items[at++]);
	}
	reply.records = (struct ipc_bytes){ .data = page, .len = len };
	reply.cursor = (struct ipc_bytes){ .data = (const uint8_t *)&at, .len = sizeof(at) };
	reply.end = at == n->num_items;
	sync_serve_page_reply(call, &reply);
	free(page);
}

void on_sync_serve_registers(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_registers *req)
{
	struct node *n = self->node;
	uint8_t *records = malloc(120000);
	size_t len = 0;

	assert_true(is_serving(n, req->serve));
	assert_int_equal(req->keys.len, 8);
	/* As long as an answer may be. */
	for (size_t i = 0; i < n->num_items && len + item_size(n->items[i]) <= 120000; i++) {
		item_emit(n->items[i], records + len);
		len += item_size(n->items[i]);
	}
	sync_serve_registers_reply(call,
		&(struct sync_serve_registers_reply){ .records = { .data = records, .len = len } });
	free(records);
}

void on_sync_serve_end(
	struct sync_server *self, struct ipc_call *call, const struct sync_serve_end *req)
{
	struct node *n = self->node;
	size_t i;

	for (i = 0; i < n->num_serves && n->serve_ids[i] != req->serve; i++)
		;
	assert_true(i < n->num_serves);
	n->serve_ids[i] = n->serve_ids[--n->num_serves];
	sync_serve_end_reply(call, &(struct sync_serve_end_reply){ 0 });
}

/* ---- stored: objects ---- */

void node_store(struct node *a, size_t len, uint8_t ret_id[32])
{
	struct stored_object *o = &a->objects[a->num_objects++];
	struct cas_id id;

	assert_true(a->num_objects <= NET_OBJECTS);
	o->data = malloc(len);
	o->len = len;
	for (size_t i = 0; i < len; i++)
		o->data[i] = (uint8_t)net_random(a->net);
	cas_id_of(a->d.objects.suite, o->data, len, &id);
	memcpy(o->id, id.b, 32);
	memcpy(ret_id, id.b, 32);
}

static const struct stored_object *find_object(const struct node *n, const uint8_t id[32])
{
	for (size_t i = 0; i < n->num_objects; i++)
		if (memcmp(n->objects[i].id, id, 32) == 0)
			return &n->objects[i];
	return NULL;
}

void on_sync_objects(
	struct sync_server *self, struct ipc_call *call, const struct sync_objects *req)
{
	struct node *n = self->node;
	struct known *k = known_key(n, req->peer);
	uint32_t lens[64] = { 0 };

	if (!k || !k->may_store) {
		ipc_call_fail(call, -EACCES, NULL);
		return;
	}
	if (!speaks(n, call))
		return;
	for (size_t i = 0; i < req->num_ids; i++) {
		const struct stored_object *o = find_object(n, req->ids[i]);
		uint8_t *p;
		if (!o)
			continue;
		p = ipc_ring_reserve(n->ring_out, INTAKE_TAG_SIZE + (uint32_t)o->len);
		assert_non_null(p);
		memset(p, 0, INTAKE_TAG_SIZE);
		memcpy(p + INTAKE_TAG_SIZE, o->data, o->len);
		if (n->sends_wrong_objects)
			p[INTAKE_TAG_SIZE] ^= 1;
		ipc_ring_publish(n->ring_out, INTAKE_OBJECT, INTAKE_TAG_SIZE + (uint32_t)o->len);
		lens[i] = (uint32_t)o->len;
	}
	if (ipc_ring_must_kick(n->ring_out))
		sync_room(n->stored_chan, &(struct sync_room){ 0 });
	sync_objects_reply(call, &(struct sync_objects_reply){ .lens = lens,
					 .num_lens = req->num_ids,
					 .position = ipc_ring_head(n->ring_out) });
}

/* Takes what came in and notes the ids. */
static void take_arrived(struct node *n)
{
	const void *data;
	uint32_t type, len;
	uint64_t next;

	ipc_ring_sleep_end(n->ring_in);
	while (ipc_ring_peek(n->ring_in, &next, &type, &data, &len) > 0) {
		struct cas_id id;
		assert_int_equal(type, INTAKE_OBJECT);
		cas_id_of(n->d.objects.suite, (const uint8_t *)data + INTAKE_TAG_SIZE,
			len - INTAKE_TAG_SIZE, &id);
		assert_true(n->num_arrived < NET_OBJECTS * 4);
		memcpy(n->arrived[n->num_arrived++], id.b, 32);
		ipc_ring_release(n->ring_in, next);
	}
	ipc_ring_sleep_begin(n->ring_in);
	sync_room(n->stored_chan, &(struct sync_room){ 0 });
}

void on_sync_kick(struct sync_server *self, const struct sync_kick *msg)
{
	take_arrived(self->node);
}

bool node_got(const struct node *a, const uint8_t id[32])
{
	for (size_t i = 0; i < a->num_arrived; i++)
		if (memcmp(a->arrived[i], id, 32) == 0)
			return true;
	return false;
}

/* ---- dialer and command line ---- */

/* receive_buffer 0: as the system likes. */
static int connect_to(int port, int receive_buffer)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (receive_buffer)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		close(fd);
		return -errno;
	}
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

int net_connect(int port)
{
	return connect_to(port, 0);
}

void on_dial_peer(struct dial_server *self, struct ipc_call *call, const struct dial_peer *req)
{
	struct known *k = known_key(self->node, req->peer);
	struct dial_peer_reply reply;
	char address[64];

	assert_non_null(k);
	assert_true(k->port != 0);
	snprintf(address, sizeof(address), "127.0.0.1:%d", k->port);
	reply.address = address;
	reply.fd = net_connect(k->port);
	if (reply.fd < 0) {
		ipc_call_fail(call, reply.fd, "%s: connection refused", address);
		return;
	}
	dial_peer_reply(call, &reply);
	close(reply.fd);
}

void on_ctl_peers_changed(struct ctl_client *self, const struct ctl_peers_changed *msg)
{
}

/* ---- processes ---- */

/* To the core in this process, or to the real one. */
static void give(struct node *n, const char *kind, int fd, int ring_in, int ring_out)
{
	if (n->give)
		n->give(n, kind, fd, ring_in, ring_out);
	else
		assert_int_equal(syncd_edge(&n->d, kind, fd, ring_in, ring_out), 0);
}

/* As its owner would: an edge that ended is closed. */
static void closed(void *self, struct ipc_chan *chan, int err)
{
}

static int edge(
	struct ipc_chan **chan, struct node *n, const struct ipc_service *service, void *self)
{
	int fds[2];

	ipc_chan_close(*chan);
	*chan = NULL;
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_chan_open(chan, n->net->loop, fds[0], service, self, closed), 0);
	return fds[1];
}

void node_kill_stored(struct node *a)
{
	ipc_chan_close(a->stored_chan);
	ipc_chan_close(a->fetch_chan);
	a->stored_chan = a->fetch_chan = NULL;
	a->is_pulling = false;
	a->num_serves = 0;
	for (size_t i = 0; i < a->num_unanswered; i++)
		ipc_call_fail(a->unanswered[i], -EIO, NULL);
	a->num_unanswered = 0;
}

void node_start_stored(struct node *a)
{
	int fd = edge(&a->stored_chan, a, &sync_server_service, &a->stored);

	if (a->ring_in)
		ipc_ring_unmap(a->ring_in);
	if (a->ring_out)
		ipc_ring_unmap(a->ring_out);
	assert_int_equal(ipc_ring_map(&a->ring_in, a->ring_in_fd, IPC_RING_CONSUMER), 0);
	assert_int_equal(ipc_ring_map(&a->ring_out, a->ring_out_fd, IPC_RING_PRODUCER), 0);
	ipc_ring_sleep_begin(a->ring_in);
	give(a, "sync", fd, dup(a->ring_in_fd), dup(a->ring_out_fd));
	fd = edge(&a->fetch_chan, a, &fetch_client_service, &a->fetcher);
	give(a, "fetch", fd, -1, -1);
}

void node_kill_keyd(struct node *a)
{
	ipc_chan_close(a->keyd_chan);
	a->keyd_chan = NULL;
}

void node_start_keyd(struct node *a)
{
	int fd = edge(&a->keyd_chan, a, &ident_server_service, &a->keyd);

	give(a, "ident", fd, -1, -1);
}

void node_start_dialer(struct node *a)
{
	int fd = edge(&a->dial_chan, a, &dial_server_service, &a->dialer);

	give(a, "dial", fd, -1, -1);
}

int listen_anywhere(int *ret_port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

void node_start(struct node *n)
{
	int fd;

	node_start_keyd(n);
	node_start_stored(n);
	node_start_dialer(n);
	fd = edge(&n->ctl_chan, n, &ctl_client_service, &n->cli);
	give(n, "ctl", fd, -1, -1);
	net_run(n->net, 0.01);
}

struct node *net_node(struct net *net, const char *nickname)
{
	struct node *n = net_node_without_syncd(net, nickname);

	node_start(n);
	assert_int_equal(syncd_listen(&n->d, listen_anywhere(&n->port)), 0);
	net_run(net, 0.01);
	return n;
}

struct node *net_node_without_syncd(struct net *net, const char *nickname)
{
	struct node *n = calloc(1, sizeof(*n));
	uint8_t seed[32];

	assert_non_null(n);
	n->net = net;
	net->nodes[net->num_nodes++] = n;
	for (size_t i = 0; i < sizeof(seed); i++)
		seed[i] = (uint8_t)net_random(net);
	crypto_sign_seed_keypair(n->identity, n->identity_secret, seed);
	seed[0] ^= 0x55;
	memcpy(n->static_secret, seed, 32);
	crypto_scalarmult_base(n->static_public, n->static_secret);
	sodium_bin2hex(n->hex, sizeof(n->hex), n->identity, 32);
	snprintf(n->nickname, sizeof(n->nickname), "%s", nickname);
	n->page_size = 5000;
	n->keyd.node = n->stored.node = n->fetcher.node = n->dialer.node = n->cli.node = n;
	assert_int_equal(ipc_ring_create(2 << 20, &n->ring_in_fd), 0);
	assert_int_equal(ipc_ring_create(32 << 20, &n->ring_out_fd), 0);
	assert_int_equal(syncd_init(&n->d, net->loop, &net->limits), 0);
	return n;
}

static void node_free(struct node *n)
{
	syncd_release(&n->d);
	node_kill_stored(n);
	node_kill_keyd(n);
	ipc_chan_close(n->dial_chan);
	ipc_chan_close(n->ctl_chan);
	ipc_ring_unmap(n->ring_in);
	ipc_ring_unmap(n->ring_out);
	close(n->ring_in_fd);
	close(n->ring_out_fd);
	for (size_t i = 0; i < n->num_objects; i++)
		free(n->objects[i].data);
	free(n->staged);
	free(n);
}

void node_changed(struct node *a)
{
	if (a->stored_chan)
		sync_config_changed(a->stored_chan, &(struct sync_config_changed){ 0 });
	net_run(a->net, 0.01);
}

void node_knows(struct node *a, struct node *b, int port)
{
	struct known *k = node_known(a, b);

	if (!k)
		k = &a->known[a->num_known++];
	*k = (struct known){ .node = b, .port = port, .may_pull = true, .may_store = true };
	node_changed(a);
}

void node_forgets(struct node *a, struct node *b)
{
	struct known *k = node_known(a, b);

	assert_non_null(k);
	*k = a->known[--a->num_known];
	node_changed(a);
}

/* ---- the loop ---- */

static void on_guard(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	*(bool *)timer->data = true;
}

bool net_wait(struct net *net, const bool *is_done, double seconds)
{
	bool is_over = false;
	struct ev_timer guard;

	ev_now_update(net->loop);
	ev_timer_init(&guard, on_guard, seconds, 0);
	guard.data = &is_over;
	ev_timer_start(net->loop, &guard);
	while (!is_over && !(is_done && *is_done))
		ev_run(net->loop, EVRUN_ONCE);
	ev_timer_stop(net->loop, &guard);
	return is_done && *is_done;
}

void net_run(struct net *net, double seconds)
{
	net_wait(net, NULL, seconds);
}

void net_init(struct net *net)
{
	const char *seed = getenv("BAZIL_SEED");

	*net = (struct net){ .loop = ev_loop_new(0), .limits = syncd_default_limits };
	net->random = seed ? strtoull(seed, NULL, 0) : 1;
	net->limits.session.ping_after = 0.1;
	net->limits.session.dead_after = 0.3;
	net->limits.session.stall_after = 1;
	net->limits.session.rekey_messages = 16;
	net->limits.handshake = 0.5;
	net->limits.refusal = 0.03;
	net->limits.dial = 1;
	net->limits.stage = 1;
	net->limits.restart = 1;
	net->limits.again = 0.02;
	net->limits.recent = 1;
}

/* ---- asking ---- */

static void note(struct outcome *out, int err, struct ipc_chan *chan)
{
	out->is_done = true;
	out->err = err;
	if (err < 0 && chan)
		snprintf(out->text, sizeof(out->text), "%s", ipc_chan_error(chan));
}

struct asked {
	struct node *node;
	struct outcome *out;
};

static struct asked *asked(struct node *n, struct outcome *out)
{
	struct asked *a = calloc(1, sizeof(*a));

	assert_non_null(a);
	*out = (struct outcome){ 0 };
	*a = (struct asked){ n, out };
	return a;
}

static void synced(void *arg, int err, const struct ctl_volume_sync_reply *reply)
{
	struct asked *a = arg;

	note(a->out, err, a->node->ctl_chan);
	if (err == 0) {
		a->out->num_records = reply->num_records;
		a->out->num_changed = reply->num_changed;
		a->out->num_conflicts = reply->num_conflicts;
	}
	free(a);
}

void node_sync_begin(struct node *a, const char *peer, struct outcome *out)
{
	struct ctl_volume_sync req = { .volume = "vol", .peer = peer };

	assert_int_equal(ctl_volume_sync(a->ctl_chan, &req, synced, asked(a, out)), 0);
}

void node_sync(struct node *a, const char *peer, struct outcome *out)
{
	node_sync_begin(a, peer, out);
	assert_true(net_wait(a->net, &out->is_done, 20));
}

static void connected(void *arg, int err, const struct ctl_volume_connect_reply *reply)
{
	struct asked *a = arg;

	note(a->out, err, a->node->ctl_chan);
	if (err == 0)
		memcpy(a->out->id, reply->id, 16);
	free(a);
}

void node_connect(struct node *a, const char *peer, const char *volume, struct outcome *out)
{
	struct ctl_volume_connect req = { .name = volume, .peer = peer };

	assert_int_equal(ctl_volume_connect(a->ctl_chan, &req, connected, asked(a, out)), 0);
	assert_true(net_wait(a->net, &out->is_done, 20));
}

static void fetched(void *arg, int err, const struct fetch_objects_reply *reply)
{
	struct asked *a = arg;

	note(a->out, err, a->node->fetch_chan);
	if (err == 0) {
		a->out->num_lens = reply->num_lens;
		memcpy(a->out->lens, reply->lens, reply->num_lens * 4);
		/* What is answered for is in the ring already. */
		take_arrived(a->node);
	}
	free(a);
}

void node_fetch_begin(struct node *a, uint8_t (*ids)[32], size_t num_ids, uint32_t deadline_ms,
	struct outcome *out)
{
	struct fetch_objects req = { .ids = ids, .num_ids = num_ids, .deadline_ms = deadline_ms };

	memcpy(req.volume, volume_id, 16);
	assert_int_equal(fetch_objects(a->fetch_chan, &req, fetched, asked(a, out)), 0);
}

void node_fetch(struct node *a, uint8_t (*ids)[32], size_t num_ids, uint32_t deadline_ms,
	struct outcome *out)
{
	node_fetch_begin(a, ids, num_ids, deadline_ms, out);
	assert_true(net_wait(a->net, &out->is_done, 20));
}

/* ---- the proxy ---- */

struct pipe_dir {
	struct proxy_conn *conn;
	int from, to, which;
	struct ev_io io;
	struct mischief mischief;
	uint8_t in[70000];
	size_t in_len;
	uint8_t kept[70000];
	size_t kept_len;
	long bytes, frames;
	bool is_frozen;
	/* what the other side does not take yet */
	uint8_t *out;
	size_t out_len;
	struct ev_io out_io;
	struct ev_timer pace;
	size_t allowance;
};

struct proxy_conn {
	struct proxy *proxy;
	struct proxy_conn *next;
	struct pipe_dir dir[2];
};

static void conn_close(struct proxy_conn *c)
{
	struct ev_loop *loop = c->proxy->net->loop;
	struct proxy_conn **p = &c->proxy->conns;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	for (int i = 0; i < 2; i++) {
		ev_io_stop(loop, &c->dir[i].io);
		ev_io_stop(loop, &c->dir[i].out_io);
		ev_timer_stop(loop, &c->dir[i].pace);
		free(c->dir[i].out);
	}
	close(c->dir[0].from);
	close(c->dir[1].from);
	free(c);
}

static void push(struct pipe_dir *d)
{
	size_t len = d->out_len;

	if (d->mischief.speed && len > d->allowance)
		len = d->allowance;
	while (len > 0) {
		ssize_t n = send(d->to, d->out, len, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		memmove(d->out, d->out + n, d->out_len - (size_t)n);
		d->out_len -= (size_t)n;
		len -= (size_t)n;
		if (d->mischief.speed)
			d->allowance -= (size_t)n;
	}
	/* As a slow line: nothing more is taken while much is under way. */
	if (d->out_len > 100000 || d->is_frozen)
		ev_io_stop(d->conn->proxy->net->loop, &d->io);
	else
		ev_io_start(d->conn->proxy->net->loop, &d->io);
	if (d->out_len > 0 && !d->mischief.speed)
		ev_io_start(d->conn->proxy->net->loop, &d->out_io);
	else
		ev_io_stop(d->conn->proxy->net->loop, &d->out_io);
}

static void on_can_push(struct ev_loop *loop, struct ev_io *io, int events)
{
	push(io->data);
}

static void on_pace(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct pipe_dir *d = timer->data;

	d->allowance = d->mischief.speed;
	push(d);
}

/* False: the connection was cut. */
static bool forward(struct pipe_dir *d, const uint8_t *data, size_t len)
{
	const struct mischief *m = &d->mischief;
	bool is_cut = m->cut_at >= 0 && d->bytes + (long)len > m->cut_at;

	if (d->is_frozen)
		return true;
	if (is_cut)
		len = (size_t)(m->cut_at - d->bytes);
	if (m->freeze_at >= 0 && d->bytes + (long)len > m->freeze_at) {
		len = (size_t)(m->freeze_at - d->bytes);
		d->is_frozen = true;
	}
	d->out = realloc(d->out, d->out_len + len + 1);
	memcpy(d->out + d->out_len, data, len);
	if (m->flip_at >= d->bytes && m->flip_at < d->bytes + (long)len)
		d->out[d->out_len + (size_t)(m->flip_at - d->bytes)] ^= 0x10;
	d->out_len += len;
	d->bytes += (long)len;
	d->conn->proxy->bytes[d->which] = d->bytes;
	push(d);
	if (is_cut)
		conn_close(d->conn);
	return !is_cut;
}

static bool forward_frame(struct pipe_dir *d, const uint8_t *data, size_t len)
{
	long n = d->frames++;

	d->conn->proxy->frames[d->which] = d->frames;
	if (n == d->mischief.drop_frame)
		return true;
	if (n == d->mischief.swap_frame) {
		memcpy(d->kept, data, len);
		d->kept_len = len;
		return true;
	}
	if (!forward(d, data, len))
		return false;
	if (n == d->mischief.swap_frame + 1 && d->kept_len > 0 && !forward(d, d->kept, d->kept_len))
		return false;
	return n != d->mischief.repeat_frame || forward(d, data, len);
}

static void on_bytes(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct pipe_dir *d = io->data;
	ssize_t n = recv(d->from, d->in + d->in_len, sizeof(d->in) - d->in_len, 0);
	size_t at = 0;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_close(d->conn);
		return;
	}
	d->in_len += (size_t)n;
	while (d->in_len - at >= 2) {
		size_t len = 2 + ((size_t)d->in[at] << 8 | d->in[at + 1]);
		if (d->in_len - at < len)
			break;
		at += len;
		if (!forward_frame(d, d->in + at - len, len))
			return;
	}
	memmove(d->in, d->in + at, d->in_len - at);
	d->in_len -= at;
}

static void on_proxied(struct ev_loop *loop, struct ev_io *io, int events)
{
	static const struct mischief none = { -1, -1, -1, -1, -1, -1, 0 };
	struct proxy *p = io->data;
	int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct proxy_conn *c;

	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	assert_non_null(c);
	c->proxy = p;
	c->next = p->conns;
	p->conns = c;
	c->dir[0].from = c->dir[1].to = fd;
	/* A line holds little; the buffers of loopback would hold megabytes. */
	c->dir[0].to = c->dir[1].from = connect_to(p->target_port, 65536);
	assert_true(c->dir[0].to >= 0);
	for (int i = 0; i < 2; i++) {
		struct pipe_dir *d = &c->dir[i];
		d->conn = c;
		d->which = i;
		d->mischief = p->once && p->num_connections > 0 ? none : p->dir[i];
		ev_io_init(&d->io, on_bytes, d->from, EV_READ);
		ev_io_init(&d->out_io, on_can_push, d->to, EV_WRITE);
		ev_timer_init(&d->pace, on_pace, 0, 0.01);
		d->io.data = d->out_io.data = d->pace.data = d;
		ev_io_start(loop, &d->io);
		if (d->mischief.speed)
			ev_timer_start(loop, &d->pace);
	}
	p->num_connections++;
}

struct proxy *net_proxy(struct net *net, int target_port)
{
	struct proxy *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->net = net;
	p->target_port = target_port;
	p->fd = listen_anywhere(&p->port);
	ev_io_init(&p->io, on_proxied, p->fd, EV_READ);
	p->io.data = p;
	ev_io_start(net->loop, &p->io);
	net->proxies[net->num_proxies++] = p;
	proxy_reset(p);
	return p;
}

void proxy_reset(struct proxy *p)
{
	while (p->conns)
		conn_close(p->conns);
	p->dir[0] = p->dir[1] = (struct mischief){ -1, -1, -1, -1, -1, -1, 0 };
	p->bytes[0] = p->bytes[1] = p->frames[0] = p->frames[1] = p->num_connections = 0;
}

void net_release(struct net *net)
{
	for (size_t i = 0; i < net->num_proxies; i++) {
		proxy_reset(net->proxies[i]);
		ev_io_stop(net->loop, &net->proxies[i]->io);
		close(net->proxies[i]->fd);
		free(net->proxies[i]);
	}
	/* Channels are closed by node_free: their owners may still call. */
	for (size_t i = 0; i < net->num_nodes; i++)
		node_free(net->nodes[i]);
	ev_loop_destroy(net->loop);
}
