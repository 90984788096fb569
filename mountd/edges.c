#include "mountd/edges.h"

#include <errno.h>

#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "mountd/changed.h"
#include "mountd/chunks.h"
#include "mountd/mountd.h"
#include "mountd/parked.h"
#include "worker/log.h"

#define OIDS_AT_ONCE 4096

static void store_closed(void *self, struct ipc_chan *chan, int err)
{
	struct mountd *m = ((struct store_client *)self)->m;

	if (err < 0)
		log_warn("mountd: the connection to stored: %s", ipc_chan_error(chan));
	ipc_chan_close(chan);
	m->edges.store = NULL;
	m->edges.is_attached = false;
}

static void key_closed(void *self, struct ipc_chan *chan, int err)
{
	struct mountd *m = ((struct key_client *)self)->m;

	if (err < 0)
		log_warn("mountd: the connection to keyd: %s", ipc_chan_error(chan));
	ipc_chan_close(chan);
	m->edges.key = NULL;
}

static void attached(void *arg, int err, const struct store_attach_reply *reply)
{
	struct mountd *m = arg;

	if (err < 0) {
		if (err != -ECONNRESET)
			log_error_errno(err, "mountd: attaching to stored");
		return;
	}
	if (m->replica != 0 && m->replica != reply->replica) {
		/* Another replica number: the numbers left over belong to the old one. */
		m->oid_next = m->oid_end = 0;
	}
	m->replica = reply->replica;
	if (m->view == 0 || !m->is_mounted)
		m->view = reply->view;
	else if (reply->view > m->view)
		changed_all(m->changed, reply->view); /* a pull that nobody lived to tell of */
	m->edges.is_attached = true;
	/* Whoever was there before may have died between publishing and the kick. */
	(void)store_kick(m->edges.store, &(struct store_kick){ 0 });
	parked_resume(m);
}

int edges_open_store(struct mountd *m, int fd)
{
	int r;

	if (m->edges.store != NULL)
		ipc_chan_close(m->edges.store);
	m->edges.store = NULL;
	m->edges.is_attached = false;
	m->edges.store_self.m = m;
	r = ipc_chan_open(&m->edges.store, m->loop, fd, &store_client_service, &m->edges.store_self,
		store_closed);
	if (r < 0)
		return r;
	ipc_chan_set_spin(m->edges.store, EDGE_SPIN_USEC);
	/* Descriptors stay good, but a stored that recovered may have moved objects. */
	if (m->chunks != NULL)
		chunks_forget_places(m);
	return store_attach(
		m->edges.store, &(struct store_attach){ .reader = m->at != 0 }, attached, m);
}

int edges_open_key(struct mountd *m, int fd)
{
	int r;

	if (m->edges.key != NULL)
		ipc_chan_close(m->edges.key);
	m->edges.key = NULL;
	m->edges.key_self.m = m;
	r = ipc_chan_open(
		&m->edges.key, m->loop, fd, &key_client_service, &m->edges.key_self, key_closed);
	if (r < 0)
		return r;
	ipc_chan_set_spin(m->edges.key, EDGE_SPIN_USEC);
	return 0;
}

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
}

void mountd_wait_once(struct mountd *m, double seconds)
{
	ev_timer timer;

	session_hold(m);
	ev_timer_init(&timer, on_timeout, seconds, 0.);
	ev_timer_start(m->loop, &timer);
	ev_run(m->loop, EVRUN_ONCE);
	ev_timer_stop(m->loop, &timer);
	session_resume(m);
}

/* A neighbour that does not come back in this time will not: the supervisor takes the mount down
 * or starts us anew, and the kernel sends again what we did not answer. */
static void wait_for(struct mountd *m, struct ipc_chan **chan, const bool *also)
{
	double until = ev_time() + EDGE_RETURN_S;

	while (*chan == NULL || (also != NULL && !*also)) {
		if (ev_time() > until)
			fatal("a neighbour of mountd did not come back");
		mountd_wait_once(m, 0.05);
	}
}

struct ipc_chan *edge_store(struct mountd *m)
{
	wait_for(m, &m->edges.store, &m->edges.is_attached);
	return m->edges.store;
}

struct ipc_chan *edge_key(struct mountd *m)
{
	wait_for(m, &m->edges.key, NULL);
	return m->edges.key;
}

bool edge_again(struct mountd *m, int r)
{
	if (r != -ECONNRESET)
		return false;
	/* The channel learns of its end from the loop: without a turn of it the same dead channel
	 * would be asked for ever. */
	mountd_wait_once(m, 0.01);
	if (m->edges.store != NULL && ipc_chan_dead(m->edges.store)) {
		ipc_chan_close(m->edges.store);
		m->edges.store = NULL;
		m->edges.is_attached = false;
	}
	if (m->edges.key != NULL && ipc_chan_dead(m->edges.key)) {
		ipc_chan_close(m->edges.key);
		m->edges.key = NULL;
	}
	return true;
}

int mountd_new_oid(struct mountd *m, uint64_t *ret_oid)
{
	struct store_oids_reply reply;
	int r;

	if (m->oid_next == m->oid_end) {
		do {
			r = store_oids_wait(edge_store(m),
				&(struct store_oids){ .count = OIDS_AT_ONCE }, EDGE_WAIT_MS,
				&reply);
		} while (edge_again(m, r));
		if (r < 0)
			return r;
		m->oid_next = reply.first;
		m->oid_end = reply.first + reply.count;
		store_oids_reply_release(&reply);
		if (m->oid_next == m->oid_end)
			return -ENOSPC;
	}
	*ret_oid = m->oid_next++;
	return 0;
}
