#include "mountd/sealers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cas/object.h"
#include "cas/sha256.h"
#include "cas/suite.h"
#include "cas/zstd.h"

#define ALONE_BYTES (192u << 10)
#define GROUP_MAX   32 /* two for each lane: their lengths even out */

struct helper {
	struct sealers *sealers;
	struct cas_suite *suite;
	pthread_t thread;
};

struct sealers {
	struct cas_suite *suite;
	struct helper helpers[SEALERS_MAX];
	size_t num_helpers;
	atomic_size_t num_busy;
	void (*signal)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t wake, left; /* there is work; a helper let go of one */
	bool stop;
	struct seal_work *first, **last; /* with jobs that nobody took */
};

static void hash(struct cas_suite *suite, void *arg, size_t num)
{
	struct cas_sha256 hashes[GROUP_MAX] = { 0 };
	struct seal_job *jobs = arg;

	for (size_t i = 0; i < num; i++)
		hashes[i] =
			(struct cas_sha256){ jobs[i].plain, jobs[i].plain_len, jobs[i].digest.b };
	cas_sha256_all(suite, hashes, num);
	for (size_t i = 0; i < num; i++)
		cas_chunk_h(suite, &jobs[i].digest, &jobs[i].h);
}

/* Afterwards digest is that of what the object holds. */
static void prepare(struct cas_suite *suite, struct seal_job *jobs, size_t num)
{
	struct cas_sha256 hashes[GROUP_MAX] = { 0 };
	size_t num_hashes = 0;

	for (size_t i = 0; i < num; i++) {
		struct seal_job *job = &jobs[i];
		const void *stored;
		size_t len;

		if (job->is_known)
			continue;
		job->err = cas_chunk_prepare(suite, cas_zstd_level(job->plain, job->plain_len),
			job->plain, job->plain_len, job->buf, cas_chunk_bound(job->plain_len),
			&job->len);
		stored = job->err == 0 ? cas_chunk_stored(job->buf, &len) : NULL;
		if (stored != NULL)
			hashes[num_hashes++] = (struct cas_sha256){ stored, len, job->digest.b };
	}
	cas_sha256_all(suite, hashes, num_hashes);
}

static void seal(struct cas_suite *suite, void *arg, size_t num)
{
	struct cas_sha256 hashes[GROUP_MAX] = { 0 };
	struct seal_job *jobs = arg;
	size_t num_hashes = 0;

	prepare(suite, jobs, num);
	for (size_t i = 0; i < num; i++) {
		struct seal_job *job = &jobs[i];

		if (job->is_known || job->err < 0)
			continue;
		cas_chunk_seal(suite, job->buf, job->len, job->key, &job->digest, job->buf, NULL);
		hashes[num_hashes++] = (struct cas_sha256){ job->buf, job->len, job->id.b };
	}
	cas_sha256_all(suite, hashes, num_hashes);
}

/* Until nobody need take any more; true: did the last of all. */
static bool take_jobs(struct seal_work *work, struct cas_suite *suite)
{
	bool was_last = false;
	size_t i;

	while ((i = atomic_fetch_add(&work->taken, work->group)) < work->num) {
		size_t num = work->num - i < work->group ? work->num - i : work->group;

		work->fn(suite, work->jobs + i * work->size, num);
		was_last = atomic_fetch_add(&work->done, num) + num == work->num;
	}
	return was_last;
}

static void unqueue(struct sealers *sealers, struct seal_work *work)
{
	struct seal_work **at = &sealers->first;

	if (!work->is_queued)
		return;
	while (*at != work)
		at = &(*at)->next;
	*at = work->next;
	if (*at == NULL)
		sealers->last = at;
	work->is_queued = false;
}

/* Joins in what is queued first, with the lock held, which is let go meanwhile. */
static void help(struct sealers *sealers, struct cas_suite *suite)
{
	struct seal_work *work = sealers->first;
	bool tell;

	work->users++;
	pthread_mutex_unlock(&sealers->lock);
	tell = take_jobs(work, suite) && work->is_told;
	pthread_mutex_lock(&sealers->lock);
	unqueue(sealers, work);
	/* The owner may reuse it from here on. */
	if (--work->users == 0)
		pthread_cond_broadcast(&sealers->left);
	if (tell)
		sealers->signal(sealers->arg);
}

static void *helper_main(void *arg)
{
	struct helper *helper = arg;
	struct sealers *sealers = helper->sealers;

	pthread_mutex_lock(&sealers->lock);
	for (;;) {
		while (!sealers->stop && sealers->first == NULL)
			pthread_cond_wait(&sealers->wake, &sealers->lock);
		if (sealers->stop)
			break;
		atomic_fetch_add(&sealers->num_busy, 1);
		help(sealers, helper->suite);
		atomic_fetch_sub(&sealers->num_busy, 1);
	}
	pthread_mutex_unlock(&sealers->lock);
	return NULL;
}

static bool helper_start(struct sealers *sealers, struct helper *helper)
{
	helper->sealers = sealers;
	helper->suite = cas_suite_new();
	if (helper->suite != NULL &&
		pthread_create(&helper->thread, NULL, helper_main, helper) == 0)
		return true;
	cas_suite_free(helper->suite);
	return false;
}

int sealers_new(struct sealers **ret, struct cas_suite *suite, void (*signal)(void *), void *arg)
{
	struct sealers *sealers = calloc(1, sizeof(*sealers));
	long num = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	sigset_t all, old;

	if (sealers == NULL)
		return -ENOMEM;
	sealers->suite = suite;
	sealers->signal = signal;
	sealers->arg = arg;
	sealers->last = &sealers->first;
	pthread_mutex_init(&sealers->lock, NULL);
	pthread_cond_init(&sealers->wake, NULL);
	pthread_cond_init(&sealers->left, NULL);
	num = num < 1 ? 1 : num > SEALERS_MAX ? SEALERS_MAX : num;
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (sealers->num_helpers < (size_t)num &&
		helper_start(sealers, &sealers->helpers[sealers->num_helpers]))
		sealers->num_helpers++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*ret = sealers;
	return 0;
}

void sealers_free(struct sealers *sealers)
{
	if (sealers == NULL)
		return;
	pthread_mutex_lock(&sealers->lock);
	sealers->stop = true;
	pthread_cond_broadcast(&sealers->wake);
	pthread_mutex_unlock(&sealers->lock);
	for (size_t i = 0; i < sealers->num_helpers; i++) {
		pthread_join(sealers->helpers[i].thread, NULL);
		cas_suite_free(sealers->helpers[i].suite);
	}
	free(sealers);
}

bool sealers_have_helpers(const struct sealers *sealers)
{
	return sealers->num_helpers > 0;
}

bool sealers_are_busy(const struct sealers *sealers)
{
	return atomic_load(&sealers->num_busy) == sealers->num_helpers;
}

/* Jobs that are hashed together (cas/sha256.h), a share for every thread. */
static size_t group_of(const struct sealers *sealers, size_t num)
{
	size_t threads = sealers->num_helpers + 1, share = (num + threads - 1) / threads;

	if (!cas_sha256_has_lanes() || share < 1)
		return 1;
	return share < GROUP_MAX ? share : GROUP_MAX;
}

static void set_up(const struct sealers *sealers, struct seal_work *work, enum seal_step step,
	struct seal_job *jobs, size_t num)
{
	*work = (struct seal_work){ .fn = step == SEAL_HASH ? hash : seal,
		.jobs = (uint8_t *)jobs,
		.size = sizeof(*jobs),
		.num = num,
		.group = group_of(sealers, num),
		.is_told = true };
}

static void enqueue(struct sealers *sealers, struct seal_work *work)
{
	if (sealers->num_helpers == 0 || work->num == 0)
		return;
	pthread_mutex_lock(&sealers->lock);
	work->is_queued = true;
	*sealers->last = work;
	sealers->last = &work->next;
	if (work->num > 1)
		pthread_cond_broadcast(&sealers->wake);
	else
		pthread_cond_signal(&sealers->wake);
	pthread_mutex_unlock(&sealers->lock);
}

void sealers_start(struct sealers *sealers, struct seal_work *work, enum seal_step step,
	struct seal_job *jobs, size_t num)
{
	set_up(sealers, work, step, jobs, num);
	enqueue(sealers, work);
}

void sealers_start_other(struct sealers *sealers, struct seal_work *work, seal_fn *fn, void *jobs,
	size_t size, size_t num, bool is_told)
{
	*work = (struct seal_work){ .fn = fn,
		.jobs = jobs,
		.size = size,
		.num = num,
		.is_told = is_told,
		.group = cas_sha256_has_lanes() ? num : 1 };
	enqueue(sealers, work);
}

bool seal_work_is_done(const struct seal_work *work)
{
	return atomic_load(&work->done) == work->num;
}

void sealers_finish(struct sealers *sealers, struct seal_work *work)
{
	(void)take_jobs(work, sealers->suite);
	pthread_mutex_lock(&sealers->lock);
	unqueue(sealers, work);
	/* Who waits for one chunk will want the next. Other work may be long. */
	while (work->users > 0)
		if (sealers->first != NULL && sealers->first->fn == work->fn)
			help(sealers, sealers->suite);
		else
			pthread_cond_wait(&sealers->left, &sealers->lock);
	pthread_mutex_unlock(&sealers->lock);
}

int seal_jobs_error(const struct seal_job *jobs, size_t num)
{
	for (size_t i = 0; i < num; i++)
		if (jobs[i].err < 0)
			return jobs[i].err;
	return 0;
}

static int run(struct sealers *sealers, enum seal_step step, struct seal_job *jobs, size_t num)
{
	struct seal_work work;
	size_t bytes = 0;

	for (size_t i = 0; i < num; i++)
		bytes += jobs[i].plain_len;
	if (num > 1 && bytes > ALONE_BYTES)
		sealers_start(sealers, &work, step, jobs, num);
	else
		set_up(sealers, &work, step, jobs, num);
	sealers_finish(sealers, &work);
	return seal_jobs_error(jobs, num);
}

int sealers_hash(struct sealers *sealers, struct seal_job *jobs, size_t num)
{
	return run(sealers, SEAL_HASH, jobs, num);
}

int sealers_seal(struct sealers *sealers, struct seal_job *jobs, size_t num)
{
	return run(sealers, SEAL_SEAL, jobs, num);
}
