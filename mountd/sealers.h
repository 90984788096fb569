/*
 * Compressing, hashing and sealing many chunks at once, on helper threads and the calling one. The
 * helpers see nothing but the jobs and have suites of their own, so nothing else needs to be
 * shared or locked.
 *
 *	sealers_prepare(): plain -> buf (compressed payload), h
 *	(ask keyd for the keys)
 *	sealers_seal(): buf -> buf (sealed), id
 *
 * These two return when all is done. Few bytes are done without the helpers, as waking one costs
 * more. Or, to go on meanwhile:
 *
 *	sealers_start(sealers, &work, step, jobs, num);
 *	seal_work_is_done(&work) some day (the signal given to sealers_new says when to look), or
 *not r = sealers_finish(sealers, &work);     does what is left itself, and waits for the helpers
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
	size_t len;   /* of the sealed object, after prepare */
	struct cas_hash h;
	uint8_t key[CAS_KEY_SIZE], tag[CAS_KEY_SIZE];
	bool is_known; /* stored has it: id is set, it needs no sealing */
	struct cas_id id;
	int err;
};

enum seal_step {
	SEAL_PREPARE,
	SEAL_SEAL,
};

struct seal_work {
	struct seal_work *next; /* in the queue of the helpers */
	enum seal_step step;
	struct seal_job *jobs;
	size_t num;
	atomic_size_t taken, done;
	unsigned users; /* helpers that look at it, under the lock of the sealers */
	bool is_queued;
};

/* suite: of the calling thread. Helpers are started here, by the number of processors; without
 * them (no threads allowed) all still works. signal(arg) is called by a helper that did the last
 * job of a work. */
int sealers_new(struct sealers **ret, struct cas_suite *suite, void (*signal)(void *), void *arg);
void sealers_free(struct sealers *sealers);
bool sealers_have_helpers(const struct sealers *sealers);

void sealers_start(struct sealers *sealers, struct seal_work *work, enum seal_step step,
	struct seal_job *jobs, size_t num);
bool seal_work_is_done(const struct seal_work *work);
/* 0, or the first error of a job. */
int sealers_finish(struct sealers *sealers, struct seal_work *work);

int sealers_prepare(struct sealers *sealers, struct seal_job *jobs, size_t num);
int sealers_seal(struct sealers *sealers, struct seal_job *jobs, size_t num);

#endif
