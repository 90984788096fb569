/* What is sent: at once when the socket takes it, else from a bounded queue. */
#include "ipc/chan_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void queue_init(struct chan_queue *q)
{
	q->first = NULL;
	q->last = &q->first;
	q->bytes = 0;
}

int queue_add(struct chan_queue *q, const void *data, size_t len, const int *fds, size_t num_fds)
{
	struct chan_msg *m;

	if (q->bytes + sizeof(*m) + len > IPC_QUEUE_MAX)
		return -ENOBUFS;
	m = malloc(sizeof(*m) + len);
	if (!m)
		return -ENOMEM;
	m->next = NULL;
	m->len = len;
	m->num_fds = num_fds;
	if (num_fds)
		memcpy(m->fds, fds, num_fds * sizeof(*fds));
	memcpy(m->data, data, len);
	*q->last = m;
	q->last = &m->next;
	q->bytes += sizeof(*m) + len;
	return 0;
}

struct chan_msg *queue_take(struct chan_queue *q)
{
	struct chan_msg *m = q->first;

	if (!m)
		return NULL;
	q->first = m->next;
	if (!q->first)
		q->last = &q->first;
	q->bytes -= sizeof(*m) + m->len;
	return m;
}

static void close_fds(int *fds, size_t num_fds)
{
	for (size_t i = 0; i < num_fds; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

void chan_msg_free(struct chan_msg *m, bool secret)
{
	if (!m)
		return;
	close_fds(m->fds, m->num_fds);
	if (secret)
		explicit_bzero(m->data, m->len);
	free(m);
}

void queue_clear(struct chan_queue *q, bool secret)
{
	struct chan_msg *m;

	while ((m = queue_take(q)))
		chan_msg_free(m, secret);
}

/* The descriptors are the frame's from now on. */
void chan_msg_frame(struct chan_msg *m, struct ipc_frame *frame)
{
	frame->num_fds = m->num_fds;
	memcpy(frame->fds, m->fds, m->num_fds * sizeof(*m->fds));
	m->num_fds = 0;
	/* It was parsed when it came; this cannot fail. */
	(void)ipc_frame_parse(frame, m->data, m->len);
}

struct ipc_writer *chan_begin(struct ipc_chan *chan)
{
	if (!chan->tx)
		chan->tx = malloc(IPC_MSG_MAX);
	if (!chan->tx)
		return NULL;
	ipc_writer_init(&chan->writer, chan->tx + IPC_HEADER_LEN, IPC_MSG_MAX - IPC_HEADER_LEN);
	return &chan->writer;
}

static int enqueue(struct ipc_chan *chan, size_t len, const int *fds, size_t num_fds)
{
	int own[IPC_FDS_MAX] = { 0 };
	int r;

	/* The caller may close its descriptors as soon as it has sent them. */
	for (size_t i = 0; i < num_fds; i++) {
		own[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (own[i] < 0) {
			r = -errno;
			close_fds(own, i);
			return r;
		}
	}
	r = queue_add(&chan->out, chan->tx, len, own, num_fds);
	if (r < 0)
		close_fds(own, num_fds);
	if (r == -ENOBUFS) {
		chan_set_error(chan, "%s: the other side does not read", chan->service->name);
		chan_fail_later(chan, -ENOBUFS);
	}
	if (r == 0 && chan->loop)
		ev_io_start(chan->loop, &chan->writable);
	return r;
}

static int transmit(struct ipc_chan *chan, size_t len, const int *fds, size_t num_fds, int priority)
{
	int r;

	if (chan->port.send) {
		r = chan->port.send(chan->port.ctx, chan->tx, len, fds, num_fds, priority);
		if (r < 0)
			chan_fail_later(chan, r);
		return r;
	}
	if (chan->out.first)
		return enqueue(chan, len, fds, num_fds);
	r = ipc_frame_send(chan->fd, chan->tx, len, fds, num_fds);
	if (r == -EAGAIN || r == -ENOBUFS || r == -ETOOMANYREFS)
		return enqueue(chan, len, fds, num_fds);
	if (r == -EPIPE || r == -ECONNRESET) {
		/* What the peer sent before it went is still to be read; the reader sees the end.
		 */
		chan->tx_broken = true;
		return -ECONNRESET;
	}
	return r;
}

void chan_discard(struct ipc_chan *chan, const struct ipc_writer *w)
{
	if (chan->service->secret)
		explicit_bzero(w->data, w->len);
}

int chan_send(struct ipc_chan *chan, enum ipc_kind kind, uint16_t type, uint64_t serial,
	struct ipc_writer *w, int priority)
{
	int r = w->err;

	if (chan->dead || chan->fail_later || chan->tx_broken)
		r = -ECONNRESET;
	if (r == 0) {
		ipc_frame_head(chan->tx, kind, type, serial, w->len, w->num_fds);
		r = transmit(chan, IPC_HEADER_LEN + w->len, w->fds, w->num_fds, priority);
	}
	chan_discard(chan, w);
	return r;
}

/* Sends what is queued, as far as the socket takes it. */
int chan_flush(struct ipc_chan *chan)
{
	struct chan_msg *m;

	while ((m = chan->out.first)) {
		int r = ipc_frame_send(chan->fd, m->data, m->len, m->fds, m->num_fds);
		if (r == -EAGAIN || r == -ENOBUFS || r == -ETOOMANYREFS)
			return 0;
		if (r < 0) {
			queue_clear(&chan->out, chan->service->secret);
			chan->tx_broken = true;
			return -ECONNRESET;
		}
		chan_msg_free(queue_take(&chan->out), chan->service->secret);
	}
	return 0;
}
