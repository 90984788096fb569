#include "mountd/unmount.h"

#include <errno.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/figure_walk.h"
#include "mountd/flush.h"
#include "mountd/mountd.h"
#include "mountd/parked.h"
#include "mountd/publish.h"
#include "worker/log.h"

int unmount_make_durable(struct mountd *m)
{
	struct store_sync_reply reply;
	int flushed, r;

	if (m->dirty == NULL || m->ring == NULL || !m->has_keys)
		return 0;
	flushed = flush_all(m);
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
	r = unmount_make_durable(m);
	if (r == -ENOSPC) {
		/* The mount is gone: trying again would find the disk as full as now. Whoever
		 * called fsync was told; the supervisor asks before it unmounts. */
		log_error("mountd: the disk is full: %zu files that were written last are lost",
			flush_give_up(m));
		r = 0;
	}
	m->gone(m, r);
}
