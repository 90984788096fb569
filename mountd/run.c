#include "mountd/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cas/object.h"
#include "cas/tree.h"
#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "mountd/chunks.h"
#include "mountd/contents.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"

#define REJOIN_MAX   (32u << 10)
#define HAVE_AT_ONCE 4 /* asking pays for several at a time only */

int run_new(struct run **ret, struct mountd *m)
{
	struct run *run = calloc(1, sizeof(*run));

	if (run == NULL)
		return -ENOMEM;
	run->m = m;
	run->buf = malloc(RUN_WINDOW + REJOIN_MAX);
	/* Every chunk is at least CAS_CHUNKER_MIN but the last of a run; the bound of a chunk
	 * exceeds its length by an eighth and less than a KiB. */
	run->sealed = malloc(RUN_WINDOW + RUN_WINDOW / 8 + RUN_JOBS * 1024 + CAS_OBJECT_MAX);
	if (run->buf == NULL || run->sealed == NULL) {
		run_free(run);
		return -ENOMEM;
	}
	*ret = run;
	return 0;
}

void run_free(struct run *run)
{
	if (run == NULL)
		return;
	free(run->buf);
	free(run->sealed);
	free(run);
}

size_t run_end(const struct dirty_file *file, size_t first)
{
	size_t i = first + 1;

	while (i < file->num && !file->extents[i].is_zero &&
		file->extents[i].offset == file->extents[i - 1].offset + file->extents[i - 1].len)
		i++;
	return i;
}

static int ask_keys(struct run *run)
{
	uint8_t hashes[RUN_JOBS][32];
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

/* Chunks that are stored already need neither sealing nor the way through the ring. */
static int ask_have(struct run *run)
{
	uint8_t tags[RUN_JOBS][32];
	struct store_have req = { .tags = tags, .num_tags = run->num_jobs };
	struct store_have_reply reply;
	int r;

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
		run->num_known += run->jobs[i].is_known;
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

/* The same was written again: then the tree, and with it its nodes, stays as it is. */
static bool is_there(const struct run *run, struct cas_tree *tree, const struct cas_extent *extents,
	uint64_t len)
{
	struct cas_extent old[RUN_JOBS];
	size_t num;

	return run->num_known == run->num_jobs &&
	       cas_tree_slice(tree, run->offset, len, old, RUN_JOBS, &num) == 0 &&
	       num == run->num_jobs && memcmp(old, extents, num * sizeof(*old)) == 0;
}

static int put_chunks(struct run *run, struct cas_tree *tree)
{
	struct cas_extent extents[RUN_JOBS];
	uint64_t len = 0;

	for (size_t i = 0; i < run->num_jobs; i++) {
		const struct seal_job *job = &run->jobs[i];

		extents[i] = (struct cas_extent){ .len = job->plain_len,
			.chunk_len = (uint32_t)job->plain_len,
			.id = job->id,
			.h = job->h };
		len += job->plain_len;
	}
	if (is_there(run, tree, extents, len))
		return 0;
	run->filled += len;
	return cas_tree_replace(tree, run->offset, len, extents, run->num_jobs);
}

static void fill(struct run *run)
{
	const struct dirty_file *file = &run->inode->contents->file;

	while (run->next < run->end) {
		const struct dirty_extent *extent = &file->extents[run->next];

		if (run->len + extent->len > RUN_WINDOW)
			break;
		memcpy(run->buf + run->len, dirty_data(run->m->dirty, extent) + run->skip,
			extent->len - run->skip);
		run->len += extent->len - run->skip;
		run->skip = 0;
		run->next++;
	}
}

size_t run_cut(struct run *run)
{
	size_t sealed_at = 0;
	bool is_end;

	fill(run);
	is_end = run->next == run->end && run->is_last;
	run->num_jobs = run->num_known = 0;
	run->cut_len = 0;
	while (run->cut_len < run->len && run->num_jobs < RUN_JOBS) {
		const uint8_t *from = run->buf + run->cut_len;
		size_t left = run->len - run->cut_len;
		size_t len = left > CAS_CHUNKER_MAX ? CAS_CHUNKER_MAX : left;
		size_t n = cas_chunker_cut(&run->m->chunker, from, len, is_end && len == left);

		if (n == 0)
			break;
		run->jobs[run->num_jobs++] = (struct seal_job){
			.plain = from, .plain_len = n, .buf = run->sealed + sealed_at
		};
		sealed_at += cas_chunk_bound(n);
		run->cut_len += n;
	}
	return run->num_jobs;
}

int run_ask(struct run *run, bool have)
{
	int r = ask_keys(run);

	return r == 0 && have && run->num_jobs >= HAVE_AT_ONCE ? ask_have(run) : r;
}

int run_store(struct run *run, struct cas_tree *tree)
{
	int r = publish_chunks(run);

	if (r == 0)
		r = put_chunks(run, tree);
	if (r < 0)
		return r;
	memmove(run->buf, run->buf + run->cut_len, run->len - run->cut_len);
	run->len -= run->cut_len;
	run->offset += run->cut_len;
	return 0;
}

int run_store_all(struct run *run, struct cas_tree *tree)
{
	struct sealers *sealers = run->m->sealers;

	while (run_cut(run) > 0) {
		int r = sealers_prepare(sealers, run->jobs, run->num_jobs);

		if (r == 0)
			r = run_ask(run, true);
		if (r == 0)
			r = sealers_seal(sealers, run->jobs, run->num_jobs);
		if (r == 0)
			r = run_store(run, tree);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A short last chunk is joined with what is appended to it: else a log file, synced line by line,
 * would become a chunk for each line. One that its content ended (the last cut of a stream) would
 * only be cut there again. */
static void rejoin(struct run *run, struct cas_tree *tree)
{
	struct cas_extent extent;
	uint64_t start;

	if (run->offset == 0 || cas_tree_len(tree) != run->offset ||
		run->offset == run->inode->contents->cut_at)
		return;
	if (cas_tree_find(tree, run->offset - 1, &extent, &start) < 0)
		return;
	if (cas_extent_is_hole(&extent) || extent.len > REJOIN_MAX)
		return;
	if (chunks_read(run->m, &extent, 0, run->buf, extent.len) < 0)
		return; /* far, or damaged: it stays a chunk of its own */
	run->offset = start;
	run->len = extent.len;
}

void run_begin(struct run *run, struct inode *inode, struct cas_tree *tree, size_t first, bool all)
{
	const struct contents *contents = inode->contents;
	const struct dirty_extent *extent = &contents->file.extents[first], *last;

	run->inode = inode;
	run->next = first;
	run->end = run_end(&contents->file, first);
	run->offset = extent->offset;
	run->len = run->skip = 0;
	if (extent->offset < contents->cut_at && contents->cut_at < extent->offset + extent->len &&
		extent->seq <= contents->cut_seq) {
		run->skip = contents->cut_at - extent->offset;
		run->offset = contents->cut_at;
	}
	last = &contents->file.extents[run->end - 1];
	run->is_last = all || last->offset + last->len < inode->dirty.size;
	rejoin(run, tree);
}
