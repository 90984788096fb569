/*
 * One encrypted conversation with one peer, after the handshake: two channels of the `peer` schema
 * (the one on which we ask, the one on which we answer) and a stream of objects, over one wire.
 *
 * Order on the wire: pings and credits first, then messages of the two channels in turn, then
 * objects; so a message waits for at most one piece of an object. What is queued is encrypted only
 * as the socket takes it.
 *
 * Calling order: session_open() with the wire and the ciphers of the handshake; peer_*() on
 * session_asker(); session_object() to send objects; ops->closed() comes once, from the event loop
 * and never from inside a call, after every pending call got done(-ECONNRESET) and every object
 * that was to be sent got done(-ECONNRESET). session_end() may be called at any time and leads to
 * the same. References: session_open() gives one; the last session_unref() frees. After closed()
 * the functions here do nothing, but may be called.
 *
 * What the peer can make us hold is bounded: one message in assembly per channel (IPC_MSG_MAX), one
 * object (SESSION_OBJECT_MAX), the window of objects handed to ops->object() and not yet given back
 * by session_credit(), and SESSION_QUEUE_MAX of our own answers: a peer that asks and does not read
 * is closed (-ENOBUFS).
 *
 * Death: any fragment that does not decrypt or parse (-EBADMSG), more objects than the window
 * (-EBADMSG), nothing received for dead_after although it is pinged (-ETIMEDOUT), objects that the
 * peer does not take for stall_after (-ETIMEDOUT), the end of the socket.
 *
 * Keys: each direction is rekeyed (Noise 4.2) after each rekey_messages messages by counting, and,
 * by a REKEY fragment, when its key is older than rekey_after.
 */
#ifndef BAZIL_SYNCD_SESSION_H
#define BAZIL_SYNCD_SESSION_H

#include "noise/cipher.h"
#include "syncd/wire.h"

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ipc_chan;
struct session;

/* Receives the peer's requests (on_peer_*, syncd/serve.c). */
struct peer_server {
	struct session *session;
	/* self of the session's ops */
	void *owner;
};

/* More than the largest sealed object. */
#define SESSION_OBJECT_MAX (512 * 1024)
#define SESSION_QUEUE_MAX  (8 * 1024 * 1024)

/* Times in seconds. All nodes use the same window and rekey_messages: they are part of the
 * protocol. */
struct session_limits {
	double ping_after, dead_after, stall_after, rekey_after;
	uint64_t rekey_messages;
	uint32_t window;
};

extern const struct session_limits session_default_limits;

struct session_ops {
	/* the peer's first message came: it has accepted us */
	void (*up)(void *self, struct session *s);
	/* takes data (malloc'ed); its length goes back by session_credit() when it is disposed of
	 */
	void (*object)(
		void *self, struct session *s, const uint8_t id[32], uint8_t *data, size_t len);
	/* err: 0 the peer closed, or why */
	void (*closed)(void *self, struct session *s, int err);
};

struct session_params {
	struct ev_loop *loop;
	const struct session_limits *limits;
	/* taken, in any case */
	struct wire *wire;
	const struct noise_cipher *send, *receive;
	const struct session_ops *ops;
	void *self;
};

int session_open(struct session **ret, const struct session_params *params);
struct session *session_ref(struct session *s);
void session_unref(struct session *s);
void session_end(struct session *s, int err);

bool session_is_dead(const struct session *s);
bool session_is_up(const struct session *s);

/* NULL when dead. */
struct ipc_chan *session_asker(struct session *s);

/* Bytes of the peer's answers so far: they grow while it works for us, and not by its pings. */
uint64_t session_answered(const struct session *s);

/* Queues an object; takes data. done (may be NULL) when its last byte has left for the wire: what
 * is said on a channel after that arrives after it. done may come before this returns. */
typedef void session_sent_fn(void *arg, int err);
void session_object(struct session *s, const uint8_t id[32], uint8_t *data, size_t len,
	session_sent_fn *done, void *arg);

void session_credit(struct session *s, size_t len);

/* Asks for a sign of life now: without one, the session is dead in `seconds`. */
void session_probe(struct session *s, double seconds);

#endif
