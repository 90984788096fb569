#include "mountd/mountd.h"

#include <errno.h>
#include <stdlib.h>

#include <sodium.h>

#include "mountd/ahead.h"
#include "mountd/changed.h"
#include "mountd/chunks.h"
#include "mountd/contents.h"
#include "mountd/dir.h"
#include "mountd/figures.h"
#include "mountd/group.h"
#include "mountd/next_dir.h"
#include "mountd/sealers.h"
#include "mountd/stream.h"
#include "mountd/tags.h"

#define INODES_MAX 65536

static void release_inode(void *ctx, struct inode *inode)
{
	struct mountd *m = ctx;

	contents_free(m, inode);
	if (inode->dir != NULL)
		m->num_names -= inode->dir->num;
	dir_free(inode->dir);
	inode->dir = NULL;
}

int mountd_prepare(struct mountd *m, struct ev_loop *loop)
{
	int r;

	m->loop = loop;
	if (sodium_init() < 0)
		return -ENOSYS;
	m->suite = m->sealer.suite = cas_suite_new();
	m->batch_buf = malloc(2u << 20);
	m->io_buf = malloc(SESSION_BUF);
	m->session.buf = aligned_alloc(4096, SESSION_BUF);
	if (m->suite == NULL || m->batch_buf == NULL || m->io_buf == NULL || m->session.buf == NULL)
		return -ENOMEM;
	r = inodes_init(&m->inodes, INODES_MAX, release_inode, m);
	m->inodes.state = &m->state;
	if (r == 0)
		r = chunks_new(&m->chunks);
	if (r == 0)
		r = tags_new(&m->tags);
	if (r == 0)
		r = figures_new(&m->figures);
	if (r == 0)
		r = stream_new(&m->stream, m);
	if (r == 0)
		r = group_new(&m->group, m);
	return r;
}

static void on_sealed(struct ev_loop *loop, ev_async *sealed, int events)
{
	struct mountd *m = sealed->data;

	stream_poll(m->stream);
	group_poll(m->group);
}

/* From any thread. */
static void tell_sealed(void *arg)
{
	struct mountd *m = arg;

	ev_async_send(m->loop, &m->sealed);
}

int mountd_entered(struct mountd *m)
{
	int r;

	ev_async_init(&m->sealed, on_sealed);
	m->sealed.data = m;
	ev_async_start(m->loop, &m->sealed);
	r = sealers_new(&m->sealers, m->suite, tell_sealed, m);
	if (r == 0)
		r = ahead_new(&m->ahead, m->sealers);
	if (r == 0)
		r = next_dir_new(&m->next_dir, m);
	if (r == 0)
		r = changed_new(&m->changed, m);
	return r;
}
