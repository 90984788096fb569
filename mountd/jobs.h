/*
 * Chunks on their way into the store, several at a time: cut out of a copy of what was written,
 * given their keys, sealed, published. A list of seal jobs (sealers.h) with the room that they are
 * sealed in.
 *
 *	jobs_init(&jobs, m, bytes);
 *	jobs_clear(&jobs);
 *	jobs_cut(&jobs, bytes of a file, ...);    of one file or of several
 *	sealers: hash jobs.list
 *	jobs_ask(&jobs);
 *	sealers: seal jobs.list, unless jobs_are_known
 *	jobs_publish(&jobs, first, num);
 *	jobs_extents(&jobs, first, num, extents); what the tree of the file is told
 *
 * jobs_seal() is the steps in the middle. The bytes that were cut stay where they are until the
 * jobs are sealed. Or all up to sealing is done by helpers, while requests are answered:
 *
 *	jobs_clear(&jobs);
 *	jobs_start(&jobs, cut, arg);    a helper calls cut(.., arg, 1), which calls jobs_cut
 *	jobs_are_due(&jobs);            now and then: the helpers are done with a step
 *	jobs_go_on(&jobs);              until it returns 1: they are sealed
 *
 * jobs_go_on() waits for a step that is not done, and helps with it. jobs_end() does only that.
 */
#ifndef BAZIL_MOUNTD_JOBS_H
#define BAZIL_MOUNTD_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mountd/sealers.h"

struct cas_extent;
struct mountd;

#define JOBS_MAX 256 /* as many as keyd and stored answer at once */

enum jobs_step {
	JOBS_CUT,
	JOBS_HASH,
	JOBS_SEAL,
};

struct jobs {
	struct mountd *m;
	enum jobs_step step; /* that the helpers are at */
	struct seal_work work;
	size_t num, num_known; /* known: stored has them */
	uint8_t *sealed;
	size_t sealed_len;
	struct seal_job list[JOBS_MAX];
};

/* bytes: that are cut between two jobs_clear at most. -ENOMEM. */
int jobs_init(struct jobs *jobs, struct mountd *m, size_t bytes);
void jobs_release(struct jobs *jobs);
void jobs_clear(struct jobs *jobs);

/* Adds chunks from where one begins; returns how many bytes became chunks: all, but when the list
 * is full, or (not is_end) behind the last content-defined cut. */
size_t jobs_cut(struct jobs *jobs, const uint8_t *from, size_t len, bool is_end);
/* The keys of the hashed jobs, and which of them stored has, unless they are too small to ask
 * about: waits for keyd and stored. */
int jobs_ask(struct jobs *jobs);
bool jobs_are_known(const struct jobs *jobs);
int jobs_seal(struct jobs *jobs);

/* Nobody else touches arg until the step is done. */
void jobs_start(struct jobs *jobs, seal_fn *cut, void *arg);
bool jobs_are_due(const struct jobs *jobs);
/* 1: sealed, 0: the next step was begun; waits for keyd and stored. */
int jobs_go_on(struct jobs *jobs);
void jobs_end(struct jobs *jobs);

/* What stored does not have goes into the ring. */
int jobs_publish(const struct jobs *jobs, size_t first, size_t num);
/* Returns the bytes of all. */
uint64_t jobs_extents(
	const struct jobs *jobs, size_t first, size_t num, struct cas_extent *extents);

#endif
