#include "mountd/sealers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "cas/object.h"
#include "cas/suite.h"

#define ALONE_BYTES (192u << 10)

typedef void step_fn(struct cas_suite *suite, struct seal_job *job);

struct sealers {
	struct cas_suite *suite, *helper_suite;
	pthread_t thread;
	bool has_helper;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock: the round that the helper should take part in. */
	uint64_t round, helper_done;
	bool stop;
	step_fn *step;
	struct seal_job *jobs;
	size_t num;
	atomic_size_t next; /* the first job that nobody took */
};

static void prepare(struct cas_suite *suite, struct seal_job *job)
{
	job->err = cas_chunk_prepare(suite, CAS_COMPRESS_DEFAULT, job->plain, job->plain_len,
		job->buf, cas_chunk_bound(job->plain_len), &job->len, &job->h);
}

static void seal(struct cas_suite *suite, struct seal_job *job)
{
	if (!job->is_known)
		cas_chunk_seal(suite, job->buf, job->len, job->key, job->buf, &job->id);
}

static void take_jobs(struct sealers *sealers, struct cas_suite *suite)
{
	size_t i;

	while ((i = atomic_fetch_add(&sealers->next, 1)) < sealers->num)
		sealers->step(suite, &sealers->jobs[i]);
}

static void *helper_main(void *arg)
{
	struct sealers *sealers = arg;

	pthread_mutex_lock(&sealers->lock);
	for (;;) {
		while (!sealers->stop && sealers->helper_done == sealers->round)
			pthread_cond_wait(&sealers->changed, &sealers->lock);
		if (sealers->stop)
			break;
		pthread_mutex_unlock(&sealers->lock);
		take_jobs(sealers, sealers->helper_suite);
		pthread_mutex_lock(&sealers->lock);
		sealers->helper_done = sealers->round;
		pthread_cond_broadcast(&sealers->changed);
	}
	pthread_mutex_unlock(&sealers->lock);
	return NULL;
}

int sealers_new(struct sealers **ret, struct cas_suite *suite)
{
	struct sealers *sealers = calloc(1, sizeof(*sealers));
	sigset_t all, old;

	if (sealers == NULL)
		return -ENOMEM;
	sealers->suite = suite;
	pthread_mutex_init(&sealers->lock, NULL);
	pthread_cond_init(&sealers->changed, NULL);
	sealers->helper_suite = cas_suite_new();
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (sealers->helper_suite != NULL)
		sealers->has_helper =
			pthread_create(&sealers->thread, NULL, helper_main, sealers) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*ret = sealers;
	return 0;
}

void sealers_free(struct sealers *sealers)
{
	if (sealers == NULL)
		return;
	if (sealers->has_helper) {
		pthread_mutex_lock(&sealers->lock);
		sealers->stop = true;
		pthread_cond_broadcast(&sealers->changed);
		pthread_mutex_unlock(&sealers->lock);
		pthread_join(sealers->thread, NULL);
	}
	cas_suite_free(sealers->helper_suite);
	free(sealers);
}

static int run(struct sealers *sealers, step_fn *step, struct seal_job *jobs, size_t num)
{
	size_t bytes = 0;
	bool share;

	for (size_t i = 0; i < num; i++)
		bytes += jobs[i].plain_len;
	share = sealers->has_helper && num > 1 && bytes > ALONE_BYTES;
	pthread_mutex_lock(&sealers->lock);
	sealers->step = step;
	sealers->jobs = jobs;
	sealers->num = num;
	atomic_store(&sealers->next, 0);
	if (share) {
		sealers->round++;
		pthread_cond_broadcast(&sealers->changed);
	}
	pthread_mutex_unlock(&sealers->lock);
	take_jobs(sealers, sealers->suite);
	if (share) {
		pthread_mutex_lock(&sealers->lock);
		while (sealers->helper_done != sealers->round)
			pthread_cond_wait(&sealers->changed, &sealers->lock);
		pthread_mutex_unlock(&sealers->lock);
	}
	for (size_t i = 0; i < num; i++)
		if (jobs[i].err < 0)
			return jobs[i].err;
	return 0;
}

int sealers_prepare(struct sealers *sealers, struct seal_job *jobs, size_t num)
{
	return run(sealers, prepare, jobs, num);
}

int sealers_seal(struct sealers *sealers, struct seal_job *jobs, size_t num)
{
	return run(sealers, seal, jobs, num);
}
