/*
 * One stretch of a file's dirty extents, without a gap, on its way into the manifest tree: a window
 * of it at a time is copied, cut into chunks, sealed, handed to stored and put into the tree.
 *
 *	run_new(&run, m);
 *	run_begin(run, inode, first extent, to the last byte?);
 *	while (run_fill(run), run_cut(run) > 0) {
 *		hash, ask, seal: jobs.h with run->jobs
 *		run_store(run, tree);
 *	}
 *
 * run_store_all() is this loop. Between run_fill and run_store the window is a copy of its own: the
 * extents may change meanwhile, and another thread may cut it and work on the jobs.
 */
#ifndef BAZIL_MOUNTD_RUN_H
#define BAZIL_MOUNTD_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mountd/jobs.h"

struct cas_tree;
struct dirty_file;
struct inode;
struct mountd;

#define RUN_WINDOW (4u << 20) /* bytes sealed at a time */

struct run {
	struct mountd *m;
	struct inode *inode;
	size_t next, end; /* extents not yet in buf */
	uint64_t offset;  /* of buf[0] in the file */
	uint8_t *buf;
	size_t len, skip; /* skip: bytes of the next extent that are in the tree already */
	bool is_last;	  /* its end is really an end: cut there */
	size_t cut_len;	  /* bytes that became jobs */
	uint64_t filled;  /* bytes put into the tree */
	struct jobs jobs;
};

/* -ENOMEM. */
int run_new(struct run **ret, struct mountd *m);
void run_free(struct run *run);

/* The index behind the last extent of the stretch that begins at first. */
size_t run_end(const struct dirty_file *file, size_t first);
/* all: the end of the extents is an end. Else what is behind the last content-defined cut is left,
 * unless the file goes on behind them. tree: to join a short last chunk with what is appended. */
void run_begin(struct run *run, struct inode *inode, struct cas_tree *tree, size_t first, bool all);
/* Copies what fits into the window. */
void run_fill(struct run *run);
/* Makes jobs of it; returns their number. What is left in buf then is no chunk. */
size_t run_cut(struct run *run);
/* The sealed jobs are published and in the tree; the window moves on. */
int run_store(struct run *run, struct cas_tree *tree);
int run_store_all(struct run *run, struct cas_tree *tree);

#endif
