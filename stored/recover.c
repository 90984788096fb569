#include "stored/recover.h"

#include "stored/base.h"
#include "stored/broken.h"
#include "stored/change.h"
#include "stored/gc_state.h"
#include "stored/indexer.h"
#include "stored/object.h"
#include "stored/rows.h"
#include "stored/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMIT_EVERY   BULK_ROWS /* changes, while replaying a long log */
#define PROGRESS_EVERY 256	 /* frames between two looks at the clock */
#define PROGRESS_NS    UINT64_C(100000000)

void recover_note_lost(struct engine *engine)
{
	engine->num_damaged++;
	engine->lost_at = engine->io->now(engine->io->ctx);
}

static void replay_damage(void *arg, uint32_t arena, uint64_t from, uint64_t to, bool is_tail)
{
	struct engine *engine = arg;

	if (is_tail) {
		engine_log(engine, 5, "store: arena %u: cut an unfinished tail of %llu bytes",
			arena, (unsigned long long)(to - from));
		return;
	}
	recover_note_lost(engine);
	engine_note_range(engine, arena, from, to);
	engine_log(engine, 3, "store: arena %u: bytes %llu to %llu are damaged and were skipped",
		arena, (unsigned long long)from, (unsigned long long)to);
}

static int parts_add(struct engine *engine, struct place place)
{
	struct place *places;

	places = realloc(engine->parts.places, (engine->parts.num + 1) * sizeof(*places));
	if (!places)
		return -ENOMEM;
	engine->parts.places = places;
	places[engine->parts.num++] = place;
	return 0;
}

static int replay_changes(struct engine *engine, const struct frame_view *frame)
{
	int r = change_replay(engine, frame);

	if (r != -EBADMSG)
		return r;
	recover_note_lost(engine);
	engine_log(engine, 3, "store: arena %u: the changes at %llu make no sense and were skipped",
		frame->place.arena, (unsigned long long)frame->place.offset);
	return 0;
}

/* All of a pull, now that its commit was found. */
static int replay_pull(struct engine *engine, const struct frame_view *commit)
{
	struct frame_view frame = { .type = FRAME_PULL_CHANGES };
	uint8_t *payload = NULL;
	size_t cap = 0, i;
	int r = 0;

	change_replay_time(engine, commit);
	for (i = 0; r == 0 && i < engine->parts.num; i++) {
		frame.place = engine->parts.places[i];
		r = scratch_grow(&payload, &cap, frame.place.len);
		if (r == 0)
			r = arenas_read(&engine->arenas, frame.place, payload);
		frame.payload = payload;
		if (r == 0)
			r = replay_changes(engine, &frame);
	}
	free(payload);
	engine->parts.num = 0;
	return r < 0 ? r : replay_changes(engine, commit);
}

int recover_commit(struct engine *engine)
{
	return failed_note_commit(engine->io, engine->options.dir_fd, db_commit(engine->db));
}

static int save_lost(struct engine *engine)
{
	uint8_t row[8];

	if (engine->lost_at == 0)
		return 0;
	le64_put(row, engine->lost_at);
	return db_put(txn(engine), DB_META, "lost", 4, row, sizeof(row));
}

/* A long replay commits in between, so that it need not begin at the start when it is interrupted.
 */
static int replay_commit(struct engine *engine, struct place next)
{
	uint8_t row[24], bytes[8];
	int r;

	r = bulk_flush(engine);
	if (r == 0)
		r = arenas_sync(&engine->arenas);
	if (r == 0)
		r = volumes_save(engine);
	if (r == 0)
		r = save_lost(engine);
	le32_put(row, ROWS_VERSION);
	le32_put(row + 4, next.arena);
	le64_put(row + 8, next.offset);
	le64_put(row + 16, engine->arenas.next_sequence);
	le64_put(bytes, engine->object_bytes);
	if (r == 0)
		r = db_put(txn(engine), DB_META, "objects", 7, bytes, sizeof(bytes));
	if (r == 0)
		r = db_put(txn(engine), DB_META, "checkpoint", 10, row, sizeof(row));
	if (r == 0)
		r = recover_commit(engine);
	if (r == 0)
		r = db_begin(engine->db);
	if (r == 0) {
		engine->committed = next;
		engine->ops = 0;
	}
	return r;
}

/* Bytes of the arenas before this place, of all there are. */
static void tell_progress(struct engine *engine, struct place at)
{
	const struct arenas *a = &engine->arenas;
	uint64_t now = engine->io->now(engine->io->ctx), done = at.offset;

	if (now - engine->told_at < PROGRESS_NS)
		return;
	engine->told_at = now;
	for (size_t i = 0; i < a->num && a->list[i].number < at.arena; i++)
		done += a->list[i].size;
	engine->options.progress(engine->options.progress_arg, done, arenas_size(a));
}

/* An index that ends before changes that may be gone is a copy from some time ago, put back. */
static int replay_base(struct engine *engine, const struct frame_view *frame)
{
	int r = base_note(engine, frame->place, frame->payload);

	if (r < 0)
		return r == -EBADMSG ? 0 : r;
	return engine->replay_start.arena != 0 &&
			       arenas_is_before(engine->replay_start, base_cut(frame->payload))
		       ? -EUCLEAN
		       : 0;
}

static int replay_by_type(struct engine *engine, const struct frame_view *frame)
{
	int r = 0;

	switch (frame->type) {
	case FRAME_OBJECT:
		engine->ops++;
		r = object_replay(engine, frame);
		break;
	case FRAME_FREED:
		engine->ops++;
		r = object_replay_freed(engine, frame);
		break;
	case FRAME_PULL_PART:
		/* Of a new pull: what one before it began was never committed. */
		engine->parts.num = 0;
		engine->ops++;
		break;
	case FRAME_END:
	case FRAME_GAP:
	case FRAME_ROWS:
		break;
	case FRAME_BASE:
		return replay_base(engine, frame);
	case FRAME_PULL_CHANGES:
		if (BROKEN(BROKEN_HALF_PULL))
			return replay_changes(engine, frame);
		return parts_add(engine, frame->place);
	case FRAME_PULL_COMMIT:
		r = replay_pull(engine, frame);
		break;
	case FRAME_BATCH:
	case FRAME_SETTINGS:
		/* Changes of a pull that was never committed. */
		engine->parts.num = 0;
		r = replay_changes(engine, frame);
		break;
	}
	return r;
}

static int replay_frame(void *arg, const struct frame_view *frame)
{
	struct engine *engine = arg;
	struct place next = frame->place;
	int r = 0;

	if (engine->options.progress && engine->num_replayed++ % PROGRESS_EVERY == 0)
		tell_progress(engine, frame->place);
	/* The base has them, and of some the rest is gone. */
	if (!frame_is_change(frame->type) || !arenas_is_before(frame->place, engine->from))
		r = replay_by_type(engine, frame);
	if (r < 0 || engine->ops < COMMIT_EVERY || engine->parts.num > 0)
		return r;
	next.offset += frame_size(next.len) - FRAME_HEAD_SIZE;
	return replay_commit(engine, next);
}

static int load_from(struct engine *engine)
{
	const uint8_t *row;
	size_t len;
	int r;

	engine->from = (struct place){ 0 };
	r = db_get(txn(engine), DB_META, "from", 4, &row, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (len != 12)
		return -EUCLEAN;
	engine->from = (struct place){ .arena = le32_get(row), .offset = le64_get(row + 4) };
	return 0;
}

static int load_meta(struct engine *engine)
{
	const uint8_t *row;
	size_t len;
	int r;

	engine->committed = engine->from = (struct place){ 0 };
	engine->object_bytes = engine->lost_at = 0;
	r = db_get(txn(engine), DB_META, "checkpoint", 10, &row, &len);
	if (r == -ENOENT)
		return db_rows(txn(engine), DB_RECORDS) || db_rows(txn(engine), DB_SETTINGS) ||
				       db_rows(txn(engine), DB_OBJECTS)
			       ? -EUCLEAN
			       : 0;
	if (r < 0)
		return r;
	if (len != 24 || le32_get(row) != ROWS_VERSION)
		return -EUCLEAN;
	engine->committed.arena = le32_get(row + 4);
	engine->committed.offset = le64_get(row + 8);
	if (le64_get(row + 16) > engine->arenas.next_sequence)
		engine->arenas.next_sequence = le64_get(row + 16);
	r = db_get(txn(engine), DB_META, "objects", 7, &row, &len);
	if (r == 0 && len == 8)
		engine->object_bytes = le64_get(row);
	if (r < 0 && r != -ENOENT)
		return r;
	r = db_get(txn(engine), DB_META, "lost", 4, &row, &len);
	if (r == 0 && len == 8)
		engine->lost_at = le64_get(row);
	return r < 0 && r != -ENOENT ? r : load_from(engine);
}

/* The arenas end before what the index covers: they were replaced, or lost something durable. */
static bool is_ahead(const struct engine *engine)
{
	const struct arenas *a = &engine->arenas;
	size_t i;

	if (engine->committed.arena == 0)
		return false;
	for (i = 0; i < a->num; i++)
		if (a->list[i].number == engine->committed.arena)
			return engine->committed.offset > a->list[i].size;
	return true;
}

/* An index with nothing in it takes the rows of a base, and is one that has replayed nothing yet:
 * from there on it can be interrupted as any other. */
static int begin_with_base(struct engine *engine)
{
	struct place start = { .offset = FRAME_SUPER_SIZE };
	int r = 0;

	engine->replay_start = arenas_is_before(engine->committed, engine->from)
				       ? engine->from
				       : engine->committed;
	if (engine->committed.arena == 0)
		r = base_load(engine);
	if (r == 0)
		r = volumes_load(engine);
	if (r < 0 || engine->committed.arena != 0 || engine->from.arena == 0)
		return r;
	start.arena = engine->arenas.list[0].number;
	return replay_commit(engine, start);
}

static int replay_once(struct engine *engine)
{
	int r;

	db_abort(engine->db);
	engine->last_stamp_len = 0;
	engine->num_moved = 0;
	engine->parts.num = 0;
	engine->holes.num = 0;
	bulk_drop(&engine->bulk);
	engine->ops = 0;
	r = db_begin(engine->db);
	if (r == 0)
		r = load_meta(engine);
	if (r == 0 && is_ahead(engine))
		r = -EUCLEAN;
	if (r == 0)
		r = begin_with_base(engine);
	if (r < 0)
		return r;
	engine->is_replaying = true;
	r = arenas_scan(&engine->arenas, engine->committed.arena, engine->committed.offset,
		replay_frame, replay_damage, engine);
	if (r == 0)
		r = bulk_flush(engine);
	bulk_release(&engine->bulk);
	engine->is_replaying = false;
	engine->parts.num = 0;
	if (r < 0)
		return r;
	object_holes_end(engine);
	volumes_prune(engine);
	r = gc_promise_again(engine);
	return r < 0 ? r : save_lost(engine);
}

int recover_replay(struct engine *engine)
{
	int r;

	r = indexer_settle(engine);
	if (r < 0)
		return r;
	do {
		r = replay_once(engine);
		if (r != -EOVERFLOW)
			break;
		db_abort(engine->db);
		r = db_grow(engine->db);
	} while (r == 0);
	return r;
}

static int remove_index(struct engine *engine)
{
	const struct store_io *io = engine->io;
	int r;

	db_close(engine->db);
	engine->db = NULL;
	r = io->unlinkat(io->ctx, engine->options.dir_fd, "index");
	if (r == 0 || r == -ENOENT)
		r = io->unlinkat(io->ctx, engine->options.dir_fd, "index-lock");
	return r == -ENOENT ? 0 : r;
}

static int open_and_replay(struct engine *engine)
{
	int r;

	r = db_open(&engine->db, engine->db_path, engine->options.map_size);
	/* It commits its tables. */
	if (r == -EIO)
		failed_note_index(engine->io, engine->options.dir_fd);
	return r < 0 ? r : recover_replay(engine);
}

/* ---- rows that are not in the log */

struct kept {
	uint8_t *rows; /* u32 key length, u32 value length, key, value */
	size_t len, cap;
};

static int keep_row(struct kept *kept, const struct db_iter *it)
{
	size_t len = 8 + it->key_len + it->value_len;
	uint8_t *p;
	int r;

	r = scratch_grow(&kept->rows, &kept->cap, kept->len + len);
	if (r < 0)
		return r;
	p = kept->rows + kept->len;
	le32_put(p, (uint32_t)it->key_len);
	le32_put(p + 4, (uint32_t)it->value_len);
	memcpy(p + 8, it->key, it->key_len);
	if (it->value_len > 0)
		memcpy(p + 8 + it->key_len, it->value, it->value_len);
	kept->len += len;
	return 0;
}

static int keep_rows(struct engine *engine, struct kept *kept)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_GC, "", 0, NULL, 0);
	while (r == 1) {
		r = keep_row(kept, &it);
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int put_kept(struct engine *engine, const struct kept *kept)
{
	size_t at = 0;
	int r;

	do
		r = db_delete_prefix(txn(engine), DB_GC, "", 0, 10000);
	while (r > 0);
	while (r == 0 && at < kept->len) {
		const uint8_t *p = kept->rows + at;
		uint32_t key = le32_get(p), value = le32_get(p + 4);

		r = db_put(txn(engine), DB_GC, p + 8, key, p + 8 + key, value);
		at += 8 + (size_t)key + value;
	}
	return r;
}

int recover_reopen(struct engine *engine)
{
	struct kept kept = { 0 };
	int r;

	r = keep_rows(engine, &kept);
	if (r == 0) {
		db_close(engine->db);
		engine->db = NULL;
		r = open_and_replay(engine);
	}
	if (r == 0)
		r = put_kept(engine, &kept);
	free(kept.rows);
	return r;
}

/*
 * LMDB trusts its file: damage may end the process by SIGBUS or SIGSEGV instead of an error. The
 * file `opening` counts the attempts that never came to their end, `faults` the signals later on;
 * after some of them the index goes.
 */
#define ATTEMPTS_MAX 3

static bool opening_begin(struct engine *engine)
{
	const struct store_io *io = engine->io;
	uint8_t count = 0;
	bool is_hopeless;
	int fd;

	fd = io->openat(io->ctx, engine->options.dir_fd, "opening", O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return false;
	if (io->pread(io->ctx, fd, &count, 1, 0) != 1)
		count = 0;
	is_hopeless = count >= ATTEMPTS_MAX;
	count = is_hopeless ? 0 : (uint8_t)(count + 1);
	/* Only a hint: failing to write it costs nothing but the hint. */
	store_io_write_full(io, fd, &count, 1, 0);
	io->close(io->ctx, fd);
	return is_hopeless;
}

/* Whether there is a file of at least this size. */
static bool has_file(struct engine *engine, const char *name, off_t size)
{
	const struct store_io *io = engine->io;
	struct stat st;
	bool has;
	int fd;

	fd = io->openat(io->ctx, engine->options.dir_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return false;
	has = io->fstat(io->ctx, fd, &st) == 0 && st.st_size >= size;
	io->close(io->ctx, fd);
	return has;
}

void recover_note_fault(int dir_fd)
{
	int fd = openat(dir_fd, "faults", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	/* Only a hint, as above. */
	if (fd >= 0 && write(fd, "", 1) == 1)
		close(fd);
}

int recover_distrust_dir(const struct store_io *io, int dir_fd)
{
	int fd;

	fd = io->openat(io->ctx, dir_fd, "rebuild", O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return fd;
	io->close(io->ctx, fd);
	return io->fsync_dir(io->ctx, dir_fd);
}

int recover_distrust(struct engine *engine)
{
	return recover_distrust_dir(engine->io, engine->options.dir_fd);
}

static int rebuild(struct engine *engine)
{
	int r = 0;

	/* Half an index is one that opens well: what was asked for is asked for until it is done.
	 */
	if (engine->options.rebuild)
		r = recover_distrust(engine);
	if (r == 0)
		r = remove_index(engine);
	engine->was_rebuilt = true;
	return r < 0 ? r : open_and_replay(engine);
}

int recover_index(struct engine *engine)
{
	bool is_hopeless = opening_begin(engine) || has_file(engine, "faults", ATTEMPTS_MAX);
	bool is_asked = engine->options.rebuild || engine->failed.is_index ||
			has_file(engine, "rebuild", 0);
	int r;

	if (is_asked)
		engine_log(engine, 5, "store: the index is being rebuilt from the arenas");
	else if (is_hopeless)
		engine_log(engine, 4,
			"store: the index ended this process %d times and is being rebuilt from "
			"the "
			"arenas",
			ATTEMPTS_MAX);
	if (is_hopeless || is_asked || engine->options.create)
		return rebuild(engine);
	r = open_and_replay(engine);
	if (r != -EUCLEAN && r != -EINVAL)
		return r;
	engine_log(engine, 4, "store: the index is damaged and is being rebuilt from the arenas");
	return rebuild(engine);
}

void recover_done(struct engine *engine)
{
	const struct store_io *io = engine->io;
	int dir_fd = engine->options.dir_fd;

	io->unlinkat(io->ctx, dir_fd, "opening");
	if (engine->failed.is_there)
		failed_clear(io, dir_fd);
	if (engine->was_rebuilt) {
		io->unlinkat(io->ctx, dir_fd, "faults");
		io->unlinkat(io->ctx, dir_fd, "rebuild");
	}
}
