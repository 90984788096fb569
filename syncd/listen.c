#include "syncd/listen.h"

#include "syncd/handshake.h"
#include "syncd/syncd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections accepted before others have their turn. */
#define ACCEPT_MAX 16
/* Rest when there are no descriptors left. */
#define AGAIN	   0.5

static void shaken(void *arg, int err, struct handshake_result *result)
{
	struct syncd *d = arg;

	if (err < 0) {
		d->counters[SYNCD_HANDSHAKES_REFUSED]++;
		return;
	}
	d->counters[SYNCD_HANDSHAKES_OK]++;
	peers_accepted(&d->peers, result);
}

/* accept() fails for the connection, not for the socket. */
static bool is_of_connection(int err)
{
	return err == ECONNABORTED || err == EINTR || err == EPROTO || err == EPERM ||
	       err == ENETDOWN || err == ENETUNREACH || err == EHOSTUNREACH || err == ETIMEDOUT;
}

static void on_connection(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct syncd *d = io->data;

	for (int i = 0; i < ACCEPT_MAX; i++) {
		int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && is_of_connection(errno))
			continue;
		if (fd < 0 && errno != EAGAIN) {
			/* The socket stays readable: without a rest this would spin. */
			ev_io_stop(loop, io);
			ev_timer_stop(loop, &d->listen_again);
			ev_timer_set(&d->listen_again, AGAIN, 0);
			ev_timer_start(loop, &d->listen_again);
		}
		if (fd < 0)
			return;
		if (handshake_start(d, fd, NULL, shaken, d, NULL) < 0)
			d->counters[SYNCD_CONNECTIONS_REFUSED]++;
	}
}

static void on_again(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct syncd *d = timer->data;

	ev_io_start(loop, &d->listen_io);
}

void listen_init(struct syncd *d)
{
	d->listen_fd = -1;
	ev_init(&d->listen_io, on_connection);
	ev_init(&d->listen_again, on_again);
	d->listen_io.data = d->listen_again.data = d;
}

void listen_release(struct syncd *d)
{
	ev_io_stop(d->loop, &d->listen_io);
	ev_timer_stop(d->loop, &d->listen_again);
	if (d->listen_fd >= 0)
		close(d->listen_fd);
	d->listen_fd = -1;
}

int syncd_listen(struct syncd *d, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	listen_release(d);
	d->listen_fd = fd;
	ev_io_set(&d->listen_io, fd, EV_READ);
	ev_io_start(d->loop, &d->listen_io);
	return 0;
}
