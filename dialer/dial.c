#include "dialer/dial.h"

#include <errno.h>
#include <ev.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dialer/addresses.h"
#include "dialer/resolve.h"

struct dial {
	struct ev_loop *loop;
	struct ev_io connected;
	struct ev_timer timeout; /* of the address being tried */
	struct addrinfo *list, *next;
	char address[ADDRESS_MAX + 1];
	char tried[128]; /* numeric form of the address being tried */
	double seconds;
	int err; /* why the last one failed */
	int fd;
	dialed_fn *done;
	void *arg;
};

static void try_next(struct dial *d);

static void finish(struct dial *d, int err, const char *text)
{
	int fd = err ? -1 : d->fd;

	if (err && d->fd >= 0)
		close(d->fd);
	ev_io_stop(d->loop, &d->connected);
	ev_timer_stop(d->loop, &d->timeout);
	if (d->list)
		freeaddrinfo(d->list);
	d->done(d->arg, err, fd, text);
	free(d);
}

static void give_up(struct dial *d)
{
	char text[ADDRESS_MAX + 200];

	snprintf(text, sizeof(text), "%s: %s", d->address, strerror(-d->err));
	finish(d, d->err, text);
}

static void failed(struct dial *d, int err)
{
	ev_io_stop(d->loop, &d->connected);
	ev_timer_stop(d->loop, &d->timeout);
	close(d->fd);
	d->fd = -1;
	d->err = err;
	try_next(d);
}

static void on_connected(struct ev_loop *loop, struct ev_io *w, int revents)
{
	struct dial *d = w->data;
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err)
		failed(d, -err);
	else
		finish(d, 0, d->tried);
}

static void on_timeout(struct ev_loop *loop, struct ev_timer *w, int revents)
{
	failed(w->data, -ETIMEDOUT);
}

static void name_address(struct dial *d, const struct addrinfo *ai)
{
	char host[64], port[8];

	if (getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	snprintf(d->tried, sizeof(d->tried), ai->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
		port);
}

static void try_next(struct dial *d)
{
	const struct addrinfo *ai = d->next;
	int one = 1;

	if (!ai) {
		give_up(d);
		return;
	}
	d->next = ai->ai_next;
	name_address(d, ai);
	d->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0) {
		d->err = -errno;
		try_next(d);
		return;
	}
	setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(d->fd, ai->ai_addr, ai->ai_addrlen) < 0 && errno != EINPROGRESS) {
		d->err = -errno;
		close(d->fd);
		d->fd = -1;
		try_next(d);
		return;
	}
	ev_io_set(&d->connected, d->fd, EV_WRITE);
	ev_io_start(d->loop, &d->connected);
	ev_timer_set(&d->timeout, d->seconds, 0.);
	ev_timer_start(d->loop, &d->timeout);
}

static void resolved(void *arg, int err, struct addrinfo *list)
{
	struct dial *d = arg;
	char text[ADDRESS_MAX + 200];
	size_t num = 0;

	if (err) {
		snprintf(text, sizeof(text), "%s: %s", d->address, gai_strerror(err));
		finish(d, -EHOSTUNREACH, text);
		return;
	}
	for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
		num++;
	d->list = d->next = list;
	d->seconds /= num ? (double)num : 1;
	try_next(d);
}

int dial_start(struct ev_loop *loop, struct resolver *resolver, const char *address,
	uint32_t timeout_ms, dialed_fn *done, void *arg)
{
	char host[ADDRESS_MAX + 1], port[6];
	struct dial *d;
	int r = address_split(address, host, port);

	if (r < 0)
		return r;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->loop = loop;
	d->seconds = timeout_ms / 1000.;
	d->err = -EHOSTUNREACH;
	d->fd = -1;
	d->done = done;
	d->arg = arg;
	snprintf(d->address, sizeof(d->address), "%s", address);
	ev_init(&d->connected, on_connected);
	d->connected.data = d;
	ev_init(&d->timeout, on_timeout);
	d->timeout.data = d;
	r = resolver_ask(resolver, host, port, resolved, d);
	if (r < 0)
		free(d);
	return r;
}
