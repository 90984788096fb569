#include "mountd/jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cas/manifest.h"
#include "cas/object.h"
#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "mountd/chunks.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/tags.h"

#define ASK_BYTES (16u << 10) /* less is compressed in the time of the question */

int jobs_init(struct jobs *jobs, struct mountd *m, size_t bytes)
{
	jobs->m = m;
	jobs_clear(jobs);
	/* The bound of a chunk exceeds its length by an eighth and less than a KiB. */
	jobs->sealed = malloc(bytes + bytes / 8 + JOBS_MAX * 1024 + CAS_OBJECT_MAX);
	return jobs->sealed == NULL ? -ENOMEM : 0;
}

void jobs_release(struct jobs *jobs)
{
	free(jobs->sealed);
	jobs->sealed = NULL;
	explicit_bzero(jobs->list, sizeof(jobs->list)); /* the keys */
}

void jobs_clear(struct jobs *jobs)
{
	jobs->num = jobs->num_known = 0;
	jobs->sealed_len = 0;
}

size_t jobs_cut(struct jobs *jobs, const uint8_t *from, size_t len, bool is_end)
{
	size_t at = 0;

	while (at < len && jobs->num < JOBS_MAX) {
		size_t left = len - at;
		size_t most = left > CAS_CHUNKER_MAX ? CAS_CHUNKER_MAX : left;
		size_t n =
			cas_chunker_cut(&jobs->m->chunker, from + at, most, is_end && most == left);

		if (n == 0)
			break;
		jobs->list[jobs->num++] = (struct seal_job){
			.plain = from + at, .plain_len = n, .buf = jobs->sealed + jobs->sealed_len
		};
		jobs->sealed_len += cas_chunk_bound(n);
		at += n;
	}
	return at;
}

static int ask_keys(struct jobs *jobs)
{
	uint8_t hashes[JOBS_MAX][32];
	struct key_chunks req = {
		.type = CAS_TYPE_CHUNK, .hashes = hashes, .num_hashes = jobs->num
	};
	struct key_chunks_reply reply;
	int r;

	for (size_t i = 0; i < jobs->num; i++)
		memcpy(hashes[i], jobs->list[i].h.b, 32);
	do {
		r = key_chunks_wait(edge_key(jobs->m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(jobs->m, r));
	if (r < 0)
		return r;
	if (reply.num_keys != jobs->num || reply.num_tags != jobs->num)
		r = -EBADMSG;
	for (size_t i = 0; r == 0 && i < jobs->num; i++) {
		memcpy(jobs->list[i].key, reply.keys[i], CAS_KEY_SIZE);
		memcpy(jobs->list[i].tag, reply.tags[i], CAS_KEY_SIZE);
	}
	jobs->m->num_chunk_keys += jobs->num;
	jobs->m->num_key_calls++;
	key_chunks_reply_release(&reply);
	return r;
}

/* Chunks that are stored already need neither compressing nor sealing nor the way through the
 * ring. */
static int ask_have(struct jobs *jobs)
{
	uint8_t tags[JOBS_MAX][32];
	struct store_have req = { .tags = tags, .num_tags = jobs->num };
	struct store_have_reply reply;
	int r;

	tags_tell(jobs->m);
	for (size_t i = 0; i < jobs->num; i++)
		memcpy(tags[i], jobs->list[i].tag, 32);
	do {
		r = store_have_wait(edge_store(jobs->m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(jobs->m, r));
	if (r < 0)
		return r;
	for (size_t i = 0; i < jobs->num && i < reply.num_ids; i++) {
		struct seal_job *job = &jobs->list[i];

		memcpy(job->id.b, reply.ids[i], CAS_ID_SIZE);
		job->is_known = !cas_id_is_zero(&job->id);
		jobs->num_known += job->is_known;
	}
	store_have_reply_release(&reply);
	return 0;
}

static bool is_worth_asking(const struct jobs *jobs)
{
	size_t bytes = 0;

	for (size_t i = 0; i < jobs->num; i++)
		bytes += jobs->list[i].plain_len;
	return bytes >= ASK_BYTES;
}

int jobs_ask(struct jobs *jobs)
{
	int r = ask_keys(jobs);

	return r == 0 && is_worth_asking(jobs) ? ask_have(jobs) : r;
}

bool jobs_are_known(const struct jobs *jobs)
{
	return jobs->num_known == jobs->num;
}

int jobs_seal(struct jobs *jobs)
{
	struct sealers *sealers = jobs->m->sealers;
	int r = sealers_hash(sealers, jobs->list, jobs->num);

	if (r == 0)
		r = jobs_ask(jobs);
	return r < 0 || jobs_are_known(jobs) ? r : sealers_seal(sealers, jobs->list, jobs->num);
}

void jobs_start(struct jobs *jobs, seal_fn *cut, void *arg)
{
	jobs->step = JOBS_CUT;
	sealers_start_other(jobs->m->sealers, &jobs->work, cut, arg, 0, 1, true);
}

bool jobs_are_due(const struct jobs *jobs)
{
	/* Without helpers it is done by who goes on. */
	return seal_work_is_done(&jobs->work) || !sealers_have_helpers(jobs->m->sealers);
}

void jobs_end(struct jobs *jobs)
{
	sealers_finish(jobs->m->sealers, &jobs->work);
}

static int start_step(struct jobs *jobs, enum jobs_step step)
{
	jobs->step = step;
	sealers_start(jobs->m->sealers, &jobs->work, step == JOBS_HASH ? SEAL_HASH : SEAL_SEAL,
		jobs->list, jobs->num);
	return 0;
}

int jobs_go_on(struct jobs *jobs)
{
	int r;

	jobs_end(jobs);
	r = seal_jobs_error(jobs->list, jobs->num);
	if (r < 0 || jobs->step == JOBS_SEAL || jobs->num == 0)
		return r < 0 ? r : 1;
	if (jobs->step == JOBS_CUT)
		return start_step(jobs, JOBS_HASH);
	r = jobs_ask(jobs);
	if (r < 0)
		return r;
	return jobs_are_known(jobs) ? 1 : start_step(jobs, JOBS_SEAL);
}

int jobs_publish(const struct jobs *jobs, size_t first, size_t num)
{
	for (size_t i = first; i < first + num; i++) {
		const struct seal_job *job = &jobs->list[i];
		uint8_t *room;
		int r;

		chunks_learn(jobs->m, &job->id, job->key);
		if (job->is_known)
			continue;
		r = publish_object_begin(jobs->m, job->len, &room);
		if (r < 0)
			return r;
		memcpy(room, job->buf, job->len);
		publish_object_end(jobs->m, job->tag, job->len);
		jobs->m->num_sealed++;
	}
	return 0;
}

uint64_t jobs_extents(const struct jobs *jobs, size_t first, size_t num, struct cas_extent *extents)
{
	uint64_t len = 0;

	for (size_t i = 0; i < num; i++) {
		const struct seal_job *job = &jobs->list[first + i];

		extents[i] = (struct cas_extent){ .len = job->plain_len,
			.chunk_len = (uint32_t)job->plain_len,
			.id = job->id,
			.h = job->h };
		len += job->plain_len;
	}
	return len;
}
