#include "syncd/handshake.h"

#include "ipc/chan.h"
#include "ipc/ident.gen.h"
#include "noise/handshake.h"
#include "noise/vouch.h"
#include "syncd/intro.h"
#include "syncd/syncd.h"
#include "syncd/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint8_t prologue[8] = "bazil/1";

struct handshake {
	struct handshake *next;
	struct syncd *syncd;
	bool is_initiator, is_over, has_begun, is_asking;
	/* why it will fail when the timer runs out */
	int err;
	uint8_t expected[32];
	uint8_t address[16];
	struct noise_handshake noise;
	struct intro theirs;
	struct wire *wire;
	struct ev_timer timer;
	handshake_done_fn *done;
	void *arg;
};

/* What counts as one address: an IPv4 address, or an IPv6 network as one person gets it. */
static void address_of(int fd, uint8_t ret[16])
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	memset(ret, 0, 16);
	if (getpeername(fd, (struct sockaddr *)&ss, &len) < 0)
		return;
	if (ss.ss_family == AF_INET) {
		memcpy(ret, mapped, 12);
		memcpy(ret + 12, &((struct sockaddr_in *)&ss)->sin_addr, 4);
	} else if (ss.ss_family == AF_INET6) {
		memcpy(ret, &((struct sockaddr_in6 *)&ss)->sin6_addr, 16);
		if (memcmp(ret, mapped, 12) != 0)
			memset(ret + 8, 0, 8);
	}
}

static bool is_crowded(const struct syncd *d, const uint8_t address[16])
{
	size_t n = 0;

	if (d->num_handshakes >= d->limits->max_handshakes)
		return true;
	for (const struct handshake *hs = d->handshakes; hs; hs = hs->next)
		n += !hs->is_initiator && memcmp(hs->address, address, 16) == 0;
	return n >= d->limits->max_handshakes_per_address;
}

static void unlink_it(struct handshake *hs)
{
	struct handshake **p = &hs->syncd->handshakes;

	while (*p != hs)
		p = &(*p)->next;
	*p = hs->next;
	hs->syncd->num_handshakes--;
}

/* keyd's answer may still be under way; it then frees. */
static void drop(struct handshake *hs)
{
	ev_timer_stop(hs->syncd->loop, &hs->timer);
	noise_handshake_wipe(&hs->noise);
	wire_close(hs->wire);
	hs->wire = NULL;
	unlink_it(hs);
	hs->is_over = true;
	if (!hs->is_asking)
		free(hs);
}

void handshake_cancel(struct handshake *hs)
{
	drop(hs);
}

static void finish(struct handshake *hs, int err, struct handshake_result *result)
{
	handshake_done_fn *done = hs->done;
	void *arg = hs->arg;

	drop(hs);
	done(arg, err, result);
}

/* From now on the other side hears nothing. */
static void fail(struct handshake *hs, int err)
{
	double delay = hs->is_initiator ? 0 : hs->syncd->limits->refusal;

	if (hs->err)
		return;
	hs->err = err;
	wire_pause(hs->wire, true);
	ev_timer_stop(hs->syncd->loop, &hs->timer);
	ev_timer_set(&hs->timer, delay, 0);
	ev_timer_start(hs->syncd->loop, &hs->timer);
}

static void on_timer(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct handshake *hs = timer->data;

	finish(hs, hs->err ? hs->err : -ETIMEDOUT, NULL);
}

static void our_intro(const struct syncd *d, struct intro *ret)
{
	*ret = (struct intro){ .versions = { INTRO_VERSION }, .num_versions = 1 };
	memcpy(ret->identity, d->identity, 32);
	memcpy(ret->vouch, d->vouch, 64);
}

/* ---- our messages ---- */

static void ask_dh(struct handshake *hs, const uint8_t key[32]);

static void send_message(struct handshake *hs)
{
	uint8_t payload[INTRO_MAX], peer[NOISE_DH_SIZE], *out;
	struct intro intro;
	size_t len, out_len;
	int r;

	our_intro(hs->syncd, &intro);
	len = hs->noise.step == NOISE_STEP_MESSAGE_1 ? intro_emit_hello(&intro, payload)
						     : intro_emit(&intro, payload);
	out = wire_reserve(hs->wire, INTRO_MAX + NOISE_XX_OVERHEAD_2);
	if (!out) {
		fail(hs, -ECONNRESET);
		return;
	}
	r = noise_handshake_write(
		&hs->noise, payload, len, out, INTRO_MAX + NOISE_XX_OVERHEAD_2, &out_len, peer);
	if (r == -EAGAIN) {
		ask_dh(hs, peer);
		return;
	}
	if (r < 0) {
		fail(hs, r);
		return;
	}
	wire_commit(hs->wire, out_len);
	wire_flush(hs->wire);
}

/* The last message was sent or accepted: the wire is now the session's. */
static void complete(struct handshake *hs)
{
	struct handshake_result result = { .wire = hs->wire };
	int r = noise_handshake_split(&hs->noise, &result.send, &result.receive);

	if (r < 0) {
		fail(hs, r);
		return;
	}
	memcpy(result.identity, hs->theirs.identity, 32);
	hs->wire = NULL;
	finish(hs, 0, &result);
	noise_cipher_wipe(&result.send);
	noise_cipher_wipe(&result.receive);
}

/* ---- keyd ---- */

static void dh_done(void *arg, int err, const struct ident_dh_reply *reply)
{
	struct handshake *hs = arg;
	int r;

	hs->is_asking = false;
	if (hs->is_over) {
		free(hs);
		return;
	}
	/* keyd died: handshakes_resume() asks its successor. */
	if (err == -ECONNRESET || hs->err)
		return;
	r = err < 0 ? -EBADMSG : noise_handshake_supply_dh(&hs->noise, reply->shared);
	if (r < 0) {
		fail(hs, r);
		return;
	}
	send_message(hs);
	if (hs->err)
		return;
	if (hs->is_initiator)
		complete(hs);
	else
		wire_pause(hs->wire, false);
}

/* Frames wait until keyd has answered. */
static void ask_dh(struct handshake *hs, const uint8_t key[32])
{
	struct ident_dh req;

	wire_pause(hs->wire, true);
	if (!hs->syncd->ident || hs->is_asking)
		return;
	memcpy(req.peer, key, sizeof(req.peer));
	hs->is_asking = true;
	if (ident_dh(hs->syncd->ident, &req, dh_done, hs) < 0)
		hs->is_asking = false;
}

/* ---- their messages ---- */

/* Message 1: an initiator without a common version still gets message 2, which tells it ours. */
static int take_hello(struct handshake *hs, const uint8_t *data, size_t len)
{
	uint8_t payload[INTRO_HELLO_MAX];
	size_t payload_len;
	int r = noise_handshake_read(&hs->noise, data, len, payload, sizeof(payload), &payload_len);

	if (r == 0)
		r = intro_parse_hello(&hs->theirs, payload, payload_len);
	return r;
}

/* Messages 2 and 3: all is checked whatever fails first, so that the time does not tell. */
static int take_intro(struct handshake *hs, const uint8_t *data, size_t len)
{
	uint8_t payload[INTRO_MAX];
	struct intro ours, hello = hs->theirs;
	size_t payload_len;
	bool is_vouched, is_welcome, is_self;
	int r = noise_handshake_read(&hs->noise, data, len, payload, sizeof(payload), &payload_len);

	if (r == 0)
		r = intro_parse(&hs->theirs, payload, payload_len);
	if (r < 0)
		return r;
	our_intro(hs->syncd, &ours);
	is_vouched = noise_vouch_is_valid(
		hs->theirs.identity, noise_handshake_remote_static(&hs->noise), hs->theirs.vouch);
	is_self = sodium_memcmp(hs->theirs.identity, hs->syncd->identity, 32) == 0;
	if (hs->is_initiator)
		is_welcome = sodium_memcmp(hs->theirs.identity, hs->expected, 32) == 0;
	else
		is_welcome = peers_find_key(&hs->syncd->peers, hs->theirs.identity) != NULL;
	if (is_self)
		return -ELOOP;
	if (!is_vouched)
		return -EBADMSG;
	if (intro_common_version(&ours, &hs->theirs) == 0 ||
		(!hs->is_initiator && intro_common_version(&ours, &hello) == 0))
		return -EPROTONOSUPPORT;
	if (!is_welcome)
		return hs->is_initiator ? -EKEYREJECTED : -EACCES;
	return 0;
}

static void on_frame(void *self, uint8_t *data, size_t len)
{
	struct handshake *hs = self;
	bool is_first = hs->noise.step == NOISE_STEP_MESSAGE_1;
	int r = is_first ? take_hello(hs, data, len) : take_intro(hs, data, len);

	if (r < 0)
		fail(hs, r);
	else if (!is_first && !hs->is_initiator)
		complete(hs);
	else
		send_message(hs);
}

static void on_room(void *self)
{
}

static void on_dead(void *self, int err)
{
	struct handshake *hs = self;

	/* The other side is still there and gets no quicker answer than for any other mistake. */
	if (err == -EMSGSIZE)
		fail(hs, err);
	else
		finish(hs, hs->err ? hs->err : err ? err : -ECONNRESET, NULL);
}

static const struct wire_ops wire_ops = { .frame = on_frame, .room = on_room, .dead = on_dead };

/* ---- start ---- */

/* Needs the node's own keys. */
static void begin(struct handshake *hs)
{
	uint8_t secret[NOISE_DH_SIZE];

	hs->has_begun = true;
	randombytes_buf(secret, sizeof(secret));
	noise_handshake_init(&hs->noise, hs->is_initiator, prologue, sizeof(prologue),
		hs->syncd->noise_static, secret);
	sodium_memzero(secret, sizeof(secret));
	if (hs->is_initiator)
		send_message(hs);
	wire_pause(hs->wire, false);
}

int handshake_start(struct syncd *d, int fd, const uint8_t *expected, handshake_done_fn *done,
	void *arg, struct handshake **ret)
{
	struct handshake *hs;
	uint8_t address[16];
	int r;

	address_of(fd, address);
	if (!expected && is_crowded(d, address)) {
		close(fd);
		return -EBUSY;
	}
	hs = calloc(1, sizeof(*hs));
	if (!hs) {
		close(fd);
		return -ENOMEM;
	}
	r = wire_open(&hs->wire, d->loop, fd, &wire_ops, hs);
	if (r < 0) {
		free(hs);
		return r;
	}
	hs->syncd = d;
	hs->is_initiator = expected != NULL;
	if (expected)
		memcpy(hs->expected, expected, 32);
	memcpy(hs->address, address, 16);
	hs->done = done;
	hs->arg = arg;
	ev_timer_init(&hs->timer, on_timer, d->limits->handshake, 0);
	hs->timer.data = hs;
	ev_timer_start(d->loop, &hs->timer);
	hs->next = d->handshakes;
	d->handshakes = hs;
	d->num_handshakes++;
	if (ret)
		*ret = hs;
	wire_limit(hs->wire, INTRO_MAX + NOISE_XX_OVERHEAD_2);
	wire_pause(hs->wire, true);
	if (d->has_identity)
		begin(hs);
	return 0;
}

void handshakes_resume(struct syncd *d)
{
	struct handshake *next;

	for (struct handshake *hs = d->handshakes; hs; hs = next) {
		uint8_t key[NOISE_DH_SIZE];

		next = hs->next;
		if (hs->err)
			continue;
		if (!hs->has_begun)
			begin(hs);
		else if (noise_handshake_needs_dh(&hs->noise, key))
			ask_dh(hs, key);
	}
}
