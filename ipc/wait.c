/*
 * Blocking: pump and flush for processes without a loop, and calls that wait for their answer.
 * While a call waits, everything else that comes is kept in chan->in and handled later, from the
 * loop or the next pump, so that no handler runs inside a function that did not expect it.
 */
#include "ipc/chan_private.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PUMP_MAX 64

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Milliseconds until a point in time; -1 when it is never. */
static int remaining(uint64_t deadline)
{
	const uint64_t now = chan_now_ms();

	if (!deadline)
		return -1;
	if (deadline <= now)
		return 0;
	return deadline - now > INT_MAX ? INT_MAX : (int)(deadline - now);
}

static uint64_t deadline_after(int timeout_ms)
{
	return timeout_ms < 0 ? 0 : chan_now_ms() + (unsigned)timeout_ms;
}

static void sleep_until(struct ipc_chan *chan, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = chan->fd, .events = events };

	if (chan->out.first)
		p.events |= POLLOUT;
	(void)poll(&p, 1, remaining(deadline));
	if (p.revents & POLLOUT)
		(void)chan_flush(chan);
}

/* What was kept, then what is in the socket. */
static int pump_ready(struct ipc_chan *chan)
{
	int n = 0;

	pending_expire(chan);
	while (n < PUMP_MAX && !chan->dead) {
		int r;

		if (chan->fail_later) {
			chan_fail(chan, chan->fail_err);
			break;
		}
		r = chan_receive_one(chan);
		if (r == 0)
			break;
		if (r < 0)
			chan_fail(chan, r);
		n++;
	}
	return chan->dead ? -ECONNRESET : n;
}

int ipc_chan_pump(struct ipc_chan *chan, int timeout_ms)
{
	uint64_t deadline;
	int r;

	if (chan->depth)
		return -EBUSY;
	if (chan->dead || chan->port.send)
		return chan->dead ? -ECONNRESET : -EINVAL;
	chan_ref(chan);
	if (chan->out.first)
		(void)chan_flush(chan);
	r = pump_ready(chan);
	if (r == 0 && timeout_ms != 0) {
		deadline = deadline_after(timeout_ms);
		if (chan->pending.earliest &&
			(!deadline || chan->pending.earliest->deadline < deadline))
			deadline = chan->pending.earliest->deadline;
		sleep_until(chan, POLLIN, deadline);
		r = pump_ready(chan);
	}
	chan_unref(chan);
	return r;
}

int ipc_chan_flush(struct ipc_chan *chan, int timeout_ms)
{
	const uint64_t deadline = deadline_after(timeout_ms);

	while (chan->out.first) {
		if (chan->dead || chan_flush(chan) < 0)
			return -ECONNRESET;
		if (!chan->out.first)
			break;
		if (remaining(deadline) == 0)
			return -ETIMEDOUT;
		sleep_until(chan, 0, deadline);
	}
	return chan->dead || chan->tx_broken ? -ECONNRESET : 0;
}

/* The answer's bytes move into the result's own storage: the receive buffer is used again at once.
 */
static int decode_copy(struct chan_wait *wait, struct ipc_reader *r)
{
	const size_t len = (size_t)(r->end - r->p);
	struct ipc_reader own;
	uint8_t *copy;
	struct ipc_mem *mem = NULL;

	copy = ipc_mem_alloc(&mem, len ? len : 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, r->p, len);
	ipc_reader_init(&own, copy, len);
	own.mem = mem;
	own.fds = r->fds;
	own.num_fds = r->num_fds;
	return wait->decode(&own, wait->ret);
}

static int wait_replied(ipc_any_fn *done, void *arg, int err, struct ipc_reader *r)
{
	struct chan_wait *wait = arg;

	wait->is_over = true;
	wait->err = err < 0 ? err : decode_copy(wait, r);
	return wait->err == -EBADMSG && err == 0 ? -EBADMSG : 0;
}

/* Looks into the socket without sleeping for a while, since an answer often comes within the time
 * of a wake-up. */
static int spin(struct ipc_chan *chan, struct chan_wait *wait)
{
	const uint64_t end = now_ns() + (uint64_t)chan->spin_usec * 1000;
	int r;

	do {
		r = chan_receive_one(chan);
		if (r < 0 || wait->is_over)
			return r;
	} while (r > 0 || now_ns() < end);
	return 0;
}

static int wait_loop(struct ipc_chan *chan, struct chan_wait *wait, int timeout_ms)
{
	const uint64_t deadline = deadline_after(timeout_ms);
	int r = chan->spin_usec ? spin(chan, wait) : 0;

	while (!wait->is_over && r >= 0) {
		r = chan_receive_one(chan);
		if (r == 0) {
			if (remaining(deadline) == 0)
				return -ETIMEDOUT;
			sleep_until(chan, POLLIN, deadline);
		}
	}
	return r < 0 ? r : 0;
}

int ipc_send_wait(struct ipc_chan *chan, uint16_t type, ipc_encode_fn *encode, const void *msg,
	int timeout_ms, ipc_decode_fn *decode, void *ret)
{
	struct chan_wait wait = { .decode = decode, .ret = ret };
	struct pending *p;
	int r;

	/* A call within a call cannot happen: nothing is called back while one waits. */
	if (chan->dead || chan->port.send || chan->wait)
		return chan->dead ? -ECONNRESET : -EINVAL;
	r = ipc_send_request(chan, type, encode, msg, 0, wait_replied, NULL, &wait);
	if (r < 0)
		return r;
	wait.serial = chan->last_serial;
	chan_ref(chan);
	chan->wait = &wait;
	r = wait_loop(chan, &wait, timeout_ms);
	chan->wait = NULL;
	p = pending_find(chan, wait.serial);
	if (p)
		pending_remove(chan, p);
	if (r == -ETIMEDOUT)
		chan_set_error(chan, "%s: no answer in time", chan->service->type_name(type));
	else if (r < 0)
		chan_fail_later(chan, r);
	if (chan->in.first)
		chan_wake(chan);
	chan_unref(chan);
	if (wait.is_over)
		return wait.err;
	return r == -ETIMEDOUT ? r : -ECONNRESET;
}
