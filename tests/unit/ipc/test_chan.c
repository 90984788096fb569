#include "sides.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct result {
	unsigned num;
	int err;
	uint64_t n;
	char text[100];
	struct ipc_chan *chan;
};

static void echo_done(void *arg, int err, const struct test_echo_reply *reply)
{
	struct result *res = arg;

	res->num++;
	res->err = err;
	res->n = reply ? reply->n : 0;
	if (err < 0 && res->chan)
		snprintf(res->text, sizeof(res->text), "%s", ipc_chan_error(res->chan));
}

static void odd_done(void *arg, int err, const struct test_odd_reply *reply)
{
	struct result *res = arg;

	res->num++;
	res->err = err;
	res->n = reply ? reply->data.len : 0;
	if (err < 0 && res->chan)
		snprintf(res->text, sizeof(res->text), "%s", ipc_chan_error(res->chan));
}

static void chan__answers_requests_in_order(void **state)
{
	struct result res[100] = { 0 };
	struct sides s;

	sides_init(&s);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(
			test_echo(s.client.chan, &(struct test_echo){ .n = i }, echo_done, &res[i]),
			0);
	assert_int_equal(ipc_chan_pending(s.client.chan), 100);
	sides_run(&s);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(res[i].num, 1);
		assert_int_equal(res[i].err, 0);
		assert_int_equal(res[i].n, i);
	}
	assert_int_equal(ipc_chan_pending(s.client.chan), 0);
	sides_release(&s);
}

static void all_done(void *arg, int err, const struct test_all_reply *reply)
{
	assert_int_equal(err, 0);
	assert_int_equal(reply->h.len, 3);
	assert_memory_equal(reply->h.data, "abc", 3);
	assert_string_equal(reply->i, "text");
	assert_int_equal(reply->num_points, 2);
	assert_string_equal(reply->points[1].label, "two");
	++*(unsigned *)arg;
}

static void chan__carries_every_type(void **state)
{
	struct test_point points[] = { { .x = -1, .label = "one" }, { .x = 2, .label = "two" } };
	unsigned num = 0;
	struct sides s;

	sides_init(&s);
	assert_int_equal(test_all(s.client.chan,
				 &(struct test_all){ .h = { (const uint8_t *)"abc", 3 },
					 .i = "text",
					 .points = points,
					 .num_points = 2 },
				 all_done, &num),
		0);
	sides_run(&s);
	assert_int_equal(num, 1);
	sides_release(&s);
}

static void chan__refuses_to_send_beyond_bounds(void **state)
{
	static const uint8_t big[1001];
	struct sides s;

	sides_init(&s);
	assert_int_equal(
		test_all(s.client.chan, &(struct test_all){ .h = { big, 1001 } }, NULL, NULL),
		-EMSGSIZE);
	assert_int_equal(
		test_all(s.client.chan, &(struct test_all){ .num_words = 1 }, NULL, NULL), -EINVAL);
	assert_int_equal(ipc_chan_pending(s.client.chan), 0);
	sides_release(&s);
}

static void chan__passes_error_and_text(void **state)
{
	struct result res = { 0 };
	struct sides s;

	sides_init(&s);
	res.chan = s.client.chan;
	test_odd(s.client.chan, &(struct test_odd){ .mode = 1 }, odd_done, &res);
	sides_run(&s);
	assert_int_equal(res.num, 1);
	assert_int_equal(res.err, -ENOKEY);
	assert_string_equal(res.text, "no such key: 42");
	sides_release(&s);
}

static void chan__defers_an_answer(void **state)
{
	struct result res = { 0 };
	struct sides s;

	sides_init(&s);
	test_odd(s.client.chan, &(struct test_odd){ .mode = 0 }, odd_done, &res);
	sides_run(&s);
	assert_int_equal(res.num, 0);
	assert_non_null(s.server.deferred);
	assert_false(ipc_call_dead(s.server.deferred));
	test_odd_reply(s.server.deferred,
		&(struct test_odd_reply){ .data = { (const uint8_t *)"late", 4 } });
	sides_run(&s);
	assert_int_equal(res.num, 1);
	assert_int_equal(res.n, 4);
	sides_release(&s);
}

static void chan__tells_both_when_the_asker_goes(void **state)
{
	struct result res = { 0 };
	struct sides s;

	sides_init(&s);
	test_odd(s.client.chan, &(struct test_odd){ .mode = 0 }, odd_done, &res);
	sides_run(&s);
	ipc_chan_close(s.client.chan);
	s.client.chan = NULL;
	assert_int_equal(res.num, 1);
	assert_int_equal(res.err, -ECONNRESET);
	assert_false(s.client.was_closed);
	sides_run(&s);
	assert_true(s.server.was_closed);
	assert_int_equal(s.server.closed_err, 0);
	assert_int_equal(s.server.num_dead, 1);
	test_odd_reply(s.server.deferred, &(struct test_odd_reply){ 0 });
	assert_int_equal(test_shout(s.server.chan, &(struct test_shout){ .n = 1 }), -ECONNRESET);
	sides_release(&s);
}

static void chan__fails_pending_requests_before_closed(void **state)
{
	struct result res[3] = { 0 };
	struct sides s;

	sides_init(&s);
	for (unsigned i = 0; i < 3; i++)
		test_odd(s.client.chan, &(struct test_odd){ .mode = 3 }, odd_done, &res[i]);
	sides_run(&s);
	ipc_chan_close(s.server.chan);
	s.server.chan = NULL;
	sides_run(&s);
	assert_true(s.client.was_closed);
	assert_int_equal(s.client.closed_err, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(res[i].num, 1);
		assert_int_equal(res[i].err, -ECONNRESET);
	}
	assert_int_equal(
		test_echo(s.client.chan, &(struct test_echo){ 0 }, echo_done, NULL), -ECONNRESET);
	assert_int_equal(s.server.num_dead, 3);
	sides_release(&s);
}

static void chan__may_be_closed_in_a_handler(void **state)
{
	struct result res = { 0 };
	struct sides s;

	sides_init(&s);
	s.server.close_in_handler = true;
	test_echo(s.client.chan, &(struct test_echo){ .n = 1 }, echo_done, &res);
	test_echo(s.client.chan, &(struct test_echo){ .n = 2 }, echo_done, &res);
	sides_run(&s);
	assert_int_equal(res.num, 2);
	assert_int_equal(res.err, -ECONNRESET);
	assert_true(s.client.was_closed);
	sides_release(&s);
}

static void chan__hands_over_descriptors(void **state)
{
	const unsigned before = count_fds();
	struct test_fd_reply reply;
	int p[2], q[2];
	char buf[8];
	pid_t pid;
	int fds[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(pipe2(q, O_CLOEXEC), 0);
	assert_int_equal(ipc_pair(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct test_server server = { 0 };
		close(fds[0]);
		ipc_chan_open(
			&server.chan, NULL, fds[1], &test_server_service, &server, server_closed);
		while (ipc_chan_pump(server.chan, -1) >= 0)
			;
		_exit(server.closed_err ? 1 : 0);
	}
	close(fds[1]);
	struct test_client client = { 0 };
	assert_int_equal(ipc_chan_open(&client.chan, NULL, fds[0], &test_client_service, &client,
				 client_closed),
		0);
	assert_int_equal(test_fd_wait(client.chan, &(struct test_fd){ .fd = p[1], .other = q[1] },
				 5000, &reply),
		0);
	assert_int_equal(read(p[0], buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_true(reply.fd >= 0);
	assert_true(fcntl(reply.fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(reply.fd, "back", 4), 4);
	assert_int_equal(read(q[0], buf, sizeof(buf)), 4);
	test_fd_reply_release(&reply);
	assert_int_equal(test_fd_wait(client.chan, &(struct test_fd){ .fd = -1, .other = q[1] },
				 5000, &reply),
		-EBADF);
	assert_string_equal(ipc_chan_error(client.chan), "no descriptor");
	ipc_chan_close(client.chan);
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++) {
		close(p[i]);
		close(q[i]);
	}
	assert_int_equal(count_fds(), before);
}

/* A server in a process of its own, that serves until its asker goes away. */
static pid_t spawn_server(struct ipc_chan **ret, struct test_client *client, bool shout_first)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(ipc_pair(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct test_server server = { .shout_first = shout_first };
		close(fds[0]);
		ipc_chan_open(
			&server.chan, NULL, fds[1], &test_server_service, &server, server_closed);
		while (ipc_chan_pump(server.chan, -1) >= 0)
			;
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(
		ipc_chan_open(ret, NULL, fds[0], &test_client_service, client, client_closed), 0);
	return pid;
}

static void wait__keeps_what_comes_meanwhile(void **state)
{
	struct test_client client = { 0 };
	struct result res = { 0 };
	struct test_echo_reply reply;
	pid_t pid = spawn_server(&client.chan, &client, true);

	test_echo(client.chan, &(struct test_echo){ .n = 7 }, echo_done, &res);
	assert_int_equal(
		test_echo_wait(client.chan, &(struct test_echo){ .n = 9 }, 5000, &reply), 0);
	assert_int_equal(reply.n, 9);
	test_echo_reply_release(&reply);
	assert_int_equal(client.num_shouts, 0);
	assert_int_equal(res.num, 0);
	assert_true(ipc_chan_pump(client.chan, 0) >= 5);
	assert_int_equal(client.num_shouts, 4);
	assert_int_equal(client.last_shout, 10);
	assert_int_equal(res.num, 1);
	assert_int_equal(res.n, 7);
	ipc_chan_close(client.chan);
	waitpid(pid, NULL, 0);
}

static void wait__spins_and_times_out(void **state)
{
	struct test_client client = { 0 };
	struct test_odd_reply odd;
	struct test_echo_reply reply;
	pid_t pid = spawn_server(&client.chan, &client, false);

	ipc_chan_set_spin(client.chan, 200);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(
			test_echo_wait(client.chan, &(struct test_echo){ .n = i }, -1, &reply), 0);
		assert_int_equal(reply.n, i);
		test_echo_reply_release(&reply);
	}
	assert_int_equal(
		test_odd_wait(client.chan, &(struct test_odd){ .mode = 3 }, 30, &odd), -ETIMEDOUT);
	assert_string_equal(ipc_chan_error(client.chan), "test_odd: no answer in time");
	assert_int_equal(
		test_odd_wait(client.chan, &(struct test_odd){ .mode = 1 }, 5000, &odd), -ENOKEY);
	static const uint8_t data[120000] = { 1, 2, 3 };
	assert_int_equal(test_odd_wait(client.chan,
				 &(struct test_odd){ .mode = 9, .data = { data, sizeof(data) } },
				 5000, &odd),
		0);
	assert_int_equal(odd.data.len, sizeof(data));
	assert_memory_equal(odd.data.data, data, sizeof(data));
	test_odd_reply_release(&odd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(test_echo_wait(client.chan, &(struct test_echo){ .n = 1 }, 5000, &reply),
		-ECONNRESET);
	assert_false(client.was_closed);
	assert_int_equal(ipc_chan_pump(client.chan, 0), -ECONNRESET);
	assert_true(client.was_closed);
	ipc_chan_close(client.chan);
}

struct progress_seen {
	unsigned num;
	uint64_t serial, done, total;
	char text[20];
};

static void progressed(void *arg, uint64_t serial, uint64_t done, uint64_t total, const char *text)
{
	struct progress_seen *seen = arg;

	if (!seen->num++)
		snprintf(seen->text, sizeof(seen->text), "%s", text);
	seen->serial = serial;
	seen->done = done;
	seen->total = total;
}

static void chan__reports_progress(void **state)
{
	struct progress_seen seen = { 0 };
	struct result res = { 0 };
	struct sides s;

	sides_init(&s);
	ipc_chan_on_progress(s.client.chan, progressed, &seen);
	test_odd(s.client.chan, &(struct test_odd){ .mode = 2 }, odd_done, &res);
	sides_run(&s);
	assert_int_equal(res.num, 1);
	assert_int_equal(seen.num, 2);
	assert_string_equal(seen.text, "half");
	assert_int_equal(seen.serial, ipc_chan_last_serial(s.client.chan));
	assert_int_equal(seen.done, 2);
	sides_release(&s);
}

static void chan__times_out_and_ignores_the_late_answer(void **state)
{
	struct result slow = { 0 }, quick = { 0 };
	struct sides s;

	sides_init(&s);
	slow.chan = s.client.chan;
	test_odd_timeout(s.client.chan, &(struct test_odd){ .mode = 0 }, 20, odd_done, &slow);
	test_echo_timeout(s.client.chan, &(struct test_echo){ .n = 5 }, 5000, echo_done, &quick);
	for (unsigned i = 0; i < 10 && !slow.num; i++)
		sides_run(&s);
	assert_int_equal(slow.num, 1);
	assert_int_equal(slow.err, -ETIMEDOUT);
	assert_string_equal(slow.text, "test_odd: no answer in time");
	assert_int_equal(quick.n, 5);
	test_odd_reply(s.server.deferred, &(struct test_odd_reply){ 0 });
	sides_run(&s);
	assert_int_equal(slow.num, 1);
	assert_false(s.client.was_closed);
	sides_release(&s);
}

static void chan__queues_for_a_slow_reader(void **state)
{
	static const uint8_t data[50000];
	struct sides s;

	sides_init(&s);
	for (unsigned i = 1; i <= 100; i++)
		assert_int_equal(test_told(s.client.chan, &(struct test_told){ .n = i,
								  .data = { data, sizeof(data) } }),
			0);
	assert_true(ipc_chan_queued(s.client.chan) > 3000000);
	sides_run(&s);
	sides_run(&s);
	assert_int_equal(ipc_chan_queued(s.client.chan), 0);
	assert_int_equal(s.server.num_told, 100);
	sides_release(&s);
}

static void chan__gives_up_on_a_peer_that_never_reads(void **state)
{
	static const uint8_t data[100000];
	struct test_client client = { 0 };
	struct result res = { 0 };
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	int fds[2], r = 0;
	unsigned n = 0;

	assert_int_equal(ipc_pair(fds), 0);
	ipc_chan_open(&client.chan, loop, fds[0], &test_client_service, &client, client_closed);
	test_echo(client.chan, &(struct test_echo){ .n = 1 }, echo_done, &res);
	while (r == 0 && n++ < 1000)
		r = test_told(client.chan, &(struct test_told){ .data = { data, sizeof(data) } });
	assert_int_equal(r, -ENOBUFS);
	assert_in_range(n, 600, 700);
	assert_int_equal(res.num, 0);
	assert_int_equal(test_told(client.chan, &(struct test_told){ 0 }), -ECONNRESET);
	ev_run(loop, EVRUN_ONCE);
	assert_true(client.was_closed);
	assert_int_equal(client.closed_err, -ENOBUFS);
	assert_int_equal(res.num, 1);
	ipc_chan_close(client.chan);
	close(fds[1]);
	ev_loop_destroy(loop);
}

static void chan__flushes(void **state)
{
	static const uint8_t data[100000];
	struct test_client client = { 0 };
	int fds[2], status;
	pid_t pid;

	assert_int_equal(ipc_pair(fds), 0);
	ipc_chan_open(&client.chan, NULL, fds[0], &test_client_service, &client, client_closed);
	for (unsigned i = 1; i <= 50; i++)
		test_told(
			client.chan, &(struct test_told){ .n = i, .data = { data, sizeof(data) } });
	assert_int_equal(ipc_chan_flush(client.chan, 10), -ETIMEDOUT);
	pid = fork();
	if (pid == 0) {
		struct test_server server = { 0 };
		close(fds[0]);
		ipc_chan_open(
			&server.chan, NULL, fds[1], &test_server_service, &server, server_closed);
		while (ipc_chan_pump(server.chan, -1) >= 0)
			;
		_exit(server.num_told == 50 ? 0 : 1);
	}
	close(fds[1]);
	assert_int_equal(ipc_chan_flush(client.chan, 5000), 0);
	ipc_chan_close(client.chan);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

/* A peer that is not of our making: bytes straight into the socket. */
struct raw {
	struct ev_loop *loop;
	struct test_server server;
	int fd;
};

static void raw_init(struct raw *raw, const struct ipc_service *service)
{
	int fds[2];

	memset(raw, 0, sizeof(*raw));
	raw->loop = ev_loop_new(EVFLAG_AUTO);
	assert_int_equal(ipc_pair(fds), 0);
	raw->fd = fds[0];
	ipc_chan_open(&raw->server.chan, raw->loop, fds[1], service, &raw->server, server_closed);
}

static void raw_send(struct raw *raw, enum ipc_kind kind, uint16_t type, uint64_t serial,
	const void *body, size_t len, const int *fds, size_t num_fds)
{
	uint8_t buf[1000];

	ipc_frame_head(buf, kind, type, serial, len, num_fds);
	memcpy(buf + IPC_HEADER_LEN, body, len);
	assert_int_equal(ipc_frame_send(raw->fd, buf, IPC_HEADER_LEN + len, fds, num_fds), 0);
}

static void raw_hello(struct raw *raw, const char *name, uint32_t version, const uint8_t *digest)
{
	uint8_t buf[100];
	struct ipc_writer w;

	ipc_writer_init(&w, buf, sizeof(buf));
	ipc_write_array(&w, 3);
	ipc_write_text(&w, name, 64);
	ipc_write_uint(&w, version);
	ipc_write_fixed(&w, digest, 32);
	raw_send(raw, IPC_HELLO, 0, 0, buf, w.len, NULL, 0);
}

static void raw_expect_closed(struct raw *raw, int err)
{
	for (int i = 0; i < 5 && !raw->server.was_closed; i++)
		ev_run(raw->loop, EVRUN_NOWAIT);
	assert_true(raw->server.was_closed);
	assert_int_equal(raw->server.closed_err, err);
	ipc_chan_close(raw->server.chan);
	close(raw->fd);
	ev_loop_destroy(raw->loop);
}

static void hello__must_come_first(void **state)
{
	struct raw raw;

	raw_init(&raw, &test_server_service);
	raw_send(&raw, IPC_REQUEST, TEST_ECHO, 1, "\x91\x01", 2, NULL, 0);
	raw_expect_closed(&raw, -EPROTO);
}

static void hello__must_be_of_the_same_build(void **state)
{
	uint8_t other[32];
	struct raw raw;

	memcpy(other, test_digest, 32);
	other[31] ^= 1;
	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "test", TEST_VERSION, other);
	for (int i = 0; i < 5; i++)
		ev_run(raw.loop, EVRUN_NOWAIT);
	assert_non_null(strstr(ipc_chan_error(raw.server.chan),
		"schema of test differs: worker of another build"));
	raw_expect_closed(&raw, -EPROTO);

	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "other", TEST_VERSION, test_digest);
	raw_expect_closed(&raw, -EPROTO);

	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "test", TEST_VERSION, test_digest);
	raw_hello(&raw, "test", TEST_VERSION, test_digest);
	raw_expect_closed(&raw, -EPROTO);
}

static void chan__closes_on_what_the_schema_forbids(void **state)
{
	static const struct {
		enum ipc_kind kind;
		uint16_t type;
		uint64_t serial;
		const char *body;
		size_t len;
	} bad[] = {
		{ IPC_REQUEST, TEST_ECHO, 1, "\x90", 1 },	  /* too few fields */
		{ IPC_REQUEST, TEST_ECHO, 1, "\x92\x01\x01", 3 }, /* too many */
		{ IPC_REQUEST, TEST_ECHO, 1, "\x91\x01\x00", 3 }, /* something after the end */
		{ IPC_REQUEST, TEST_ECHO, 1, "\x91\xa1x", 3 },	  /* another type */
		{ IPC_REQUEST, TEST_ECHO, 1, "\xdd\x55\x55\x55\x55", 5 },
		{ IPC_REQUEST, 999, 1, "\x90", 1 },	     /* unknown */
		{ IPC_NOTICE, TEST_ECHO, 1, "\x91\x01", 2 }, /* of another kind */
		{ IPC_REQUEST, TEST_TOLD, 1, "\x92\x01\xc4\x00", 4 },
		{ IPC_NOTICE, TEST_SHOUT, 0, "\x91\x01", 2 }, /* the wrong way */
		{ IPC_REPLY, TEST_ECHO, 1, "\x91\x01", 2 },   /* never asked */
		{ IPC_ERROR, TEST_ECHO, 1, "\x92\x01\xa0", 3 },
		{ IPC_PROGRESS, TEST_ECHO, 0, "\x93\x01\x01\xa0", 4 },
		{ 7, TEST_ECHO, 1, "\x91\x01", 2 }, /* unknown kind */
		{ 0, TEST_ECHO, 1, "\x91\x01", 2 },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct raw raw;
		raw_init(&raw, &test_server_service);
		raw_hello(&raw, "test", TEST_VERSION, test_digest);
		raw_send(&raw, bad[i].kind, bad[i].type, bad[i].serial, bad[i].body, bad[i].len,
			NULL, 0);
		raw_expect_closed(&raw, -EBADMSG);
	}
}

static void chan__closes_on_lies_about_length_and_descriptors(void **state)
{
	const unsigned before = count_fds();
	const int two[] = { 0, 1 };
	uint8_t head[IPC_HEADER_LEN + 2] = { 0 };
	struct raw raw;

	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "test", TEST_VERSION, test_digest);
	ipc_frame_head(head, IPC_REQUEST, TEST_ECHO, 1, 3, 0);
	assert_int_equal(ipc_frame_send(raw.fd, head, sizeof(head), NULL, 0), 0);
	raw_expect_closed(&raw, -EBADMSG);

	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "test", TEST_VERSION, test_digest);
	ipc_frame_head(head, IPC_REQUEST, TEST_ECHO, 1, 2, 1);
	assert_int_equal(ipc_frame_send(raw.fd, head, sizeof(head), two, 2), 0);
	raw_expect_closed(&raw, -EBADMSG);

	/* Descriptors that no field takes. */
	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "test", TEST_VERSION, test_digest);
	raw_send(&raw, IPC_REQUEST, TEST_ECHO, 1, "\x91\x01", 2, two, 2);
	raw_expect_closed(&raw, -EBADMSG);

	/* A field without its descriptor, one with. */
	raw_init(&raw, &test_server_service);
	raw_hello(&raw, "test", TEST_VERSION, test_digest);
	raw_send(&raw, IPC_REQUEST, TEST_FD, 1, "\x92\xc3\xc3", 3, two, 1);
	raw_expect_closed(&raw, -EBADMSG);
	assert_int_equal(count_fds(), before);
}

static void service__knows_who_serves_what(void **state)
{
	assert_string_equal(test_served_by(TEST_GAMMA), "gamma");
	assert_string_equal(test_served_by(TEST_ODD), "beta");
	assert_null(test_served_by(TEST_ECHO));
	assert_null(test_served_by(TEST_TOLD));
	assert_null(test_served_by(999));
	assert_true(test_offline(TEST_ODD));
	assert_false(test_offline(TEST_GAMMA));
	assert_string_equal(test_type_name(TEST_ODD), "test_odd");
	assert_string_equal(test_type_name(4242), "test: unknown message");
}

/* asker <-> relay <-> worker, as bazil(1), supervisor and keyd. */
struct relay {
	struct ev_loop *loop;
	struct test_client asker;
	struct test_server front; /* relay's side towards the asker */
	struct test_client back;  /* relay's side towards the worker */
	struct test_server worker;
	unsigned num_relayed;
	bool is_held;
	struct ipc_call *held;
};

static void held_dead(struct ipc_call *call, void *arg)
{
	ipc_call_fail(call, -ECANCELED, NULL);
}

static void relay_request(void *self, struct ipc_call *call, uint16_t type)
{
	struct test_server *front = self;
	struct relay *relay = (struct relay *)((char *)front - offsetof(struct relay, front));
	int r;

	relay->num_relayed++;
	if (relay->is_held) {
		relay->held = call;
		ipc_call_on_dead(call, held_dead, relay);
		return;
	}
	if (type == TEST_ECHO) {
		assert_int_equal(ipc_call_dispatch(call, &test_server_service, front), 0);
		return;
	}
	r = ipc_relay(call, relay->back.chan);
	if (r < 0)
		ipc_call_fail(call, r, "worker is not there");
}

static void relay_init(struct relay *r)
{
	int a[2], b[2];

	memset(r, 0, sizeof(*r));
	r->loop = ev_loop_new(EVFLAG_AUTO);
	assert_int_equal(ipc_pair(a), 0);
	assert_int_equal(ipc_pair(b), 0);
	ipc_chan_open(
		&r->asker.chan, r->loop, a[0], &test_client_service, &r->asker, client_closed);
	ipc_chan_open_relay(&r->front.chan, r->loop, a[1], &test_server_service, &r->front,
		server_closed, relay_request);
	ipc_chan_open(&r->back.chan, r->loop, b[0], &test_client_service, &r->back, client_closed);
	ipc_chan_open(
		&r->worker.chan, r->loop, b[1], &test_server_service, &r->worker, server_closed);
}

static void relay_release(struct relay *r)
{
	ipc_chan_close(r->asker.chan);
	ipc_chan_close(r->front.chan);
	ipc_chan_close(r->back.chan);
	ipc_chan_close(r->worker.chan);
	ev_loop_destroy(r->loop);
}

static void relay_run(struct relay *r)
{
	struct sides s = { .loop = r->loop };

	sides_run(&s);
}

static void fd_done(void *arg, int err, const struct test_fd_reply *reply)
{
	struct result *res = arg;

	res->num++;
	res->err = err;
	res->n = reply && reply->fd >= 0;
	if (reply)
		assert_int_equal(write(reply->fd, "x", 1), 1);
}

static void relay__passes_requests_and_answers(void **state)
{
	const unsigned before = count_fds();
	struct progress_seen seen = { 0 };
	struct result echo = { 0 }, odd = { 0 }, failed = { 0 }, fd = { 0 };
	struct relay r;
	char buf[8];
	int p[2];

	relay_init(&r);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	failed.chan = r.asker.chan;
	ipc_chan_on_progress(r.asker.chan, progressed, &seen);
	test_echo(r.asker.chan, &(struct test_echo){ .n = 3 }, echo_done, &echo);
	test_odd(r.asker.chan, &(struct test_odd){ .mode = 1 }, odd_done, &failed);
	test_odd(r.asker.chan,
		&(struct test_odd){ .mode = 2, .data = { (const uint8_t *)"ab", 2 } }, odd_done,
		&odd);
	test_fd(r.asker.chan, &(struct test_fd){ .fd = p[1], .other = p[1] }, fd_done, &fd);
	relay_run(&r);
	assert_int_equal(r.num_relayed, 4);
	assert_int_equal(echo.n, 3);
	assert_int_equal(failed.err, -ENOKEY);
	assert_string_equal(failed.text, "no such key: 42");
	assert_int_equal(odd.n, 2);
	assert_int_equal(seen.num, 2);
	assert_int_equal(fd.num, 1);
	assert_int_equal(fd.n, 1);
	close(p[1]);
	assert_int_equal(read(p[0], buf, sizeof(buf)), 6);
	/* Nobody kept the writing end. */
	assert_int_equal(read(p[0], buf, sizeof(buf)), 0);
	close(p[0]);
	relay_release(&r);
	assert_int_equal(count_fds(), before);
}

static void relay__survives_the_death_of_each(void **state)
{
	struct result res = { 0 };
	struct relay r;

	relay_init(&r);
	res.chan = r.asker.chan;
	test_odd(r.asker.chan, &(struct test_odd){ .mode = 0 }, odd_done, &res);
	relay_run(&r);
	ipc_chan_close(r.worker.chan);
	r.worker.chan = NULL;
	relay_run(&r);
	assert_int_equal(res.num, 1);
	assert_int_equal(res.err, -ECONNRESET);
	assert_non_null(strstr(res.text, "went away"));
	ipc_call_fail(r.worker.deferred, -EIO, NULL);
	test_odd(r.asker.chan, &(struct test_odd){ .mode = 0 }, odd_done, &res);
	relay_run(&r);
	assert_int_equal(res.num, 2);
	assert_string_equal(res.text, "worker is not there");
	relay_release(&r);

	relay_init(&r);
	memset(&res, 0, sizeof(res));
	test_odd(r.asker.chan, &(struct test_odd){ .mode = 0 }, odd_done, &res);
	relay_run(&r);
	ipc_chan_close(r.asker.chan);
	r.asker.chan = NULL;
	relay_run(&r);
	test_odd_reply(r.worker.deferred, &(struct test_odd_reply){ 0 });
	relay_run(&r);
	assert_false(r.back.was_closed);
	relay_release(&r);
}

static void relay__may_come_later(void **state)
{
	struct result res = { 0 };
	struct relay r;

	relay_init(&r);
	r.is_held = true;
	test_odd(r.asker.chan,
		&(struct test_odd){ .mode = 9, .data = { (const uint8_t *)"abc", 3 } }, odd_done,
		&res);
	relay_run(&r);
	assert_non_null(r.held);
	assert_int_equal(ipc_call_type(r.held), TEST_ODD);
	assert_int_equal(ipc_relay(r.held, r.back.chan), 0);
	relay_run(&r);
	assert_int_equal(res.num, 1);
	assert_int_equal(res.n, 3);
	relay_release(&r);
}

static void relay__stops_malformed_requests(void **state)
{
	struct relay r;
	uint8_t buf[100];

	relay_init(&r);
	relay_run(&r);
	ipc_frame_head(buf, IPC_REQUEST, TEST_ODD, 1, 1, 0);
	buf[IPC_HEADER_LEN] = 0x90;
	assert_int_equal(
		ipc_frame_send(ipc_chan_fd(r.asker.chan), buf, IPC_HEADER_LEN + 1, NULL, 0), 0);
	relay_run(&r);
	assert_int_equal(r.num_relayed, 0);
	assert_true(r.front.was_closed);
	assert_int_equal(r.front.closed_err, -EBADMSG);
	assert_false(r.back.was_closed);
	relay_release(&r);
}

static void chan__limits_unanswered_requests(void **state)
{
	struct result res[6] = { 0 };
	struct sides s;

	sides_init(&s);
	ipc_chan_set_max_calls(s.server.chan, 4);
	for (unsigned i = 0; i < 6; i++)
		test_odd(s.client.chan, &(struct test_odd){ .mode = 3 }, odd_done, &res[i]);
	sides_run(&s);
	assert_int_equal(res[3].num, 0);
	assert_int_equal(res[4].err, -EBUSY);
	assert_int_equal(res[5].err, -EBUSY);
	assert_false(s.server.was_closed);
	sides_release(&s);
}

static void relay__limits_what_it_holds(void **state)
{
	static const uint8_t data[100000];
	static struct result res[100];
	struct relay r;

	relay_init(&r);
	r.is_held = true;
	memset(res, 0, sizeof(res));
	for (unsigned i = 0; i < 100; i++)
		test_odd(r.asker.chan,
			&(struct test_odd){ .mode = 9, .data = { data, sizeof(data) } }, odd_done,
			&res[i]);
	for (unsigned i = 0; i < 20 && !res[99].num; i++)
		relay_run(&r);
	assert_int_equal(res[99].err, -EBUSY);
	assert_int_equal(res[50].num, 0);
	relay_release(&r);
}

static void *serve_thread(void *arg)
{
	struct test_server server = { 0 };

	ipc_chan_open(
		&server.chan, NULL, *(int *)arg, &test_server_service, &server, server_closed);
	while (ipc_chan_pump(server.chan, -1) >= 0)
		;
	ipc_chan_close(server.chan);
	return NULL;
}

static void chan__works_between_threads(void **state)
{
	struct test_client client = { 0 };
	struct result res = { 0 };
	pthread_t thread;
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	pthread_create(&thread, NULL, serve_thread, &fds[1]);
	ipc_chan_open(&client.chan, NULL, fds[0], &test_client_service, &client, client_closed);
	for (unsigned i = 0; i < 20000; i++) {
		assert_int_equal(
			test_echo(client.chan, &(struct test_echo){ .n = i }, echo_done, &res), 0);
		if (i % 1000 == 0)
			assert_true(ipc_chan_pump(client.chan, 0) >= 0);
	}
	while (res.num < 20000)
		assert_true(ipc_chan_pump(client.chan, 1000) > 0);
	assert_int_equal(res.n, 19999);
	ipc_chan_close(client.chan);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chan__answers_requests_in_order),
		cmocka_unit_test(chan__carries_every_type),
		cmocka_unit_test(chan__refuses_to_send_beyond_bounds),
		cmocka_unit_test(chan__passes_error_and_text),
		cmocka_unit_test(chan__defers_an_answer),
		cmocka_unit_test(chan__tells_both_when_the_asker_goes),
		cmocka_unit_test(chan__fails_pending_requests_before_closed),
		cmocka_unit_test(chan__may_be_closed_in_a_handler),
		cmocka_unit_test(chan__hands_over_descriptors),
		cmocka_unit_test(wait__keeps_what_comes_meanwhile),
		cmocka_unit_test(wait__spins_and_times_out),
		cmocka_unit_test(chan__reports_progress),
		cmocka_unit_test(chan__times_out_and_ignores_the_late_answer),
		cmocka_unit_test(chan__queues_for_a_slow_reader),
		cmocka_unit_test(chan__gives_up_on_a_peer_that_never_reads),
		cmocka_unit_test(chan__flushes),
		cmocka_unit_test(hello__must_come_first),
		cmocka_unit_test(hello__must_be_of_the_same_build),
		cmocka_unit_test(chan__closes_on_what_the_schema_forbids),
		cmocka_unit_test(chan__closes_on_lies_about_length_and_descriptors),
		cmocka_unit_test(service__knows_who_serves_what),
		cmocka_unit_test(relay__passes_requests_and_answers),
		cmocka_unit_test(relay__survives_the_death_of_each),
		cmocka_unit_test(relay__may_come_later),
		cmocka_unit_test(relay__stops_malformed_requests),
		cmocka_unit_test(chan__limits_unanswered_requests),
		cmocka_unit_test(relay__limits_what_it_holds),
		cmocka_unit_test(chan__works_between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
