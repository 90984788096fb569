#include "ipc/call.h"

#include "ipc/chan_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ipc_call *call_new(struct ipc_chan *chan, const struct ipc_frame *frame)
{
	struct ipc_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->chan = chan;
	call->serial = frame->serial;
	call->type = frame->type;
	call->priority = chan->priority;
	call->secret = chan->service->secret;
	call->next = chan->calls;
	call->prev = &chan->calls;
	if (call->next)
		call->next->prev = &call->next;
	chan->calls = call;
	chan->num_calls++;
	return call;
}

static void call_unlink(struct ipc_call *call)
{
	call->chan->num_calls--;
	if (call->msg)
		call->chan->held_bytes -= call->msg->len;
	*call->prev = call->next;
	if (call->next)
		call->next->prev = call->prev;
	call->chan = NULL;
}

void call_free(struct ipc_call *call)
{
	if (call->chan)
		call_unlink(call);
	chan_msg_free(call->msg, call->secret);
	free(call);
}

void calls_orphan(struct ipc_chan *chan)
{
	struct ipc_call *call;

	while ((call = chan->calls)) {
		ipc_call_dead_fn *fn = call->on_dead;

		call_unlink(call);
		call->on_dead = NULL;
		if (fn)
			fn(call, call->dead_arg);
	}
}

static int send_error(struct ipc_call *call, int err, const char *text)
{
	struct ipc_writer *w;

	if (!call->chan)
		return 0;
	w = chan_begin(call->chan);
	if (!w)
		return -ENOMEM;
	ipc_write_array(w, 2);
	ipc_write_uint(w, (uint64_t)-err);
	ipc_write_text(w, text, IPC_TEXT_MAX);
	return chan_send(call->chan, IPC_ERROR, call->type, call->serial, w, call->priority);
}

static void fail_text(struct ipc_call *call, int err, const char *text)
{
	(void)send_error(call, err, text);
	call_free(call);
}

int ipc_call_fail(struct ipc_call *call, int err, const char *fmt, ...)
{
	char text[IPC_TEXT_MAX + 1];
	va_list ap;

	if (err >= 0 || err < -4095)
		err = -EIO;
	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
	} else {
		snprintf(text, sizeof(text), "%s", strerror(-err));
	}
	fail_text(call, err, text);
	return err;
}

int ipc_call_progress(struct ipc_call *call, uint64_t done, uint64_t total, const char *text)
{
	struct ipc_chan *chan = call->chan;
	struct ipc_writer *w;
	char cut[201];

	if (!chan)
		return -ECONNRESET;
	w = chan_begin(chan);
	if (!w)
		return -ENOMEM;
	snprintf(cut, sizeof(cut), "%s", text ? text : "");
	ipc_write_array(w, 3);
	ipc_write_uint(w, done);
	ipc_write_uint(w, total);
	ipc_write_text(w, cut, sizeof(cut) - 1);
	return chan_send(chan, IPC_PROGRESS, call->type, call->serial, w, call->priority);
}

int ipc_send_reply(struct ipc_call *call, uint16_t type, ipc_encode_fn *encode, const void *msg)
{
	struct ipc_writer *w;
	int r = 0;

	/* A reply of another request would be decoded as garbage by the asker: a bug of this
	 * process. */
	if (type != call->type)
		abort();
	if (!call->chan)
		goto out;
	w = chan_begin(call->chan);
	r = w ? encode(msg, w) : -ENOMEM;
	if (r < 0) {
		if (w)
			chan_discard(call->chan, w);
		(void)send_error(call, r, "the answer does not fit into a message");
		goto out;
	}
	r = chan_send(call->chan, IPC_REPLY, type, call->serial, w, call->priority);
out:
	call_free(call);
	return r;
}

struct ipc_chan *ipc_call_chan(struct ipc_call *call)
{
	return call->chan;
}

uint16_t ipc_call_type(const struct ipc_call *call)
{
	return call->type;
}

bool ipc_call_dead(const struct ipc_call *call)
{
	return !call->chan;
}

void ipc_call_on_dead(struct ipc_call *call, ipc_call_dead_fn *fn, void *arg)
{
	call->on_dead = fn;
	call->dead_arg = arg;
}

void ipc_call_set_priority(struct ipc_call *call, int priority)
{
	call->priority = priority;
}
