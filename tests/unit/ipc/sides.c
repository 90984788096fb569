#include "sides.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void client_closed(void *self, struct ipc_chan *chan, int err)
{
	struct test_client *c = self;

	assert_false(c->was_closed);
	c->was_closed = true;
	c->closed_err = err;
	snprintf(c->closed_text, sizeof(c->closed_text), "%s", ipc_chan_error(chan));
}

void server_closed(void *self, struct ipc_chan *chan, int err)
{
	struct test_server *s = self;

	assert_false(s->was_closed);
	s->was_closed = true;
	s->closed_err = err;
}

void sides_init(struct sides *s)
{
	int fds[2];

	memset(s, 0, sizeof(*s));
	s->loop = ev_loop_new(EVFLAG_AUTO);
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_chan_open(&s->client.chan, s->loop, fds[0], &test_client_service,
				 &s->client, client_closed),
		0);
	assert_int_equal(ipc_chan_open(&s->server.chan, s->loop, fds[1], &test_server_service,
				 &s->server, server_closed),
		0);
}

void sides_release(struct sides *s)
{
	ipc_chan_close(s->client.chan);
	ipc_chan_close(s->server.chan);
	ev_loop_destroy(s->loop);
}

static void tick(struct ev_loop *loop, ev_timer *t, int revents)
{
	unsigned *idle = t->data;

	/* Other events of an iteration come before or after; a few rounds of the timer alone are
	 * quiet. */
	if (++*idle > 4)
		ev_break(loop, EVBREAK_ONE);
}

void sides_run(struct sides *s)
{
	unsigned idle = 0;
	ev_timer t;

	ev_timer_init(&t, tick, 0.002, 0.002);
	t.data = &idle;
	ev_timer_start(s->loop, &t);
	ev_run(s->loop, 0);
	ev_timer_stop(s->loop, &t);
}

unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

void on_test_shout(struct test_client *self, const struct test_shout *msg)
{
	self->num_shouts++;
	self->last_shout = msg->n;
}

void on_test_told(struct test_server *self, const struct test_told *msg)
{
	self->num_told++;
	/* In order, none lost. */
	if (msg->n)
		assert_int_equal(msg->n, self->last_told + 1);
	self->last_told = msg->n;
	if (self->close_in_handler) {
		ipc_chan_close(self->chan);
		self->chan = NULL;
	}
}

void on_test_all(struct test_server *self, struct ipc_call *call, const struct test_all *req)
{
	test_all_reply(call, &(struct test_all_reply){ .h = req->h,
				     .i = req->i,
				     .points = req->points,
				     .num_points = req->num_points });
}

void on_test_echo(struct test_server *self, struct ipc_call *call, const struct test_echo *req)
{
	if (self->shout_first) {
		test_shout(self->chan, &(struct test_shout){ .n = req->n });
		test_shout(self->chan, &(struct test_shout){ .n = req->n + 1 });
	}
	if (self->close_in_handler) {
		ipc_chan_close(self->chan);
		self->chan = NULL;
	}
	test_echo_reply(call, &(struct test_echo_reply){ .n = req->n });
}

/* Answers by what the other descriptor is; keeps none. */
void on_test_fd(struct test_server *self, struct ipc_call *call, const struct test_fd *req)
{
	int fd = IPC_TAKE_FD(req->fd);

	assert_int_equal(req->fd, -1);
	if (fd < 0) {
		ipc_call_fail(call, -EBADF, "no descriptor");
		return;
	}
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
	test_fd_reply(call, &(struct test_fd_reply){ .fd = req->other });
}

static void asker_gone(struct ipc_call *call, void *arg)
{
	struct test_server *self = arg;

	assert_true(ipc_call_dead(call));
	assert_null(ipc_call_chan(call));
	self->num_dead++;
}

static void asker_gone_answer(struct ipc_call *call, void *arg)
{
	asker_gone(call, arg);
	ipc_call_fail(call, -ECANCELED, NULL);
}

void on_test_odd(struct test_server *self, struct ipc_call *call, const struct test_odd *req)
{
	switch (req->mode) {
	case 3:
		ipc_call_on_dead(call, asker_gone_answer, self);
		return;
	case 0:
		self->deferred = call;
		ipc_call_on_dead(call, asker_gone, self);
		return;
	case 1:
		ipc_call_fail(call, -ENOKEY, "no such key: %d", 42);
		return;
	case 2:
		ipc_call_progress(call, 1, 2, "half");
		ipc_call_progress(call, 2, 2, NULL);
		break;
	}
	test_odd_reply(call, &(struct test_odd_reply){ .data = req->data });
}

void on_test_gamma(struct test_server *self, struct ipc_call *call, const struct test_gamma *req)
{
	test_gamma_reply(call, &(struct test_gamma_reply){ 0 });
}
