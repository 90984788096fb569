/*
 * Compressing, hashing and sealing many chunks at once, on the calling thread and one helper. The
 * call returns when all is done: the helper sees nothing but the jobs and has a suite of its own,
 * so nothing else needs to be shared or locked. Few bytes are done without the helper, as waking
 * it costs more.
 *
 *	sealers_prepare(): plain -> buf (compressed payload), h
 *	(ask keyd for the keys)
 *	sealers_seal(): buf -> buf (sealed), id
 */
#ifndef BAZIL_MOUNTD_SEALERS_H
#define BAZIL_MOUNTD_SEALERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/id.h"
#include "cas/kdf.h"

struct cas_suite;
struct sealers;

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

/* suite: of the calling thread. The helper is started here; without it (no threads allowed) all
 * still works. */
int sealers_new(struct sealers **ret, struct cas_suite *suite);
void sealers_free(struct sealers *sealers);

/* 0, or the first error of a job. */
int sealers_prepare(struct sealers *sealers, struct seal_job *jobs, size_t num);
int sealers_seal(struct sealers *sealers, struct seal_job *jobs, size_t num);

#endif
