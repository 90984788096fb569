/*
 * The inside of a channel, shared by chan.c (life, incoming), queue.c (outgoing), pending.c
 * (requests of ours in flight), call.c, relay.c and wait.c. Nobody else includes it.
 *
 * Callbacks may close the channel. So whoever calls back holds a reference (refs) and looks at
 * `dead` afterwards; only ipc_chan_close() gives up the owner's reference.
 */
#ifndef BAZIL_IPC_CHAN_PRIVATE_H
#define BAZIL_IPC_CHAN_PRIVATE_H

#include "ipc/chan.h"

#include <ev.h>

/* A datagram that waits: to be sent, or to be handled when a blocking call is over. */
struct chan_msg {
	struct chan_msg *next;
	size_t len;
	size_t num_fds;
	int fds[IPC_FDS_MAX];
	uint8_t data[];
};

struct chan_queue {
	struct chan_msg *first, **last;
	size_t bytes;
};

/* A request of ours without an answer. */
struct pending {
	struct pending *next_in_bucket;
	struct pending *earlier, *later; /* by deadline, when there is one */
	uint64_t serial;
	uint64_t deadline; /* milliseconds of the monotonic clock; 0: none */
	uint16_t type;
	ipc_replied_fn *replied;
	ipc_any_fn *done;
	void *arg;
	struct ipc_call *relayed; /* gets the progress */
};

struct pending_table {
	struct pending **buckets;
	size_t num_buckets; /* a power of two */
	size_t num;
	struct pending *earliest, *latest;
};

/* A blocking call under way. */
struct chan_wait {
	uint64_t serial;
	bool is_over;
	int err;
	ipc_decode_fn *decode;
	void *ret;
};

struct ipc_chan {
	unsigned refs;
	unsigned depth; /* of handlers that run */
	bool dead;
	bool owner_gone;
	bool got_hello;
	bool tx_broken;
	int fail_err; /* to be noticed from the loop, when fail_later */
	bool fail_later;

	int fd;
	struct ipc_port port;
	struct ev_loop *loop;
	ev_io readable, writable;
	ev_timer timer;

	const struct ipc_service *service;
	void *self;
	ipc_closed_fn *closed;
	ipc_relay_fn *relay;
	ipc_progress_fn *progress;
	void *progress_arg;

	/* Receive buffer; NULL while a handler looks at it, so that a blocking call in the handler
	 * takes another. */
	uint8_t *rx;
	uint8_t *tx;
	struct ipc_writer writer;
	struct chan_queue out, in;
	int priority;
	unsigned spin_usec;
	uint32_t peer_version;

	uint64_t last_serial;
	struct pending_table pending;
	struct chan_wait *wait;
	struct ipc_call *calls;
	size_t num_calls, max_calls;
	size_t held_bytes; /* of undecoded requests in calls */
	char error[IPC_TEXT_MAX + 1];
};

struct ipc_call {
	struct ipc_chan *chan; /* NULL when the asker is gone */
	struct ipc_call *next, **prev;
	uint64_t serial;
	uint16_t type;
	int priority;
	bool secret;
	ipc_call_dead_fn *on_dead;
	void *dead_arg;
	struct chan_msg *msg; /* the undecoded request, on a relaying channel */
	struct ipc_chan *relayed_to;
};

/* chan.c */
void chan_ref(struct ipc_chan *chan);
void chan_unref(struct ipc_chan *chan);
/* Closes at once, with callbacks. */
void chan_fail(struct ipc_chan *chan, int err);
/* Closes from the loop, the next pump or the next feed: for senders, which call nobody back. */
void chan_fail_later(struct ipc_chan *chan, int err);
/* Makes the loop come back to this channel at once, or at the earliest deadline. */
void chan_wake(struct ipc_chan *chan);
void chan_set_error(struct ipc_chan *chan, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Receives one datagram: 1, 0 when there is none, -errno (0 as the peer's going is -ECONNRESET).
 * Handles it, or, when a blocking call is under way, keeps it unless it ends that call. */
int chan_receive_one(struct ipc_chan *chan);
uint64_t chan_now_ms(void);
/* Decodes a request and calls its handler; a reader of frame is used up. */
int chan_dispatch(struct ipc_chan *chan, struct ipc_call *call, const struct ipc_service *service,
	void *self, struct ipc_frame *frame);

/* queue.c */
void queue_init(struct chan_queue *q);
/* Copies data and takes over the descriptors in fds. */
int queue_add(struct chan_queue *q, const void *data, size_t len, const int *fds, size_t num_fds);
struct chan_msg *queue_take(struct chan_queue *q);
void queue_clear(struct chan_queue *q, bool secret);
void chan_msg_free(struct chan_msg *msg, bool secret);
void chan_msg_frame(struct chan_msg *msg, struct ipc_frame *frame);
/* A writer for a body in the channel's buffer; chan_send() then sends it. NULL when there is no
 * memory. */
struct ipc_writer *chan_begin(struct ipc_chan *chan);
int chan_send(struct ipc_chan *chan, enum ipc_kind kind, uint16_t type, uint64_t serial,
	struct ipc_writer *w, int priority);
/* Instead of chan_send(): it will not be sent. */
void chan_discard(struct ipc_chan *chan, const struct ipc_writer *w);
int chan_flush(struct ipc_chan *chan);

/* pending.c */
struct pending *pending_add(struct ipc_chan *chan, uint16_t type, unsigned timeout_ms);
struct pending *pending_find(struct ipc_chan *chan, uint64_t serial);
void pending_remove(struct ipc_chan *chan, struct pending *p);
/* Removes it and tells its owner. r NULL when err < 0. */
int pending_done(struct ipc_chan *chan, struct pending *p, int err, struct ipc_reader *r);
void pending_fail_all(struct ipc_chan *chan);
void pending_expire(struct ipc_chan *chan);
void pending_free(struct ipc_chan *chan);

/* call.c */
struct ipc_call *call_new(struct ipc_chan *chan, const struct ipc_frame *frame);
void call_free(struct ipc_call *call);
void calls_orphan(struct ipc_chan *chan);

#endif
