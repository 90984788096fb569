#include "stored/engine.h"

#include "stored/broken.h"
#include "stored/change.h"
#include "stored/dead.h"
#include "stored/engine_state.h"
#include "stored/format.h"
#include "stored/gc.h"
#include "stored/indexer.h"
#include "stored/recover.h"
#include "stored/reserve.h"
#include "stored/rows.h"
#include "stored/sealer.h"
#include "stored/serve.h"
#include "stored/shrink.h"
#include "stored/syncer.h"
#include "stored/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define ARENA_SIZE (1u << 30)

/* Of the last failed engine_open: there is no engine to ask. */
static _Thread_local char open_error[512];

const char *engine_error(const struct engine *engine)
{
	return engine ? engine->error : open_error;
}

int engine_fail(struct engine *engine, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(engine->error, sizeof(engine->error), fmt, ap);
	va_end(ap);
	return err;
}

void engine_log(struct engine *engine, int level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!engine->options.log)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	engine->options.log(engine->options.log_arg, level, text);
}

int scratch_grow(uint8_t **buf, size_t *cap, size_t len)
{
	size_t want = *cap ? *cap : 4096;
	uint8_t *p;

	if (len <= *cap)
		return 0;
	while (want < len)
		want *= 2;
	p = realloc(*buf, want);
	if (!p)
		return -ENOMEM;
	*buf = p;
	*cap = want;
	return 0;
}

/* ---- opening */

static void options_default(struct engine_options *o)
{
	if (!o->io)
		o->io = &store_io_file;
	if (o->part_size == 0)
		o->part_size = 4u << 20;
	if (o->map_size == 0)
		o->map_size = UINT64_C(1) << 40;
	if (o->dead_rows == 0)
		o->dead_rows = DEAD_ROWS;
	if (o->reserve_size == 0)
		o->reserve_size = 64u << 20;
	if (o->shrink_size == 0)
		o->shrink_size = 64u << 20;
	if (o->base_size == 0)
		o->base_size = 4u << 20;
	if (o->base_percent == 0)
		o->base_percent = 200;
	if (o->checkpoint_bytes == 0)
		o->checkpoint_bytes = 256u << 20;
	if (o->checkpoint_ops == 0)
		o->checkpoint_ops = 200000;
	if (o->checkpoint_ms == 0)
		o->checkpoint_ms = 5000;
}

/* Two engines on one directory would write over each other's arenas. */
static int engine_lock(struct engine *engine)
{
	engine->lock_fd = openat(engine->options.dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (engine->lock_fd < 0)
		return engine_fail(
			engine, -errno, "store: cannot open its directory: %s", strerror(errno));
	if (flock(engine->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return engine_fail(engine, -EBUSY,
			"store: in use by another process; stop the other server first");
	return 0;
}

static int engine_check_format(struct engine *engine)
{
	struct engine_options *o = &engine->options;
	struct format *format = &engine->format;
	int r;

	r = format_read(engine->io, o->dir_fd, format);
	if (o->create) {
		if (r == -ENOENT) {
			format->arena_size = o->arena_size;
			return 0;
		}
		return engine_fail(engine, -EEXIST, "store: there is one already");
	}
	switch (r) {
	case 0:
		engine->is_old = format->version < ENGINE_FORMAT;
		if (o->arena_size == 0)
			o->arena_size = format->arena_size;
		return 0;
	case -ENOENT:
		return engine_fail(engine, r,
			"store: no store in this data directory; run `bazil create` first");
	case -EPROTONOSUPPORT:
		return engine_fail(engine, r,
			"store: format version %u is newer than this bazil understands (%d); "
			"upgrade bazil",
			format->version, ENGINE_FORMAT);
	case -EBADMSG:
		return engine_fail(engine, r,
			"store: the file format is not that of a bazil store; restore it from a "
			"backup");
	default:
		return engine_fail(engine, r, "store: cannot read its format: %s", strerror(-r));
	}
}

static void log_notes(struct engine *engine)
{
	const struct arenas *a = &engine->arenas;

	for (size_t i = 0; i < a->num_notes; i++) {
		const struct arenas_note *note = &a->notes[i];

		if (note->is_aside)
			engine_log(engine, 3,
				"store: arena.%08u is damaged at its start and was set aside as "
				"arena.%08u.bad; what is in it is missing: `bazil scrub` tells "
				"what",
				note->number, note->number);
		else
			engine_log(engine, 4,
				"store: arena.%08u is damaged at its start, of which there is a "
				"copy",
				note->number);
	}
}

/* What the last process could not make durable is written once more, before it is believed. */
static int engine_write_again(struct engine *engine)
{
	int r;

	failed_read(engine->io, engine->options.dir_fd, &engine->failed);
	if (!engine->failed.is_there)
		return 0;
	engine_log(engine, 4,
		"store: the disk failed when this was used last; what it may have lost is written "
		"again");
	r = failed_rewrite(&engine->arenas, &engine->failed);
	if (r < 0)
		return engine_fail(engine, r,
			"store: cannot write again what the disk failed to keep: %s; check the "
			"disk",
			strerror(-r));
	return 0;
}

static const char *advice(int err)
{
	switch (-err) {
	case ENOSPC:
	case EDQUOT:
		return ": free some space on its disk";
	case EACCES:
	case EPERM:
		return ": store/ and its files must belong to you and be writable";
	case EIO:
		return ": its disk fails: save what is there; an empty file `rebuild` in store/ "
		       "has the index made anew without what cannot be read";
	default:
		return "";
	}
}

static int engine_open_arenas(struct engine *engine)
{
	uint64_t size = engine->options.arena_size;
	uint32_t bad;
	int r;

	r = arenas_open(&engine->arenas, engine->io, engine->options.dir_fd,
		size ? size : ARENA_SIZE, engine->options.open_arenas, engine->options.create,
		&bad);
	if (r == -EBADMSG || r == -EPROTONOSUPPORT)
		return engine_fail(engine, r,
			"store: arena.%08u is damaged at its start; restore it from a backup", bad);
	log_notes(engine);
	if (r == -ENOENT)
		return engine_fail(engine, r,
			"store: there is no arena although there is a format; restore the data "
			"directory from a backup");
	if (r < 0)
		return engine_fail(
			engine, r, "store: cannot open its arenas: %s%s", strerror(-r), advice(r));
	return 0;
}

static int engine_steps(struct engine *engine)
{
	int r;

	r = engine_lock(engine);
	if (r == 0)
		r = engine_check_format(engine);
	if (r == 0)
		r = engine_open_arenas(engine);
	if (r == 0)
		r = engine_write_again(engine);
	if (r == 0)
		r = recover_index(engine);
	if (r == 0)
		r = engine_checkpoint(engine);
	if (r < 0)
		return engine->error[0] ? r
					: engine_fail(engine, r, "store: cannot recover: %s%s",
						  strerror(-r), advice(r));
	/* After what was there is understood, and before a frame that an older program would not.
	 */
	if (engine->options.create || engine->is_old) {
		r = format_write(engine->io, engine->options.dir_fd, &engine->format);
		if (r < 0)
			return engine_fail(
				engine, r, "store: cannot write its format: %s", strerror(-r));
	}
	reserve_open(engine);
	recover_done(engine);
	return 0;
}

int engine_open(struct engine **ret, const struct engine_options *options)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	int r;

	if (!engine)
		return -ENOMEM;
	engine->options = *options;
	options_default(&engine->options);
	engine->io = engine->options.io;
	engine->lock_fd = engine->reserve_fd = -1;
	engine->next_handle = 1;
	engine->digest = digest_new();
	snprintf(engine->db_path, sizeof(engine->db_path), "%s/index", options->path);
	r = engine->digest ? engine_steps(engine) : -ENOMEM;
	if (r < 0) {
		memcpy(open_error, engine->error, sizeof(open_error));
		engine_abandon(engine);
		return r;
	}
	*ret = engine;
	return 0;
}

void engine_abandon(struct engine *engine)
{
	gc_end(engine);
	while (engine->serves)
		engine_serve_end(engine->serves);
	for (size_t i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->pull)
			engine_pull_abort(engine, engine->volumes[i]->pull);
	sealer_stop(engine);
	syncer_stop(engine);
	indexer_stop(engine);
	shrink_stop(engine);
	db_close(engine->db);
	volumes_release(engine);
	if (engine->arenas.io)
		arenas_release(&engine->arenas);
	digest_free(engine->digest);
	if (engine->reserve_fd >= 0)
		engine->io->close(engine->io->ctx, engine->reserve_fd);
	if (engine->lock_fd >= 0)
		close(engine->lock_fd);
	free(engine->parts.places);
	free(engine->holes.list);
	free(engine->promised.ids);
	bulk_release(&engine->bulk);
	free(engine->moved);
	free(engine->value);
	free(engine->past);
	free(engine->record);
	free(engine);
}

/* An empty frame that knows all before it to be durable: what rots now is told from what a crash
 * tore off, even if the index is lost as well. */
static int write_mark(struct engine *engine)
{
	struct change_head head = { 0 };
	int r;

	if (engine->arenas.next_sequence == engine->arenas.scanned)
		return 0;
	r = change_begin(engine);
	if (r == 0)
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	return r < 0 ? r : engine_sync(engine);
}

int engine_close(struct engine *engine)
{
	int r;

	for (size_t i = 0; i < engine->num_volumes; i++)
		engine->volumes[i]->reserved = engine->volumes[i]->next;
	r = engine_checkpoint(engine);
	/* Not worth a failure: the checkpoint has all. */
	if (r == 0)
		write_mark(engine);
	if (r == 0)
		engine->io->unlinkat(engine->io->ctx, engine->options.dir_fd, "faults");
	engine_abandon(engine);
	return r;
}

/* ---- making durable */

int engine_rollback(struct engine *engine)
{
	int r;

	arenas_drop(&engine->arenas);
	engine->num_moved = 0;
	r = recover_replay(engine);
	if (r < 0) {
		engine_log(engine, 3, "store: cannot go back to the log: %s", strerror(-r));
		engine->is_broken = true;
	}
	return r;
}

int engine_flush(struct engine *engine)
{
	int r;

	if (engine->is_broken)
		return -EIO;
	r = arenas_flush(&engine->arenas);
	if (r == -ENOSPC && engine_use_reserve(engine) == 0)
		r = arenas_flush(&engine->arenas);
	if (r == 0)
		return 0;
	engine_log(engine, 3, "store: cannot write arena: %s", strerror(-r));
	if (r == -ENOSPC) {
		if (engine_rollback(engine) < 0)
			return -EIO;
		return -ENOSPC;
	}
	engine->is_broken = true;
	return -EIO;
}

int engine_begin_frame(struct engine *engine)
{
	int r;

	/* There is room for it in the log, but the index does not get smaller in memory. */
	if (engine_is_full(engine))
		return -ENOSPC;
	r = arenas_begin(&engine->arenas);
	if (r == -ENOSPC && engine_use_reserve(engine) == 0)
		r = arenas_begin(&engine->arenas);
	return r;
}

int engine_roll(struct engine *engine)
{
	int r = arenas_roll(&engine->arenas);

	if (r == -ENOSPC && engine_use_reserve(engine) == 0)
		r = arenas_roll(&engine->arenas);
	return r;
}

int engine_sync(struct engine *engine)
{
	int r;

	if (BROKEN(BROKEN_ACK_FIRST))
		return 0;
	r = engine_flush(engine);
	if (r < 0)
		return r;
	r = arenas_sync(&engine->arenas);
	if (r < 0) {
		engine_log(engine, 2, "store: cannot make arena durable: %s", strerror(-r));
		engine->is_broken = true;
		return -EIO;
	}
	return 0;
}

int engine_sync_start(struct engine *engine, uint64_t *ret_ticket)
{
	int r = engine_flush(engine);

	if (r < 0)
		return r;
	*ret_ticket = engine->arenas.written;
	if (*ret_ticket > engine->sync_wanted)
		engine->sync_wanted = *ret_ticket;
	return syncer_start(engine);
}

int engine_sync_poll(struct engine *engine)
{
	int r = syncer_poll(engine);

	if (r == 0 && !engine_is_durable(engine, engine->sync_wanted))
		r = syncer_start(engine);
	if (r == 0)
		r = indexer_poll(engine);
	return r;
}

bool engine_is_durable(const struct engine *engine, uint64_t ticket)
{
	return arenas_is_durable(&engine->arenas, ticket);
}

int engine_stat_index(struct engine *engine, uint64_t *ret_bytes, uint64_t *ret_free)
{
	struct db_usage usage;
	int r = db_usage(engine->db, &usage);

	*ret_bytes = usage.pages * usage.page_size;
	*ret_free = usage.free_pages * usage.page_size;
	return r;
}

int engine_stat(struct engine *engine, struct engine_stat *ret)
{
	ret->objects = db_rows(txn(engine), DB_OBJECTS);
	ret->object_bytes = engine->object_bytes;
	ret->damaged = engine->num_damaged;
	ret->changes = engine->ops;
	ret->arenas = (uint32_t)engine->arenas.num;
	ret->sealed = 0;
	ret->set_aside = engine->arenas.num_aside;
	ret->arena_bytes = 0;
	for (size_t i = 0; i < engine->arenas.num; i++) {
		ret->sealed += engine->arenas.list[i].is_sealed;
		ret->arena_bytes += engine->arenas.list[i].size;
	}
	ret->was_rebuilt = engine->was_rebuilt;
	ret->arena_size = engine->arenas.arena_size;
	ret->reserve = reserve_size(engine);
	return engine->io->fstatvfs(engine->io->ctx, engine->options.dir_fd, &ret->fs);
}
