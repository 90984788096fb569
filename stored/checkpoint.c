/* Checkpoints: when, in which order, and what is done when there is no room for one. */
#include "stored/broken.h"
#include "stored/engine_state.h"
#include "stored/indexer.h"
#include "stored/meta.h"
#include "stored/recover.h"
#include "stored/sealer.h"
#include "stored/settings.h"
#include "stored/shrink.h"
#include "stored/syncer.h"

#include <errno.h>
#include <string.h>

/* Bytes of memory of changes that LMDB does not have yet, and as much again of those that are on
 * their way. At the first a commit is due, at the second nothing more should come, at the third one
 * waits. */
#define FRESH_DUE   (16u << 20)
#define FRESH_MUCH  (64u << 20)
#define FRESH_LIMIT (96u << 20)
/* Deleted rows that are stepped over: two milliseconds or so. */
#define HIDDEN_DUE  20000

#define CHANGE_BYTES 64		 /* of a change in the log, about */
#define WRITE_BEHIND (32u << 20) /* bytes of the log that are not known to be durable */

static void covers(struct engine *engine, struct place position)
{
	engine->committed = position;
	engine->ops = 0;
}

int engine_check_index(struct engine *engine)
{
	if (!engine->is_broken && engine->db && db_is_damaged(engine->db)) {
		engine_log(engine, 3, "store: the index is damaged and will be rebuilt");
		recover_distrust(engine);
		engine->is_broken = true;
	}
	return engine->is_broken ? -EIO : 0;
}

/* What a replay has left in LMDB's transaction. */
static int commit_now(struct engine *engine)
{
	struct place position;
	int r;

	r = BROKEN(BROKEN_INDEX_FIRST) ? engine_flush(engine) : engine_sync(engine);
	if (r < 0)
		return r;
	position = arenas_position(&engine->arenas);
	r = meta_save(engine, position);
	if (r == 0)
		r = recover_commit(engine);
	if (r < 0)
		return r;
	covers(engine, position);
	engine->promised.num = 0;
	engine->applied++;
	engine->noted_applied = engine->num_noted;
	return 0;
}

/* A failed transaction takes its changes with it; they are all in the log. */
static int commit_replayed(struct engine *engine)
{
	int attempt, r = 0;

	for (attempt = 0; attempt < 3; attempt++) {
		r = commit_now(engine);
		if (r == 0 || engine->is_broken)
			return r;
		if (r == -ENOSPC)
			engine_use_reserve(engine);
		else if (r != -EOVERFLOW)
			break;
		db_abort(engine->db);
		if (r == -EOVERFLOW && db_grow(engine->db) < 0)
			break;
		if (engine_rollback(engine) < 0)
			return -EIO;
	}
	return r;
}

/* The index may be lost at any step and the log brings it back; the log must be durable before the
 * index says that it covers it. */
static int commit_begin(struct engine *engine)
{
	struct place position;
	uint64_t ticket;
	int r;

	r = engine_sync_start(engine, &ticket);
	if (r < 0)
		return r;
	position = arenas_position(&engine->arenas);
	r = meta_save(engine, position);
	if (r == 0)
		r = indexer_start(engine, BROKEN(BROKEN_INDEX_FIRST) ? 0 : ticket);
	if (r == 0)
		covers(engine, position);
	return r;
}

static int commit(struct engine *engine)
{
	int r;

	/* A flush that fails takes changes back: whoever made them must hear of it. */
	r = engine_flush(engine);
	if (r < 0)
		return r;
	r = db_is_direct(engine->db) ? commit_replayed(engine) : commit_begin(engine);
	if (r == 0 || engine->is_broken)
		return r;
	engine_log(engine, 3, "store: cannot commit the index: %s", strerror(-r));
	engine_check_index(engine);
	if (r != -ENOSPC)
		engine->is_broken = true;
	return r;
}

int engine_checkpoint(struct engine *engine)
{
	int r;

	if (engine_check_index(engine) < 0)
		return -EIO;
	/* Before the index covers what is missing. */
	r = settings_lost_note(engine);
	if (r == 0 || r == -ENOSPC)
		r = indexer_wait(engine);
	if (r == 0)
		r = commit(engine);
	return r < 0 ? r : indexer_wait(engine);
}

/* If the one under way is forgotten by a rollback, one more than needed is waited for. */
uint64_t engine_commit_ticket(const struct engine *engine)
{
	return engine->applied + (indexer_is_idle(engine) ? 1 : 2);
}

int engine_commit_poll(struct engine *engine, uint64_t ticket)
{
	int r;

	r = engine_sync_poll(engine);
	if (r == 0 && engine->applied < ticket)
		r = engine_commit_soon(engine);
	return r < 0 ? r : engine->applied < ticket;
}

int engine_go_straight(struct engine *engine)
{
	int r = engine_checkpoint(engine);

	if (r < 0)
		return r == -ENOSPC ? 0 : r;
	return db_begin(engine->db);
}

int engine_expect(struct engine *engine, uint64_t num_changes)
{
	return num_changes > engine->options.part_size / CHANGE_BYTES ? engine_go_straight(engine)
								      : 0;
}

bool engine_is_dirty(const struct engine *engine)
{
	return engine->ops > 0 || engine->arenas.len > 0;
}

int engine_commit_soon(struct engine *engine)
{
	int r;

	r = engine_sync_poll(engine);
	if (r == 0 && db_pending(engine->db) >= FRESH_LIMIT)
		r = indexer_wait(engine);
	if (r < 0)
		return r;
	if (!indexer_is_idle(engine))
		return indexer_is_stuck(engine) ? -ENOSPC : 0;
	engine->committed_at = engine->io->now(engine->io->ctx);
	return commit(engine);
}

bool engine_is_behind(const struct engine *engine)
{
	/* On a full disk nothing would end the waiting: then changes are refused
	 * (engine_begin_frame). */
	return db_pending(engine->db) >= FRESH_MUCH && !indexer_is_stuck(engine);
}

bool engine_is_full(const struct engine *engine)
{
	return db_pending(engine->db) >= FRESH_LIMIT && indexer_is_stuck(engine);
}

/* Beside serving the disk writes what comes in, so that who syncs much waits for the rest only. */
static int write_behind(struct engine *engine, struct place position)
{
	const struct place *durable = &engine->arenas.durable_at;

	if (!engine->options.threads || (position.arena == durable->arena &&
						position.offset - durable->offset < WRITE_BEHIND))
		return 0;
	return syncer_start(engine);
}

int engine_tick(struct engine *engine)
{
	struct place position;
	uint64_t now = engine->io->now(engine->io->ctx);
	bool is_due;
	int r;

	r = engine_check_index(engine);
	if (r == 0)
		r = indexer_poll(engine);
	if (r == 0)
		r = settings_lost_note(engine);
	if (r < 0 && r != -ENOSPC)
		return r;
	sealer_run(engine);
	r = shrink_run(engine);
	if (r < 0)
		return r;
	position = arenas_position(&engine->arenas);
	r = write_behind(engine, position);
	if (r < 0)
		return r;
	if (!engine_is_dirty(engine)) {
		engine->committed_at = now;
		return 0;
	}
	is_due = engine->ops >= engine->options.checkpoint_ops ||
		 db_pending(engine->db) >= FRESH_DUE || db_hidden(engine->db) >= HIDDEN_DUE ||
		 position.arena != engine->committed.arena ||
		 position.offset - engine->committed.offset >= engine->options.checkpoint_bytes ||
		 now - engine->committed_at >= engine->options.checkpoint_ms * UINT64_C(1000000);
	if (!is_due)
		return 0;
	return engine_commit_soon(engine);
}
