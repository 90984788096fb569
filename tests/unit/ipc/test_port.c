/* Channels over ports, keyed schemas between versions, blocking calls inside of handlers. */
#include "ipc/chan.h"
#include "ipc/keyed.gen.h"
#include "ipc/test.gen.h"

#include <errno.h>
#include <ev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A wire in memory: what one side sends waits here until the test delivers it. */
struct wire {
	struct {
		uint8_t *data;
		size_t len;
		int priority;
	} msgs[100];
	size_t num, taken;
	int fail;
};

struct keyed_client {
	struct ipc_chan *chan;
	struct wire out;
	int closed_err;
	bool was_closed;
};

struct keyed_server {
	struct ipc_chan *chan;
	struct wire out;
	uint64_t a;
	unsigned num_tells;
	int closed_err;
	bool was_closed;
};

static int wire_send(
	void *ctx, const void *data, size_t len, const int *fds, size_t num_fds, int priority)
{
	struct wire *w = ctx;

	assert_int_equal(num_fds, 0);
	if (w->fail)
		return w->fail;
	w->msgs[w->num].data = malloc(len);
	memcpy(w->msgs[w->num].data, data, len);
	w->msgs[w->num].len = len;
	w->msgs[w->num++].priority = priority;
	return 0;
}

static int deliver(struct wire *w, struct ipc_chan *to)
{
	int r = 0;

	while (w->taken < w->num) {
		uint8_t *data = w->msgs[w->taken].data;
		int e = ipc_chan_feed(to, data, w->msgs[w->taken++].len);
		free(data);
		r = r < 0 ? r : e;
	}
	return r;
}

static void client_closed(void *self, struct ipc_chan *chan, int err)
{
	struct keyed_client *c = self;

	c->was_closed = true;
	c->closed_err = err;
}

static void server_closed(void *self, struct ipc_chan *chan, int err)
{
	struct keyed_server *s = self;

	s->was_closed = true;
	s->closed_err = err;
}

void on_keyed_ask(struct keyed_server *self, struct ipc_call *call, const struct keyed_ask *req)
{
	self->a = req->a;
	if (req->a == 5)
		ipc_call_set_priority(call, 3);
	keyed_ask_reply(call, &(struct keyed_ask_reply){ .c = { (const uint8_t *)"yes", 3 } });
}

void on_keyed_tell(struct keyed_server *self, const struct keyed_tell *msg)
{
	self->num_tells++;
}

static void open_port(struct ipc_chan **ret, struct wire *out, const struct ipc_service *service,
	void *self, ipc_closed_fn *closed)
{
	const struct ipc_port port = { .send = wire_send, .ctx = out };

	assert_int_equal(ipc_chan_open_port(ret, &port, service, self, closed), 0);
}

static void ask_done(void *arg, int err, const struct keyed_ask_reply *reply)
{
	*(int *)arg = err < 0 ? err : (int)reply->c.len;
}

struct link {
	struct keyed_client client;
	struct keyed_server server;
};

static void link_init(struct link *l, const struct ipc_service *client_service)
{
	memset(l, 0, sizeof(*l));
	open_port(&l->client.chan, &l->client.out, client_service, &l->client, client_closed);
	open_port(
		&l->server.chan, &l->server.out, &keyed_server_service, &l->server, server_closed);
}

static int link_run(struct link *l)
{
	int a = deliver(&l->client.out, l->server.chan),
	    b = deliver(&l->server.out, l->client.chan);

	return a < 0 ? a : b;
}

static void link_release(struct link *l)
{
	ipc_chan_close(l->client.chan);
	ipc_chan_close(l->server.chan);
	while (l->client.out.taken < l->client.out.num)
		free(l->client.out.msgs[l->client.out.taken++].data);
	while (l->server.out.taken < l->server.out.num)
		free(l->server.out.msgs[l->server.out.taken++].data);
}

static void port__carries_requests_with_priorities(void **state)
{
	struct link l;
	int got = 0;

	link_init(&l, &keyed_client_service);
	ipc_chan_set_priority(l.client.chan, 7);
	keyed_ask(l.client.chan, &(struct keyed_ask){ .a = 5 }, ask_done, &got);
	keyed_tell(l.client.chan, &(struct keyed_tell){ .a = 5 });
	assert_int_equal(l.client.out.msgs[1].priority, 7);
	assert_int_equal(link_run(&l), 0);
	assert_int_equal(got, 3);
	assert_int_equal(l.server.a, 5);
	assert_int_equal(l.server.num_tells, 1);
	assert_int_equal(l.server.out.msgs[1].priority, 3);
	/* Not for blocking. */
	assert_int_equal(ipc_chan_pump(l.client.chan, 0), -EINVAL);
	link_release(&l);
}

static void port__connects_different_versions(void **state)
{
	static const uint8_t other_digest[32] = { 1 };
	struct ipc_service older = keyed_client_service;
	uint8_t body[] = { 0x81, 0x01, 0x01 }, msg[100];
	struct link l;
	int got = 0;

	older.version = 1;
	older.digest = other_digest;
	link_init(&l, &older);
	keyed_ask(l.client.chan, &(struct keyed_ask){ .a = 1 }, ask_done, &got);
	assert_int_equal(link_run(&l), 0);
	assert_int_equal(got, 3);
	assert_int_equal(ipc_chan_peer_version(l.server.chan), 1);
	/* A request of a later version is answered by an error, a notice passed over; nobody hangs
	 * up. */
	ipc_frame_head(msg, IPC_REQUEST, 99, 2, sizeof(body), 0);
	memcpy(msg + IPC_HEADER_LEN, body, sizeof(body));
	size_t before = l.server.out.num;
	assert_int_equal(ipc_chan_feed(l.server.chan, msg, IPC_HEADER_LEN + sizeof(body)), 0);
	assert_int_equal(l.server.out.num, before + 1);
	assert_int_equal(l.server.out.msgs[before].data[2], IPC_ERROR);
	ipc_frame_head(msg, IPC_NOTICE, 98, 0, sizeof(body), 0);
	assert_int_equal(ipc_chan_feed(l.server.chan, msg, IPC_HEADER_LEN + sizeof(body)), 0);
	assert_int_equal(l.server.out.num, before + 1);
	free(l.server.out.msgs[before].data);
	l.server.out.taken++;
	link_release(&l);
}

static void port__refuses_another_channel(void **state)
{
	struct ipc_service other = keyed_client_service;
	struct link l;

	other.name = "other";
	link_init(&l, &other);
	assert_int_equal(link_run(&l), -EPROTO);
	assert_true(l.server.was_closed);
	assert_int_equal(l.server.closed_err, -EPROTO);
	link_release(&l);
}

static void port__fails_pending_requests_with_the_connection(void **state)
{
	struct link l;
	int got = 0;

	link_init(&l, &keyed_client_service);
	link_run(&l);
	keyed_ask(l.client.chan, &(struct keyed_ask){ .a = 1 }, ask_done, &got);
	ipc_chan_fail(l.client.chan, -ETIMEDOUT);
	assert_int_equal(got, -ECONNRESET);
	assert_true(l.client.was_closed);
	assert_int_equal(l.client.closed_err, -ETIMEDOUT);
	assert_int_equal(ipc_chan_feed(l.client.chan, "x", 1), -ECONNRESET);
	link_release(&l);

	/* A connection that breaks while we send is noticed at the next feed. */
	link_init(&l, &keyed_client_service);
	link_run(&l);
	l.client.out.fail = -EPIPE;
	assert_int_equal(
		keyed_ask(l.client.chan, &(struct keyed_ask){ .a = 1 }, ask_done, &got), -EPIPE);
	assert_false(l.client.was_closed);
	assert_int_equal(ipc_chan_feed(l.client.chan, "x", 1), -EPIPE);
	assert_true(l.client.was_closed);
	link_release(&l);
}

static void port__refuses_malformed_datagrams(void **state)
{
	uint8_t msg[IPC_HEADER_LEN + 1] = { 0 };
	struct link l;

	for (size_t len = 0; len <= sizeof(msg); len++) {
		link_init(&l, &keyed_client_service);
		link_run(&l);
		assert_int_equal(ipc_chan_feed(l.server.chan, msg, len), -EBADMSG);
		assert_true(l.server.was_closed);
		link_release(&l);
	}
}

/* --- the channel `test`: a handler that itself asks and waits --- */

struct test_client {
	struct ipc_chan *chan;
	struct ipc_chan *upstream;
	uint64_t sum;
};

struct test_server {
	struct ipc_chan *chan;
};

/* While it waits for an answer on the same channel, its own message must stay what it is. */
void on_test_shout(struct test_client *self, const struct test_shout *msg)
{
	struct test_echo_reply reply;

	assert_int_equal(
		test_echo_wait(self->chan, &(struct test_echo){ .n = 1000 + msg->n }, 5000, &reply),
		0);
	assert_int_equal(reply.n, 1000 + msg->n);
	assert_int_equal(ipc_chan_pump(self->chan, 0), -EBUSY);
	self->sum += msg->n;
	test_echo_reply_release(&reply);
}

void on_test_gamma(struct test_server *self, struct ipc_call *call, const struct test_gamma *req)
{
	for (unsigned i = 1; i <= 3; i++)
		test_shout(self->chan, &(struct test_shout){ .n = i });
	test_gamma_reply(call, NULL);
}

void on_test_echo(struct test_server *self, struct ipc_call *call, const struct test_echo *req)
{
	test_echo_reply(call, &(struct test_echo_reply){ .n = req->n });
}

void on_test_all(struct test_server *self, struct ipc_call *call, const struct test_all *req)
{
	ipc_call_fail(call, -ENOSYS, NULL);
}

void on_test_fd(struct test_server *self, struct ipc_call *call, const struct test_fd *req)
{
	ipc_call_fail(call, -ENOSYS, NULL);
}

void on_test_odd(struct test_server *self, struct ipc_call *call, const struct test_odd *req)
{
	test_odd_reply(call, &(struct test_odd_reply){ .data = req->data });
}

void on_test_told(struct test_server *self, const struct test_told *msg)
{
}

static pid_t serve(struct test_client *client, const struct ipc_service *service)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(ipc_pair(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct test_server server = { 0 };
		close(fds[0]);
		ipc_chan_open(&server.chan, NULL, fds[1], service, &server, NULL);
		while (ipc_chan_pump(server.chan, -1) >= 0)
			;
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(
		ipc_chan_open(&client->chan, NULL, fds[0], &test_client_service, client, NULL), 0);
	return pid;
}

static void wait__works_in_a_handler(void **state)
{
	struct test_client client = { 0 };
	struct test_gamma_reply reply;
	pid_t pid = serve(&client, &test_server_service);

	assert_int_equal(test_gamma_wait(client.chan, NULL, 5000, &reply), 0);
	test_gamma_reply_release(&reply);
	while (client.sum < 6)
		assert_true(ipc_chan_pump(client.chan, 5000) > 0);
	ipc_chan_close(client.chan);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(port__carries_requests_with_priorities),
		cmocka_unit_test(port__connects_different_versions),
		cmocka_unit_test(port__refuses_another_channel),
		cmocka_unit_test(port__fails_pending_requests_with_the_connection),
		cmocka_unit_test(port__refuses_malformed_datagrams),
		cmocka_unit_test(wait__works_in_a_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
