#include "stored/sealer.h"

#include "stored/engine_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_NS UINT64_C(60000000000) /* after a full disk */

struct sealer {
	const struct store_io *io;
	struct arena arena; /* a copy: the list moves */
	struct sealed_trailer trailer;
	pthread_t thread;
	bool has_thread;
	atomic_bool is_cancelled, is_done;
	int result;
	uint64_t pause_until;
};

static bool is_cancelled(void *arg)
{
	struct sealer *s = arg;

	return atomic_load(&s->is_cancelled);
}

static void *seal(void *arg)
{
	struct sealer *s = arg;

	s->result = sealed_arena_build(s->io, s->arena.fd, s->arena.number, s->arena.id,
		s->arena.size, is_cancelled, s, &s->trailer);
	atomic_store(&s->is_done, true);
	return NULL;
}

/* Signals are for the main thread. */
static int thread_make(struct sealer *s)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, seal, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static struct arena *next_arena(struct engine *engine)
{
	struct arenas *a = &engine->arenas;
	size_t i;

	for (i = 0; i + 1 < a->num; i++)
		if (!a->list[i].is_sealed && !a->list[i].is_left)
			return &a->list[i];
	return NULL;
}

static void note(struct engine *engine, struct sealer *s)
{
	struct arenas *a = &engine->arenas;
	struct arena *arena = NULL;
	size_t i;

	arenas_give_back(a, ARENAS_SEALER);
	for (i = 0; i < a->num; i++)
		if (a->list[i].number == s->arena.number)
			arena = &a->list[i];
	s->arena.number = 0;
	if (!arena || s->result == -ECANCELED)
		return;
	if (s->result == 0) {
		arena->has_ended = arena->is_sealed = true;
		arena->size = s->trailer.footer;
		return;
	}
	engine_log(engine, 4, "store: arena %u cannot be sealed: %s", arena->number,
		strerror(-s->result));
	if (s->result == -ENOSPC || s->result == -ENOMEM)
		s->pause_until = engine->io->now(engine->io->ctx) + PAUSE_NS;
	else
		arena->is_left = true;
}

static void begin(struct engine *engine, struct sealer *s, const struct arena *arena)
{
	int fd = arenas_lend(&engine->arenas, arena->number, ARENAS_SEALER);

	s->arena = *arena;
	if (fd < 0) {
		s->result = fd;
		note(engine, s);
		return;
	}
	atomic_store(&s->is_done, false);
	if (engine->options.threads && thread_make(s) == 0) {
		s->has_thread = true;
		return;
	}
	seal(s);
	note(engine, s);
}

void sealer_run(struct engine *engine)
{
	struct sealer *s = engine->sealer;
	struct arena *arena;

	if (engine->is_broken)
		return;
	if (s && s->has_thread) {
		if (!atomic_load(&s->is_done))
			return;
		pthread_join(s->thread, NULL);
		s->has_thread = false;
		note(engine, s);
	}
	arena = next_arena(engine);
	if (!arena || (s && engine->io->now(engine->io->ctx) < s->pause_until))
		return;
	if (!s) {
		s = engine->sealer = calloc(1, sizeof(*s));
		if (!s)
			return;
		s->io = engine->io;
	}
	begin(engine, s, arena);
}

bool sealer_is_due(const struct engine *engine, uint32_t number)
{
	const struct arenas *a = &engine->arenas;
	const struct sealer *s = engine->sealer;
	size_t i;

	if (s && !s->has_thread && engine->io->now(engine->io->ctx) < s->pause_until)
		return false;
	for (i = 0; i + 1 < a->num; i++)
		if (a->list[i].number == number)
			return !a->list[i].is_sealed && !a->list[i].is_left;
	return false;
}

void sealer_stop(struct engine *engine)
{
	struct sealer *s = engine->sealer;

	if (!s)
		return;
	atomic_store(&s->is_cancelled, true);
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	free(s);
	engine->sealer = NULL;
}
