/*
 * Clients of keyd over real channels: what each may ask, what it may not, and that a client that
 * talks nonsense disturbs nobody. keyd and its clients share one loop.
 */
#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/ident.gen.h"
#include "ipc/key.gen.h"
#include "ipc/work.gen.h"
#include "keyd/keyd.h"
#include "keyd/secret.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t volume_a[16] = "volume a", volume_b[16] = "volume b";

struct bench {
	struct ev_loop *loop;
	struct keyd keyd;
	char path[64];
	int dir;
};

/* The outcome of one request. */
struct outcome {
	bool is_done;
	int err;
	char text[512];
	struct ipc_chan *chan;
	union {
		struct cas_volume_keys volume;
		struct {
			size_t num;
			uint8_t keys[256][32], tags[256][32];
		} chunks;
		uint8_t bytes[128];
		struct {
			size_t num;
			char names[64][65];
		} list;
	};
};

void on_ctl_peers_changed(struct ctl_client *self, const struct ctl_peers_changed *msg)
{
}

static void client_closed(void *self, struct ipc_chan *chan, int err)
{
	bool *closed = self;

	if (closed)
		*closed = true;
}

static void bench_open(struct bench *b, bool create)
{
	const char *text;

	b->loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(b->loop);
	assert_int_equal(keyd_init(&b->keyd, b->loop), 0);
	if (create) {
		snprintf(b->path, sizeof(b->path), "/tmp/bazil-keyd-XXXXXX");
		assert_non_null(mkdtemp(b->path));
		b->dir = open(b->path, O_RDONLY | O_DIRECTORY);
	}
	assert_int_equal(keyd_begin(&b->keyd, b->dir, create, &text), 0);
}

static void bench_close(struct bench *b, bool remove)
{
	keyd_release(&b->keyd);
	ev_loop_destroy(b->loop);
	if (!remove)
		return;
	unlinkat(b->dir, "keyring", 0);
	unlinkat(b->dir, "keyring.old", 0);
	unlinkat(b->dir, "unlock", 0);
	close(b->dir);
	assert_int_equal(rmdir(b->path), 0);
}

/* Both ends of an edge; the client's end is returned. */
static int edge_with(struct bench *b, const char *kind, const char *role, uint64_t id,
	const uint8_t *volume, const char *sharing, int *ret_fd)
{
	struct work_edge edge = {
		.kind = kind, .role = role, .id = id, .sharing = sharing, .fd = -1
	};
	int fds[2];

	if (volume)
		memcpy(edge.volume, volume, 16);
	assert_int_equal(ipc_pair(fds), 0);
	*ret_fd = fds[0];
	return keyd_edge(&b->keyd, &edge, fds[1]);
}

static struct ipc_chan *connect_as(struct bench *b, const char *kind, const char *role, uint64_t id,
	const uint8_t *volume, const char *sharing, bool *closed)
{
	const struct ipc_service *service = strcmp(kind, "key") == 0	 ? &key_client_service
					    : strcmp(kind, "ident") == 0 ? &ident_client_service
									 : &ctl_client_service;
	struct ipc_chan *chan;
	int fd;

	assert_int_equal(edge_with(b, kind, role, id, volume, sharing, &fd), 0);
	assert_int_equal(ipc_chan_open(&chan, b->loop, fd, service, closed, client_closed), 0);
	return chan;
}

static struct ipc_chan *key_client(
	struct bench *b, uint64_t id, const uint8_t *volume, const char *sharing, bool *closed)
{
	return connect_as(b, "key", "mountd", id, volume, sharing, closed);
}

static void stop_loop(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	*(bool *)timer->data = true;
}

/* Runs the loop until *flag, for at most `seconds`. */
static bool run_until(struct bench *b, const bool *flag, double seconds)
{
	bool is_late = false;
	struct ev_timer timer;

	ev_timer_init(&timer, stop_loop, seconds, 0.);
	timer.data = &is_late;
	ev_timer_start(b->loop, &timer);
	while (!*flag && !is_late)
		ev_run(b->loop, EVRUN_ONCE);
	ev_timer_stop(b->loop, &timer);
	return *flag;
}

static void ended(struct outcome *o, int err)
{
	o->is_done = true;
	o->err = err;
	if (err < 0)
		snprintf(o->text, sizeof(o->text), "%s", ipc_chan_error(o->chan));
}

static void volume_done(void *arg, int err, const struct key_volume_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err < 0)
		return;
	memcpy(o->volume.chunker, reply->chunker, 32);
	memcpy(o->volume.seal, reply->seal, 32);
	memcpy(o->volume.siv, reply->siv, 32);
	memcpy(o->volume.name, reply->name, 32);
	memcpy(o->volume.value, reply->value, 32);
}

static void chunks_done(void *arg, int err, const struct key_chunks_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err < 0)
		return;
	assert_int_equal(reply->num_keys, reply->num_tags);
	o->chunks.num = reply->num_keys;
	if (reply->num_keys == 0)
		return;
	memcpy(o->chunks.keys, reply->keys, reply->num_keys * 32);
	memcpy(o->chunks.tags, reply->tags, reply->num_tags * 32);
}

static void public_done(void *arg, int err, const struct ident_public_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err < 0)
		return;
	memcpy(o->bytes, reply->identity, 32);
	memcpy(o->bytes + 32, reply->noise_static, 32);
	memcpy(o->bytes + 64, reply->vouch, 64);
}

static void dh_done(void *arg, int err, const struct ident_dh_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err == 0)
		memcpy(o->bytes, reply->shared, 32);
}

static void pubkey_done(void *arg, int err, const struct ctl_pubkey_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err == 0)
		memcpy(o->bytes, reply->identity, 32);
}

static void add_done(void *arg, int err, const struct ctl_sharing_add_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err == 0)
		memcpy(o->bytes, reply->keyid, 8);
}

static void remove_done(void *arg, int err, const struct ctl_sharing_remove_reply *reply)
{
	ended(arg, err);
}

static void list_done(void *arg, int err, const struct ctl_sharing_list_reply *reply)
{
	struct outcome *o = arg;

	ended(o, err);
	if (err < 0)
		return;
	o->list.num = reply->num_keys;
	for (size_t i = 0; i < reply->num_keys; i++)
		snprintf(o->list.names[i], 65, "%s", reply->keys[i].name);
}

static int ask_volume(struct bench *b, struct ipc_chan *chan, struct outcome *o)
{
	*o = (struct outcome){ .chan = chan };
	assert_int_equal(key_volume(chan, &(struct key_volume){ 0 }, volume_done, o), 0);
	assert_true(run_until(b, &o->is_done, 5));
	return o->err;
}

static int ask_chunks(struct bench *b, struct ipc_chan *chan, uint8_t type, uint8_t (*hashes)[32],
	size_t num, struct outcome *o)
{
	struct key_chunks req = { .type = type, .hashes = hashes, .num_hashes = num };

	*o = (struct outcome){ .chan = chan };
	assert_int_equal(key_chunks(chan, &req, chunks_done, o), 0);
	assert_true(run_until(b, &o->is_done, 5));
	return o->err;
}

static int ask_dh(struct bench *b, struct ipc_chan *chan, const uint8_t peer[32], struct outcome *o)
{
	struct ident_dh req;

	memset(&req, 0, sizeof(req));
	memcpy(req.peer, peer, 32);
	*o = (struct outcome){ .chan = chan };
	assert_int_equal(ident_dh(chan, &req, dh_done, o), 0);
	assert_true(run_until(b, &o->is_done, 5));
	return o->err;
}

static int ask_add(
	struct bench *b, struct ipc_chan *chan, const char *name, int fd, struct outcome *o)
{
	*o = (struct outcome){ .chan = chan };
	assert_int_equal(
		ctl_sharing_add(
			chan, &(struct ctl_sharing_add){ .name = name, .secret = fd }, add_done, o),
		0);
	assert_true(run_until(b, &o->is_done, 15));
	return o->err;
}

static int ask_remove(struct bench *b, struct ipc_chan *chan, const char *name, struct outcome *o)
{
	*o = (struct outcome){ .chan = chan };
	assert_int_equal(ctl_sharing_remove(chan, &(struct ctl_sharing_remove){ .name = name },
				 remove_done, o),
		0);
	assert_true(run_until(b, &o->is_done, 5));
	return o->err;
}

static int ask_list(struct bench *b, struct ipc_chan *chan, struct outcome *o)
{
	*o = (struct outcome){ .chan = chan };
	assert_int_equal(ctl_sharing_list(chan, &(struct ctl_sharing_list){ 0 }, list_done, o), 0);
	assert_true(run_until(b, &o->is_done, 5));
	return o->err;
}

static int memfd_of(const void *data, size_t len)
{
	int fd = memfd_create("secret", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static uint64_t counter(struct bench *b, const char *name)
{
	struct work_counter counters[WORK_STATUS_REPLY_COUNTERS_MAX];
	size_t num = keyd_counters(&b->keyd, counters, WORK_STATUS_REPLY_COUNTERS_MAX);

	for (size_t i = 0; i < num; i++) {
		if (strcmp(counters[i].name, name) == 0)
			return counters[i].value;
	}
	return 0;
}

static void rights__of_a_mount_are_one_volume_and_key(void **state)
{
	static struct outcome o;
	struct bench b;
	struct ipc_chan *a, *other, *stranger;
	struct cas_volume_keys expected;
	uint8_t hashes[256][32], tag[32];

	bench_open(&b, true);
	a = key_client(&b, 1, volume_a, "default", NULL);
	other = key_client(&b, 2, volume_b, "default", NULL);
	stranger = key_client(&b, 3, volume_a, "friends", NULL);
	assert_int_equal(keyring_volume_keys(b.keyd.ring, "default", volume_a, &expected), 0);
	assert_int_equal(ask_volume(&b, a, &o), 0);
	assert_memory_equal(&o.volume, &expected, sizeof(expected));
	assert_int_equal(ask_volume(&b, other, &o), 0);
	assert_memory_not_equal(o.volume.seal, expected.seal, 32);
	assert_memory_equal(o.volume.chunker, expected.chunker, 32);

	for (size_t i = 0; i < 256; i++)
		memset(hashes[i], (int)i, 32);
	assert_int_equal(ask_chunks(&b, a, 1, hashes, 256, &o), 0);
	assert_int_equal(o.chunks.num, 256);
	memcpy(tag, o.chunks.tags[255], 32);
	assert_int_equal(ask_chunks(&b, other, 1, hashes + 255, 1, &o), 0);
	assert_memory_equal(o.chunks.tags[0], tag, 32);
	assert_int_equal(ask_chunks(&b, a, 1, NULL, 0, &o), 0);
	assert_int_equal(o.chunks.num, 0);
	/* Only chunks are convergent. */
	assert_int_equal(ask_chunks(&b, a, 2, hashes, 1, &o), -EINVAL);
	assert_int_equal(ask_chunks(&b, a, 0, hashes, 1, &o), -EINVAL);

	assert_int_equal(ask_volume(&b, stranger, &o), -ENOKEY);
	assert_non_null(strstr(o.text, "bazil sharing add friends"));
	assert_int_equal(ask_chunks(&b, stranger, 1, hashes, 1, &o), -ENOKEY);

	assert_int_equal(counter(&b, "chunk_keys"), 257);
	assert_int_equal(counter(&b, "key.1.chunk_keys"), 256);
	assert_int_equal(counter(&b, "key.2.chunk_keys"), 1);
	assert_int_equal(counter(&b, "key.3.chunk_keys"), 0);
	assert_int_equal(counter(&b, "refused"), 4);
	ipc_chan_close(a);
	ipc_chan_close(other);
	ipc_chan_close(stranger);
	bench_close(&b, true);
}

static void rights__of_syncd_are_the_handshake(void **state)
{
	static struct outcome o;
	struct bench b;
	struct ipc_chan *chan;
	uint8_t secret[32], public[32], shared[32], low[32] = { 1 };

	bench_open(&b, true);
	chan = connect_as(&b, "ident", "syncd", 0, NULL, "", NULL);
	o = (struct outcome){ .chan = chan };
	assert_int_equal(ident_public(chan, &(struct ident_public){ 0 }, public_done, &o), 0);
	assert_true(run_until(&b, &o.is_done, 5));
	assert_true(noise_vouch_is_valid(o.bytes, o.bytes + 32, o.bytes + 64));
	assert_memory_equal(o.bytes, keyring_identity(b.keyd.ring), 32);

	randombytes_buf(secret, 32);
	crypto_scalarmult_base(public, secret);
	assert_int_equal(crypto_scalarmult(shared, secret, o.bytes + 32), 0);
	assert_int_equal(ask_dh(&b, chan, public, &o), 0);
	assert_memory_equal(o.bytes, shared, 32);
	assert_int_equal(ask_dh(&b, chan, low, &o), -EBADMSG);
	assert_int_equal(ask_dh(&b, chan, public, &o), 0);
	assert_int_equal(counter(&b, "handshakes"), 2);
	ipc_chan_close(chan);
	bench_close(&b, true);
}

static void rights__no_other_edge_exists(void **state)
{
	static const struct {
		const char *kind, *role, *sharing;
		bool has_volume;
		int err;
	} bad[] = {
		{ "key", "syncd", "default", true, -EPERM },
		{ "key", "stored", "default", true, -EPERM },
		{ "key", "supervisor", "default", true, -EPERM },
		{ "key", "", "default", true, -EPERM },
		{ "ident", "mountd", "", false, -EPERM },
		{ "ident", "stored", "", false, -EPERM },
		{ "ctl", "mountd", "", false, -EPERM },
		{ "ctl", "syncd", "", false, -EPERM },
		{ "store", "mountd", "", false, -EPERM },
		{ "", "", "", false, -EPERM },
		{ "key", "mountd", "default", false, -EINVAL },
		{ "key", "mountd", "", true, -EINVAL },
		{ "key", "mountd", "a/b", true, -EINVAL },
		{ "ident", "syncd", "default", false, -EINVAL },
		{ "ident", "syncd", "", true, -EINVAL },
	};
	struct bench b;

	bench_open(&b, true);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char byte;
		int fd;

		assert_int_equal(edge_with(&b, bad[i].kind, bad[i].role, 0,
					 bad[i].has_volume ? volume_a : NULL, bad[i].sharing, &fd),
			bad[i].err);
		/* keyd has closed its end, without a word. */
		assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
		close(fd);
	}
	assert_null(b.keyd.clients);
	assert_int_equal(counter(&b, "refused"), sizeof(bad) / sizeof(bad[0]));
	bench_close(&b, true);
}

/* The words of another channel are not understood: the schema's digest differs. */
static void rights__another_schema_closes_the_channel(void **state)
{
	struct ipc_chan *chan;
	struct bench b;
	bool closed = false;
	int fd;

	bench_open(&b, true);
	assert_int_equal(edge_with(&b, "key", "mountd", 1, volume_a, "default", &fd), 0);
	assert_int_equal(
		ipc_chan_open(&chan, b.loop, fd, &ident_client_service, &closed, client_closed), 0);
	assert_true(run_until(&b, &closed, 5));
	ipc_chan_close(chan);
	for (int i = 0; i < 10 && b.keyd.clients; i++)
		ev_run(b.loop, EVRUN_NOWAIT);
	assert_null(b.keyd.clients);
	bench_close(&b, true);
}

static void rights__nonsense_closes_one_channel_only(void **state)
{
	const char *seed_text = getenv("BAZIL_SEED");
	uint32_t seed = seed_text ? (uint32_t)strtoul(seed_text, NULL, 0) : randombytes_random();
	uint8_t seed_bytes[randombytes_SEEDBYTES] = { 0 }, noise[400];
	static struct outcome o;
	struct ipc_chan *good;
	struct bench b;

	print_message("BAZIL_SEED=%u\n", seed);
	memcpy(seed_bytes, &seed, sizeof(seed));
	bench_open(&b, true);
	good = key_client(&b, 1, volume_a, "default", NULL);
	assert_int_equal(ask_volume(&b, good, &o), 0);
	for (unsigned i = 0; i < 2000; i++) {
		static const char *const kinds[][2] = { { "key", "mountd" }, { "ident", "syncd" },
			{ "ctl", "supervisor" } };
		const char *const *kind = kinds[i % 3];
		bool is_key = i % 3 == 0;
		int fd;

		memcpy(seed_bytes + 4, &i, sizeof(i));
		randombytes_buf_deterministic(noise, sizeof(noise), seed_bytes);
		assert_int_equal(edge_with(&b, kind[0], kind[1], 100, is_key ? volume_b : NULL,
					 is_key ? "default" : "", &fd),
			0);
		/* Half of them with a header that looks right. */
		if (i & 1) {
			size_t len = noise[0];

			memset(noise, 0, 16);
			noise[0] = (uint8_t)(1 + i % 12);
			noise[2] = (uint8_t)(1 + i % 6);
			noise[4] = (uint8_t)len;
			noise[8] = 1;
			(void)!send(fd, noise, 16 + len, MSG_NOSIGNAL);
		} else {
			(void)!send(fd, noise, 1 + noise[1], MSG_NOSIGNAL);
		}
		for (int k = 0; k < 3; k++)
			ev_run(b.loop, EVRUN_NOWAIT);
		close(fd);
	}
	assert_int_equal(ask_volume(&b, good, &o), 0);
	assert_true(counter(&b, "malformed") > 100);
	ipc_chan_close(good);
	for (int k = 0; k < 10; k++)
		ev_run(b.loop, EVRUN_NOWAIT);
	assert_null(b.keyd.clients);
	bench_close(&b, true);
}

static void rights__a_new_edge_replaces_the_old_one(void **state)
{
	static struct outcome o;
	struct ipc_chan *first, *second;
	struct bench b;
	bool closed = false;

	bench_open(&b, true);
	first = key_client(&b, 7, volume_a, "default", &closed);
	second = key_client(&b, 7, volume_b, "default", NULL);
	assert_true(run_until(&b, &closed, 5));
	ipc_chan_close(first);
	assert_int_equal(ask_volume(&b, second, &o), 0);
	assert_non_null(b.keyd.clients);
	assert_null(b.keyd.clients->next);
	ipc_chan_close(second);
	bench_close(&b, true);
}

static void rights__what_is_asked_before_begin_is_answered_after(void **state)
{
	static struct outcome o;
	struct ipc_chan *chan;
	const char *text;
	struct bench b;

	bench_open(&b, true);
	bench_close(&b, false);
	b.loop = ev_loop_new(EVFLAG_AUTO);
	assert_int_equal(keyd_init(&b.keyd, b.loop), 0);
	chan = key_client(&b, 1, volume_a, "default", NULL);
	o = (struct outcome){ .chan = chan };
	assert_int_equal(key_volume(chan, &(struct key_volume){ 0 }, volume_done, &o), 0);
	assert_false(run_until(&b, &o.is_done, 0.05));
	assert_int_equal(keyd_begin(&b.keyd, b.dir, false, &text), 0);
	assert_true(run_until(&b, &o.is_done, 5));
	assert_int_equal(o.err, 0);
	assert_int_equal(keyd_begin(&b.keyd, b.dir, false, &text), -EALREADY);
	ipc_chan_close(chan);
	bench_close(&b, true);
}

static void control__adds_lists_and_removes_durably(void **state)
{
	static struct outcome o;
	struct ipc_chan *ctl;
	struct bench b;
	uint8_t key[33] = { 1, 2, 3 };
	int fd;

	bench_open(&b, true);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	o = (struct outcome){ .chan = ctl };
	assert_int_equal(ctl_pubkey(ctl, &(struct ctl_pubkey){ 0 }, pubkey_done, &o), 0);
	assert_true(run_until(&b, &o.is_done, 5));
	assert_memory_equal(o.bytes, keyring_identity(b.keyd.ring), 32);
	fd = memfd_of(key, 32);
	assert_int_equal(ask_add(&b, ctl, "friends", fd, &o), 0);
	close(fd);
	ipc_chan_close(ctl);
	/* As after kill -9: nothing is told to stop. */
	bench_close(&b, false);
	bench_open(&b, false);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	assert_int_equal(ask_list(&b, ctl, &o), 0);
	assert_int_equal(o.list.num, 2);
	assert_string_equal(o.list.names[0], "default");
	assert_string_equal(o.list.names[1], "friends");
	assert_int_equal(ask_remove(&b, ctl, "friends", &o), 0);
	assert_int_equal(ask_remove(&b, ctl, "friends", &o), -ENOKEY);
	assert_int_equal(ask_remove(&b, ctl, "default", &o), -EPERM);
	ipc_chan_close(ctl);
	bench_close(&b, false);
	bench_open(&b, false);
	assert_int_equal(keyring_num_sharing(b.keyd.ring), 1);
	bench_close(&b, true);
}

static void control__wants_exactly_32_bytes(void **state)
{
	static struct outcome o;
	struct ipc_chan *ctl;
	struct bench b;
	uint8_t key[40] = { 5 };
	char number[16];
	int fd, fds[2];

	bench_open(&b, true);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	for (size_t len = 0; len <= 34; len++) {
		fd = memfd_of(key, len);
		assert_int_equal(ask_add(&b, ctl, "by-file", fd, &o), len == 32 ? 0 : -EINVAL);
		close(fd);
		if (len < 32) {
			snprintf(number, sizeof(number), "%zu bytes", len);
			assert_non_null(strstr(o.text, number));
		} else if (len > 32) {
			assert_non_null(strstr(o.text, "more than 32"));
		}
		assert_int_equal(pipe(fds), 0);
		key[39] = 1;
		assert_int_equal(write(fds[1], key + 1, len), len);
		close(fds[1]);
		assert_int_equal(ask_add(&b, ctl, "by-pipe", fds[0], &o), len == 32 ? 0 : -EINVAL);
		close(fds[0]);
	}
	assert_int_equal(keyring_num_sharing(b.keyd.ring), 3);
	assert_int_equal(ask_add(&b, ctl, "x", -1, &o), -EINVAL);
	fd = open("/", O_RDONLY | O_DIRECTORY);
	assert_int_equal(ask_add(&b, ctl, "x", fd, &o), -EINVAL);
	close(fd);
	fd = open("/dev/zero", O_RDONLY);
	assert_int_equal(ask_add(&b, ctl, "x", fd, &o), -EINVAL);
	close(fd);
	ipc_chan_close(ctl);
	bench_close(&b, true);
}

static void control__a_slow_pipe_holds_nobody_up(void **state)
{
	static struct outcome o, slow, more;
	struct ipc_chan *ctl, *key;
	uint8_t secret[32] = { 8 };
	struct bench b;
	int fds[2], idle[2];

	bench_open(&b, true);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	key = key_client(&b, 1, volume_a, "default", NULL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(idle), 0);
	slow = (struct outcome){ .chan = ctl };
	assert_int_equal(
		ctl_sharing_add(ctl, &(struct ctl_sharing_add){ .name = "slow", .secret = fds[0] },
			add_done, &slow),
		0);
	assert_int_equal(write(fds[1], secret, 20), 20);
	assert_int_equal(ask_volume(&b, key, &o), 0);
	assert_false(slow.is_done);
	/* No more than SECRET_MAX wait at once. */
	for (int i = 1; i < SECRET_MAX; i++)
		assert_int_equal(
			ctl_sharing_add(ctl,
				&(struct ctl_sharing_add){ .name = "idle", .secret = idle[0] },
				add_done, &more),
			0);
	assert_int_equal(ask_add(&b, ctl, "late", idle[0], &o), -EBUSY);
	assert_int_equal(write(fds[1], secret + 20, 12), 12);
	assert_false(run_until(&b, &slow.is_done, 0.05));
	close(fds[1]);
	assert_true(run_until(&b, &slow.is_done, 5));
	assert_int_equal(slow.err, 0);
	/* Stopping with secrets under way: their askers are told. */
	more = (struct outcome){ .chan = ctl };
	keyd_release(&b.keyd);
	assert_true(run_until(&b, &more.is_done, 5));
	assert_true(more.err < 0);
	ipc_chan_close(ctl);
	ipc_chan_close(key);
	close(fds[0]);
	close(idle[0]);
	close(idle[1]);
	bench_close(&b, true);
}

static void control__a_pipe_that_says_nothing_times_out(void **state)
{
	static struct outcome o;
	struct ipc_chan *ctl;
	struct bench b;
	int fds[2];

	bench_open(&b, true);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(ask_add(&b, ctl, "slow", fds[0], &o), -ETIMEDOUT);
	assert_int_equal(keyring_num_sharing(b.keyd.ring), 1);
	close(fds[0]);
	close(fds[1]);
	ipc_chan_close(ctl);
	bench_close(&b, true);
}

static void control__names_and_capacity_have_clear_errors(void **state)
{
	static struct outcome o;
	struct ipc_chan *ctl, *key;
	struct bench b;
	uint8_t secret[32] = { 0 };
	char name[16];
	int fd;

	bench_open(&b, true);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	fd = memfd_of(secret, 32);
	assert_int_equal(ask_add(&b, ctl, "", fd, &o), -EINVAL);
	assert_int_equal(ask_add(&b, ctl, "a b", fd, &o), -EINVAL);
	assert_int_equal(ask_add(&b, ctl, "default", fd, &o), -EEXIST);
	/* The offset is the open file's: read once, it is at its end. */
	close(fd);
	for (int i = 1; i <= KEYRING_SHARING_MAX; i++) {
		secret[0] = (uint8_t)i;
		snprintf(name, sizeof(name), "k%d", i);
		fd = memfd_of(secret, 32);
		assert_int_equal(
			ask_add(&b, ctl, name, fd, &o), i < KEYRING_SHARING_MAX ? 0 : -ENOSPC);
		close(fd);
	}
	assert_non_null(strstr(o.text, "sharing remove"));
	fd = memfd_of((uint8_t[32]){ 5 }, 32);
	assert_int_equal(ask_remove(&b, ctl, "k9", &o), 0);
	assert_int_equal(ask_add(&b, ctl, "twin", fd, &o), -ENOTUNIQ);
	close(fd);
	/* One that a mounted volume needs. */
	key = key_client(&b, 1, volume_a, "k5", NULL);
	assert_int_equal(ask_remove(&b, ctl, "k5", &o), -EBUSY);
	assert_int_equal(ask_volume(&b, key, &o), 0);
	ipc_chan_close(key);
	for (int i = 0; i < 10; i++)
		ev_run(b.loop, EVRUN_NOWAIT);
	assert_int_equal(ask_remove(&b, ctl, "k5", &o), 0);
	ipc_chan_close(ctl);
	bench_close(&b, true);
}

static void control__a_full_disk_changes_nothing(void **state)
{
	struct rlimit limit, small;
	static struct outcome o;
	struct ipc_chan *ctl;
	struct bench b;
	uint8_t secret[32] = { 4 };
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	bench_open(&b, true);
	ctl = connect_as(&b, "ctl", "supervisor", 0, NULL, "", NULL);
	fd = memfd_of(secret, 32);
	getrlimit(RLIMIT_FSIZE, &limit);
	small = limit;
	small.rlim_cur = 4000;
	setrlimit(RLIMIT_FSIZE, &small);
	int r = ask_add(&b, ctl, "friends", fd, &o);
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(r, -EFBIG);
	close(fd);
	assert_int_equal(ask_list(&b, ctl, &o), 0);
	assert_int_equal(o.list.num, 1);
	fd = memfd_of(secret, 32);
	assert_int_equal(ask_add(&b, ctl, "friends", fd, &o), 0);
	close(fd);
	ipc_chan_close(ctl);
	bench_close(&b, false);
	bench_open(&b, false);
	assert_int_equal(keyring_num_sharing(b.keyd.ring), 2);
	bench_close(&b, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rights__of_a_mount_are_one_volume_and_key),
		cmocka_unit_test(rights__of_syncd_are_the_handshake),
		cmocka_unit_test(rights__no_other_edge_exists),
		cmocka_unit_test(rights__another_schema_closes_the_channel),
		cmocka_unit_test(rights__nonsense_closes_one_channel_only),
		cmocka_unit_test(rights__a_new_edge_replaces_the_old_one),
		cmocka_unit_test(rights__what_is_asked_before_begin_is_answered_after),
		cmocka_unit_test(control__adds_lists_and_removes_durably),
		cmocka_unit_test(control__wants_exactly_32_bytes),
		cmocka_unit_test(control__a_slow_pipe_holds_nobody_up),
		cmocka_unit_test(control__a_pipe_that_says_nothing_times_out),
		cmocka_unit_test(control__names_and_capacity_have_clear_errors),
		cmocka_unit_test(control__a_full_disk_changes_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
