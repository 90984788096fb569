#include "stored/syncer.h"

#include "stored/engine_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum syncer_state {
	SYNCER_IDLE,
	SYNCER_BUSY, /* the thread's */
	SYNCER_DONE, /* not looked at yet */
	SYNCER_END,
};

struct syncer {
	void (*wake)(void *arg);
	void *wake_arg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum syncer_state state; /* under lock, as the rest */
	struct arenas_sync job;
	int result;
};

static void *run(void *arg)
{
	struct syncer *s = arg;
	struct arenas_sync job;
	int r;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (s->state != SYNCER_BUSY && s->state != SYNCER_END)
			pthread_cond_wait(&s->changed, &s->lock);
		if (s->state == SYNCER_END)
			break;
		job = s->job;
		pthread_mutex_unlock(&s->lock);
		r = arenas_sync_wait(&job);
		pthread_mutex_lock(&s->lock);
		s->result = r;
		s->state = SYNCER_DONE;
		pthread_cond_broadcast(&s->changed);
		if (s->wake)
			s->wake(s->wake_arg);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static struct syncer *syncer_new(struct engine *engine)
{
	struct syncer *s = calloc(1, sizeof(*s));
	sigset_t all, old;
	int r;

	if (!s)
		return NULL;
	s->wake = engine->options.wake;
	s->wake_arg = engine->options.wake_arg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		return s;
	free(s);
	return NULL;
}

static int failed(struct engine *engine, int r)
{
	if (r == 0)
		return 0;
	engine_log(engine, 2, "store: cannot make arena durable: %s", strerror(-r));
	engine->is_broken = true;
	return -EIO;
}

int syncer_start(struct engine *engine)
{
	struct syncer *s;
	int r;

	if (arenas_is_durable(&engine->arenas, engine->arenas.written))
		return 0;
	if (engine->options.threads && !engine->syncer)
		engine->syncer = syncer_new(engine);
	s = engine->syncer;
	if (!s)
		return failed(engine, arenas_sync(&engine->arenas));
	r = syncer_poll(engine);
	if (r < 0 || arenas_is_durable(&engine->arenas, engine->arenas.written))
		return r;
	pthread_mutex_lock(&s->lock);
	if (s->state == SYNCER_IDLE) {
		arenas_sync_begin(&engine->arenas, &s->job);
		arenas_lend(&engine->arenas, s->job.at.arena, ARENAS_SYNCER);
		s->state = SYNCER_BUSY;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int syncer_poll(struct engine *engine)
{
	struct syncer *s = engine->syncer;
	struct arenas_sync job = { 0 };
	bool is_done;
	int result = 0;

	if (!s)
		return 0;
	pthread_mutex_lock(&s->lock);
	is_done = s->state == SYNCER_DONE;
	if (is_done) {
		job = s->job;
		result = s->result;
		s->state = SYNCER_IDLE;
	}
	pthread_mutex_unlock(&s->lock);
	if (is_done)
		arenas_give_back(&engine->arenas, ARENAS_SYNCER);
	return is_done ? failed(engine, arenas_sync_end(&engine->arenas, &job, result)) : 0;
}

void syncer_stop(struct engine *engine)
{
	struct syncer *s = engine->syncer;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	while (s->state == SYNCER_BUSY)
		pthread_cond_wait(&s->changed, &s->lock);
	s->state = SYNCER_END;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
	engine->syncer = NULL;
}
