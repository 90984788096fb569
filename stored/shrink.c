#include "stored/shrink.h"

#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/indexer.h"
#include "stored/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS UINT64_C(600000000000) /* between two looks at the free pages */

struct shrink {
	struct db *db;
	const struct store_io *io;
	int fd;
	pthread_t thread;
	bool is_copying, has_thread, has_copy;
	atomic_bool is_done;
	int result;
	uint64_t looked_at;   /* ns */
	uint64_t noted, gone; /* noted_applied and num_gone of the engine when the copy was begun */
};

static void *copy(void *arg)
{
	struct shrink *s = arg;

	s->result = db_copy(s->db, s->fd);
	if (s->result == 0)
		s->result = s->io->fdatasync(s->io->ctx, s->fd);
	atomic_store(&s->is_done, true);
	return NULL;
}

static bool is_worth_it(struct engine *engine)
{
	struct db_usage usage;

	if (db_usage(engine->db, &usage) < 0)
		return false;
	return usage.pages * usage.page_size >= engine->options.shrink_size &&
	       usage.free_pages > usage.pages / 2;
}

static void begin(struct engine *engine, struct shrink *s)
{
	sigset_t all, old;

	s->fd = s->io->openat(
		s->io->ctx, engine->options.dir_fd, "index.new", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (s->fd < 0)
		return;
	s->db = engine->db;
	s->noted = engine->noted_applied;
	s->gone = engine->num_gone;
	s->is_copying = true;
	atomic_store(&s->is_done, false);
	if (engine->options.threads) {
		/* Signals are for the main thread. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		s->has_thread = pthread_create(&s->thread, NULL, copy, s) == 0;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	if (!s->has_thread)
		copy(s);
}

static void drop_copy(struct engine *engine, struct shrink *s)
{
	s->has_copy = false;
	s->io->unlinkat(s->io->ctx, engine->options.dir_fd, "index.new");
}

static void copied(struct engine *engine, struct shrink *s)
{
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	s->has_thread = s->is_copying = false;
	s->io->close(s->io->ctx, s->fd);
	s->has_copy = s->result == 0;
	if (s->has_copy)
		return;
	engine_log(engine, 4, "store: the index cannot be compacted: %s", strerror(-s->result));
	drop_copy(engine, s);
}

/* Nobody holds a transaction of the old one. */
static bool is_quiet(const struct engine *engine)
{
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->pull)
			return false;
	return !engine->serves && !gc_report(engine);
}

static int put_in_place(struct engine *engine, struct shrink *s)
{
	struct db_usage usage = { 0 };
	int r;

	/* What is not in the log is lost with what is not in LMDB. */
	r = engine_flush(engine);
	if (r == 0)
		r = indexer_wait(engine);
	if (r < 0)
		return r == -ENOSPC ? 0 : r;
	s->has_copy = false;
	r = s->io->renameat(s->io->ctx, engine->options.dir_fd, "index.new", "index");
	if (r < 0)
		return 0;
	r = s->io->fsync_dir(s->io->ctx, engine->options.dir_fd);
	if (r == 0)
		r = recover_reopen(engine);
	if (r < 0) {
		engine_log(engine, 3, "store: cannot open the compacted index: %s", strerror(-r));
		engine->is_broken = true;
		return -EIO;
	}
	db_usage(engine->db, &usage);
	engine_log(engine, 6, "store: the index was compacted to %llu bytes",
		(unsigned long long)(usage.pages * usage.page_size));
	return 0;
}

int shrink_run(struct engine *engine)
{
	struct shrink *s = engine->shrink;
	uint64_t now = engine->io->now(engine->io->ctx);

	if (engine->is_broken)
		return -EIO;
	if (s && s->is_copying && atomic_load(&s->is_done))
		copied(engine, s);
	/* Notes of damage are not in the log: the copy would have the damaged objects again. And it
	 * must find all of the log behind it. */
	if (s && s->has_copy && (s->noted != engine->num_noted || s->gone != engine->num_gone))
		drop_copy(engine, s);
	if (s && s->has_copy && is_quiet(engine))
		return put_in_place(engine, s);
	if (s && (s->is_copying || s->has_copy || now - s->looked_at < LOOK_NS))
		return 0;
	if (!s) {
		s = engine->shrink = calloc(1, sizeof(*s));
		if (!s)
			return 0;
		s->io = engine->io;
	}
	s->looked_at = now;
	if (is_worth_it(engine))
		begin(engine, s);
	return 0;
}

void shrink_stop(struct engine *engine)
{
	struct shrink *s = engine->shrink;

	if (!s)
		return;
	if (s->is_copying)
		copied(engine, s);
	if (s->has_copy)
		drop_copy(engine, s);
	free(s);
	engine->shrink = NULL;
}
