#include "rig.h"

#include "stored/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct entry entry;
static struct page page;

/* Random operations on a small tree; what exists is remembered by the caller's digests only. */
struct names {
	uint64_t dirs[64], files[256], lids[256];
	size_t num_dirs, num_files;
};

static void random_op(struct rig *rig, struct names *n, uint64_t *seed)
{
	uint64_t what = rig_random(seed) % 10, dir;
	char name[24];
	size_t i;

	if (n->num_dirs == 0)
		n->dirs[n->num_dirs++] = TREE_ROOT;
	dir = n->dirs[rig_random(seed) % n->num_dirs];
	snprintf(name, sizeof(name), "n%llu", (unsigned long long)(rig_random(seed) % 1000));
	if ((what < 4 || n->num_files == 0) && n->num_files < 256) {
		n->files[n->num_files] = rig_file(rig, dir, name, &n->lids[n->num_files]);
		n->num_files++;
		return;
	}
	if (what == 4 && n->num_dirs < 64) {
		n->dirs[n->num_dirs++] = rig_dir(rig, dir, name);
		return;
	}
	i = rig_random(seed) % n->num_files;
	if (what == 5) {
		rig_unlink(rig, n->lids[i], n->files[i], rig_random(seed) & 1);
		n->num_files--;
		n->files[i] = n->files[n->num_files];
		n->lids[i] = n->lids[n->num_files];
		return;
	}
	entry_start(&entry, 0);
	if (what == 6)
		put_link(&entry, n->lids[i], dir, name, n->files[i], false);
	else if (what == 7)
		put_xattr(&entry, n->files[i], "user.a", rig_random(seed), 40);
	else
		put_body(&entry, n->files[i], rig_random(seed), rig_random(seed) % 5000);
	assert_int_equal(rig_apply(rig, &entry), 0);
}

static void recover__what_was_flushed_is_there_after_a_kill(void **state)
{
	struct rig rig = { 0 };
	struct names names = { 0 };
	uint64_t seed = rig_seed(), before, oids[64];
	size_t num, again;
	bool end;

	rig.options.checkpoint_ops = 50;
	rig.options.arena_size = 256 << 10;
	rig_new(&rig);
	for (int round = 0; round < 30; round++) {
		for (uint64_t i = rig_random(&seed) % 60; i > 0; i--)
			random_op(&rig, &names, &seed);
		if (rig_random(&seed) & 1)
			assert_int_equal(engine_tick(rig.engine), 0);
		before = rig_digest(&rig, true);
		assert_int_equal(engine_orphans(rig.engine, rig.vol, 0, oids, 64, &num, &end), 0);
		if (round % 3 == 2)
			rig_close(&rig);
		else
			rig_kill(&rig);
		rig_open(&rig);
		assert_true(rig_digest(&rig, true) == before);
		assert_int_equal(engine_orphans(rig.engine, rig.vol, 0, oids, 64, &again, &end), 0);
		assert_int_equal(num, again);
		/* And back to the log while running. */
		assert_int_equal(engine_rollback(rig.engine), 0);
		assert_true(rig_digest(&rig, true) == before);
	}
	/* All of it from the arenas alone. */
	rig_kill(&rig);
	rig.options.rebuild = true;
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == before);
	rig_free(&rig);
}

static void recover__a_lost_or_foreign_index_is_rebuilt(void **state)
{
	struct rig rig = { 0 };
	struct names names = { 0 };
	uint64_t seed = rig_seed(), before;
	char path[96];
	int fd;

	rig_new(&rig);
	for (int i = 0; i < 300; i++)
		random_op(&rig, &names, &seed);
	before = rig_digest(&rig, true);
	rig_close(&rig);
	rig_path(&rig, "index", path);
	assert_int_equal(unlink(path), 0);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == before);
	rig_close(&rig);
	fd = open(path, O_WRONLY);
	assert_int_equal(write(fd,
				 "this is no index, it is a text file of some length........"
				 "...........................................................",
				 100),
		100);
	assert_int_equal(pwrite(fd, "garbage garbage garbage", 20, 4096), 20);
	close(fd);
	assert_int_equal(truncate(path, 8192), 0);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == before);
	rig_file(&rig, TREE_ROOT, "after", NULL);
	rig_free(&rig);
}

static void recover__a_tail_torn_anywhere_is_cut(void **state)
{
	struct rig rig = { 0 };
	uint64_t digests[4], first, oid = 0;
	uint64_t ends[4];
	char path[96], index[96], spare[96], lock[96];
	uint8_t *data;
	struct stat st;
	int fd;

	rig_new(&rig);
	rig_path(&rig, "arena.00000001", path);
	rig_path(&rig, "index", index);
	rig_path(&rig, "index-lock", lock);
	snprintf(spare, sizeof(spare), "%s/spare", rig.path);
	rig_id(&rig);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			oid = rig_file(&rig, TREE_ROOT, "one", NULL);
		else if (i == 2)
			rig_unlink(&rig, oid + 1, oid, true);
		else if (i == 3)
			rig_dir(&rig, TREE_ROOT, "dir");
		digests[i] = rig_digest(&rig, true);
		assert_int_equal(stat(path, &st), 0);
		ends[i] = (uint64_t)st.st_size;
	}
	rig_kill(&rig);
	data = malloc(ends[3]);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, data, ends[3], 0), (ssize_t)ends[3]);
	first = ends[0];
	for (uint64_t cut = first; cut <= ends[3]; cut++) {
		size_t want = 0;

		while (want < 3 && ends[want + 1] <= cut)
			want++;
		/* Cut short, or followed by zeros as after a lost write. */
		for (int zeros = 0; zeros < 2; zeros++) {
			unlink(index);
			assert_int_equal(ftruncate(fd, 0), 0);
			assert_int_equal(pwrite(fd, data, cut, 0), (ssize_t)cut);
			if (zeros)
				assert_int_equal(ftruncate(fd, (off_t)ends[3] + 100), 0);
			rig_open(&rig);
			/* A frame may be whole although its padding is missing. */
			if (rig_digest(&rig, true) != digests[want])
				assert_true(want < 3 && ends[want + 1] - cut < 8 &&
					    rig_digest(&rig, true) == digests[want + 1]);
			rig_kill(&rig);
		}
	}
	free(data);
	close(fd);
	rig_free(&rig);
}

/* A flipped bit loses at most the frame that it is in, and never gives other data. */
static void recover__flipped_bits_never_give_wrong_data(void **state)
{
	struct rig rig = { 0 };
	uint8_t object[3000], got[3000], id[32], byte, *data;
	uint64_t seed = rig_seed(), oid, lost = 0, kept = 0;
	struct tree_record rec;
	struct place place;
	char path[96], index[96];
	struct stat st;
	int fd;

	rig_new(&rig);
	oid = rig_file(&rig, TREE_ROOT, "f", NULL);
	memset(object, 9, sizeof(object));
	assert_int_equal(engine_put_object(rig.engine, NULL, object, sizeof(object), id), 0);
	entry_start(&entry, 0);
	put_body(&entry, oid, 77, 2000);
	assert_int_equal(rig_apply(&rig, &entry), 0);
	rig_file(&rig, TREE_ROOT, "last", NULL);
	rig_close(&rig);
	rig_path(&rig, "arena.00000001", path);
	rig_path(&rig, "index", index);
	fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	data = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, data, (size_t)st.st_size, 0), st.st_size);
	for (int i = 0; i < 600; i++) {
		off_t at = (off_t)(FRAME_SUPER_SIZE +
				   rig_random(&seed) % (uint64_t)(st.st_size - FRAME_SUPER_SIZE));

		byte = data[at] ^ (uint8_t)(1u << rig_random(&seed) % 8);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		/* Half of them are met by the index alone, half by a rebuild. */
		if (i & 1)
			unlink(index);
		rig_open(&rig);
		if (engine_locate(rig.engine, id, &place) == 0) {
			int r = engine_read_object(rig.engine, id, place, got);

			assert_true(r == -EBADMSG || memcmp(got, object, sizeof(got)) == 0);
		}
		if (rig.vol && engine_inode(rig.engine, rig.vol, oid, page_init(&page)) == 0 &&
			page_find(&page, TREE_BODY, oid, &rec) && rec.sealed_len > 0) {
			uint64_t value = rec.sealed_len == 2000 ? 77 : oid;

			assert_true(rec.sealed_len == 2000 || rec.sealed_len == 100);
			for (size_t k = 0; k < rec.sealed_len; k++)
				assert_int_equal(rec.sealed[k], (uint8_t)(value * 31 + k * 7));
			kept++;
		} else {
			lost++;
		}
		rig_kill(&rig);
		/* As it was: a damaged last frame was cut as a torn tail. */
		assert_int_equal(pwrite(fd, data, (size_t)st.st_size, 0), st.st_size);
		if (i & 1) {
			unlink(index);
			rig_open(&rig);
			rig_close(&rig);
		}
	}
	assert_true(kept > 100 && lost > 10);
	free(data);
	close(fd);
	rig_free(&rig);
}

static void recover__damage_in_the_middle_is_skipped_and_told(void **state)
{
	struct rig rig = { 0 };
	uint8_t tag[TREE_TAG_SIZE], zero[8] = { 0 };
	struct engine_stat stat_now;
	char path[96], index[96];
	struct stat st;
	off_t from;
	int fd;

	rig_new(&rig);
	rig_path(&rig, "arena.00000001", path);
	rig_path(&rig, "index", index);
	rig_file(&rig, TREE_ROOT, "a", NULL);
	assert_int_equal(stat(path, &st), 0);
	from = st.st_size;
	rig_file(&rig, TREE_ROOT, "b", NULL);
	rig_file(&rig, TREE_ROOT, "c", NULL);
	rig_close(&rig);
	assert_int_equal(unlink(index), 0);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, zero, sizeof(zero), from + 40), sizeof(zero));
	close(fd);
	rig_open(&rig);
	assert_int_equal(engine_stat(rig.engine, &stat_now), 0);
	assert_int_equal(stat_now.damaged, 1);
	tag_of("a", tag);
	assert_int_equal(engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), 0);
	tag_of("b", tag);
	assert_int_equal(
		engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), -ENOENT);
	tag_of("c", tag);
	assert_int_equal(engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), 0);
	rig_free(&rig);
}

/* A power failure keeps sectors of what was not synced in any order. */
static void recover__what_follows_a_torn_frame_goes_with_it(void **state)
{
	uint8_t tag[TREE_TAG_SIZE], zero[512] = { 0 };

	for (int is_synced = 0; is_synced < 2; is_synced++) {
		struct engine_stat stat_now;
		struct rig rig = { 0 };
		char path[96];
		struct stat st;
		off_t from;
		int fd;

		rig_new(&rig);
		rig_path(&rig, "arena.00000001", path);
		rig_file(&rig, TREE_ROOT, "a", NULL);
		assert_int_equal(engine_checkpoint(rig.engine), 0);
		assert_int_equal(stat(path, &st), 0);
		from = st.st_size;
		rig_file(&rig, TREE_ROOT, "b", NULL);
		if (is_synced)
			assert_int_equal(engine_sync(rig.engine), 0);
		rig_file(&rig, TREE_ROOT, "c", NULL);
		rig_file(&rig, TREE_ROOT, "d", NULL);
		rig_kill(&rig);
		fd = open(path, O_RDWR);
		assert_int_equal(pwrite(fd, zero, 8, from + 40), 8);
		close(fd);
		rig_open(&rig);
		assert_int_equal(engine_stat(rig.engine, &stat_now), 0);
		assert_int_equal(stat_now.damaged, is_synced);
		tag_of("a", tag);
		assert_int_equal(
			engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)), 0);
		tag_of("b", tag);
		assert_int_equal(
			engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)),
			-ENOENT);
		for (int i = 0; i < 2; i++) {
			tag_of(i ? "c" : "d", tag);
			assert_int_equal(engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag,
						 page_init(&page)),
				is_synced ? 0 : -ENOENT);
		}
		rig_free(&rig);
	}
}

/* The child says by the pipe how many operations are synced; it is killed at any moment. */
static void recover__a_killed_process_keeps_what_it_synced(void **state)
{
	uint64_t seed = rig_seed();

	for (int round = 0; round < 12; round++) {
		struct rig rig = { 0 };
		uint32_t acked = 0, n;
		uint8_t tag[TREE_TAG_SIZE];
		int pipe_fds[2], status;
		char name[16];
		uint32_t have = 0;
		pid_t pid;

		rig.options.checkpoint_ops = 40;
		rig.options.arena_size = 64 << 10;
		rig_new(&rig);
		rig_close(&rig);
		assert_int_equal(pipe(pipe_fds), 0);
		pid = fork();
		if (pid == 0) {
			rig_open(&rig);
			for (n = 1;; n++) {
				snprintf(name, sizeof(name), "f%u", n);
				rig_file(&rig, TREE_ROOT, name, NULL);
				if (n % 7 == 0) {
					if (engine_sync(rig.engine) < 0 ||
						write(pipe_fds[1], &n, sizeof(n)) != sizeof(n))
						_exit(1);
				}
				engine_tick(rig.engine);
			}
		}
		close(pipe_fds[1]);
		usleep((useconds_t)(rig_random(&seed) % 80000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		while (read(pipe_fds[0], &n, sizeof(n)) == sizeof(n))
			acked = n;
		close(pipe_fds[0]);
		rig_open(&rig);
		for (;; have++) {
			snprintf(name, sizeof(name), "f%u", have + 1);
			tag_of(name, tag);
			if (engine_lookup(rig.engine, rig.vol, TREE_ROOT, tag, page_init(&page)) <
				0)
				break;
		}
		assert_true(have >= acked);
		/* A prefix: nothing behind the first that is missing. */
		assert_int_equal(
			engine_dir(rig.engine, rig.vol, TREE_ROOT, 0, 0, page_init(&page)), 0);
		if (page.page.end)
			assert_int_equal(page.page.num_nodes, have);
		rig_free(&rig);
	}
}

static void recover__a_full_map_grows(void **state)
{
	struct rig rig = { 0 };
	struct names names = { 0 };
	uint64_t seed = rig_seed(), before, dir;
	char name[24];

	rig.options.map_size = 256 << 10;
	rig_new(&rig);
	dir = rig_dir(&rig, TREE_ROOT, "d");
	for (int i = 0; i < 4000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		rig_file(&rig, dir, name, NULL);
		if (i % 100 == 0)
			random_op(&rig, &names, &seed);
	}
	before = rig_digest(&rig, true);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	assert_true(rig_digest(&rig, true) == before);
	rig_kill(&rig);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == before);
	rig_free(&rig);
}

/* An index on which LMDB dies by a signal: each time a new process tries, at last without it. */
static void recover__an_index_that_kills_is_given_up(void **state)
{
	struct rig rig = { 0 };
	uint64_t before;
	char path[96];
	uint8_t count = 3;
	int fd;

	rig_new(&rig);
	rig_file(&rig, TREE_ROOT, "f", NULL);
	before = rig_digest(&rig, true);
	rig_close(&rig);
	rig_path(&rig, "opening", path);
	assert_int_equal(access(path, F_OK), -1);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, &count, 1), 1);
	close(fd);
	rig_path(&rig, "index", path);
	fd = open(path, O_WRONLY);
	/* The root pages: what cannot be read must not be looked at. */
	assert_int_equal(ftruncate(fd, 12288), 0);
	close(fd);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == before);
	rig_free(&rig);
}

static void recover__numbers_are_never_given_out_twice(void **state)
{
	struct rig rig = { 0 };
	uint64_t first, last = 0;

	rig_new(&rig);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(engine_oids(rig.engine, rig.vol, 1000, &first), 0);
		assert_true(first > last);
		last = first + 999;
		if (i & 1)
			rig_kill(&rig);
		else
			rig_close(&rig);
		rig_open(&rig);
	}
	rig_free(&rig);
}

static void recover__foreign_formats_are_refused_untouched(void **state)
{
	struct rig rig = { 0 };
	char path[96];
	int fd;

	rig_new(&rig);
	rig_close(&rig);
	rig.options.create = true;
	assert_int_equal(rig_try_open(&rig), -EEXIST);
	rig_path(&rig, "format", path);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "bazil store\nversion 9\n", 22), 22);
	close(fd);
	assert_int_equal(rig_try_open(&rig), -EPROTONOSUPPORT);
	assert_non_null(strstr(engine_error(NULL), "version 9 is newer"));
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "something\n", 10), 10);
	close(fd);
	assert_int_equal(rig_try_open(&rig), -EBADMSG);
	unlink(path);
	assert_int_equal(rig_try_open(&rig), -ENOENT);
	rig_free(&rig);
}

static void write_format(const struct rig *rig, const char *text)
{
	char path[96];
	int fd;

	rig_path(rig, "format", path);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void recover__the_format_says_how_large_arenas_are(void **state)
{
	struct engine_stat stat_now;
	struct rig rig = { 0 };
	uint8_t object[3000] = { 0 }, id[32];

	rig_new(&rig);
	rig_close(&rig);
	write_format(&rig, "bazil store\nversion 2\nhash sha256\narena-size 65536\n");
	rig_open(&rig);
	for (int i = 0; i < 100; i++) {
		memcpy(object, &i, sizeof(i));
		assert_int_equal(
			engine_put_object(rig.engine, NULL, object, sizeof(object), id), 0);
	}
	assert_int_equal(engine_stat(rig.engine, &stat_now), 0);
	assert_true(stat_now.arenas >= 5);
	rig_close(&rig);
	write_format(&rig, "bazil store\nversion 2\nhash sha256\narena-size 17\n");
	assert_int_equal(rig_try_open(&rig), -EBADMSG);
	write_format(&rig, "bazil store\nversion 2\nhash md5\n");
	assert_int_equal(rig_try_open(&rig), -EBADMSG);
	write_format(&rig, "bazil store\nversion 2x\nhash sha256\n");
	assert_int_equal(rig_try_open(&rig), -EBADMSG);
	rig_free(&rig);
}

static void recover__a_store_opens_once_at_a_time(void **state)
{
	struct rig rig = { 0 };
	struct engine *second;

	rig_new(&rig);
	assert_int_equal(engine_open(&second, &rig.options), -EBUSY);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recover__what_was_flushed_is_there_after_a_kill),
		cmocka_unit_test(recover__a_lost_or_foreign_index_is_rebuilt),
		cmocka_unit_test(recover__a_tail_torn_anywhere_is_cut),
		cmocka_unit_test(recover__flipped_bits_never_give_wrong_data),
		cmocka_unit_test(recover__damage_in_the_middle_is_skipped_and_told),
		cmocka_unit_test(recover__what_follows_a_torn_frame_goes_with_it),
		cmocka_unit_test(recover__a_killed_process_keeps_what_it_synced),
		cmocka_unit_test(recover__a_full_map_grows),
		cmocka_unit_test(recover__an_index_that_kills_is_given_up),
		cmocka_unit_test(recover__numbers_are_never_given_out_twice),
		cmocka_unit_test(recover__foreign_formats_are_refused_untouched),
		cmocka_unit_test(recover__the_format_says_how_large_arenas_are),
		cmocka_unit_test(recover__a_store_opens_once_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
