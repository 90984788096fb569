#include "stored/recover.h"

#include "stored/engine_state.h"
#include "stored/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
	if (r < 0)
		return r;
	engine->was_rebuilt = true;
	/* What cannot be read today can be had by another rebuild tomorrow: nothing goes meanwhile
	 * (recover_note_lost). Of the log behind an index it would be forgotten for good, once the
	 * index covers it: there it is an error. */
	engine->arenas.skips_unreadable = true;
	r = open_and_replay(engine);
	engine->arenas.skips_unreadable = false;
	if (r == 0 && engine->arenas.num_aside > 0)
		engine->has_lost_changes = true;
	return r;
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
