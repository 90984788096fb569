#include "syncd/session.h"

#include "ipc/chan.h"
#include "ipc/peer.gen.h"
#include "syncd/fragment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct session_limits session_default_limits = {
	.ping_after = 15,
	.dead_after = 30,
	.stall_after = 60,
	.rekey_after = 3600,
	.rekey_messages = 65536,
	.window = 4 * 1024 * 1024,
};

/* A message of a channel on its way out, or an object. */
struct outgoing {
	struct outgoing *next;
	uint8_t *data;
	size_t len, sent;
	uint8_t id[FRAGMENT_ID_SIZE];
	session_sent_fn *done;
	void *arg;
};

struct outgoing_queue {
	struct outgoing *first, **last;
	size_t bytes;
};

/* A port of a channel: which kind of fragment its messages are. */
struct session_port {
	struct session *session;
	enum fragment_kind kind;
	struct outgoing_queue queue;
	struct assembly in;
	struct ipc_chan *chan;
};

struct session {
	unsigned int refs;
	bool is_dead, is_closed, is_up, is_pumping, is_receiving;
	int err;
	struct ev_loop *loop;
	const struct session_limits *limits;
	const struct session_ops *ops;
	void *self;

	struct wire *wire;
	struct noise_cipher send, receive;
	uint64_t num_sent, num_received;
	ev_tstamp key_time;

	struct peer_server server;
	/* Sends ASK, receives ANSWER; the other one the other way round. */
	struct session_port asker, answerer;
	bool answerer_next;
	uint64_t answered;

	struct outgoing_queue objects;
	struct assembly object_in;
	/* what the peer will still take; what it may still send; what it may send again and is not
	 * told */
	uint32_t credit_out, credit_in, credit_owed;
	bool owes_pong, owes_ping;
	uint64_t pong_value, ping_value;

	ev_tstamp sent_at, pinged_at, object_at, probe_at;
	struct ev_timer tick, finish;
};

static void queue_push(struct outgoing_queue *q, struct outgoing *o)
{
	*q->last = o;
	q->last = &o->next;
	q->bytes += o->len;
}

static struct outgoing *queue_pop(struct outgoing_queue *q)
{
	struct outgoing *o = q->first;

	q->first = o->next;
	if (!q->first)
		q->last = &q->first;
	q->bytes -= o->len;
	return o;
}

static void queue_fail(struct outgoing_queue *q)
{
	while (q->first) {
		struct outgoing *o = queue_pop(q);
		if (o->done)
			o->done(o->arg, -ECONNRESET);
		free(o->data);
		free(o);
	}
}

void session_end(struct session *s, int err)
{
	if (s->is_dead)
		return;
	s->is_dead = true;
	s->err = err;
	wire_close(s->wire);
	s->wire = NULL;
	noise_cipher_wipe(&s->send);
	noise_cipher_wipe(&s->receive);
	ev_timer_stop(s->loop, &s->tick);
	/* Channels may be in the middle of a call of ours: they are told from the loop. */
	ev_timer_set(&s->finish, 0, 0);
	ev_timer_start(s->loop, &s->finish);
}

/* ---- out ---- */

/* One Noise message with this fragment. False: no room, or the session died. */
static bool send_fragment(struct session *s, const struct fragment *f)
{
	size_t len = fragment_size(f), sealed;
	uint8_t *p = wire_reserve(s->wire, len + NOISE_TAG_SIZE);
	int r;

	if (!p)
		return false;
	fragment_emit(f, p);
	r = noise_cipher_encrypt(&s->send, NULL, 0, p, len, p, len + NOISE_TAG_SIZE, &sealed);
	if (r < 0) {
		session_end(s, r);
		return false;
	}
	wire_commit(s->wire, sealed);
	s->sent_at = ev_now(s->loop);
	if (f->kind == FRAGMENT_REKEY || ++s->num_sent == s->limits->rekey_messages) {
		noise_cipher_rekey(&s->send);
		s->num_sent = 0;
		s->key_time = ev_now(s->loop);
	}
	return true;
}

static bool send_value(struct session *s, enum fragment_kind kind, uint64_t value)
{
	return send_fragment(
		s, &(struct fragment){
			   .kind = kind, .is_first = true, .is_last = true, .value = value });
}

/* The next piece of what is first in the queue. */
static bool send_piece(struct session *s, enum fragment_kind kind, struct outgoing *o, size_t max)
{
	struct fragment f = {
		.kind = kind,
		.is_first = o->sent == 0,
		.total = (uint32_t)o->len,
		.id = o->id,
		.data = o->data + o->sent,
		.len = o->len - o->sent < max ? o->len - o->sent : max,
	};

	f.is_last = o->sent + f.len == o->len;
	if (!send_fragment(s, &f))
		return false;
	o->sent += f.len;
	return true;
}

static bool send_small(struct session *s, bool *ret_sent)
{
	*ret_sent = true;
	if (s->owes_pong) {
		s->owes_pong = !send_value(s, FRAGMENT_PONG, s->pong_value);
		return !s->owes_pong;
	}
	if (s->owes_ping) {
		s->owes_ping = !send_value(s, FRAGMENT_PING, ++s->ping_value);
		return !s->owes_ping;
	}
	/* Told in portions: a credit for each piece would double the number of messages. */
	if (s->credit_owed > s->limits->window / 8) {
		if (!send_value(s, FRAGMENT_CREDIT, s->credit_owed))
			return false;
		s->credit_in += s->credit_owed;
		s->credit_owed = 0;
		return true;
	}
	if (s->num_sent > 0 && ev_now(s->loop) - s->key_time > s->limits->rekey_after)
		return send_value(s, FRAGMENT_REKEY, 0);
	*ret_sent = false;
	return true;
}

static bool send_message(struct session *s, bool *ret_sent)
{
	struct session_port *port = s->answerer_next ? &s->answerer : &s->asker;
	struct outgoing *o;

	if (!port->queue.first)
		port = s->answerer_next ? &s->asker : &s->answerer;
	o = port->queue.first;
	*ret_sent = o != NULL;
	if (!o)
		return true;
	if (!send_piece(s, port->kind, o, FRAGMENT_PIECE_MAX))
		return false;
	s->answerer_next = port == &s->asker;
	if (o->sent == o->len) {
		queue_pop(&port->queue);
		free(o->data);
		free(o);
	}
	return true;
}

static bool send_bulk(struct session *s, bool *ret_sent)
{
	struct outgoing *o = s->objects.first;
	size_t max = s->credit_out < FRAGMENT_BULK_MAX ? s->credit_out : FRAGMENT_BULK_MAX, before;

	*ret_sent = false;
	if (!o || max == 0)
		return true;
	/* Little ciphertext ahead, so that a message is soon on its way. */
	if (wire_queued(s->wire) > WIRE_LOW) {
		wire_flush(s->wire);
		if (wire_queued(s->wire) > WIRE_LOW) {
			wire_want_room(s->wire);
			return false;
		}
	}
	before = o->sent;
	if (!send_piece(s, FRAGMENT_OBJECT, o, max))
		return false;
	*ret_sent = true;
	s->credit_out -= (uint32_t)(o->sent - before);
	s->object_at = ev_now(s->loop);
	if (o->sent == o->len) {
		queue_pop(&s->objects);
		free(o->data);
		if (o->done)
			o->done(o->arg, 0);
		free(o);
	}
	return true;
}

/* Sends what the wire takes, the urgent first. */
static void pump(struct session *s)
{
	bool sent = true;

	/* A done() may queue more and come here again: the loop that runs sends it. */
	if (s->is_pumping || s->is_dead)
		return;
	s->is_pumping = true;
	while (sent && !s->is_dead) {
		if (!send_small(s, &sent))
			break;
		if (!sent && !send_message(s, &sent))
			break;
		if (!sent && !send_bulk(s, &sent))
			break;
	}
	s->is_pumping = false;
	if (!s->is_dead)
		wire_flush(s->wire);
}

static int port_send(
	void *ctx, const void *data, size_t len, const int *fds, size_t num_fds, int priority)
{
	struct session_port *port = ctx;
	struct session *s = port->session;
	struct outgoing *o;

	if (num_fds > 0)
		return -EINVAL;
	/* The channel is about to be told; whoever asks meanwhile is told with the others. */
	if (s->is_dead)
		return 0;
	if (len > IPC_MSG_MAX)
		return -EMSGSIZE;
	if (port->queue.bytes + len > SESSION_QUEUE_MAX) {
		session_end(s, -ENOBUFS);
		return 0;
	}
	o = calloc(1, sizeof(*o));
	if (o)
		o->data = malloc(len);
	if (!o || !o->data) {
		free(o);
		return -ENOMEM;
	}
	memcpy(o->data, data, len);
	o->len = len;
	queue_push(&port->queue, o);
	/* While frames are being taken in, answers gather and leave together. */
	if (!s->is_receiving)
		pump(s);
	return 0;
}

void session_object(struct session *s, const uint8_t id[32], uint8_t *data, size_t len,
	session_sent_fn *done, void *arg)
{
	struct outgoing *o = s->is_dead ? NULL : calloc(1, sizeof(*o));

	if (!o || len == 0 || len > SESSION_OBJECT_MAX) {
		free(o);
		free(data);
		if (done)
			done(arg, s->is_dead ? -ECONNRESET : o ? -EMSGSIZE : -ENOMEM);
		return;
	}
	memcpy(o->id, id, sizeof(o->id));
	o->data = data;
	o->len = len;
	o->done = done;
	o->arg = arg;
	if (!s->objects.first)
		s->object_at = ev_now(s->loop);
	queue_push(&s->objects, o);
	if (!s->is_receiving)
		pump(s);
}

void session_credit(struct session *s, size_t len)
{
	if (s->is_dead)
		return;
	s->credit_owed += (uint32_t)len;
	if (!s->is_receiving)
		pump(s);
}

/* ---- in ---- */

static int take_message(struct session *s, struct session_port *port, const struct fragment *f)
{
	int r = assembly_add(&port->in, f, IPC_MSG_MAX);

	if (r == 1)
		r = ipc_chan_feed(port->chan, port->in.buf, port->in.total);
	return r < 0 ? r : 0;
}

static int take_object(struct session *s, const struct fragment *f)
{
	int r;

	if (f->len > s->credit_in)
		return -EBADMSG;
	s->credit_in -= (uint32_t)f->len;
	r = assembly_add(&s->object_in, f, SESSION_OBJECT_MAX);
	if (r == 1) {
		uint8_t *data = s->object_in.buf;
		s->object_in.buf = NULL;
		s->ops->object(s->self, s, s->object_in.id, data, s->object_in.total);
	}
	return r < 0 ? r : 0;
}

static int take_fragment(struct session *s, const struct fragment *f)
{
	switch (f->kind) {
	case FRAGMENT_ASK:
		return take_message(s, &s->answerer, f);
	case FRAGMENT_ANSWER:
		s->answered += f->len;
		return take_message(s, &s->asker, f);
	case FRAGMENT_OBJECT:
		return take_object(s, f);
	case FRAGMENT_CREDIT:
		if (f->value > s->limits->window - s->credit_out)
			return -EBADMSG;
		s->credit_out += (uint32_t)f->value;
		return 0;
	case FRAGMENT_PING:
		s->owes_pong = true;
		s->pong_value = f->value;
		return 0;
	case FRAGMENT_PONG:
	case FRAGMENT_REKEY:
		return 0;
	}
	return -EBADMSG;
}

static void first_message(struct session *s)
{
	s->is_up = true;
	s->ops->up(s->self, s);
}

static void on_frame(void *self, uint8_t *data, size_t len)
{
	struct session *s = session_ref(self);
	struct fragment f;
	size_t plain_len;
	int r;

	s->is_receiving = true;
	r = noise_cipher_decrypt(&s->receive, NULL, 0, data, len, data, len, &plain_len);
	if (r == 0)
		r = fragment_parse(&f, data, plain_len);
	if (r == 0) {
		if (f.kind == FRAGMENT_REKEY || ++s->num_received == s->limits->rekey_messages) {
			noise_cipher_rekey(&s->receive);
			s->num_received = 0;
		}
		s->probe_at = 0;
		if (!s->is_up)
			first_message(s);
		if (!s->is_dead)
			r = take_fragment(s, &f);
	}
	s->is_receiving = false;
	if (r < 0)
		session_end(s, r);
	else
		pump(s);
	session_unref(s);
}

static void on_room(void *self)
{
	struct session *s = session_ref(self);

	pump(s);
	session_unref(s);
}

static void on_dead(void *self, int err)
{
	session_end(self, err);
}

static const struct wire_ops wire_ops = { .frame = on_frame, .room = on_room, .dead = on_dead };

/* ---- time ---- */

static void on_tick(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct session *s = timer->data;
	ev_tstamp now = ev_now(loop), received_at = wire_received_at(s->wire);

	if (now - received_at > s->limits->dead_after || (s->probe_at && now > s->probe_at)) {
		session_end(s, -ETIMEDOUT);
		return;
	}
	if (s->objects.first && now - s->object_at > s->limits->stall_after) {
		session_end(s, -ETIMEDOUT);
		return;
	}
	/* Also while it sends and we do not: on a slow line its own ping is behind much else. */
	if (now - s->sent_at >= s->limits->ping_after ||
		(now - received_at >= s->limits->ping_after &&
			now - s->pinged_at >= s->limits->ping_after)) {
		s->owes_ping = true;
		s->pinged_at = now;
	}
	pump(s);
}

void session_probe(struct session *s, double seconds)
{
	if (s->is_dead || s->probe_at)
		return;
	s->probe_at = ev_now(s->loop) + seconds;
	s->owes_ping = true;
	pump(s);
}

/* ---- life ---- */

static void on_asker_closed(void *self, struct ipc_chan *chan, int err)
{
	session_end(self, err);
}

static void on_answerer_closed(void *self, struct ipc_chan *chan, int err)
{
	struct peer_server *server = self;

	session_end(server->session, err);
}

static void port_release(struct session_port *port)
{
	struct ipc_chan *chan = port->chan;

	port->chan = NULL;
	ipc_chan_close(chan);
	queue_fail(&port->queue);
	assembly_release(&port->in);
}

static void on_finish(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct session *s = timer->data;

	port_release(&s->asker);
	port_release(&s->answerer);
	queue_fail(&s->objects);
	assembly_release(&s->object_in);
	s->is_closed = true;
	s->ops->closed(s->self, s, s->err);
	session_unref(s);
}

static void port_init(struct session_port *port, struct session *s, enum fragment_kind kind)
{
	port->session = s;
	port->kind = kind;
	port->queue.last = &port->queue.first;
}

static int open_channels(struct session *s)
{
	struct ipc_port port = { .send = port_send, .ctx = &s->asker, .loop = s->loop };
	int r = ipc_chan_open_port(&s->asker.chan, &port, &peer_client_service, s, on_asker_closed);

	if (r < 0)
		return r;
	port.ctx = &s->answerer;
	return ipc_chan_open_port(
		&s->answerer.chan, &port, &peer_server_service, &s->server, on_answerer_closed);
}

int session_open(struct session **ret, const struct session_params *params)
{
	struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		wire_close(params->wire);
		return -ENOMEM;
	}
	/* The caller's, and the one of the wire until closed(). */
	s->refs = 2;
	s->loop = params->loop;
	s->limits = params->limits;
	s->ops = params->ops;
	s->self = params->self;
	s->wire = params->wire;
	s->send = *params->send;
	s->receive = *params->receive;
	s->credit_out = s->credit_in = s->limits->window;
	s->objects.last = &s->objects.first;
	s->server = (struct peer_server){ .session = s, .owner = params->self };
	port_init(&s->asker, s, FRAGMENT_ASK);
	port_init(&s->answerer, s, FRAGMENT_ANSWER);
	s->sent_at = s->pinged_at = s->key_time = ev_now(s->loop);
	ev_init(&s->finish, on_finish);
	ev_timer_init(&s->tick, on_tick, s->limits->ping_after / 3, s->limits->ping_after / 3);
	s->tick.data = s->finish.data = s;
	ev_timer_start(s->loop, &s->tick);
	wire_limit(s->wire, WIRE_FRAME_MAX);
	wire_hand_over(s->wire, &wire_ops, s);
	wire_pause(s->wire, false);
	r = open_channels(s);
	if (r < 0)
		session_end(s, r);
	*ret = s;
	return 0;
}

struct session *session_ref(struct session *s)
{
	s->refs++;
	return s;
}

void session_unref(struct session *s)
{
	if (s && --s->refs == 0)
		free(s);
}

bool session_is_dead(const struct session *s)
{
	return s->is_dead;
}

bool session_is_up(const struct session *s)
{
	return s->is_up && !s->is_dead;
}

struct ipc_chan *session_asker(struct session *s)
{
	return s->is_dead ? NULL : s->asker.chan;
}

uint64_t session_answered(const struct session *s)
{
	return s->answered;
}
