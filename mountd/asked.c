/*
 * A peer pulls from this node: stored asks for everything that was written so far, so that the peer
 * sees what the local user sees.
 */
#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/flush.h"
#include "mountd/mountd.h"
#include "worker/log.h"

static void flush_now(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct mountd *m = timer->data;
	int r;

	if (m->nested > 0)
		return; /* a handler waits with state of its own; the timer repeats */
	ev_timer_stop(loop, timer);
	r = m->is_mounted ? flush_all(m, 0) : 0;
	if (r < 0)
		log_error_errno(r, "mountd: storing what was written, for a peer");
	if (m->edges.store != NULL)
		(void)store_flushed(
			m->edges.store, &(struct store_flushed){ .token = m->asked_token });
}

void on_store_flush(struct store_client *self, const struct store_flush *msg)
{
	struct mountd *m = self->m;

	m->asked_token = msg->token;
	if (ev_is_active(&m->asked))
		return;
	ev_timer_init(&m->asked, flush_now, 0., 0.001);
	m->asked.data = m;
	ev_timer_start(m->loop, &m->asked);
}
