/* Requests that are passed on undecoded, and their answers. */
#include "ipc/chan_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The answer, as it came, in the asker's name. */
static int pass_reply(struct ipc_call *call, struct ipc_reader *r)
{
	struct ipc_writer *w = chan_begin(call->chan);
	const size_t len = (size_t)(r->end - r->p);

	if (!w)
		return -ENOMEM;
	memcpy(w->data, r->p, len);
	w->len = len;
	w->num_fds = r->num_fds;
	memcpy(w->fds, r->fds, r->num_fds * sizeof(*r->fds));
	return chan_send(call->chan, IPC_REPLY, call->type, call->serial, w, call->priority);
}

static int relay_replied(ipc_any_fn *done, void *arg, int err, struct ipc_reader *r)
{
	struct ipc_call *call = arg;

	if (err < 0)
		ipc_call_fail(call, err, "%s",
			err == -ECONNRESET ? "the worker that serves this went away: try again"
					   : ipc_chan_error(call->relayed_to));
	else if (call->chan && (err = pass_reply(call, r)) < 0 && err != -ECONNRESET)
		ipc_call_fail(call, err, NULL);
	else
		call_free(call);
	return 0;
}

int ipc_relay(struct ipc_call *call, struct ipc_chan *to)
{
	struct chan_msg *m = call->msg;
	struct ipc_writer *w;
	struct pending *p;
	int r;

	if (!m || to->dead)
		return m ? -ECONNRESET : -EINVAL;
	w = chan_begin(to);
	p = w ? pending_add(to, call->type, 0) : NULL;
	if (!p)
		return -ENOMEM;
	w->len = m->len - IPC_HEADER_LEN;
	memcpy(w->data, m->data + IPC_HEADER_LEN, w->len);
	w->num_fds = m->num_fds;
	memcpy(w->fds, m->fds, m->num_fds * sizeof(*m->fds));
	p->replied = relay_replied;
	p->arg = call;
	p->relayed = call;
	r = chan_send(to, IPC_REQUEST, call->type, p->serial, w, to->priority);
	if (r < 0) {
		pending_remove(to, p);
		return r;
	}
	call->relayed_to = to;
	/* The call belongs to the relay now: nobody else may answer it. */
	call->on_dead = NULL;
	/* Its descriptors must not stay open here until the answer: a pipe's reader waits for its
	 * end. */
	if (call->chan)
		call->chan->held_bytes -= m->len;
	chan_msg_free(m, call->secret);
	call->msg = NULL;
	return 0;
}

int ipc_call_peek(const struct ipc_call *call, struct ipc_reader *ret)
{
	if (!call->msg)
		return -EINVAL;
	ipc_reader_init(ret, call->msg->data + IPC_HEADER_LEN, call->msg->len - IPC_HEADER_LEN);
	return 0;
}

int ipc_call_dispatch(struct ipc_call *call, const struct ipc_service *service, void *self)
{
	struct chan_msg *m = call->msg;
	const bool secret = call->secret;
	struct ipc_frame frame;
	int r;

	if (!m || !call->chan)
		return m ? -ECONNRESET : -EINVAL;
	/* The handler may answer, and so free the call, while it still looks at the request. */
	call->msg = NULL;
	call->chan->held_bytes -= m->len;
	chan_msg_frame(m, &frame);
	r = chan_dispatch(call->chan, call, service, self, &frame);
	if (r < 0) {
		/* Not served there: give the message back, so that the call can go elsewhere. */
		memcpy(m->fds, frame.fds, frame.num_fds * sizeof(*frame.fds));
		m->num_fds = frame.num_fds;
		call->msg = m;
		call->chan->held_bytes += m->len;
		return r;
	}
	ipc_frame_close_fds(&frame);
	chan_msg_free(m, secret);
	return 0;
}
