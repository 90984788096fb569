/* The life of a channel and what comes in. */
#include "ipc/chan.h"

#include "ipc/chan_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Messages handled for one event of the loop, before others get their turn. */
#define BURST 64

/* Undecoded requests that a relaying channel keeps for its owner; the asker is told to wait beyond
 * that. */
#define HELD_MAX ((size_t)8 << 20)

/* A progress text and a worker's error are for a terminal's line. */
#define PROGRESS_TEXT_MAX 200

int ipc_take_fd(const int *field)
{
	const int fd = *field;

	*(int *)field = -1;
	return fd;
}

uint64_t chan_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void chan_set_error(struct ipc_chan *chan, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(chan->error, sizeof(chan->error), fmt, ap);
	va_end(ap);
}

void chan_ref(struct ipc_chan *chan)
{
	chan->refs++;
}

void chan_unref(struct ipc_chan *chan)
{
	if (--chan->refs)
		return;
	queue_clear(&chan->out, chan->service->secret);
	queue_clear(&chan->in, chan->service->secret);
	pending_free(chan);
	free(chan->rx);
	free(chan->tx);
	free(chan);
}

/* After this no event comes any more and nothing can be sent. */
static void stop(struct ipc_chan *chan)
{
	chan->dead = true;
	if (chan->loop) {
		ev_io_stop(chan->loop, &chan->readable);
		ev_io_stop(chan->loop, &chan->writable);
		ev_timer_stop(chan->loop, &chan->timer);
	}
	if (chan->fd >= 0)
		close(chan->fd);
	chan->fd = -1;
	queue_clear(&chan->out, chan->service->secret);
	queue_clear(&chan->in, chan->service->secret);
}

void chan_fail(struct ipc_chan *chan, int err)
{
	char why[sizeof(chan->error)];

	if (chan->dead)
		return;
	if (err == -ECONNRESET)
		err = 0;
	chan_ref(chan);
	if (err == 0)
		chan_set_error(chan, "%s: the other side went away", chan->service->name);
	memcpy(why, chan->error, sizeof(why));
	stop(chan);
	pending_fail_all(chan);
	calls_orphan(chan);
	/* A callback may have used another error meanwhile. */
	memcpy(chan->error, why, sizeof(why));
	if (chan->closed && !chan->owner_gone)
		chan->closed(chan->self, chan, err);
	chan_unref(chan);
}

void chan_fail_later(struct ipc_chan *chan, int err)
{
	if (chan->dead || chan->fail_later)
		return;
	chan->fail_later = true;
	chan->fail_err = err;
	chan_wake(chan);
}

void ipc_chan_fail(struct ipc_chan *chan, int err)
{
	chan_fail(chan, err);
}

void ipc_chan_close(struct ipc_chan *chan)
{
	if (!chan || chan->owner_gone)
		return;
	chan->owner_gone = true;
	if (!chan->dead) {
		stop(chan);
		chan_set_error(chan, "%s: closed", chan->service->name);
		pending_fail_all(chan);
		calls_orphan(chan);
	}
	chan_unref(chan);
}

static int send_hello(struct ipc_chan *chan)
{
	struct ipc_writer *w = chan_begin(chan);

	if (!w)
		return -ENOMEM;
	ipc_write_array(w, 3);
	ipc_write_text(w, chan->service->name, 64);
	ipc_write_uint(w, chan->service->version);
	ipc_write_fixed(w, chan->service->digest, 32);
	return chan_send(chan, IPC_HELLO, 0, 0, w, chan->priority);
}

static bool hello_fits(struct ipc_chan *chan, const uint8_t digest[32])
{
	const struct ipc_service *s = chan->service;

	if (s->keyed)
		return chan->peer_version > 0;
	if (chan->port.send)
		return chan->peer_version == s->version;
	return chan->peer_version == s->version && memcmp(digest, s->digest, 32) == 0;
}

static int on_hello(struct ipc_chan *chan, struct ipc_frame *frame)
{
	const struct ipc_service *s = chan->service;
	struct ipc_reader r;
	const char *name;
	uint8_t digest[32] = { 0 };
	bool same_name;
	int e;

	if (frame->kind != IPC_HELLO || chan->got_hello) {
		chan_set_error(chan, "%s: hello expected once and first", s->name);
		return -EPROTO;
	}
	ipc_frame_reader(frame, &r);
	ipc_read_array(&r, 3);
	name = ipc_read_text(&r, 64);
	chan->peer_version = (uint32_t)ipc_read_uint(&r, UINT32_MAX);
	ipc_read_fixed(&r, digest, sizeof(digest));
	same_name = strcmp(name, s->name) == 0;
	e = ipc_reader_end(&r);
	ipc_mem_free(r.mem);
	if (e < 0)
		return e;
	if (!same_name) {
		chan_set_error(chan, "%s: the other side speaks another channel", s->name);
		return -EPROTO;
	}
	if (!hello_fits(chan, digest)) {
		chan_set_error(chan,
			"schema of %s differs: worker of another build (versions %u here, %u "
			"there)",
			s->name, s->version, chan->peer_version);
		return -EPROTO;
	}
	chan->got_hello = true;
	return 0;
}

/* A malformed message: says which one, once. */
static int malformed(struct ipc_chan *chan, const struct ipc_frame *frame, int err)
{
	if (err == -EBADMSG)
		chan_set_error(chan, "%s: malformed message (kind %u, type %u %s)",
			chan->service->name, (unsigned)frame->kind, frame->type,
			chan->service->type_name(frame->type));
	return err;
}

int chan_dispatch(struct ipc_chan *chan, struct ipc_call *call, const struct ipc_service *service,
	void *self, struct ipc_frame *frame)
{
	struct ipc_reader r;
	int e;

	if (!service->request)
		return -ENOSYS;
	ipc_frame_reader(frame, &r);
	chan_ref(chan);
	chan->depth++;
	e = service->request(self, call, frame->type, &r);
	chan->depth--;
	chan_unref(chan);
	return e;
}

/* The request stays undecoded, but one that the server would choke on does not reach it. */
static int relay_request(struct ipc_chan *chan, struct ipc_call *call, struct ipc_frame *frame)
{
	struct chan_queue q;
	struct ipc_reader r;
	int e;

	ipc_frame_reader(frame, &r);
	r.borrow_fds = true;
	e = chan->service->check(frame->type, &r);
	if (e < 0)
		return e;
	queue_init(&q);
	e = queue_add(&q, frame->body - IPC_HEADER_LEN, IPC_HEADER_LEN + frame->len, frame->fds,
		frame->num_fds);
	if (e < 0)
		return e;
	frame->num_fds = 0;
	call->msg = queue_take(&q);
	chan->held_bytes += call->msg->len;
	chan_ref(chan);
	chan->depth++;
	chan->relay(chan->self, call, frame->type);
	chan->depth--;
	chan_unref(chan);
	return 0;
}

static int on_request(struct ipc_chan *chan, struct ipc_frame *frame)
{
	struct ipc_call *call = call_new(chan, frame);
	int e;

	if (!call)
		return -ENOMEM;
	if (chan->num_calls > chan->max_calls || chan->held_bytes > HELD_MAX) {
		ipc_call_fail(call, -EBUSY, "too many requests at a time");
		return 0;
	}
	if (chan->relay)
		e = relay_request(chan, call, frame);
	else
		e = chan_dispatch(chan, call, chan->service, chan->self, frame);
	if (e == -ENOSYS && chan->service->keyed) {
		ipc_call_fail(call, -EOPNOTSUPP, "the other side is of an older version");
		return 0;
	}
	/* Nothing below chan_dispatch() fails after a handler has seen the call. */
	if (e < 0)
		call_free(call);
	return e == -ENOSYS ? -EBADMSG : e;
}

static int on_notice(struct ipc_chan *chan, struct ipc_frame *frame)
{
	const struct ipc_service *s = chan->service;
	struct ipc_reader r;
	int e;

	ipc_frame_reader(frame, &r);
	chan->depth++;
	e = s->notice ? s->notice(chan->self, frame->type, &r) : -ENOSYS;
	chan->depth--;
	if (e == -ENOSYS)
		return s->keyed ? 0 : -EBADMSG;
	return e;
}

/* The request that an answer is for; NULL with 0 when we no longer wait for it. */
static int find_request(struct ipc_chan *chan, struct ipc_frame *frame, struct pending **ret)
{
	*ret = pending_find(chan, frame->serial);
	if (!*ret)
		return frame->serial && frame->serial <= chan->last_serial ? 0 : -EBADMSG;
	return (*ret)->type == frame->type ? 0 : -EBADMSG;
}

static int on_reply(struct ipc_chan *chan, struct ipc_frame *frame)
{
	struct ipc_reader r;
	struct pending *p;
	int e = find_request(chan, frame, &p);

	if (e < 0 || !p)
		return e;
	ipc_frame_reader(frame, &r);
	chan->depth++;
	e = pending_done(chan, p, 0, &r);
	chan->depth--;
	return e;
}

static int on_error(struct ipc_chan *chan, struct ipc_frame *frame)
{
	struct ipc_reader r;
	struct pending *p;
	const char *text;
	uint64_t err;
	int e = find_request(chan, frame, &p);

	if (e < 0 || !p)
		return e;
	ipc_frame_reader(frame, &r);
	ipc_read_array(&r, 2);
	err = ipc_read_uint(&r, 4095);
	text = ipc_read_text(&r, IPC_TEXT_MAX);
	e = ipc_reader_end(&r);
	if (e == 0 && err == 0)
		e = -EBADMSG;
	if (e == 0)
		chan_set_error(chan, "%s", text);
	ipc_mem_free(r.mem);
	if (e < 0)
		return e;
	chan->depth++;
	e = pending_done(chan, p, -(int)err, NULL);
	chan->depth--;
	return e;
}

static int on_progress(struct ipc_chan *chan, struct ipc_frame *frame)
{
	struct ipc_reader r;
	struct pending *p;
	uint64_t done, total;
	const char *text;
	int e = find_request(chan, frame, &p);

	if (e < 0 || !p)
		return e;
	ipc_frame_reader(frame, &r);
	ipc_read_array(&r, 3);
	done = ipc_read_uint(&r, UINT64_MAX);
	total = ipc_read_uint(&r, UINT64_MAX);
	text = ipc_read_text(&r, PROGRESS_TEXT_MAX);
	e = ipc_reader_end(&r);
	chan->depth++;
	if (e == 0 && p->relayed)
		(void)ipc_call_progress(p->relayed, done, total, text);
	else if (e == 0 && chan->progress)
		chan->progress(chan->progress_arg, frame->serial, done, total, text);
	chan->depth--;
	ipc_mem_free(r.mem);
	return e;
}

static int handle(struct ipc_chan *chan, struct ipc_frame *frame)
{
	if (!chan->got_hello)
		return on_hello(chan, frame);
	switch (frame->kind) {
	case IPC_HELLO:
		return on_hello(chan, frame);
	case IPC_REQUEST:
		return on_request(chan, frame);
	case IPC_REPLY:
		return on_reply(chan, frame);
	case IPC_NOTICE:
		return on_notice(chan, frame);
	case IPC_ERROR:
		return on_error(chan, frame);
	case IPC_PROGRESS:
		return on_progress(chan, frame);
	}
	return -EBADMSG;
}

/* Handles a message and closes what it left of its descriptors. */
static int handle_and_close(struct ipc_chan *chan, struct ipc_frame *frame)
{
	int e = handle(chan, frame);

	ipc_frame_close_fds(frame);
	if (e < 0)
		e = malformed(chan, frame, e);
	return e;
}

static bool is_waited_for(const struct ipc_chan *chan, const struct ipc_frame *frame)
{
	if (!chan->got_hello)
		return true;
	switch (frame->kind) {
	case IPC_REPLY:
	case IPC_ERROR:
	case IPC_PROGRESS:
		return frame->serial == chan->wait->serial;
	case IPC_REQUEST:
	case IPC_NOTICE:
	case IPC_HELLO:
		break;
	}
	return false;
}

/* Keeps a message that came during a blocking call. */
static int keep(struct ipc_chan *chan, struct ipc_frame *frame)
{
	int e = queue_add(&chan->in, frame->body - IPC_HEADER_LEN, IPC_HEADER_LEN + frame->len,
		frame->fds, frame->num_fds);

	if (e < 0)
		ipc_frame_close_fds(frame);
	return e;
}

static int handle_kept(struct ipc_chan *chan)
{
	struct chan_msg *m = queue_take(&chan->in);
	struct ipc_frame frame;
	int e;

	chan_msg_frame(m, &frame);
	e = handle_and_close(chan, &frame);
	chan_msg_free(m, chan->service->secret);
	return e;
}

static int receive_into(struct ipc_chan *chan, uint8_t *buf)
{
	struct ipc_frame frame;
	long n = ipc_frame_receive(chan->fd, buf, &frame);
	int e;

	if (n == -EAGAIN)
		return 0;
	if (n == 0) {
		chan_set_error(chan, "%s: the other side went away", chan->service->name);
		return -ECONNRESET;
	}
	if (n < 0) {
		chan_set_error(chan, "%s: receiving: %s", chan->service->name, strerror((int)-n));
		if (chan->service->secret)
			explicit_bzero(buf, IPC_MSG_MAX);
		return (int)n;
	}
	if (chan->wait && !is_waited_for(chan, &frame))
		e = keep(chan, &frame);
	else
		e = handle_and_close(chan, &frame);
	if (chan->service->secret)
		explicit_bzero(buf, (size_t)n);
	return e < 0 ? e : 1;
}

int chan_receive_one(struct ipc_chan *chan)
{
	uint8_t *buf;
	int r;

	if (chan->in.first && !chan->wait) {
		chan_ref(chan);
		r = handle_kept(chan);
		chan_unref(chan);
		return r < 0 ? r : 1;
	}
	buf = chan->rx ? chan->rx : malloc(IPC_MSG_MAX);
	if (!buf)
		return -ENOMEM;
	chan->rx = NULL;
	chan_ref(chan);
	r = receive_into(chan, buf);
	if (chan->rx)
		free(buf);
	else
		chan->rx = buf;
	chan_unref(chan);
	return r;
}

int ipc_chan_feed(struct ipc_chan *chan, const void *data, size_t len)
{
	struct ipc_frame frame = { .num_fds = 0 };
	int e;

	if (chan->dead)
		return -ECONNRESET;
	chan_ref(chan);
	if (chan->fail_later) {
		e = chan->fail_err;
	} else {
		e = ipc_frame_parse(&frame, data, len);
		if (e < 0)
			chan_set_error(chan, "%s: malformed header", chan->service->name);
		else
			e = handle_and_close(chan, &frame);
	}
	if (e < 0)
		chan_fail(chan, e);
	else if (chan->dead)
		e = -ECONNRESET;
	chan_unref(chan);
	return e;
}

static void on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct ipc_chan *chan = io->data;

	chan_ref(chan);
	for (int i = 0; i < BURST && !chan->dead; i++) {
		int r = chan->fail_later ? chan->fail_err : chan_receive_one(chan);
		if (r < 0)
			chan_fail(chan, r);
		if (r <= 0)
			break;
	}
	if (!chan->dead && chan->in.first)
		chan_wake(chan);
	chan_unref(chan);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct ipc_chan *chan = io->data;

	(void)chan_flush(chan);
	if (!chan->out.first)
		ev_io_stop(loop, &chan->writable);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct ipc_chan *chan = timer->data;

	chan_ref(chan);
	pending_expire(chan);
	if (!chan->dead && (chan->fail_later || chan->in.first))
		on_readable(loop, &chan->readable, EV_CUSTOM);
	if (!chan->dead)
		chan_wake(chan);
	chan_unref(chan);
}

void chan_wake(struct ipc_chan *chan)
{
	ev_tstamp after = -1;

	if (!chan->loop || chan->dead)
		return;
	if (chan->fail_later || (chan->in.first && !chan->wait)) {
		after = 0;
	} else if (chan->pending.earliest) {
		const uint64_t now = chan_now_ms(), at = chan->pending.earliest->deadline;
		/* The loop's idea of now is older: it may fire early, and is armed again then. */
		after = at > now ? (ev_tstamp)(at - now) / 1000 : 0;
	}
	ev_timer_stop(chan->loop, &chan->timer);
	if (after < 0)
		return;
	ev_timer_set(&chan->timer, after, 0);
	ev_timer_start(chan->loop, &chan->timer);
}

static struct ipc_chan *chan_new(struct ev_loop *loop, int fd, const struct ipc_service *service,
	void *self, ipc_closed_fn *closed)
{
	struct ipc_chan *chan = calloc(1, sizeof(*chan));

	if (!chan)
		return NULL;
	chan->refs = 1;
	chan->fd = fd;
	chan->loop = loop;
	chan->service = service;
	chan->self = self;
	chan->closed = closed;
	chan->max_calls = IPC_CALLS_MAX;
	queue_init(&chan->out);
	queue_init(&chan->in);
	ev_timer_init(&chan->timer, on_timer, 0, 0);
	chan->timer.data = chan;
	ev_io_init(&chan->readable, on_readable, fd, EV_READ);
	chan->readable.data = chan;
	ev_io_init(&chan->writable, on_writable, fd, EV_WRITE);
	chan->writable.data = chan;
	return chan;
}

static int begin(struct ipc_chan **ret, struct ipc_chan *chan)
{
	int r = send_hello(chan);

	/* A peer that is gone already is noticed as any other: by closed(). */
	if (r < 0 && r != -ECONNRESET) {
		ipc_chan_close(chan);
		return r;
	}
	if (chan->loop && chan->fd >= 0)
		ev_io_start(chan->loop, &chan->readable);
	*ret = chan;
	return 0;
}

int ipc_chan_open_relay(struct ipc_chan **ret, struct ev_loop *loop, int fd,
	const struct ipc_service *service, void *self, ipc_closed_fn *closed, ipc_relay_fn *fn)
{
	struct ipc_chan *chan = chan_new(loop, fd, service, self, closed);

	if (!chan) {
		close(fd);
		return -ENOMEM;
	}
	chan->relay = fn;
	return begin(ret, chan);
}

int ipc_chan_open(struct ipc_chan **ret, struct ev_loop *loop, int fd,
	const struct ipc_service *service, void *self, ipc_closed_fn *closed)
{
	return ipc_chan_open_relay(ret, loop, fd, service, self, closed, NULL);
}

int ipc_chan_open_port(struct ipc_chan **ret, const struct ipc_port *port,
	const struct ipc_service *service, void *self, ipc_closed_fn *closed)
{
	struct ipc_chan *chan = chan_new(port->loop, -1, service, self, closed);

	if (!chan)
		return -ENOMEM;
	chan->port = *port;
	return begin(ret, chan);
}

void ipc_chan_set_priority(struct ipc_chan *chan, int priority)
{
	chan->priority = priority;
}

void ipc_chan_set_max_calls(struct ipc_chan *chan, size_t max)
{
	chan->max_calls = max;
}

void *ipc_chan_self(const struct ipc_chan *chan)
{
	return chan->self;
}

int ipc_chan_fd(const struct ipc_chan *chan)
{
	return chan->fd;
}

bool ipc_chan_dead(const struct ipc_chan *chan)
{
	return chan->dead;
}

size_t ipc_chan_queued(const struct ipc_chan *chan)
{
	return chan->out.bytes;
}

size_t ipc_chan_pending(const struct ipc_chan *chan)
{
	return chan->pending.num;
}

uint32_t ipc_chan_peer_version(const struct ipc_chan *chan)
{
	return chan->peer_version;
}

const char *ipc_chan_error(const struct ipc_chan *chan)
{
	return chan->error;
}

void ipc_chan_set_spin(struct ipc_chan *chan, unsigned usec)
{
	chan->spin_usec = usec;
}

void ipc_chan_on_progress(struct ipc_chan *chan, ipc_progress_fn *fn, void *arg)
{
	chan->progress = fn;
	chan->progress_arg = arg;
}

uint64_t ipc_chan_last_serial(const struct ipc_chan *chan)
{
	return chan->last_serial;
}
