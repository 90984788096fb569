#include "mountd/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cas/tree.h"
#include "mountd/chunks.h"
#include "mountd/contents.h"
#include "mountd/mountd.h"

#define REJOIN_MAX (32u << 10)

int run_new(struct run **ret, struct mountd *m)
{
	struct run *run = calloc(1, sizeof(*run));

	if (run == NULL)
		return -ENOMEM;
	run->m = m;
	run->buf = malloc(RUN_WINDOW + REJOIN_MAX);
	if (run->buf == NULL || jobs_init(&run->jobs, m, RUN_WINDOW + REJOIN_MAX) < 0) {
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
	jobs_release(&run->jobs);
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

/* The same was written again: then the tree, and with it its nodes, stays as it is. */
static bool is_there(const struct run *run, struct cas_tree *tree, const struct cas_extent *extents,
	uint64_t len)
{
	struct cas_extent old[JOBS_MAX];
	size_t num;

	return jobs_are_known(&run->jobs) &&
	       cas_tree_slice(tree, run->offset, len, old, JOBS_MAX, &num) == 0 &&
	       num == run->jobs.num && memcmp(old, extents, num * sizeof(*old)) == 0;
}

static int put_chunks(struct run *run, struct cas_tree *tree)
{
	struct cas_extent extents[JOBS_MAX];
	uint64_t len = jobs_extents(&run->jobs, 0, run->jobs.num, extents);

	if (is_there(run, tree, extents, len))
		return 0;
	run->filled += len;
	return cas_tree_replace(tree, run->offset, len, extents, run->jobs.num);
}

void run_fill(struct run *run)
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
	jobs_clear(&run->jobs);
	run->cut_len =
		jobs_cut(&run->jobs, run->buf, run->len, run->next == run->end && run->is_last);
	return run->jobs.num;
}

int run_store(struct run *run, struct cas_tree *tree)
{
	int r = jobs_publish(&run->jobs, 0, run->jobs.num);

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
	int r = 0;

	for (run_fill(run); r == 0 && run_cut(run) > 0; run_fill(run)) {
		r = jobs_seal(&run->jobs);
		if (r == 0)
			r = run_store(run, tree);
	}
	return r;
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
