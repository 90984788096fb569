#include "mountd/unmount.h"

#include <errno.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "ipc/work.gen.h"
#include "mountd/figure_walk.h"
#include "mountd/flush.h"
#include "mountd/mountd.h"
#include "mountd/parked.h"
#include "mountd/publish.h"
#include "worker/log.h"
#include "worker/scope.h"

#define SETTLE_S 10.0

static void try_settle(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct mountd *m = timer->data;
	struct work_settle_reply reply = { 0 };

	if (m->nested > 0)
		return; /* the timer repeats */
	if (!m->settle_is_begun)
		(void)flush_all(m, 0);
	m->settle_is_begun = true;
	if (publish_error(m) == -ENOSPC)
		reply.no_room = flush_unstored(m);
	else
		reply.far = flush_far(m);
	if (reply.far > 0 && ev_time() < m->settle_until && parked_store_far(m))
		return;
	/* What failed may have been asked for before its device came back. */
	if (reply.far > 0 && !m->settle_asked_again) {
		m->settle_asked_again = true;
		m->parked_pause = 0;
		return;
	}
	ev_timer_stop(loop, timer);
	work_settle_reply(TAKE_PTR(m->settle_call), &reply);
}

void unmount_settle(struct mountd *m, struct ipc_call *call)
{
	if (m->settle_call != NULL || !m->is_mounted || m->is_stopping) {
		ipc_call_fail(call, -EBUSY, "mountd: it is coming or going");
		return;
	}
	m->settle_call = call;
	m->settle_until = ev_time() + SETTLE_S;
	m->settle_is_begun = m->settle_asked_again = false;
	m->parked_pause = 0;
	ev_timer_init(&m->settling, try_settle, 0., 0.05);
	m->settling.data = m;
	ev_timer_start(m->loop, &m->settling);
}

int unmount_make_durable(struct mountd *m, double until)
{
	struct store_sync_reply reply;
	int flushed, r;

	if (m->dirty == NULL || m->ring == NULL || !m->has_keys)
		return 0;
	flushed = flush_all(m, until);
	if (flushed < 0)
		log_error_errno(flushed, "mountd: storing what was written");
	do {
		r = store_sync_wait(edge_store(m),
			&(struct store_sync){ .position = publish_position(m) }, EDGE_WAIT_MS,
			&reply);
	} while (edge_again(m, r));
	if (r == 0)
		store_sync_reply_release(&reply);
	else
		log_error_errno(r, "mountd: making it durable");
	return flushed < 0 ? flushed : r;
}

void unmount_happened(struct mountd *m)
{
	int r;

	if (m->is_stopping)
		return;
	m->is_stopping = true;
	session_stop(m);
	parked_drop(m);
	figure_walk_drop(m);
	r = unmount_make_durable(m, ev_time() + PARKED_DEADLINE_MS / 1000.0);
	/* The mount is gone: trying again would find it as now. Whoever called fsync was told; the
	 * supervisor asks before it unmounts. */
	if (r == -ENOSPC || r == -EAGAIN) {
		log_error("mountd: %s: %zu files that were written last are lost",
			r == -ENOSPC ? "the disk is full"
				     : "parts of them are on devices that cannot be reached",
			flush_give_up(m));
		r = 0;
	}
	m->gone(m, r);
}
