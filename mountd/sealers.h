/*
 * Hashing, compressing, sealing and opening chunks on helper threads and the calling one. The
 * helpers see nothing but the jobs and have suites of their own, so nothing else needs to be
 * shared or locked.
 *
 *	sealers_hash(): plain -> digest of it, h
 *	(ask keyd for key and tag of h, and stored what it has)
 *	sealers_seal(): plain -> buf (compressed, sealed), id; of what stored does not have
 *
 * These two return when all is done. Few bytes are done without the helpers, as waking one costs
 * more. Or, to go on meanwhile:
 *
 *	sealers_start(sealers, &work, step, jobs, num);
 *	seal_work_is_done(&work)            now and then; sealers_new is given a signal
 *	sealers_finish(sealers, &work);     does what is left; until the helpers are done with
 *	                                    theirs, it helps with more of the same kind
 *
 * work and jobs stay where they are until sealers_finish returned. One thread calls all of this.
 */
#ifndef BAZIL_MOUNTD_SEALERS_H
#define BAZIL_MOUNTD_SEALERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/id.h"
#include "cas/kdf.h"

struct cas_suite;
struct sealers;

#define SEALERS_MAX 4 /* helper threads */

struct seal_job {
	const uint8_t *plain;
	size_t plain_len;
	uint8_t *buf; /* cas_chunk_bound(plain_len) bytes */
	size_t len;   /* of the sealed object */
	struct cas_hash digest, h;
	uint8_t key[CAS_KEY_SIZE], tag[CAS_KEY_SIZE];
	bool is_known; /* stored has it: id is set, it needs no sealing */
	struct cas_id id;
	int err;
};

enum seal_step {
	SEAL_HASH,
	SEAL_SEAL,
};

/* num jobs that follow each other in memory. */
typedef void seal_fn(struct cas_suite *suite, void *jobs, size_t num);

struct seal_work {
	struct seal_work *next; /* in the queue of the helpers */
	seal_fn *fn;
	uint8_t *jobs;
	size_t size, num; /* bytes of a job; jobs */
	size_t group;	  /* that are done together */
	atomic_size_t taken, done;
	unsigned users; /* helpers that look at it, under the lock of the sealers */
	bool is_queued, is_told;
};

/* suite: of the calling thread. Helpers are started here, by the number of processors; without
 * them (no threads allowed) all still works. signal(arg) is called by a helper that did the last
 * job of a work. */
int sealers_new(struct sealers **ret, struct cas_suite *suite, void (*signal)(void *), void *arg);
void sealers_free(struct sealers *sealers);
bool sealers_have_helpers(const struct sealers *sealers);
/* Every helper is at work: on as many processors, nobody should only spin. */
bool sealers_are_busy(const struct sealers *sealers);

void sealers_start(struct sealers *sealers, struct seal_work *work, enum seal_step step,
	struct seal_job *jobs, size_t num);
bool seal_work_is_done(const struct seal_work *work);
void sealers_finish(struct sealers *sealers, struct seal_work *work);
/* 0, or the first error of a job. */
int seal_jobs_error(const struct seal_job *jobs, size_t num);
/* Anything else that touches nothing but its jobs, which are size bytes each: one helper gets all
 * of them where they are hashed together. is_told: the signal is called. */
void sealers_start_other(struct sealers *sealers, struct seal_work *work, seal_fn *fn, void *jobs,
	size_t size, size_t num, bool is_told);

int sealers_hash(struct sealers *sealers, struct seal_job *jobs, size_t num);
int sealers_seal(struct sealers *sealers, struct seal_job *jobs, size_t num);

#endif
