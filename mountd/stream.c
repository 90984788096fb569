#include "mountd/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "cas/tree.h"
#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/inode.h"
#include "mountd/mountd.h"
#include "mountd/run.h"
#include "mountd/sealers.h"

#define STRETCH_MIN (1u << 20) /* shorter ones are not worth a window */

struct stream {
	struct mountd *m;
	bool is_busy;
	uint64_t oid; /* 0: its window was cancelled, the helpers do not know yet */
	struct flush_part part;
	struct run *run;
};

int stream_new(struct stream **ret, struct mountd *m)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		return -ENOMEM;
	stream->m = m;
	*ret = stream;
	return 0;
}

bool stream_is_busy(const struct stream *stream)
{
	return stream->is_busy;
}

bool stream_is_of(const struct stream *stream, uint64_t oid)
{
	return stream_is_busy(stream) && stream->oid == oid;
}

static struct inode *inode_of(const struct stream *stream)
{
	struct inode *inode = inode_find_quietly(&stream->m->inodes, stream->oid);

	return inode != NULL && inode->head != DIRTY_NO_HEAD && inode->contents != NULL ? inode
											: NULL;
}

/* The first stretch that is long enough; file->num when there is none. */
static size_t find_stretch(const struct dirty_file *file)
{
	size_t end;

	for (size_t i = 0; i < file->num; i = end) {
		const struct dirty_extent *first = &file->extents[i], *last;

		end = i + 1;
		if (first->is_zero)
			continue;
		end = run_end(file, i);
		last = &file->extents[end - 1];
		if (last->offset + last->len - first->offset >= STRETCH_MIN)
			return i;
	}
	return file->num;
}

static void cut(struct cas_suite *suite, void *arg, size_t num)
{
	run_cut(arg);
}

bool stream_start(struct stream *stream, struct inode *inode)
{
	struct mountd *m = stream->m;
	const struct dirty_file *file = &inode->contents->file;
	size_t first = find_stretch(file);
	struct cas_tree *tree;

	if (stream_is_busy(stream))
		return true; /* the writer goes on until the log is full */
	if (first == file->num || !sealers_have_helpers(m->sealers) ||
		contents_tree(inode, &tree) < 0 || cas_tree_len(tree) > inode->dirty.base_limit)
		return false;
	if (stream->run == NULL && run_new(&stream->run, m) < 0)
		return false;
	stream->part.from = file->extents[first].offset;
	stream->part.seq = dirty_log_seq(m->dirty);
	stream->run->filled = 0;
	run_begin(stream->run, inode, tree, first, false);
	run_fill(stream->run);
	jobs_clear(&stream->run->jobs);
	stream->part.upto = 0;
	stream->oid = inode->oid;
	stream->is_busy = true;
	jobs_start(&stream->run->jobs, cut, stream->run);
	return true;
}

static int publish(struct stream *stream)
{
	struct mountd *m = stream->m;
	struct inode *inode = inode_of(stream);
	struct sealed_body body = { 0 };
	struct cas_tree *tree;
	int r;

	if (inode == NULL)
		return -ESTALE;
	inode->pins++;
	r = contents_tree(inode, &tree);
	if (r == 0)
		r = run_store(stream->run, tree);
	if (r == 0)
		r = flush_describe(tree, &body);
	body.filled = sealed_body_filled(&inode->body) + stream->run->filled;
	stream->part.upto = stream->run->offset;
	if (r == 0)
		r = flush_publish(m, inode, &body, &stream->part);
	if (r < 0)
		contents_reset(inode);
	else if (inode->contents->tree != NULL)
		cas_tree_trim(inode->contents->tree, 8);
	inode->is_far = r == -EAGAIN;
	inode->pins--;
	/* It is young again: storing it by age would cut it where it happens to end. */
	inode_mark_clean(&m->inodes, inode);
	inode_mark_dirty(&m->inodes, inode, ev_now(m->loop));
	return r;
}

/* 1: stored; 0: goes on; or an error: given up, all stays dirty. */
static int step(struct stream *stream)
{
	struct jobs *jobs = &stream->run->jobs;
	int r = -ECANCELED;

	if (stream->oid == 0)
		jobs_end(jobs);
	else
		r = jobs_go_on(jobs);
	/* Nothing was cut: the rest is stored otherwise. */
	if (r == 1 && jobs->num == 0)
		r = -ENODATA;
	if (r == 1)
		r = publish(stream) < 0 ? -EIO : 1;
	stream->is_busy = r == 0;
	return r;
}

static void go_on(struct stream *stream)
{
	struct inode *inode = inode_of(stream);

	if (inode != NULL && inode->contents->file.bytes >= FLUSH_STREAM_BYTES)
		(void)stream_start(stream, inode);
}

void stream_poll(struct stream *stream)
{
	if (!stream_is_busy(stream) || stream->m->nested > 0 || !jobs_are_due(&stream->run->jobs))
		return;
	if (step(stream) == 1)
		go_on(stream);
}

static int finish(struct stream *stream)
{
	int r = 0;

	while (stream_is_busy(stream) && r == 0)
		r = step(stream);
	return r;
}

void stream_settle(struct stream *stream, uint64_t oid)
{
	if (stream_is_of(stream, oid))
		(void)finish(stream);
}

void stream_cancel(struct stream *stream, uint64_t oid)
{
	if (stream_is_of(stream, oid))
		stream->oid = 0;
}

bool stream_finish(struct stream *stream)
{
	if (!stream_is_busy(stream) || finish(stream) != 1)
		return false;
	go_on(stream);
	return true;
}
