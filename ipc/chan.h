/*
 * A channel: one end of a socketpair (or of a port), over which one schema is spoken.
 *
 * Calling order: ipc_chan_open() takes the socket and says hello; then send at will by the
 * generated functions, at once (the peer checks our hello before what follows it). Incoming
 * messages call on_X(self, ...) and the done callbacks from the event loop, or from ipc_chan_pump()
 * when there is no loop.
 *
 * When the peer goes away, or sends what the schema does not allow, the channel closes: every
 * pending request of ours gets done(arg, -ECONNRESET, NULL), every unanswered call of the peer
 * becomes dead, then closed(self, chan, err) is called once; err 0: the peer went away; -EBADMSG:
 * malformed; -EPROTO: another schema; -ENOBUFS: it does not read. ipc_chan_error() has a text. The
 * owner then calls ipc_chan_close(), in closed() or later. Every channel is freed by
 * ipc_chan_close(), by its owner, in any state and from any callback; closed() is not called then.
 *
 * Senders never block and call nobody back; what the socket does not take is queued, up to
 * IPC_QUEUE_MAX bytes. Functions return 0 or -errno: -ECONNRESET when the channel is closed,
 * -ENOBUFS when the queue is full, -EMSGSIZE when the message exceeds a bound.
 *
 * A channel belongs to one thread. Numbers of messages, not bytes, are what costs: batch.
 *
 * fd fields: the sender keeps its descriptor; -1 is none (0 is stdin, do not forget to set it). The
 * receiver's message closes its own at the end, unless IPC_TAKE_FD() took it out.
 */
#ifndef BAZIL_IPC_CHAN_H
#define BAZIL_IPC_CHAN_H

#include "ipc/call.h"
#include "ipc/frame.h"
#include "ipc/service.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IPC_QUEUE_MAX ((size_t)64 << 20)
#define IPC_TEXT_MAX  1024
#define IPC_CALLS_MAX 65536

struct ev_loop;

/* Takes a descriptor out of a received message: evaluates to it and leaves -1. */
#define IPC_TAKE_FD(field) ipc_take_fd(&(field))
int ipc_take_fd(const int *field);

typedef void ipc_closed_fn(void *self, struct ipc_chan *chan, int err);

/* Takes fd in any case. loop NULL: nothing happens except in ipc_chan_pump() and the blocking
 * X_wait(). */
int ipc_chan_open(struct ipc_chan **ret, struct ev_loop *loop, int fd,
	const struct ipc_service *service, void *self, ipc_closed_fn *closed);

/* Requests are not decoded (only checked) but given to fn, which relays, fails or dispatches each.
 */
typedef void ipc_relay_fn(void *self, struct ipc_call *call, uint16_t type);
int ipc_chan_open_relay(struct ipc_chan **ret, struct ev_loop *loop, int fd,
	const struct ipc_service *service, void *self, ipc_closed_fn *closed, ipc_relay_fn *fn);

/*
 * A channel over something else than a socket, e.g. a Noise session. send() gets whole datagrams
 * (header and body, as in ipc/frame.h) and takes them or fails; after a failure the channel is
 * closed. loop may be NULL: then there are no deadlines, and what fails while sending is noticed at
 * the next feed. Whoever owns the connection calls ipc_chan_feed() with each datagram received (0,
 * or -errno after which the channel is closed already) and ipc_chan_fail() when the connection is
 * lost (err 0 or -errno). Between machines the digests may differ: only name and, unless keyed,
 * version must be the same.
 */
struct ipc_port {
	int (*send)(void *ctx, const void *data, size_t len, const int *fds, size_t num_fds,
		int priority);
	void *ctx;
	struct ev_loop *loop;
};
int ipc_chan_open_port(struct ipc_chan **ret, const struct ipc_port *port,
	const struct ipc_service *service, void *self, ipc_closed_fn *closed);
int ipc_chan_feed(struct ipc_chan *chan, const void *data, size_t len);
void ipc_chan_fail(struct ipc_chan *chan, int err);

/* The priority handed to the port with what is sent from now on; answers take the one of their
 * call. */
void ipc_chan_set_priority(struct ipc_chan *chan, int priority);

/* How many requests of the peer may wait for our answer; one more is answered by -EBUSY.
 * IPC_CALLS_MAX at first. */
void ipc_chan_set_max_calls(struct ipc_chan *chan, size_t max);

/* NULL is allowed. Pending requests get done(-ECONNRESET) before this returns. */
void ipc_chan_close(struct ipc_chan *chan);

void *ipc_chan_self(const struct ipc_chan *chan);
/* -1 on a port and when closed. */
int ipc_chan_fd(const struct ipc_chan *chan);
bool ipc_chan_dead(const struct ipc_chan *chan);
/* Bytes waiting to be sent. */
size_t ipc_chan_queued(const struct ipc_chan *chan);
/* Requests of ours without an answer yet. */
size_t ipc_chan_pending(const struct ipc_chan *chan);
/* The version in the peer's hello; 0 before that. */
uint32_t ipc_chan_peer_version(const struct ipc_chan *chan);

/*
 * Text of the last error: valid in done(), in closed() and after X_wait(), until the next one. From
 * a peer: escape it before showing it.
 */
const char *ipc_chan_error(const struct ipc_chan *chan);

/*
 * Receives and dispatches what is there, at most 64 messages; when there is nothing it waits up to
 * timeout_ms (0: not at all, -1: for ever). Returns the number of messages, or -errno when the
 * channel is closed (closed() was called). Not from a callback of the same channel: -EBUSY.
 */
int ipc_chan_pump(struct ipc_chan *chan, int timeout_ms);

/* Waits until all that is queued is sent. -ETIMEDOUT, -ECONNRESET. Calls nobody back. */
int ipc_chan_flush(struct ipc_chan *chan, int timeout_ms);

/* X_wait() looks for its answer for this long before it lets the processor go; 0 at first. */
void ipc_chan_set_spin(struct ipc_chan *chan, unsigned usec);

/* Progress of requests of ours. serial: which one, as ipc_chan_last_serial() said after sending it.
 */
typedef void ipc_progress_fn(
	void *arg, uint64_t serial, uint64_t done, uint64_t total, const char *text);
void ipc_chan_on_progress(struct ipc_chan *chan, ipc_progress_fn *fn, void *arg);
uint64_t ipc_chan_last_serial(const struct ipc_chan *chan);

#endif
