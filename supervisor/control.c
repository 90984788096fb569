#include "supervisor/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "supervisor/mounts.h"
#include "supervisor/status.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

#define HOLD_SECONDS 10.0
#define CLIENTS_MAX  64

struct client {
	struct client *next;
	struct supervisor *supervisor;
	struct ipc_chan *chan;
};

/* A request for a worker that is not there at the moment. */
struct held {
	struct held *next;
	struct ipc_call *call;
	struct child *child;
	struct ev_timer timer;
};

/* The generated handlers' view of us. */
struct ctl_server {
	struct supervisor supervisor;
};

static void unhold(struct held *h)
{
	ev_timer_stop(h->child->supervisor->loop, &h->timer);
	for (struct held **p = &h->child->held; *p; p = &(*p)->next)
		if (*p == h) {
			*p = h->next;
			break;
		}
	free(h);
}

static void fail_away(struct ipc_call *call, const struct child *c)
{
	if (c->supervisor->failed)
		ipc_call_fail(call, -EIO, "%s", supervisor_last_error());
	else if (c->to_begin > 0 && c->state == CHILD_BEGINNING)
		ipc_call_fail(call, -EAGAIN,
			"server: %s is reading what is stored, %u %% so far: try again soon",
			c->role->name, (unsigned)(c->begun * 100 / c->to_begin));
	else if (c->state == CHILD_RUNNING)
		ipc_call_fail(call, -EAGAIN,
			"server: the addresses of peers are being read: try again soon");
	else
		ipc_call_fail(call, -EAGAIN,
			"server: %s does not run at the moment (%s): try again soon", c->role->name,
			*c->last_death ? c->last_death : "it is starting");
}

static void hold_timeout(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct held *h = w->data;

	fail_away(h->call, h->child);
	unhold(h);
}

static void hold(struct child *c, struct ipc_call *call)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	h->call = call;
	h->child = c;
	ev_timer_init(&h->timer, hold_timeout, HOLD_SECONDS, 0.);
	h->timer.data = h;
	ev_timer_start(c->supervisor->loop, &h->timer);
	/* In the order in which they came. */
	struct held **p = &c->held;
	while (*p)
		p = &(*p)->next;
	*p = h;
}

static void relay_to(struct child *c, struct ipc_call *call)
{
	int r = c->ctl ? ipc_relay(call, c->ctl) : -ECONNRESET;

	if (r == -ECONNRESET)
		hold(c, call);
	else if (r < 0)
		ipc_call_fail(call, r, NULL);
}

void control_release_held(struct child *c)
{
	struct held *list = c->held;

	/* Taken off first: a channel that dies meanwhile makes them wait again. */
	c->held = NULL;
	while (list) {
		struct held *h = list;

		list = h->next;
		ev_timer_stop(c->supervisor->loop, &h->timer);
		relay_to(c, h->call);
		free(h);
	}
}

void control_fail_held(struct child *c)
{
	while (c->held) {
		struct held *h = c->held;

		fail_away(h->call, c);
		unhold(h);
	}
}

/* The worker would remove it under the mount: this is known only here. */
static bool refuse_mounted(struct supervisor *s, struct ipc_call *call)
{
	struct ctl_volume_remove req;
	struct ipc_reader reader;
	const struct mount *m;

	if (ipc_call_peek(call, &reader) < 0 || ctl_volume_remove_decode(&reader, &req) < 0)
		return false;
	m = mounts_find(s, req.name);
	if (m)
		ipc_call_fail(call, -EBUSY,
			"%s: it is mounted on %s: unmount it first with `bazil volume unmount %s`",
			req.name, m->path, req.name);
	ctl_volume_remove_release(&req);
	return m != NULL;
}

static void relay(void *self, struct ipc_call *call, uint16_t type)
{
	struct client *client = self;
	struct supervisor *s = client->supervisor;
	const char *name = ctl_served_by(type);
	const struct role *role;
	struct child *c;
	int r;

	if (s->stopping) {
		ipc_call_fail(call, -ESHUTDOWN, "server: it is stopping");
		return;
	}
	if (s->upgrading) {
		ipc_call_fail(call, -EAGAIN, "server: it is being upgraded: try again");
		return;
	}
	if (s->failed) {
		ipc_call_fail(call, -EIO, "%s", supervisor_last_error());
		return;
	}
	if (s->once && !ctl_offline(type)) {
		ipc_call_fail(
			call, -ENOTCONN, "server: not running: start it with `bazil server run`");
		return;
	}
	if (strcmp(name ? name : "", "supervisor") == 0) {
		r = ipc_call_dispatch(call, &ctl_server_supervisor_service, s);
		if (r < 0)
			ipc_call_fail(call, r, NULL);
		return;
	}
	role = name ? topology_find(name) : NULL;
	if (!role || !role->serves_ctl) {
		ipc_call_fail(call, -EBADMSG, "server: it does not know this request");
		return;
	}
	if (type == CTL_VOLUME_REMOVE && refuse_mounted(s, call))
		return;
	c = &s->children[role->id];
	if (s->once)
		child_start(c);
	/* What is sent to a dead process is lost, and nobody knows whether it was done. */
	if (c->state == CHILD_RUNNING && child_is_alive(c) &&
		!(role->id == ROLE_SYNCD && s->peers_awaited > 0))
		relay_to(c, call);
	else
		hold(c, call);
}

void on_ctl_ping(struct ctl_server *self, struct ipc_call *call, const struct ctl_ping *req)
{
	ctl_ping_reply(call,
		&(struct ctl_ping_reply){ .version = BAZIL_VERSION, .pid = (uint32_t)getpid() });
}

void on_ctl_status(struct ctl_server *self, struct ipc_call *call, const struct ctl_status *req)
{
	status_answer(&self->supervisor, call);
}

void on_ctl_stop(struct ctl_server *self, struct ipc_call *call, const struct ctl_stop *req)
{
	struct supervisor *s = &self->supervisor;

	if (s->num_stop_calls == sizeof(s->stop_calls) / sizeof(s->stop_calls[0])) {
		ipc_call_fail(call, -EALREADY, "server: it is stopping");
		return;
	}
	s->stop_calls[s->num_stop_calls++] = call;
	s->stopping = true;
	ev_break(s->loop, EVBREAK_ALL);
}

void on_ctl_volume_mount(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_mount *req)
{
	mount_start(&self->supervisor, call, req->volume, req->path, req->flags, req->at);
}

void on_ctl_volume_unmount(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_unmount *req)
{
	mount_stop(&self->supervisor, call, req->target, req->force);
}

/* Clients come and go. */

static void client_free(struct client *client)
{
	struct supervisor *s = client->supervisor;

	for (struct client **p = &s->clients; *p; p = &(*p)->next)
		if (*p == client) {
			*p = client->next;
			break;
		}
	ipc_chan_close(client->chan);
	free(client);
}

static void client_closed(void *self, struct ipc_chan *chan, int err)
{
	struct client *client = self;
	struct supervisor *s = client->supervisor;

	if (err)
		log_warn("a client of ctl.sock was closed: %s", ipc_chan_error(chan));
	client_free(client);
	if (s->once && !s->clients) {
		s->stopping = true;
		ev_break(s->loop, EVBREAK_ALL);
	}
}

int control_adopt(struct supervisor *s, int fd)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client) {
		close(fd);
		return -ENOMEM;
	}
	client->supervisor = s;
	r = ipc_chan_open_relay(&client->chan, s->loop, fd, &ctl_server_supervisor_service, client,
		client_closed, relay);
	if (r < 0) {
		free(client);
		return r;
	}
	client->next = s->clients;
	s->clients = client;
	return 0;
}

static unsigned num_clients(const struct supervisor *s)
{
	unsigned n = 0;

	for (const struct client *c = s->clients; c; c = c->next)
		n++;
	return n;
}

static void on_accept(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct supervisor *s = w->data;
	_cleanup_(closep) int fd =
		accept4(s->ctl_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
		(cred.uid != geteuid() && cred.uid != 0)) {
		log_warn("ctl.sock: user %u is not ours and is turned away", cred.uid);
		return;
	}
	if (num_clients(s) >= CLIENTS_MAX) {
		log_warn("ctl.sock: too many clients at once");
		return;
	}
	control_adopt(s, TAKE_FD(fd));
}

static int make_listener(struct supervisor *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = -1;

	/* A unix address has 108 bytes, a path up to 4096: it is reached through a descriptor. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/ctl.sock", s->dir.fd);
	if (unlinkat(s->dir.fd, "ctl.sock", 0) < 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Nobody else's even between bind and listen: the umask is 077, the directory 0700. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		fchmodat(s->dir.fd, "ctl.sock", 0600, 0) < 0 || listen(fd, 16) < 0)
		return -errno;
	s->ctl_listener = TAKE_FD(fd);
	return 0;
}

void control_accept(struct supervisor *s, bool accept)
{
	if (accept)
		ev_io_start(s->loop, &s->ctl_accept);
	else
		ev_io_stop(s->loop, &s->ctl_accept);
}

int control_listen(struct supervisor *s)
{
	int r = s->ctl_listener >= 0 ? 0 : make_listener(s);

	if (r < 0)
		return r;
	ev_io_init(&s->ctl_accept, on_accept, s->ctl_listener, EV_READ);
	s->ctl_accept.data = s;
	ev_io_start(s->loop, &s->ctl_accept);
	return 0;
}

void control_unlisten(struct supervisor *s)
{
	if (s->ctl_listener < 0)
		return;
	ev_io_stop(s->loop, &s->ctl_accept);
	close(TAKE_FD(s->ctl_listener));
	unlinkat(s->dir.fd, "ctl.sock", 0);
}

void control_flush(struct supervisor *s)
{
	for (struct client *c = s->clients; c; c = c->next)
		ipc_chan_flush(c->chan, 1000);
}

void control_release(struct supervisor *s)
{
	for (unsigned i = 0; i < s->num_stop_calls; i++)
		ctl_stop_reply(s->stop_calls[i], &(struct ctl_stop_reply){ 0 });
	s->num_stop_calls = 0;
	while (s->clients) {
		ipc_chan_flush(s->clients->chan, 1000);
		client_free(s->clients);
	}
}
