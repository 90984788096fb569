#include "syncd/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes taken from one socket before the others have their turn. */
#define ROUND_MAX (256 * 1024)

/* What the kernel may hold back: little, so that a control message overtakes bulk there as well. */
#define NOTSENT_LOWAT (128 * 1024)

struct wire {
	struct ev_loop *loop;
	const struct wire_ops *ops;
	void *self;
	int fd, err;
	struct ev_io can_read, can_write;
	struct ev_timer deferred;
	bool is_dead, is_paused, is_running, is_closed, wants_room;
	ev_tstamp received_at;
	size_t max;
	size_t in_len;
	size_t out_start, out_end;
	uint8_t in[2 + WIRE_FRAME_MAX];
	uint8_t out[WIRE_OUT_MAX];
};

/* Nothing is sent or received any more; dead() follows from the event loop. */
static void die(struct wire *w, int err)
{
	if (w->is_dead)
		return;
	w->is_dead = true;
	w->err = err;
	ev_io_stop(w->loop, &w->can_read);
	ev_io_stop(w->loop, &w->can_write);
	ev_timer_stop(w->loop, &w->deferred);
	ev_timer_set(&w->deferred, 0, 0);
	ev_timer_start(w->loop, &w->deferred);
}

/* Gives the complete frames in the buffer to the owner; the rest moves to the front. */
static void deliver(struct wire *w)
{
	size_t at = 0;

	while (!w->is_paused && !w->is_dead && !w->is_closed && w->in_len - at >= 2) {
		size_t len = (size_t)w->in[at] << 8 | w->in[at + 1];
		if (len > w->max) {
			die(w, -EMSGSIZE);
			break;
		}
		if (w->in_len - at - 2 < len)
			break;
		at += 2 + len;
		w->ops->frame(w->self, w->in + at - len, len);
	}
	memmove(w->in, w->in + at, w->in_len - at);
	w->in_len -= at;
}

static void read_some(struct wire *w)
{
	size_t total = 0;

	deliver(w);
	while (!w->is_paused && !w->is_dead && !w->is_closed && total < ROUND_MAX) {
		ssize_t n = recv(w->fd, w->in + w->in_len, sizeof(w->in) - w->in_len, 0);
		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR)
				die(w, -errno);
			return;
		}
		if (n == 0) {
			die(w, w->in_len ? -ECONNRESET : 0);
			return;
		}
		w->received_at = ev_now(w->loop);
		w->in_len += (size_t)n;
		total += (size_t)n;
		deliver(w);
	}
}

static void run(struct wire *w, void (*step)(struct wire *))
{
	w->is_running = true;
	step(w);
	w->is_running = false;
	if (w->is_closed)
		free(w);
}

static void on_can_read(struct ev_loop *loop, struct ev_io *io, int events)
{
	run(io->data, read_some);
}

static void write_some(struct wire *w)
{
	wire_flush(w);
	if (w->wants_room && !w->is_dead && wire_queued(w) <= WIRE_LOW) {
		w->wants_room = false;
		w->ops->room(w->self);
	}
}

static void on_can_write(struct ev_loop *loop, struct ev_io *io, int events)
{
	run(io->data, write_some);
}

static void run_deferred(struct wire *w)
{
	if (w->is_dead)
		w->ops->dead(w->self, w->err);
	else
		read_some(w);
}

static void on_deferred(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	run(timer->data, run_deferred);
}

/* Failures are of no consequence: a socket pair in tests has none of these. */
static void set_options(int fd)
{
	const int on = 1, idle = 30, interval = 10, probes = 3, user_ms = 45000,
		  lowat = NOTSENT_LOWAT;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
}

int wire_open(
	struct wire **ret, struct ev_loop *loop, int fd, const struct wire_ops *ops, void *self)
{
	struct wire *w = calloc(1, sizeof(*w));

	if (!w) {
		close(fd);
		return -ENOMEM;
	}
	set_options(fd);
	w->loop = loop;
	w->fd = fd;
	w->ops = ops;
	w->self = self;
	w->max = WIRE_FRAME_MAX;
	w->received_at = ev_now(loop);
	ev_io_init(&w->can_read, on_can_read, fd, EV_READ);
	ev_io_init(&w->can_write, on_can_write, fd, EV_WRITE);
	ev_timer_init(&w->deferred, on_deferred, 0, 0);
	w->can_read.data = w->can_write.data = w->deferred.data = w;
	ev_io_start(loop, &w->can_read);
	*ret = w;
	return 0;
}

void wire_close(struct wire *w)
{
	if (!w || w->is_closed)
		return;
	ev_io_stop(w->loop, &w->can_read);
	ev_io_stop(w->loop, &w->can_write);
	ev_timer_stop(w->loop, &w->deferred);
	close(w->fd);
	w->fd = -1;
	w->is_closed = w->is_dead = true;
	/* Inside a callback of ours the memory is still looked at; run() frees it. */
	if (!w->is_running)
		free(w);
}

void wire_hand_over(struct wire *w, const struct wire_ops *ops, void *self)
{
	w->ops = ops;
	w->self = self;
}

void wire_pause(struct wire *w, bool is_paused)
{
	if (w->is_paused == is_paused || w->is_dead)
		return;
	w->is_paused = is_paused;
	if (is_paused) {
		ev_io_stop(w->loop, &w->can_read);
		return;
	}
	ev_io_start(w->loop, &w->can_read);
	/* Frames that are already here would otherwise wait for the next byte. */
	ev_timer_stop(w->loop, &w->deferred);
	ev_timer_set(&w->deferred, 0, 0);
	ev_timer_start(w->loop, &w->deferred);
}

void wire_limit(struct wire *w, size_t max)
{
	w->max = max;
}

uint8_t *wire_reserve(struct wire *w, size_t len)
{
	if (w->is_dead || len > WIRE_FRAME_MAX)
		return NULL;
	if (w->out_start == w->out_end)
		w->out_start = w->out_end = 0;
	if (sizeof(w->out) - w->out_end < len + 2 && w->out_start > 0) {
		memmove(w->out, w->out + w->out_start, w->out_end - w->out_start);
		w->out_end -= w->out_start;
		w->out_start = 0;
	}
	if (sizeof(w->out) - w->out_end < len + 2) {
		w->wants_room = true;
		return NULL;
	}
	return w->out + w->out_end + 2;
}

void wire_commit(struct wire *w, size_t len)
{
	w->out[w->out_end] = (uint8_t)(len >> 8);
	w->out[w->out_end + 1] = (uint8_t)len;
	w->out_end += 2 + len;
}

void wire_want_room(struct wire *w)
{
	w->wants_room = true;
}

void wire_flush(struct wire *w)
{
	while (!w->is_dead && w->out_start < w->out_end) {
		ssize_t n =
			send(w->fd, w->out + w->out_start, w->out_end - w->out_start, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EAGAIN)
				break;
			if (errno != EINTR)
				die(w, -errno);
			continue;
		}
		w->out_start += (size_t)n;
	}
	if (w->is_dead)
		return;
	if (w->out_start < w->out_end || w->wants_room)
		ev_io_start(w->loop, &w->can_write);
	else
		ev_io_stop(w->loop, &w->can_write);
}

ev_tstamp wire_received_at(const struct wire *w)
{
	return w->received_at;
}

size_t wire_queued(const struct wire *w)
{
	return w->out_end - w->out_start;
}
