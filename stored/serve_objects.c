/*
 * Objects for peers, through the ring to syncd as it has room.
 */
#include "ipc/sync.gen.h"
#include "stored/intake.h"
#include "stored/settings.h"
#include "stored/stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct objects_job {
	struct objects_job *next;
	struct ipc_call *call;
	size_t num, done;
	uint8_t ids[SYNC_OBJECTS_IDS_MAX][32];
	uint32_t lens[SYNC_OBJECTS_IDS_MAX];
};

/* 1: put or not here; 0: no room in the ring yet. */
static int job_object(struct sync_server *self, struct objects_job *job)
{
	const uint8_t *id = job->ids[job->done];
	struct place place;
	uint8_t *entry;

	if (engine_locate(self->stored->engine, id, &place) < 0)
		return 1;
	entry = ipc_ring_reserve(self->out, INTAKE_TAG_SIZE + place.len);
	if (!entry) {
		/* Announce first, then look again: room made in between would not be told. */
		ipc_ring_sleep_begin(self->out);
		entry = ipc_ring_reserve(self->out, INTAKE_TAG_SIZE + place.len);
		if (!entry)
			return 0;
		ipc_ring_sleep_end(self->out);
	}
	memset(entry, 0, INTAKE_TAG_SIZE);
	/* A damaged object is not here: the peer shall ask another one. */
	if (engine_read_object(self->stored->engine, id, place, entry + INTAKE_TAG_SIZE) < 0) {
		ipc_ring_abort(self->out);
		return 1;
	}
	ipc_ring_publish(self->out, INTAKE_OBJECT, INTAKE_TAG_SIZE + place.len);
	job->lens[job->done] = place.len;
	return 1;
}

void sync_jobs_run(struct sync_server *self)
{
	struct objects_job *job;

	while ((job = self->jobs)) {
		for (; job->done < job->num && !ipc_call_dead(job->call); job->done++)
			if (job_object(self, job) == 0)
				return;
		self->jobs = job->next;
		if (!self->jobs)
			self->last_job = &self->jobs;
		sync_objects_reply(job->call, &(struct sync_objects_reply){ .lens = job->lens,
						      .num_lens = job->num,
						      .position = ipc_ring_head(self->out) });
		free(job);
	}
}

void on_sync_objects(
	struct sync_server *self, struct ipc_call *call, const struct sync_objects *req)
{
	struct settings_peer peer;
	struct objects_job *job;

	if (settings_peer_get(self->stored->engine, req->peer, &peer) < 0 || !peer.may_store) {
		ipc_call_fail(call, -EACCES, NULL);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	job->call = call;
	job->num = req->num_ids;
	memcpy(job->ids, req->ids, req->num_ids * 32);
	*self->last_job = job;
	self->last_job = &job->next;
	sync_jobs_run(self);
}

void on_sync_kick(struct sync_server *self, const struct sync_kick *msg)
{
	ipc_ring_sleep_end(self->out);
	sync_jobs_run(self);
}

void objects_release(struct sync_server *self)
{
	struct objects_job *job;

	while ((job = self->jobs)) {
		self->jobs = job->next;
		ipc_call_fail(job->call, -ECONNRESET, NULL);
		free(job);
	}
}
