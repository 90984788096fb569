/* Whoever connects and is not a well-behaved peer: nothing happens to the node, and it tells
 * nothing. */
#include "ipc/chan.h"
#include "ipc/frame.h"
#include "net.h"
#include "noise/handshake.h"
#include "noise/vouch.h"
#include "syncd/fragment.h"
#include "syncd/handshake.h"
#include "syncd/intro.h"

#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct net net;
static struct node *a, *b;

static int setup(void **unused)
{
	net_init(&net);
	a = net_node(&net, "alice");
	b = net_node(&net, "bob");
	node_knows(a, b, b->port);
	node_knows(b, a, 0);
	return 0;
}

static int teardown(void **unused)
{
	net_release(&net);
	return 0;
}

/* The node still works for its peers. */
static void check_alive(void)
{
	static struct outcome out;

	node_write(b, 3);
	node_sync(a, "bob", &out);
	assert_string_equal(out.text, "");
	assert_int_equal(out.err, 0);
	assert_true(node_has_all(a, b));
}

/* ---- a client of our own ---- */

struct stranger {
	int fd;
	uint8_t identity[32], identity_secret[64], static_public[32], static_secret[32];
	struct noise_handshake noise;
	struct noise_cipher send, receive;
	uint64_t num_sent, num_received;
	struct intro intro, theirs;
	/* bytes received, and whether the other side ended it, and after how long */
	uint8_t in[200000];
	size_t in_len;
	bool is_ended;
	ev_tstamp ended_at;
};

static void be(struct stranger *s, const struct node *n)
{
	*s = (struct stranger){ .fd = -1 };
	if (n) {
		memcpy(s->identity, n->identity, 32);
		memcpy(s->identity_secret, n->identity_secret, 64);
		memcpy(s->static_public, n->static_public, 32);
		memcpy(s->static_secret, n->static_secret, 32);
	} else {
		crypto_sign_keypair(s->identity, s->identity_secret);
		randombytes_buf(s->static_secret, 32);
		crypto_scalarmult_base(s->static_public, s->static_secret);
	}
	s->intro = (struct intro){ .versions = { INTRO_VERSION }, .num_versions = 1 };
	memcpy(s->intro.identity, s->identity, 32);
	noise_vouch_make(s->identity_secret, s->static_public, s->intro.vouch);
}

static void look(struct stranger *s)
{
	ssize_t n;

	if (s->is_ended)
		return;
	while ((n = recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len, MSG_DONTWAIT)) > 0)
		s->in_len += (size_t)n;
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		s->is_ended = true;
		s->ended_at = ev_now(net.loop);
	}
}

static void wait_for(struct stranger *s, double seconds)
{
	for (double t = 0; t < seconds && !s->is_ended; t += 0.005) {
		net_run(&net, 0.005);
		look(s);
	}
}

static void send_frame(struct stranger *s, const void *data, size_t len)
{
	uint8_t head[2] = { (uint8_t)(len >> 8), (uint8_t)len };

	/* The other side may have gone. */
	(void)!send(s->fd, head, 2, MSG_NOSIGNAL);
	(void)!send(s->fd, data, len, MSG_NOSIGNAL);
}

/* The next frame, decrypted by the caller; its length, or -1. */
static long next_frame(struct stranger *s, uint8_t *out, double seconds)
{
	size_t len;

	for (double t = 0; t < seconds; t += 0.005) {
		look(s);
		len = s->in_len >= 2 ? (size_t)s->in[0] << 8 | s->in[1] : 0;
		if (s->in_len >= 2 && s->in_len >= 2 + len) {
			memcpy(out, s->in + 2, len);
			memmove(s->in, s->in + 2 + len, s->in_len - 2 - len);
			s->in_len -= 2 + len;
			return (long)len;
		}
		if (s->is_ended)
			return -1;
		net_run(&net, 0.005);
	}
	return -1;
}

static void write_message(struct stranger *s, const uint8_t *payload, size_t len)
{
	uint8_t out[2000], peer[32], shared[32];
	size_t out_len;

	if (noise_handshake_needs_dh(&s->noise, peer)) {
		assert_int_equal(crypto_scalarmult(shared, s->static_secret, peer), 0);
		assert_int_equal(noise_handshake_supply_dh(&s->noise, shared), 0);
	}
	assert_int_equal(
		noise_handshake_write(&s->noise, payload, len, out, sizeof(out), &out_len, peer),
		0);
	send_frame(s, out, out_len);
}

/* Sends message 1; reads 2. False: the node said nothing. */
static bool call(struct stranger *s, struct node *n)
{
	uint8_t ephemeral[32], buf[70000], payload[INTRO_MAX];
	size_t len;
	long got;

	s->fd = net_connect(n->port);
	assert_true(s->fd >= 0);
	randombytes_buf(ephemeral, 32);
	noise_handshake_init(
		&s->noise, true, (const uint8_t *)"bazil/1", 8, s->static_public, ephemeral);
	len = intro_emit_hello(&s->intro, payload);
	write_message(s, payload, len);
	got = next_frame(s, buf, 1);
	if (got < 0)
		return false;
	assert_int_equal(
		noise_handshake_read(&s->noise, buf, (size_t)got, payload, sizeof(payload), &len),
		0);
	assert_int_equal(intro_parse(&s->theirs, payload, len), 0);
	return true;
}

static void introduce(struct stranger *s)
{
	uint8_t payload[INTRO_MAX];
	size_t len = intro_emit(&s->intro, payload);

	write_message(s, payload, len);
	if (noise_handshake_is_complete(&s->noise))
		assert_int_equal(noise_handshake_split(&s->noise, &s->send, &s->receive), 0);
}

static void hang_up(struct stranger *s)
{
	close(s->fd);
	net_run(&net, 0.02);
}

static void send_sealed(struct stranger *s, const uint8_t *plain, size_t len)
{
	static uint8_t out[65535];
	size_t out_len;

	assert_int_equal(
		noise_cipher_encrypt(&s->send, NULL, 0, plain, len, out, sizeof(out), &out_len), 0);
	if (++s->num_sent == net.limits.session.rekey_messages) {
		noise_cipher_rekey(&s->send);
		s->num_sent = 0;
	}
	send_frame(s, out, out_len);
}

static void send_fragment(struct stranger *s, const struct fragment *f)
{
	static uint8_t plain[65535];

	fragment_emit(f, plain);
	send_sealed(s, plain, fragment_size(f));
}

/* As alice, known to bob, with a session. */
static void join(struct stranger *s)
{
	be(s, a);
	assert_true(call(s, b));
	introduce(s);
	net_run(&net, 0.05);
	assert_int_equal(peers_num_sessions(&b->d.peers), 1);
}

/* bob ends the session. */
static void check_dropped(struct stranger *s)
{
	wait_for(s, 10);
	assert_true(s->is_ended);
	hang_up(s);
	assert_int_equal(peers_num_sessions(&b->d.peers), 0);
	check_alive();
}

/* ---- before the handshake is over ---- */

static void stranger__garbage_hurts_nobody(void **unused)
{
	for (int run = 0; run < 40; run++) {
		static struct stranger s;
		uint8_t junk[3000];
		size_t len = net_random(&net) % sizeof(junk);
		be(&s, NULL);
		s.fd = net_connect(b->port);
		for (size_t i = 0; i < len; i++)
			junk[i] = (uint8_t)net_random(&net);
		if (run % 2 == 0)
			send_frame(&s, junk, run == 0 ? 0 : len);
		else
			(void)!send(s.fd, junk, len, MSG_NOSIGNAL);
		/* A frame that stays incomplete is given up by the deadline. */
		wait_for(&s, 10);
		assert_true(s.is_ended);
		assert_int_equal(s.in_len, 0);
		hang_up(&s);
	}
	assert_int_equal(b->d.num_handshakes, 0);
	check_alive();
}

static void stranger__silence_ends_at_the_deadline(void **unused)
{
	static struct stranger s;

	be(&s, NULL);
	s.fd = net_connect(b->port);
	wait_for(&s, 10);
	assert_true(s.is_ended);
	hang_up(&s);
	check_alive();
}

static void stranger__too_many_are_turned_away(void **unused)
{
	int fds[100];

	for (int i = 0; i < 100; i++) {
		fds[i] = net_connect(b->port);
		if (i % 20 == 0)
			net_run(&net, 0.005);
	}
	net_run(&net, 0.05);
	assert_int_equal(b->d.num_handshakes, net.limits.max_handshakes_per_address);
	assert_true(b->d.counters[SYNCD_CONNECTIONS_REFUSED] >= 90);
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	net_run(&net, 0.6);
	assert_int_equal(b->d.num_handshakes, 0);
	check_alive();
}

/* Bytes after message 2, and the time until the end, of one who is refused. */
static double refused(struct stranger *s)
{
	ev_tstamp began;

	began = ev_now(net.loop);
	introduce(s);
	wait_for(s, 10);
	assert_true(s->is_ended);
	assert_int_equal(s->in_len, 0);
	hang_up(s);
	assert_int_equal(peers_num_sessions(&b->d.peers), 0);
	return s->ended_at - began;
}

static void stranger__every_refusal_looks_the_same(void **unused)
{
	static struct stranger s;
	double t[5];

	/* A key that nobody added. */
	be(&s, NULL);
	assert_true(call(&s, b));
	t[0] = refused(&s);
	/* A known identity, without its signature. */
	be(&s, NULL);
	memcpy(s.intro.identity, a->identity, 32);
	assert_true(call(&s, b));
	t[1] = refused(&s);
	/* No common version; it may still know which one we speak. */
	be(&s, a);
	s.intro.versions[0] = 99;
	assert_true(call(&s, b));
	assert_int_equal(s.theirs.versions[0], INTRO_VERSION);
	t[2] = refused(&s);
	/* bob's own identity. */
	be(&s, b);
	memset(s.static_secret, 5, 32);
	crypto_scalarmult_base(s.static_public, s.static_secret);
	noise_vouch_make(s.identity_secret, s.static_public, s.intro.vouch);
	assert_true(call(&s, b));
	t[3] = refused(&s);
	/* A broken message 3. */
	be(&s, a);
	assert_true(call(&s, b));
	s.noise.sym.cipher.key[0] ^= 1;
	t[4] = refused(&s);
	for (int i = 0; i < 5; i++) {
		assert_true(t[i] >= net.limits.refusal * 0.9);
		assert_true(t[i] < net.limits.refusal + 0.5);
	}
	check_alive();
}

static void stranger__reflection_is_refused(void **unused)
{
	static struct stranger s;
	uint8_t buf[70000];
	long got;

	/* alice dials one who sends her own bytes back. */
	static struct outcome out;
	struct proxy *p = net_proxy(&net, b->port);
	(void)p;
	node_knows(a, b, a->port);
	node_sync(a, "bob", &out);
	assert_int_equal(out.err, -ELOOP);

	/* bob's message 2 comes back as message 3. */
	be(&s, a);
	assert_true(call(&s, b));
	hang_up(&s);
	be(&s, a);
	s.fd = net_connect(b->port);
	memset(buf, 9, 32);
	memcpy(buf + 32, "BZN1\1\1\0", 7);
	send_frame(&s, buf, 39);
	got = next_frame(&s, buf, 10);
	assert_true(got > 0);
	send_frame(&s, buf, (size_t)got);
	wait_for(&s, 10);
	assert_true(s.is_ended);
	hang_up(&s);
	node_knows(a, b, b->port);
	check_alive();
}

/* A replay of all that alice once sent. */
static void stranger__replay_is_refused(void **unused)
{
	static struct stranger s;
	uint8_t first[2][2000], buf[70000], peer[32], shared[32], payload[INTRO_MAX], ephemeral[32];
	size_t len[2], n;
	long got;

	be(&s, a);
	s.fd = net_connect(b->port);
	memset(ephemeral, 3, 32);
	noise_handshake_init(
		&s.noise, true, (const uint8_t *)"bazil/1", 8, s.static_public, ephemeral);
	n = intro_emit_hello(&s.intro, payload);
	assert_int_equal(
		noise_handshake_write(&s.noise, payload, n, first[0], 2000, &len[0], peer), 0);
	send_frame(&s, first[0], len[0]);
	got = next_frame(&s, buf, 10);
	assert_true(got > 0);
	assert_int_equal(
		noise_handshake_read(&s.noise, buf, (size_t)got, payload, sizeof(payload), &n), 0);
	assert_true(noise_handshake_needs_dh(&s.noise, peer));
	assert_int_equal(crypto_scalarmult(shared, s.static_secret, peer), 0);
	noise_handshake_supply_dh(&s.noise, shared);
	n = intro_emit(&s.intro, payload);
	assert_int_equal(
		noise_handshake_write(&s.noise, payload, n, first[1], 2000, &len[1], peer), 0);
	send_frame(&s, first[1], len[1]);
	net_run(&net, 0.05);
	assert_int_equal(peers_num_sessions(&b->d.peers), 1);
	hang_up(&s);

	be(&s, NULL);
	s.fd = net_connect(b->port);
	send_frame(&s, first[0], len[0]);
	assert_true(next_frame(&s, buf, 10) > 0);
	send_frame(&s, first[1], len[1]);
	wait_for(&s, 10);
	assert_true(s.is_ended);
	assert_int_equal(s.in_len, 0);
	hang_up(&s);
	assert_int_equal(peers_num_sessions(&b->d.peers), 0);
	check_alive();
}

/* ---- a known peer that misbehaves ---- */

static void peer__nonsense_ends_its_session(void **unused)
{
	static struct stranger s;
	const uint8_t bytes[64] = { 1 };
	const struct fragment bad[] = {
		/* an object larger than any */
		{ .kind = FRAGMENT_OBJECT,
			.is_first = true,
			.total = SESSION_OBJECT_MAX + 1,
			.id = bytes,
			.data = bytes,
			.len = 1 },
		/* a message larger than any */
		{ .kind = FRAGMENT_ASK,
			.is_first = true,
			.total = IPC_MSG_MAX + 1,
			.data = bytes,
			.len = 1 },
		/* the middle of nothing */
		{ .kind = FRAGMENT_ASK, .data = bytes, .len = 1 },
		/* no hello */
		{ .kind = FRAGMENT_ASK,
			.is_first = true,
			.is_last = true,
			.total = 64,
			.data = bytes,
			.len = 64 },
		{ .kind = FRAGMENT_ANSWER,
			.is_first = true,
			.is_last = true,
			.total = 3,
			.data = bytes,
			.len = 3 },
		/* more credit than the window */
		{ .kind = FRAGMENT_CREDIT, .is_first = true, .is_last = true, .value = 1 },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		join(&s);
		send_fragment(&s, &bad[i]);
		check_dropped(&s);
		node_knows(a, b, b->port);
		net_run(&net, 0.01);
		session_end(peers_next_link(&a->d.peers, NULL)->session, 0);
		net_run(&net, 0.05);
	}
	/* Random plaintext, well encrypted. */
	for (int run = 0; run < 20; run++) {
		uint8_t junk[100];
		join(&s);
		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (uint8_t)net_random(&net);
		junk[0] = (uint8_t)(net_random(&net) % 4);
		send_sealed(&s, junk, sizeof(junk));
		wait_for(&s, 10);
		assert_true(s.is_ended);
		hang_up(&s);
	}
	check_alive();
}

static void peer__objects_beyond_the_window_end_its_session(void **unused)
{
	static struct stranger s;
	static uint8_t piece[FRAGMENT_BULK_MAX];
	struct fragment f = { .kind = FRAGMENT_OBJECT,
		.is_first = true,
		.total = SESSION_OBJECT_MAX,
		.id = piece,
		.data = piece,
		.len = sizeof(piece) };

	/* Unasked objects within it are dropped, and given credit for. */
	join(&s);
	for (int i = 0; i < 40; i++) {
		for (size_t at = 0; at < SESSION_OBJECT_MAX; at += sizeof(piece)) {
			f.is_first = at == 0;
			f.is_last = at + sizeof(piece) == SESSION_OBJECT_MAX;
			send_fragment(&s, &f);
			net_run(&net, 0.0005);
		}
		look(&s);
		s.in_len = 0;
	}
	assert_false(s.is_ended);
	assert_int_equal(b->num_arrived, 0);
	hang_up(&s);
	check_alive();
}

/* One who asks and never reads: what waits for it is bounded, then it is dropped. */
static void peer__a_flood_is_bounded(void **unused)
{
	static struct stranger s;
	static uint8_t big[70000], buf[70000];
	struct fragment ping = { .kind = FRAGMENT_PING, .is_first = true, .is_last = true };
	long got;

	(void)big;
	join(&s);
	for (int i = 0; i < 20000 && !s.is_ended; i++) {
		ping.value++;
		send_fragment(&s, &ping);
		if (i % 100 == 0)
			net_run(&net, 0.0005);
	}
	net_run(&net, 0.1);
	assert_int_equal(peers_num_sessions(&b->d.peers), 1);
	/* Never more answers than there is room for: pongs are merged. */
	got = next_frame(&s, buf, 10);
	assert_true(got > 0);
	hang_up(&s);
	check_alive();
}

static void peer__sessions_of_one_peer_are_few(void **unused)
{
	static struct stranger s[6];

	for (int i = 0; i < 6; i++) {
		be(&s[i], a);
		assert_true(call(&s[i], b));
		introduce(&s[i]);
		net_run(&net, 0.02);
	}
	net_run(&net, 0.1);
	assert_true(peers_num_sessions(&b->d.peers) <= 2);
	for (int i = 0; i < 6; i++)
		hang_up(&s[i]);
	net_run(&net, 0.1);
	check_alive();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(stranger__garbage_hurts_nobody),
		T(stranger__silence_ends_at_the_deadline),
		T(stranger__too_many_are_turned_away),
		T(stranger__every_refusal_looks_the_same),
		T(stranger__reflection_is_refused),
		T(stranger__replay_is_refused),
		T(peer__nonsense_ends_its_session),
		T(peer__objects_beyond_the_window_end_its_session),
		T(peer__a_flood_is_bounded),
		T(peer__sessions_of_one_peer_are_few),
	};
	const char *seed = getenv("BAZIL_SEED");

	printf("BAZIL_SEED=%s\n", seed ? seed : "1");
	cmocka_set_test_filter(getenv("BAZIL_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
