/*
 * Every n-th call of the engine's I/O fails, for n from 1 until a run meets no failure any more:
 * opening, putting, syncing, committing, recovering. After each the store opens to a state between
 * two operations, and what was synced before is there.
 */
#include "rig.h"

#include "stored/gc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct faulty {
	const struct store_io *real;
	unsigned calls, fail_at;
	int error;
	bool once;    /* a single failure, else all calls from there on fail */
	bool shorter; /* writes and reads of half the length, never failing */
	bool has_failed;
};

static bool fails(struct faulty *f)
{
	f->calls++;
	if (f->fail_at == 0 || f->calls < f->fail_at || (f->once && f->calls > f->fail_at))
		return false;
	f->has_failed = true;
	return true;
}

static int faulty_openat(void *ctx, int dir_fd, const char *path, int flags, mode_t mode)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->openat(NULL, dir_fd, path, flags, mode);
}

static int faulty_close(void *ctx, int fd)
{
	return ((struct faulty *)ctx)->real->close(NULL, fd);
}

static ssize_t faulty_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
	struct faulty *f = ctx;

	if (fails(f))
		return -f->error;
	return f->real->pread(NULL, fd, data, f->shorter && len > 1 ? len / 2 : len, offset);
}

static ssize_t faulty_pwrite(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
	struct faulty *f = ctx;

	if (fails(f)) {
		/* A failing write may have written some of it. */
		if (f->error == ENOSPC && len > 8)
			f->real->pwrite(NULL, fd, data, len / 2, offset);
		return -f->error;
	}
	return f->real->pwrite(NULL, fd, data, f->shorter && len > 1 ? len / 2 : len, offset);
}

static int faulty_fdatasync(void *ctx, int fd)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->fdatasync(NULL, fd);
}

static int faulty_ftruncate(void *ctx, int fd, uint64_t size)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->ftruncate(NULL, fd, size);
}

static int faulty_fallocate(void *ctx, int fd, int mode, uint64_t offset, uint64_t len)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->fallocate(NULL, fd, mode, offset, len);
}

static int faulty_renameat(void *ctx, int dir_fd, const char *from, const char *to)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->renameat(NULL, dir_fd, from, to);
}

static int faulty_unlinkat(void *ctx, int dir_fd, const char *path)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->unlinkat(NULL, dir_fd, path);
}

static int faulty_fsync_dir(void *ctx, int dir_fd)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->fsync_dir(NULL, dir_fd);
}

static int faulty_fstat(void *ctx, int fd, struct stat *ret)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->fstat(NULL, fd, ret);
}

static int faulty_fstatvfs(void *ctx, int fd, struct statvfs *ret)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->fstatvfs(NULL, fd, ret);
}

static int faulty_list(void *ctx, int dir_fd, store_io_name_fn *fn, void *arg)
{
	struct faulty *f = ctx;

	return fails(f) ? -f->error : f->real->list(NULL, dir_fd, fn, arg);
}

static uint64_t faulty_now(void *ctx)
{
	return ((struct faulty *)ctx)->real->now(NULL);
}

static int faulty_random(void *ctx, void *data, size_t len)
{
	return ((struct faulty *)ctx)->real->random(NULL, data, len);
}

static struct faulty faulty;
static const struct store_io faulty_io = {
	.ctx = &faulty,
	.openat = faulty_openat,
	.close = faulty_close,
	.pread = faulty_pread,
	.pwrite = faulty_pwrite,
	.fdatasync = faulty_fdatasync,
	.ftruncate = faulty_ftruncate,
	.fallocate = faulty_fallocate,
	.renameat = faulty_renameat,
	.unlinkat = faulty_unlinkat,
	.fsync_dir = faulty_fsync_dir,
	.fstat = faulty_fstat,
	.fstatvfs = faulty_fstatvfs,
	.list = faulty_list,
	.now = faulty_now,
	.random = faulty_random,
};

static struct entry entry, copy;
static struct page page;

#define FILES 12

/* One file a batch; an object, a sync, a checkpoint in between. *ret_done files were flushed, of
 * which *ret_synced were synced. Ends at the first error. */
static int work(struct rig *rig, uint64_t first, int *ret_done, int *ret_synced)
{
	uint8_t object[3000], id[32];
	char name[16];
	int r = 0, i;

	for (i = *ret_done; i < FILES; i++) {
		uint64_t oid = first + 2 * (uint64_t)i;

		memset(object, i, sizeof(object));
		r = engine_put_object(rig->engine, NULL, object, sizeof(object), id);
		if (r < 0)
			return r;
		snprintf(name, sizeof(name), "f%d", i);
		entry_start(&entry, 0);
		put_attr(&entry, oid, false, oid);
		put_body(&entry, oid, oid, 2000);
		put_link(&entry, oid + 1, TREE_ROOT, name, oid, false);
		copy = entry;
		rig->position += entry.len;
		r = engine_apply(rig->engine, rig->vol, copy.data, copy.len, 7, rig->position,
			&rig->changes);
		if (r == 0)
			r = engine_flush(rig->engine);
		if (r < 0)
			return r;
		*ret_done = i + 1;
		if (i % 4 == 1) {
			r = engine_sync(rig->engine);
			if (r < 0)
				return r;
			*ret_synced = i + 1;
		}
		if (i % 4 == 3) {
			r = engine_checkpoint(rig->engine);
			if (r < 0)
				return r;
			*ret_synced = i + 1;
		}
	}
	/* The objects are nobody's: two collections free and punch them. */
	for (i = 0; r == 0 && i < 2; i++) {
		struct gc_options options = { .is_final = true, .roll = 1 };

		r = gc_begin(rig->engine, &options);
		if (r < 0)
			break;
		do
			r = gc_step(rig->engine);
		while (r > 0);
		gc_end(rig->engine);
	}
	return r;
}

static int count(struct rig *rig)
{
	uint8_t tag[TREE_TAG_SIZE];
	struct tree_record rec;
	char name[16];
	int i;

	for (i = 0;; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		tag_of(name, tag);
		if (engine_lookup(rig->engine, rig->vol, TREE_ROOT, tag, page_init(&page)) < 0)
			break;
		assert_int_equal(page_count(&page), 3);
		assert_true(page_find(&page, TREE_BODY, page.nodes[0].oid, &rec));
		for (size_t k = 0; k < rec.sealed_len; k++)
			assert_int_equal(rec.sealed[k], (uint8_t)(page.nodes[0].oid * 31 + k * 7));
	}
	assert_int_equal(engine_dir(rig->engine, rig->vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
	assert_int_equal(page.page.num_nodes, i);
	return i;
}

static void run(int error, bool once)
{
	unsigned n = 0, failures = 0;

	do {
		struct rig rig = { 0 };
		int done = 0, synced = 0, have, r;
		uint64_t first;

		memset(&faulty, 0, sizeof(faulty));
		faulty.real = &store_io_file;
		rig.options.io = &faulty_io;
		rig.options.arena_size = 40 << 10;
		rig_new(&rig);
		assert_int_equal(engine_oids(rig.engine, rig.vol, 2 * FILES, &first), 0);
		faulty.calls = 0;
		faulty.fail_at = ++n;
		faulty.error = error;
		faulty.once = once;
		r = work(&rig, first, &done, &synced);
		if (!faulty.has_failed)
			assert_int_equal(r, 0);
		failures += faulty.has_failed;
		if (r == -ENOSPC && once) {
			/* Nothing is broken: the same goes on when there is room. */
			assert_int_equal(count(&rig), done);
			r = work(&rig, first, &done, &synced);
			assert_int_equal(r, 0);
			assert_int_equal(count(&rig), FILES);
		}
		rig_kill(&rig);
		faulty.fail_at = 0;
		rig_open(&rig);
		have = count(&rig);
		assert_in_range(have, synced, done + 1);
		done = have;
		rig_id(&rig);
		assert_int_equal(work(&rig, first, &done, &synced), 0);
		assert_int_equal(count(&rig), FILES);
		rig_close(&rig);
		if (!faulty.has_failed)
			n = 0;
		rig_free(&rig);
	} while (n > 0);
	assert_true(failures > 20);
}

static void faults__any_call_may_give_eio(void **state)
{
	run(EIO, false);
	run(EIO, true);
}

static void faults__any_call_may_find_the_disk_full(void **state)
{
	run(ENOSPC, false);
	run(ENOSPC, true);
}

static void faults__any_call_may_be_interrupted_once(void **state)
{
	run(EINTR, true);
}

static void faults__short_transfers_are_gone_on_with(void **state)
{
	struct rig rig = { 0 };
	int done = 0, synced = 0;
	uint64_t first;

	memset(&faulty, 0, sizeof(faulty));
	faulty.real = &store_io_file;
	faulty.shorter = true;
	rig.options.io = &faulty_io;
	rig_new(&rig);
	assert_int_equal(engine_oids(rig.engine, rig.vol, 2 * FILES, &first), 0);
	assert_int_equal(work(&rig, first, &done, &synced), 0);
	rig_kill(&rig);
	rig.options.rebuild = true;
	rig_open(&rig);
	assert_int_equal(count(&rig), FILES);
	rig_free(&rig);
}

/* Recovery itself fails at every call, and the next one still finds everything. */
static void faults__recovery_may_fail_and_be_repeated(void **state)
{
	struct rig rig = { 0 };
	int done = 0, synced = 0, r;
	unsigned n = 0, failures = 0;
	uint64_t first;

	memset(&faulty, 0, sizeof(faulty));
	faulty.real = &store_io_file;
	rig.options.io = &faulty_io;
	rig.options.arena_size = 20 << 10;
	rig_new(&rig);
	assert_int_equal(engine_oids(rig.engine, rig.vol, 2 * FILES, &first), 0);
	assert_int_equal(work(&rig, first, &done, &synced), 0);
	rig_kill(&rig);
	for (;;) {
		faulty.calls = 0;
		faulty.fail_at = ++n;
		faulty.error = EIO;
		faulty.once = n & 1;
		faulty.has_failed = false;
		rig.options.rebuild = n % 3 == 0;
		r = rig_try_open(&rig);
		failures += r < 0;
		faulty.fail_at = 0;
		if (r == 0) {
			assert_int_equal(count(&rig), FILES);
			if (!faulty.has_failed)
				break;
			rig_kill(&rig);
		}
	}
	assert_true(failures > 10);
	rig_free(&rig);
}

/* A failed fdatasync is never believed again. */
static void faults__after_a_failed_fdatasync_nothing_works(void **state)
{
	struct rig rig = { 0 };
	uint8_t object[10] = { 0 }, id[32];

	memset(&faulty, 0, sizeof(faulty));
	faulty.real = &store_io_file;
	rig.options.io = &faulty_io;
	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "f", NULL);
	faulty.fail_at = faulty.calls + 1;
	faulty.error = EIO;
	faulty.once = true;
	assert_int_equal(engine_sync(rig.engine), -EIO);
	assert_int_equal(engine_sync(rig.engine), -EIO);
	assert_int_equal(engine_checkpoint(rig.engine), -EIO);
	assert_int_equal(engine_put_object(rig.engine, NULL, object, sizeof(object), id), -EIO);
	rig_kill(&rig);
	rig_open(&rig);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults__any_call_may_give_eio),
		cmocka_unit_test(faults__any_call_may_find_the_disk_full),
		cmocka_unit_test(faults__any_call_may_be_interrupted_once),
		cmocka_unit_test(faults__short_transfers_are_gone_on_with),
		cmocka_unit_test(faults__recovery_may_fail_and_be_repeated),
		cmocka_unit_test(faults__after_a_failed_fdatasync_nothing_works),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
