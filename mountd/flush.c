#include "mountd/flush.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "cas/object.h"
#include "cas/tree.h"
#include "mountd/changed.h"
#include "mountd/chunks.h"
#include "mountd/contents.h"
#include "mountd/group.h"
#include "mountd/mountd.h"
#include "mountd/parked.h"
#include "mountd/publish.h"
#include "mountd/run.h"
#include "mountd/sibling.h"
#include "mountd/stream.h"
#include "mountd/tags.h"

#define SLOT_RESERVE   512u /* a maximal write and what a recovery may need */
#define TIMER_S	       0.5
#define TIMER_BUDGET_S 0.01

int flush_node(struct mountd *m, const uint8_t *node, size_t len, struct cas_id *ret_id)
{
	uint8_t sealed[CAS_MANIFEST_MAX], *room;
	size_t sealed_len;
	int r;

	r = cas_manifest_seal(m->suite, &m->sealer.keys, m->sealer.volume, node, len, sealed,
		sizeof(sealed), &sealed_len, ret_id);
	if (r == 0)
		r = publish_object_begin(m, sealed_len, &room);
	if (r < 0)
		return r;
	memcpy(room, sealed, sealed_len);
	publish_object_end(m, NULL, sealed_len);
	return 0;
}

static int store_zero(
	struct cas_tree *tree, const struct inode *inode, const struct dirty_extent *extent)
{
	uint64_t end = extent->offset + extent->len;

	end = end < inode->dirty.size ? end : inode->dirty.size;
	if (end <= extent->offset)
		return 0;
	return cas_tree_replace(tree, extent->offset, end - extent->offset, NULL, 0);
}

/* What is far is found out before anything is sealed for it: at the first place, and of a file that
 * could not be stored before at each. */
static int find_places(const struct inode *inode, struct cas_tree *tree, size_t first)
{
	const struct dirty_file *file = &inode->contents->file;
	const struct dirty_extent *last = &file->extents[run_end(file, first) - 1];
	const uint64_t len = cas_tree_len(tree), to = last->offset + last->len;
	uint64_t at = file->extents[first].offset, start;
	struct cas_extent extent;
	int r;

	if (len == 0)
		return 0;
	r = cas_tree_find(tree, at < len ? at : len - 1, &extent, &start);
	while (r == 0 && inode->is_far && (at = start + extent.len) < to && at < len)
		r = cas_tree_find(tree, at, &extent, &start);
	return r;
}

/* Brings every extent into the tree, up to the last cut if not all. *ret_upto: bytes before it
 * are in. */
static int store_extents(struct mountd *m, struct inode *inode, struct cas_tree *tree, bool all,
	struct run *run, uint64_t *ret_upto)
{
	const struct dirty_file *file = &inode->contents->file;
	size_t end;
	int r = 0;

	*ret_upto = UINT64_MAX;
	for (size_t i = 0; r == 0 && i < file->num; i = end) {
		end = i + 1;
		if (file->extents[i].is_zero) {
			r = store_zero(tree, inode, &file->extents[i]);
			continue;
		}
		r = find_places(inode, tree, i);
		if (r < 0)
			break;
		run_begin(run, inode, tree, i, all);
		end = run->end;
		r = run_store_all(run, tree);
		if (r == 0 && run->len > 0)
			*ret_upto = run->offset;
	}
	return r;
}

int flush_describe(struct cas_tree *tree, struct sealed_body *body)
{
	struct cas_extent extents[SEALED_FEW + 1];
	size_t num;
	int r;

	body->size = cas_tree_len(tree);
	body->form = SEALED_INLINE;
	if (body->size == 0)
		return 0;
	r = cas_tree_slice(tree, 0, body->size, extents, SEALED_FEW + 1, &num);
	if (r < 0)
		return r;
	if (num <= SEALED_FEW) {
		body->form = SEALED_CHUNKS;
		body->num_chunks = (uint32_t)num;
		memcpy(body->chunks, extents, num * sizeof(*extents));
		return 0;
	}
	body->form = SEALED_TREE;
	return cas_tree_flush(tree, &body->root);
}

static int store_inline(struct inode *inode, struct sealed_body *body)
{
	size_t len;

	body->form = SEALED_INLINE;
	body->size = inode->dirty.size;
	if (body->size == 0)
		return 0;
	body->data = malloc(body->size);
	if (body->data == NULL)
		return -ENOMEM;
	return contents_read(inode, 0, body->data, body->size, &len);
}

static int store_tree(struct mountd *m, struct inode *inode, bool all, struct sealed_body *body,
	uint64_t *ret_upto)
{
	struct cas_tree *tree;
	struct run *run;
	int r = run_new(&run, m);

	if (r < 0)
		return r;
	r = contents_tree(inode, &tree);
	if (r == 0 && cas_tree_len(tree) > inode->dirty.base_limit)
		r = cas_tree_resize(tree, inode->dirty.base_limit);
	if (r == 0)
		r = store_extents(m, inode, tree, all, run, ret_upto);
	if (r == 0 && all && cas_tree_len(tree) != inode->dirty.size)
		r = cas_tree_resize(tree, inode->dirty.size);
	body->filled = sealed_body_filled(&inode->body) + run->filled;
	if (r == 0)
		r = flush_describe(tree, body);
	if (r == 0)
		cas_tree_trim(tree, 8);
	run_free(run);
	return r;
}

int flush_attr(struct mountd *m, struct inode *inode)
{
	struct batch batch;
	int r;

	if (!inode_holds_attr(inode))
		return 0;
	batch_begin(m, &batch);
	batch_put_attr(&batch, inode->oid, &inode->attr);
	r = batch_publish_aside(&batch, inode->dirty.view);
	if (r == 0)
		contents_attr_stored(m, inode);
	return r;
}

int flush_old_attr(struct mountd *m, struct inode *inode)
{
	return inode->dirty.view != m->view ? flush_attr(m, inode) : 0;
}

int flush_set_attr(struct mountd *m, struct inode *inode, const struct sealed_attr *attr)
{
	struct batch batch;
	int r;

	if (contents_hold_attr(m, inode, attr))
		return 0;
	batch_begin(m, &batch);
	batch_put_attr(&batch, inode->oid, attr);
	r = batch_publish_aside(&batch, m->view);
	if (r < 0)
		return r;
	inode->attr = *attr;
	contents_attr_stored(m, inode);
	return 0;
}

static void become_clean(struct mountd *m, struct inode *inode)
{
	stream_cancel(m->stream, inode->oid);
	if (inode->contents != NULL)
		dirty_clear(m->dirty, &inode->contents->file);
	dirty_head_drop(m->dirty, &inode->head);
	inode->goes_alone = inode->is_far = inode->is_copied = false;
	inode_mark_clean(&m->inodes, inode);
}

/* The body is in the ring: what was stored counts, what is left stays dirty. */
static void stored_part(struct mountd *m, struct inode *inode, const struct sealed_body *body,
	const struct flush_part *part)
{
	inode->dirty.base_limit = body->size;
	inode->dirty.holds_attr = 0;
	contents_head(m, inode);
	inode->contents->cut_at = part->upto;
	inode->contents->cut_seq = part->seq;
	dirty_release(
		m->dirty, &inode->contents->file, part->from, part->upto - part->from, part->seq);
}

static int publish_body(struct mountd *m, struct inode *inode, struct sealed_body *body,
	const struct flush_part *part, bool answers)
{
	uint64_t view = inode->dirty.view;
	struct batch batch;
	int r;

	body->mtime = inode->dirty.mtime;
	body->ctime = inode->dirty.ctime;
	batch_begin(m, &batch);
	if (inode_holds_attr(inode))
		batch_put_attr(&batch, inode->oid, &inode->attr);
	batch_put_body(&batch, inode->oid, body);
	/* A request that flushes first, as a rename, is not done by that. */
	r = answers ? batch_publish(&batch, view, 0) : batch_publish_aside(&batch, view);
	if (r < 0)
		return r;
	if (body->data == NULL || body->data != inode->body.data)
		free(inode->body.data);
	body->packed = NULL; /* which was the caller's */
	inode->body = *body;
	inode->has_body = true;
	if (part == NULL)
		become_clean(m, inode);
	else
		stored_part(m, inode, body, part);
	/* A tree that was not flushed into nodes says no more than the record does. */
	if (body->form != SEALED_TREE)
		contents_reset(inode);
	/* The write replaced every version that was seen; what a pull brought since stays beside.
	 */
	if (view != m->view)
		changed_look_again(m->changed, inode->oid);
	else
		sibling_drop(m, inode);
	return 0;
}

int flush_publish(struct mountd *m, struct inode *inode, struct sealed_body *body,
	const struct flush_part *part)
{
	return publish_body(m, inode, body, part, false);
}

static int store_inode(struct mountd *m, struct inode *inode, bool all, bool answers)
{
	struct sealed_body body = { 0 };
	struct flush_part part = { .upto = UINT64_MAX };
	int r = 0;

	if (inode->head == DIRTY_NO_HEAD)
		return 0;
	stream_settle(m->stream, inode->oid);
	part.seq = dirty_log_seq(m->dirty);
	inode->pins++;
	if (!inode_is_file(inode))
		all = true;
	else if (all && inode->dirty.size <= SEALED_INLINE_MAX &&
		 (inode->dirty.base_limit == 0 || inode->body.form == SEALED_INLINE))
		r = store_inline(inode, &body);
	else if (inode->contents->file.num == 0 && inode->dirty.size == inode->body.size &&
		 inode->dirty.base_limit == inode->body.size)
		body = inode->body; /* only its times changed */
	else
		r = store_tree(m, inode, all, &body, &part.upto);
	if (r == 0)
		r = publish_body(m, inode, &body, all ? NULL : &part, answers);
	if (r < 0) {
		if (body.data != inode->body.data)
			free(body.data);
		contents_reset(inode);
	}
	inode->is_far = r == -EAGAIN;
	inode->pins--;
	if (r == 0 && all && inode->pins == 0)
		contents_free(m, inode);
	return r;
}

int flush_inode(struct mountd *m, struct inode *inode, bool all)
{
	return store_inode(m, inode, all, false);
}

int flush_answer(struct mountd *m, struct inode *inode, uint64_t view)
{
	const uint64_t old = inode->dirty.view;
	int r = flush_attr(m, inode);

	if (r < 0)
		return r;
	inode->dirty.view = view;
	r = store_inode(m, inode, true, true);
	if (r < 0)
		inode->dirty.view = old;
	return r;
}

static int clone_extents(struct cas_tree *from, uint64_t off_in, struct cas_tree *to,
	uint64_t off_out, uint64_t len, uint64_t *filled)
{
	struct cas_extent extents[64];
	int r = 0;

	while (r == 0 && len > 0) {
		uint64_t done = 0;
		size_t num;

		r = cas_tree_slice(from, off_in, len, extents, 64, &num);
		if (r < 0 || num == 0)
			return r < 0 ? r : -EBADMSG;
		for (size_t i = 0; i < num; i++) {
			done += extents[i].len;
			if (!cas_extent_is_hole(&extents[i]))
				*filled += extents[i].len;
		}
		r = cas_tree_replace(to, off_out, done, extents, num);
		off_in += done;
		off_out += done;
		len -= done;
	}
	return r;
}

int flush_clone(struct mountd *m, struct inode *in, uint64_t off_in, struct inode *out,
	uint64_t off_out, uint64_t len)
{
	struct timespec now;
	struct sealed_body body = { 0 };
	struct cas_tree *from, *to;
	struct batch batch;
	int r;

	r = flush_inode(m, in, true);
	if (r == 0)
		r = flush_inode(m, out, true);
	if (r < 0)
		return r;
	if (in->body.form == SEALED_INLINE || in == out ||
		(out->body.form == SEALED_INLINE && out->body.size > 0))
		return -EOPNOTSUPP;
	body.filled = sealed_body_filled(&out->body);
	r = contents_tree(in, &from);
	if (r == 0)
		r = contents_tree(out, &to);
	if (r == 0)
		r = clone_extents(from, off_in, to, off_out, len, &body.filled);
	if (r == 0)
		r = flush_describe(to, &body);
	if (r == 0) {
		clock_gettime(CLOCK_REALTIME, &now);
		body.mtime = body.ctime = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
		batch_begin(m, &batch);
		batch_put_body(&batch, out->oid, &body);
		r = batch_publish_aside(&batch, m->view);
	}
	if (r < 0) {
		contents_reset(out);
		return r;
	}
	if (body.form != SEALED_TREE)
		contents_reset(out);
	free(out->body.data);
	out->body = body;
	out->has_body = true;
	out->is_near = false;
	return 0;
}

/* Stores the inode, and with it those behind it that go together. No group is on its way. Returns
 * whose turn it is; *ret_r is of this inode. */
static struct inode *flush_from(struct mountd *m, struct inode *inode, int *ret_r)
{
	struct inode *prev = inode->dirty_prev, *next = inode->dirty_next;

	*ret_r = 0;
	if (publish_error(m) == 0 && group_takes(inode)) {
		group_start(m->group, inode, INFINITY);
		group_finish(m->group);
		return prev->dirty_next; /* who is next by now, or this one again, alone */
	}
	*ret_r = flush_inode(m, inode, true);
	return next;
}

/* A tree has few levels, and each fetch brings one of them. */
#define FETCHES_MAX 64

static int flush_fetching(struct mountd *m, struct inode *inode, double *until)
{
	int r = -EAGAIN;

	for (int i = 0; r == -EAGAIN && i < FETCHES_MAX && ev_time() < *until; i++) {
		/* Where one is out of reach the others are not waited for. */
		if (chunks_fetch_missing(m, *until) < 0)
			*until = 0;
		else
			r = flush_inode(m, inode, true);
	}
	return r;
}

int flush_all(struct mountd *m, double until)
{
	struct inode *inode;
	int first = 0;

	group_finish(m->group);
	inode = m->inodes.dirty.dirty_next;
	while (inode != &m->inodes.dirty) {
		int r;
		struct inode *next = flush_from(m, inode, &r);

		if (r == -EAGAIN)
			r = flush_fetching(m, inode, &until);

		/* Only the times of a directory: not worth failing an unmount on a full disk. */
		if (r == -ENOSPC && m->is_stopping && !inode_is_file(inode)) {
			flush_forget(m, inode);
			r = 0;
		}
		if (first == 0 || first == -EAGAIN)
			first = r < 0 ? r : first;
		inode = next;
	}
	return first;
}

size_t flush_unstored(const struct mountd *m)
{
	const struct inode *inode = m->inodes.dirty.dirty_next;
	size_t num = 0;

	for (; inode != &m->inodes.dirty; inode = inode->dirty_next)
		num += inode_is_file(inode);
	return num;
}

size_t flush_far(const struct mountd *m)
{
	const struct inode *inode = m->inodes.dirty.dirty_next;
	size_t num = 0;

	for (; inode != &m->inodes.dirty; inode = inode->dirty_next)
		num += inode->is_far;
	return num;
}

size_t flush_give_up(struct mountd *m)
{
	size_t num = flush_unstored(m);

	while (m->inodes.dirty.dirty_next != &m->inodes.dirty)
		become_clean(m, m->inodes.dirty.dirty_next);
	return num;
}

static bool has_room(const struct mountd *m, uint32_t slots)
{
	return dirty_log_free_slots(m->dirty) >= slots + SLOT_RESERVE &&
	       dirty_log_free_heads(m->dirty) > 0;
}

/* A stream that is being sealed gives its slots back soonest, and is not cut off. */
static bool end_streams(struct mountd *m, uint32_t slots)
{
	while (!has_room(m, slots) && stream_finish(m->stream))
		;
	return has_room(m, slots);
}

static bool is_long(const struct inode *inode)
{
	return inode_is_file(inode) && inode->contents != NULL &&
	       inode->contents->file.bytes >= FLUSH_STREAM_BYTES;
}

int flush_make_room(struct mountd *m, uint32_t slots)
{
	struct inode *inode;
	int first = 0;

	if (end_streams(m, slots))
		return 0;
	group_finish(m->group);
	inode = m->inodes.dirty.dirty_next;
	while (!has_room(m, slots) && inode != &m->inodes.dirty) {
		int r;

		if (is_long(inode) && stream_start(m->stream, inode) && end_streams(m, slots))
			break;
		inode = flush_from(m, inode, &r);
		first = first < 0 ? first : r;
	}
	if (has_room(m, slots))
		return 0;
	return first < 0 && first != -EAGAIN ? first : -ENOSPC;
}

void flush_forget(struct mountd *m, struct inode *inode)
{
	if (inode->head != DIRTY_NO_HEAD)
		become_clean(m, inode);
}

static double old_since(const struct mountd *m)
{
	return ev_now(m->loop) - FLUSH_AGE_S;
}

void flush_ahead(struct mountd *m)
{
	bool is_due = dirty_log_is_filling(m->dirty) && group_is_worth(m->group);

	if (publish_error(m) == 0 && !m->is_stopping)
		group_start(m->group, m->inodes.dirty.dirty_next, is_due ? INFINITY : old_since(m));
}

/* What fails stays dirty and is tried again; fsync tells the user. A stream is being stored anyway,
 * and what goes into a group by flush_ahead(). */
static struct inode *flush_old(struct mountd *m, struct inode *inode)
{
	struct inode *next = inode->dirty_next;
	int r;

	if (inode->is_copied || (publish_error(m) == 0 && group_takes(inode)))
		return next;
	r = stream_is_of(m->stream, inode->oid) ? -EBUSY : flush_inode(m, inode, true);
	if (r == -EAGAIN)
		parked_store_aside(m, inode->oid);
	if (r < 0)
		inode_stay_dirty(&m->inodes, inode, ev_now(m->loop));
	return next;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct mountd *m = timer->data;
	double start = ev_time(), since = old_since(m);
	struct inode *inode;

	timer->repeat = TIMER_S;
	group_poll(m->group);
	if (m->nested == 0) {
		tags_tell(m);
		flush_ahead(m);
	}
	inode = m->inodes.dirty.dirty_next;
	while (m->nested == 0 && inode != &m->inodes.dirty && inode->dirty_since <= since) {
		struct inode *next = flush_old(m, inode);

		if (ev_time() - start > TIMER_BUDGET_S) {
			timer->repeat = 0.005;
			break;
		}
		inode = next;
	}
	ev_timer_again(loop, timer);
}

void flush_start_timer(struct mountd *m)
{
	ev_timer_init(&m->flush_timer, on_timer, 0., TIMER_S);
	m->flush_timer.data = m;
	ev_timer_again(m->loop, &m->flush_timer);
}
