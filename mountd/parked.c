#include "mountd/parked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/chunks.h"
#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/request.h"

enum parked_kind {
	PARKED_READ,
	PARKED_STORE, /* then it becomes the next one */
	PARKED_SYNC,
};

struct parked {
	struct parked *next, *prev;
	struct mountd *m;
	enum parked_kind kind;
	fuse_req_t req;	      /* NULL: answered, waits for stored only */
	bool is_aside;	      /* of no request */
	bool is_asked;	      /* an answer or a retry is to come, which points here */
	bool was_damaged;     /* stored was asked to look; when it is so still, it is an error */
	uint64_t oid, offset; /* PARKED_SYNC: position */
	size_t len;
	double deadline;
	size_t num_ids;
	struct cas_id ids[64];
};

static void ask(struct parked *p);

static struct parked *park(struct mountd *m, fuse_req_t req)
{
	struct parked *p = calloc(1, sizeof(*p));

	if (p == NULL)
		abort();
	p->m = m;
	p->req = req;
	p->next = m->parked;
	if (p->next != NULL)
		p->next->prev = p;
	m->parked = p;
	return p;
}

static void unpark(struct parked *p)
{
	if (p->next != NULL)
		p->next->prev = p->prev;
	if (p->prev != NULL)
		p->prev->next = p->next;
	else
		p->m->parked = p->next;
	free(p);
}

static void finish(struct parked *p, int r)
{
	if (p->is_aside && r < 0)
		p->m->parked_pause = ev_time() + PARKED_PAUSE_S;
	if (p->req != NULL) {
		fuse_req_interrupt_func(p->req, NULL, NULL);
		request_done(p->req, r);
	}
	unpark(p);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct parked *p = arg;

	/* stored's answer is still to come and finds nobody. */
	p->req = NULL;
	fuse_reply_err(req, EINTR);
}

/* What is missing now is what to ask for. */
static void note_missing(struct parked *p)
{
	const struct cas_id *ids;

	p->was_damaged = chunks_damaged(p->m);
	p->num_ids = chunks_missing(p->m, &ids);
	memcpy(p->ids, ids, p->num_ids * sizeof(*ids));
}

static int try_read(struct parked *p)
{
	struct mountd *m = p->m;
	struct inode *inode;
	size_t len;
	int r = load_inode(m, p->oid, &inode);

	if (r == 0)
		r = contents_open(m, inode);
	if (r == 0)
		r = contents_read(inode, p->offset, m->io_buf, p->len, &len);
	if (r < 0)
		return r;
	fuse_req_interrupt_func(p->req, NULL, NULL);
	fuse_reply_buf(p->req, (const char *)m->io_buf, len);
	unpark(p);
	return 0;
}

static int try_store(struct parked *p)
{
	struct mountd *m = p->m;
	struct inode *inode;
	int r = load_inode(m, p->oid, &inode);

	if (r == 0)
		r = flush_inode(m, inode, true);
	if (r < 0)
		return r;
	if (p->req == NULL) {
		unpark(p);
		return 0;
	}
	fuse_req_interrupt_func(p->req, NULL, NULL);
	p->kind = PARKED_SYNC;
	p->offset = publish_position(m);
	p->deadline = 1e18;
	p->is_asked = false;
	ask(p);
	return 0;
}

static void try_again(struct parked *p)
{
	int r;

	if (p->req == NULL && !p->is_aside) {
		unpark(p);
		return;
	}
	r = p->kind == PARKED_READ ? try_read(p) : try_store(p);
	if (r == 0)
		return;
	if (r == -EAGAIN && chunks_damaged(p->m) && p->was_damaged)
		r = -EIO;
	if (r == -EAGAIN && ev_time() < p->deadline) {
		/* Only now: a stored that came back while this waited for it must not have been
		 * asked by parked_resume for what this may have ended. */
		p->is_asked = false;
		note_missing(p);
		ask(p);
		return;
	}
	finish(p, r == -EAGAIN ? -ETIMEDOUT : r);
}

/* Not while a handler is waiting: it holds pointers into what a read may load and drop. */
static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct parked *p = timer->data;

	if (p->m->nested > 0) {
		ev_timer_again(loop, timer);
		return;
	}
	ev_timer_stop(loop, timer);
	free(timer);
	try_again(p);
}

static void retry_soon(struct parked *p)
{
	ev_timer *timer = malloc(sizeof(*timer));

	if (timer == NULL)
		abort();
	ev_timer_init(timer, on_retry, 0., 0.001);
	timer->data = p;
	timer->repeat = 0.0001;
	ev_timer_again(p->m->loop, timer);
}

static void fetched(void *arg, int err, const struct store_fetch_reply *reply)
{
	struct parked *p = arg;

	if (err == 0) {
		retry_soon(p);
		return;
	}
	p->is_asked = false;
	/* parked_resume asks again */
	if (err != -ECONNRESET || ev_time() >= p->deadline)
		finish(p, err == -ENODATA ? -EIO : err == -ECONNRESET ? -ETIMEDOUT : err);
}

static void synced(void *arg, int err, const struct store_sync_reply *reply)
{
	struct parked *p = arg;

	p->is_asked = false;
	if (err != -ECONNRESET)
		finish(p, err);
}

static void ask(struct parked *p)
{
	struct ipc_chan *chan = p->m->edges.is_attached ? p->m->edges.store : NULL;
	double left = p->deadline - ev_time();
	int r;

	if (chan == NULL)
		return; /* parked_resume */
	if (p->kind == PARKED_SYNC)
		r = store_sync(chan, &(struct store_sync){ .position = p->offset }, synced, p);
	else
		r = store_fetch_timeout(chan,
			&(struct store_fetch){ .ids = (uint8_t(*)[32])(void *)p->ids,
				.num_ids = p->num_ids,
				.deadline_ms = left > 0 ? (uint32_t)(left * 1000) + 1 : 1 },
			left > 0 ? (unsigned)(left * 1000) + 500 : 1, fetched, p);
	p->is_asked = r == 0;
	if (r < 0 && r != -ECONNRESET)
		finish(p, r);
}

static void fetch(struct parked *p)
{
	p->deadline = ev_time() + PARKED_DEADLINE_MS / 1000.0;
	note_missing(p);
	if (p->req != NULL)
		fuse_req_interrupt_func(p->req, on_interrupt, p);
	ask(p);
}

void parked_read(fuse_req_t req, uint64_t oid, uint64_t offset, size_t len)
{
	struct parked *p = park(request_mountd(req), req);

	p->oid = oid;
	p->offset = offset;
	p->len = len;
	fetch(p);
}

void parked_store(fuse_req_t req, uint64_t oid)
{
	struct parked *p = park(request_mountd(req), req);

	p->kind = PARKED_STORE;
	p->oid = oid;
	fetch(p);
}

static bool is_storing_aside(const struct mountd *m)
{
	const struct parked *p = m->parked;

	while (p != NULL && !p->is_aside)
		p = p->next;
	return p != NULL;
}

void parked_store_aside(struct mountd *m, uint64_t oid)
{
	struct parked *p;

	if (ev_time() < m->parked_pause || is_storing_aside(m))
		return;
	p = park(m, NULL);
	p->kind = PARKED_STORE;
	p->is_aside = true;
	p->oid = oid;
	fetch(p);
}

bool parked_store_far(struct mountd *m)
{
	struct inode *inode = m->inodes.dirty.dirty_next;

	if (is_storing_aside(m))
		return true;
	while (inode != &m->inodes.dirty && !inode->is_far)
		inode = inode->dirty_next;
	if (inode == &m->inodes.dirty || ev_time() < m->parked_pause)
		return false;
	if (flush_inode(m, inode, true) == -EAGAIN)
		parked_store_aside(m, inode->oid);
	return true;
}

void parked_sync(fuse_req_t req)
{
	struct mountd *m = request_mountd(req);
	struct parked *p = park(m, req);

	p->kind = PARKED_SYNC;
	p->offset = publish_position(m);
	p->deadline = 1e18;
	ask(p);
}

void parked_resume(struct mountd *m)
{
	struct parked *next;

	for (struct parked *p = m->parked; p != NULL; p = next) {
		next = p->next;
		if (!p->is_asked)
			ask(p);
	}
}

void parked_drop(struct mountd *m)
{
	for (struct parked *p = m->parked; p != NULL; p = p->next) {
		p->req = NULL;
		p->is_aside = false;
	}
}
