#include "mountd/flush.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include "cas/object.h"
#include "cas/tree.h"
#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "mountd/changed.h"
#include "mountd/chunks.h"
#include "mountd/contents.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/sealers.h"
#include "mountd/sibling.h"

#define SLOT_RESERVE   512u /* a maximal write and what a recovery may need */
#define REJOIN_MAX     (32u << 10)
#define TIMER_S	       0.5
#define TIMER_BUDGET_S 0.01

/* One stretch of extents without a gap on its way into the tree. */
struct run {
	struct mountd *m;
	struct inode *inode;
	struct cas_tree *tree;
	size_t next, end; /* extents not yet in buf */
	uint64_t offset;  /* of buf[0] in the file */
	uint8_t *buf, *sealed;
	size_t len, skip; /* skip: bytes of the next extent that are in the tree already */
	bool is_last;	  /* its end is really an end: cut there */
	uint64_t filled;  /* bytes put into the tree */
	size_t num_jobs;
	struct seal_job jobs[FLUSH_JOBS];
};

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

/* --- chunks --- */

static int ask_keys(struct run *run)
{
	uint8_t hashes[FLUSH_JOBS][32];
	struct key_chunks req = {
		.type = CAS_TYPE_CHUNK, .hashes = hashes, .num_hashes = run->num_jobs
	};
	struct key_chunks_reply reply;
	int r;

	for (size_t i = 0; i < run->num_jobs; i++)
		memcpy(hashes[i], run->jobs[i].h.b, 32);
	do {
		r = key_chunks_wait(edge_key(run->m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(run->m, r));
	if (r < 0)
		return r;
	if (reply.num_keys != run->num_jobs || reply.num_tags != run->num_jobs)
		r = -EBADMSG;
	for (size_t i = 0; r == 0 && i < run->num_jobs; i++) {
		memcpy(run->jobs[i].key, reply.keys[i], CAS_KEY_SIZE);
		memcpy(run->jobs[i].tag, reply.tags[i], CAS_KEY_SIZE);
	}
	run->m->num_chunk_keys += run->num_jobs;
	key_chunks_reply_release(&reply);
	return r;
}

/* Chunks that are stored already need neither sealing nor the way through the ring. Asking pays
 * for several at a time only. */
static int ask_have(struct run *run)
{
	uint8_t tags[FLUSH_JOBS][32];
	struct store_have req = { .tags = tags, .num_tags = run->num_jobs };
	struct store_have_reply reply;
	int r;

	if (run->num_jobs < 4)
		return 0;
	for (size_t i = 0; i < run->num_jobs; i++)
		memcpy(tags[i], run->jobs[i].tag, 32);
	do {
		r = store_have_wait(edge_store(run->m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(run->m, r));
	if (r < 0)
		return r;
	for (size_t i = 0; i < run->num_jobs && i < reply.num_ids; i++) {
		memcpy(run->jobs[i].id.b, reply.ids[i], CAS_ID_SIZE);
		run->jobs[i].is_known = !cas_id_is_zero(&run->jobs[i].id);
	}
	store_have_reply_release(&reply);
	return 0;
}

static int publish_chunks(struct run *run)
{
	for (size_t i = 0; i < run->num_jobs; i++) {
		const struct seal_job *job = &run->jobs[i];
		uint8_t *room;
		int r;

		chunks_learn(run->m, &job->id, job->key);
		if (job->is_known)
			continue;
		r = publish_object_begin(run->m, job->len, &room);
		if (r < 0)
			return r;
		memcpy(room, job->buf, job->len);
		publish_object_end(run->m, job->tag, job->len);
	}
	return 0;
}

static int put_chunks(struct run *run)
{
	struct cas_extent extents[FLUSH_JOBS];
	uint64_t len = 0;

	for (size_t i = 0; i < run->num_jobs; i++) {
		const struct seal_job *job = &run->jobs[i];

		extents[i] = (struct cas_extent){ .len = job->plain_len,
			.chunk_len = (uint32_t)job->plain_len,
			.id = job->id,
			.h = job->h };
		len += job->plain_len;
	}
	run->filled += len;
	return cas_tree_replace(run->tree, run->offset, len, extents, run->num_jobs);
}

static void fill(struct run *run)
{
	const struct dirty_file *file = &run->inode->contents->file;

	while (run->next < run->end) {
		const struct dirty_extent *extent = &file->extents[run->next];

		if (run->len + extent->len > FLUSH_WINDOW)
			break;
		memcpy(run->buf + run->len, dirty_data(run->m->dirty, extent) + run->skip,
			extent->len - run->skip);
		run->len += extent->len - run->skip;
		run->skip = 0;
		run->next++;
	}
}

/* Cuts what is in buf; returns the bytes that became jobs. */
static size_t cut(struct run *run)
{
	size_t at = 0, sealed_at = 0;
	bool is_end = run->next == run->end && run->is_last;

	run->num_jobs = 0;
	while (at < run->len && run->num_jobs < FLUSH_JOBS) {
		size_t len = run->len - at > CAS_CHUNKER_MAX ? CAS_CHUNKER_MAX : run->len - at;
		size_t n = cas_chunker_cut(
			&run->m->chunker, run->buf + at, len, is_end && len == run->len - at);

		if (n == 0)
			break;
		run->jobs[run->num_jobs++] = (struct seal_job){
			.plain = run->buf + at, .plain_len = n, .buf = run->sealed + sealed_at
		};
		sealed_at += cas_chunk_bound(n);
		at += n;
	}
	return at;
}

static int store_run(struct run *run)
{
	for (;;) {
		size_t done;
		int r;

		fill(run);
		done = cut(run);
		if (done == 0)
			return 0;
		r = sealers_prepare(run->m->sealers, run->jobs, run->num_jobs);
		if (r == 0)
			r = ask_keys(run);
		if (r == 0)
			r = ask_have(run);
		if (r == 0)
			r = sealers_seal(run->m->sealers, run->jobs, run->num_jobs);
		if (r == 0)
			r = publish_chunks(run);
		if (r == 0)
			r = put_chunks(run);
		if (r < 0)
			return r;
		memmove(run->buf, run->buf + done, run->len - done);
		run->len -= done;
		run->offset += done;
	}
}

/* A short last chunk is joined with what is appended to it: else a log file, synced line by line,
 * would become a chunk for each line. */
static void rejoin(struct run *run)
{
	struct cas_extent extent;
	uint64_t start;

	if (run->offset == 0 || cas_tree_len(run->tree) != run->offset)
		return;
	if (cas_tree_find(run->tree, run->offset - 1, &extent, &start) < 0)
		return;
	if (cas_extent_is_hole(&extent) || extent.len > REJOIN_MAX)
		return;
	if (chunks_read(run->m, &extent, 0, run->buf, extent.len) < 0)
		return; /* far, or damaged: it stays a chunk of its own */
	run->offset = start;
	run->len = extent.len;
}

/* --- a file --- */

static size_t run_end(const struct dirty_file *file, size_t first)
{
	size_t i = first + 1;

	while (i < file->num && !file->extents[i].is_zero &&
		file->extents[i].offset == file->extents[i - 1].offset + file->extents[i - 1].len)
		i++;
	return i;
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

/* Brings every extent into the tree, up to the last cut if not all. *ret_upto: bytes before it
 * are in. */
static int store_extents(struct mountd *m, struct inode *inode, struct cas_tree *tree, bool all,
	struct run *run, uint64_t *ret_upto)
{
	const struct contents *contents = inode->contents;
	const struct dirty_file *file = &contents->file;
	size_t end;
	int r = 0;

	*ret_upto = UINT64_MAX;
	for (size_t i = 0; r == 0 && i < file->num; i = end) {
		const struct dirty_extent *last;

		end = i + 1;
		if (file->extents[i].is_zero) {
			r = store_zero(tree, inode, &file->extents[i]);
			continue;
		}
		end = run_end(file, i);
		last = &file->extents[end - 1];
		run->tree = tree;
		run->inode = inode;
		run->next = i;
		run->end = end;
		run->offset = file->extents[i].offset;
		run->len = run->skip = 0;
		if (run->offset < contents->cut_at &&
			contents->cut_at < run->offset + file->extents[i].len &&
			file->extents[i].seq <= contents->cut_seq) {
			run->skip = contents->cut_at - run->offset;
			run->offset = contents->cut_at;
		}
		run->is_last = all || last->offset + last->len < inode->dirty.size;
		rejoin(run);
		r = store_run(run);
		if (r == 0 && run->len > 0)
			*ret_upto = run->offset;
	}
	return r;
}

/* How the record says the contents of the tree. */
static int describe(struct cas_tree *tree, struct sealed_body *body)
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
	struct run *run = calloc(1, sizeof(*run));
	struct cas_tree *tree;
	int r = -ENOMEM;

	if (run == NULL)
		return -ENOMEM;
	run->m = m;
	run->buf = malloc(FLUSH_WINDOW + REJOIN_MAX);
	/* Every chunk is at least CAS_CHUNKER_MIN but the last of a run; the bound of a chunk
	 * exceeds its length by an eighth and less than a KiB. */
	run->sealed = malloc(FLUSH_WINDOW + FLUSH_WINDOW / 8 + FLUSH_JOBS * 1024 + CAS_OBJECT_MAX);
	if (run->buf == NULL || run->sealed == NULL)
		goto free;
	r = contents_tree(inode, &tree);
	if (r == 0 && cas_tree_len(tree) > inode->dirty.base_limit)
		r = cas_tree_resize(tree, inode->dirty.base_limit);
	if (r == 0)
		r = store_extents(m, inode, tree, all, run, ret_upto);
	if (r == 0 && all && cas_tree_len(tree) != inode->dirty.size)
		r = cas_tree_resize(tree, inode->dirty.size);
	body->filled = sealed_body_filled(&inode->body) + run->filled;
	if (r == 0)
		r = describe(tree, body);
	if (r == 0)
		cas_tree_trim(tree, 8);
free:
	free(run->buf);
	free(run->sealed);
	free(run);
	return r;
}

static void become_clean(struct mountd *m, struct inode *inode)
{
	if (inode->contents != NULL)
		dirty_clear(m->dirty, &inode->contents->file);
	dirty_head_drop(m->dirty, &inode->head);
	inode_mark_clean(&m->inodes, inode);
}

/* The body is in the ring: what was stored counts, what is left stays dirty. */
static void published(struct mountd *m, struct inode *inode, struct sealed_body *body, bool all,
	uint64_t upto, uint64_t seq)
{
	free(inode->body.data);
	inode->body = *body;
	inode->has_body = true;
	if (all) {
		become_clean(m, inode);
		return;
	}
	inode->dirty.base_limit = body->size;
	contents_head(m, inode);
	inode->contents->cut_at = upto;
	inode->contents->cut_seq = seq;
	dirty_release(m->dirty, &inode->contents->file, 0, upto, seq);
}

int flush_inode(struct mountd *m, struct inode *inode, bool all)
{
	struct sealed_body body = { 0 };
	uint64_t upto = UINT64_MAX, seq = dirty_log_seq(m->dirty);
	uint64_t view = inode->dirty.view, unique;
	struct batch batch;
	int r = 0;

	if (inode->head == DIRTY_NO_HEAD)
		return 0;
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
		r = store_tree(m, inode, all, &body, &upto);
	if (r < 0)
		goto fail;
	body.mtime = inode->dirty.mtime;
	body.ctime = inode->dirty.ctime;
	batch_begin(m, &batch);
	batch_put_body(&batch, inode->oid, &body);
	/* A request that flushes first, as a rename, is not done by that: were it killed after
	 * this, the intent would say so. */
	unique = m->session.unique;
	m->session.unique = 0;
	r = batch_publish(&batch, inode->dirty.view, 0);
	m->session.unique = unique;
	if (r < 0)
		goto fail;
	if (body.data != NULL && body.data == inode->body.data)
		inode->body.data = NULL; /* moved */
	published(m, inode, &body, all, upto, seq);
	/* A tree that was not flushed into nodes says no more than the record does. */
	if (body.form != SEALED_TREE)
		contents_reset(inode);
	inode->pins--;
	/* The write replaced every version that was seen; what a pull brought since stays beside.
	 */
	if (view != m->view)
		changed_look_again(m->changed, inode->oid);
	else
		sibling_drop(m, inode);
	if (all && inode->pins == 0)
		contents_free(m, inode);
	return 0;
fail:
	if (body.data != inode->body.data)
		free(body.data);
	contents_reset(inode);
	inode->pins--;
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
		r = describe(to, &body);
	if (r == 0) {
		clock_gettime(CLOCK_REALTIME, &now);
		body.mtime = body.ctime = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
		batch_begin(m, &batch);
		batch_put_body(&batch, out->oid, &body);
		r = batch_publish(&batch, m->view, 0);
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
	return 0;
}

int flush_all(struct mountd *m)
{
	struct inode *inode = m->inodes.dirty.dirty_next;
	int first = 0;

	while (inode != &m->inodes.dirty) {
		struct inode *next = inode->dirty_next;
		int r = flush_inode(m, inode, true);

		/* Only the times of a directory: not worth failing an unmount on a full disk. */
		if (r == -ENOSPC && m->is_stopping && !inode_is_file(inode)) {
			flush_forget(m, inode);
			r = 0;
		}
		first = first < 0 ? first : r;
		inode = next;
	}
	return first;
}

static bool has_room(const struct mountd *m, uint32_t slots)
{
	return dirty_log_free_slots(m->dirty) >= slots + SLOT_RESERVE &&
	       dirty_log_free_heads(m->dirty) > 0;
}

int flush_make_room(struct mountd *m, uint32_t slots)
{
	struct inode *inode = m->inodes.dirty.dirty_next;
	int first = 0;

	while (!has_room(m, slots) && inode != &m->inodes.dirty) {
		struct inode *next = inode->dirty_next;
		int r = flush_inode(m, inode, true);

		first = first < 0 ? first : r;
		inode = next;
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

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct mountd *m = timer->data;
	double start = ev_time();
	struct inode *inode = m->inodes.dirty.dirty_next;

	timer->repeat = TIMER_S;
	while (m->nested == 0 && inode != &m->inodes.dirty) {
		struct inode *next = inode->dirty_next;

		if (inode->dirty_since + FLUSH_AGE_S > ev_now(loop))
			break;
		/* What fails stays dirty and is tried again; fsync tells the user. */
		if (flush_inode(m, inode, true) < 0)
			inode->dirty_since = ev_now(loop);
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
