#include "stored/indexer.h"

#include "stored/broken.h"
#include "stored/engine_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_NS UINT64_C(1000000000) /* after a full disk */

enum indexer_state {
	INDEXER_IDLE,
	INDEXER_FROZEN, /* its log is not durable yet */
	INDEXER_BUSY,	/* the thread's, if there is one */
	INDEXER_DONE,	/* not looked at yet */
	INDEXER_STUCK,
	INDEXER_END,
};

struct indexer {
	struct db *db;
	const struct store_io *io;
	int dir_fd;
	void (*wake)(void *arg);
	void *wake_arg;
	bool has_thread;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum indexer_state state; /* under lock, as result */
	int result;
	uint64_t again_at; /* ns, when it is stuck */
	bool is_told;	   /* that it is */
	/* Of what is frozen. */
	uint64_t ticket;
	size_t promised;
	uint64_t noted;
};

static int apply(struct indexer *s)
{
	return failed_note_commit(s->io, s->dir_fd, db_apply(s->db));
}

static void *run(void *arg)
{
	struct indexer *s = arg;
	int r;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (s->state != INDEXER_BUSY && s->state != INDEXER_END)
			pthread_cond_wait(&s->changed, &s->lock);
		if (s->state == INDEXER_END)
			break;
		pthread_mutex_unlock(&s->lock);
		r = apply(s);
		pthread_mutex_lock(&s->lock);
		s->result = r;
		s->state = INDEXER_DONE;
		pthread_cond_broadcast(&s->changed);
		if (s->wake)
			s->wake(s->wake_arg);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Signals are for the main thread. */
static bool thread_make(struct indexer *s)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r == 0;
}

static struct indexer *indexer_new(struct engine *engine)
{
	struct indexer *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->io = engine->io;
	s->dir_fd = engine->options.dir_fd;
	s->wake = engine->options.wake;
	s->wake_arg = engine->options.wake_arg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->has_thread = engine->options.threads && thread_make(s);
	return s;
}

static void set_state(struct indexer *s, enum indexer_state state)
{
	pthread_mutex_lock(&s->lock);
	s->state = state;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static enum indexer_state state_of(struct indexer *s)
{
	enum indexer_state state;

	pthread_mutex_lock(&s->lock);
	state = s->state;
	pthread_mutex_unlock(&s->lock);
	return state;
}

int indexer_start(struct engine *engine, uint64_t ticket)
{
	struct indexer *s = engine->indexer;
	int r;

	if (!s)
		s = engine->indexer = indexer_new(engine);
	if (!s)
		return -ENOMEM;
	r = db_freeze(engine->db);
	if (r < 0)
		return r;
	/* A compacted copy is another one. */
	s->db = engine->db;
	s->ticket = ticket;
	s->promised = engine->promised.num;
	s->noted = engine->num_noted;
	set_state(s, INDEXER_FROZEN);
	return 0;
}

bool indexer_is_idle(const struct engine *engine)
{
	return !engine->indexer || state_of(engine->indexer) == INDEXER_IDLE;
}

bool indexer_is_stuck(const struct engine *engine)
{
	return engine->indexer && state_of(engine->indexer) == INDEXER_STUCK;
}

/* ---- what came of it */

/* Rows that are in no log are in LMDB now, up to those that were written meanwhile. */
static int applied(struct engine *engine, struct indexer *s)
{
	engine->promised.num -= s->promised;
	if (engine->promised.num > 0)
		memmove(engine->promised.ids, engine->promised.ids + s->promised,
			engine->promised.num * sizeof(*engine->promised.ids));
	engine->applied++;
	engine->noted_applied = s->noted;
	s->is_told = false;
	return db_applied(engine->db);
}

static int failed(struct engine *engine, int r)
{
	engine_log(engine, 3, "store: cannot commit the index: %s", strerror(-r));
	if (db_is_damaged(engine->db))
		return engine_check_index(engine);
	engine->is_broken = true;
	return -EIO;
}

/* What was in the way is gone, if r is 0. */
static int again(struct indexer *s, int r)
{
	if (r == 0)
		set_state(s, INDEXER_BUSY);
	return r;
}

static int ended(struct engine *engine, struct indexer *s, int r)
{
	if (r == 0)
		r = applied(engine, s);
	else if (r == -EOVERFLOW)
		r = again(s, db_grow(engine->db));
	else if (r == -ENOSPC)
		r = again(s, engine_use_reserve(engine));
	if (r != -ENOSPC)
		return r < 0 ? failed(engine, r) : 0;
	if (!s->is_told)
		engine_log(engine, 3, "store: cannot commit the index: %s", strerror(-r));
	s->is_told = true;
	s->again_at = engine->io->now(engine->io->ctx) + PAUSE_NS;
	set_state(s, INDEXER_STUCK);
	return 0;
}

int indexer_poll(struct engine *engine)
{
	struct indexer *s = engine->indexer;
	bool is_done;

	if (!s)
		return 0;
	if (state_of(s) == INDEXER_FROZEN && engine_is_durable(engine, s->ticket))
		set_state(s, INDEXER_BUSY);
	if (indexer_is_stuck(engine) && engine->io->now(engine->io->ctx) >= s->again_at)
		set_state(s, INDEXER_BUSY);
	if (!s->has_thread && s->state == INDEXER_BUSY) {
		s->result = apply(s);
		s->state = INDEXER_DONE;
	}
	pthread_mutex_lock(&s->lock);
	is_done = s->state == INDEXER_DONE;
	if (is_done)
		s->state = INDEXER_IDLE;
	pthread_mutex_unlock(&s->lock);
	return is_done ? ended(engine, s, s->result) : 0;
}

static void wait_for_thread(struct indexer *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->has_thread && s->state == INDEXER_BUSY)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

int indexer_wait(struct engine *engine)
{
	struct indexer *s = engine->indexer;
	int r = 0;

	if (!s)
		return 0;
	s->again_at = 0;
	if (state_of(s) == INDEXER_FROZEN && !engine_is_durable(engine, s->ticket))
		r = engine_sync(engine);
	if (r < 0)
		return r;
	do {
		wait_for_thread(s);
		r = indexer_poll(engine);
	} while (r == 0 && state_of(s) == INDEXER_BUSY);
	return r == 0 && state_of(s) == INDEXER_STUCK ? -ENOSPC : r;
}

int indexer_settle(struct engine *engine)
{
	struct indexer *s = engine->indexer;
	int r;

	if (!s)
		return 0;
	wait_for_thread(s);
	r = s->state == INDEXER_DONE ? s->result : 0;
	set_state(s, INDEXER_IDLE);
	/* The log has what is forgotten. */
	return r == -EOVERFLOW || r == -ENOSPC || r == 0 ? 0 : failed(engine, r);
}

void indexer_stop(struct engine *engine)
{
	struct indexer *s = engine->indexer;

	if (!s)
		return;
	wait_for_thread(s);
	set_state(s, INDEXER_END);
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
	engine->indexer = NULL;
}
