/* Which dirty files may be stored together, and how many bytes become which jobs. */
#include "mountd/group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "cas/object.h"
#include "mountd/contents.h"
#include "mountd/jobs.h"
#include "mountd/mountd.h"

#define OID 42

struct fixture {
	struct dirty_log *log;
	struct contents contents;
	struct inode inode;
	uint8_t data[GROUP_FILE_MAX + DIRTY_BLOCK];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd = memfd_create("dirty", MFD_CLOEXEC);

	if (f == NULL || fd < 0 || ftruncate(fd, 8 << 20) < 0 || dirty_log_open(&f->log, fd) < 0)
		return -1;
	close(fd);
	f->inode = (struct inode){ .oid = OID, .contents = &f->contents };
	f->inode.attr.mode = S_IFREG | 0644;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	dirty_clear(f->log, &f->contents.file);
	free(f->contents.file.extents);
	dirty_log_close(f->log);
	free(f);
	return 0;
}

static void write_at(struct fixture *f, uint64_t offset, size_t len)
{
	if (offset + len > f->inode.dirty.size)
		f->inode.dirty.size = offset + len;
	dirty_write(f->log, &f->contents.file, OID, offset, f->data, len);
}

static void group__takes_what_is_all_new_and_small(void **state)
{
	struct fixture *f = *state;

	assert_false(group_takes(&f->inode));
	write_at(f, 0, 1);
	assert_true(group_takes(&f->inode));
	write_at(f, 1, SEALED_INLINE_MAX);
	assert_true(group_takes(&f->inode));
	write_at(f, 100, 9000);
	assert_true(group_takes(&f->inode));
	write_at(f, 9100, GROUP_FILE_MAX - 9100);
	assert_true(group_takes(&f->inode));
	write_at(f, GROUP_FILE_MAX, 1);
	assert_false(group_takes(&f->inode));
}

static void group__leaves_what_is_clean_or_no_file_or_failed(void **state)
{
	struct fixture *f = *state;

	write_at(f, 0, 20000);
	f->inode.goes_alone = true;
	assert_false(group_takes(&f->inode));
	f->inode.goes_alone = false;
	f->inode.attr.mode = S_IFDIR | 0755;
	assert_false(group_takes(&f->inode));
	f->inode.attr.mode = S_IFREG | 0644;
	f->inode.head = DIRTY_NO_HEAD;
	assert_false(group_takes(&f->inode));
	f->inode.head = 0;
	assert_true(group_takes(&f->inode));
	f->inode.contents = NULL;
	assert_false(group_takes(&f->inode));
}

static void group__leaves_what_needs_stored_bytes(void **state)
{
	struct fixture *f = *state;

	write_at(f, 0, 20000);
	f->inode.dirty.base_limit = 1;
	assert_false(group_takes(&f->inode));
}

static void group__leaves_what_has_holes(void **state)
{
	struct fixture *f = *state;

	write_at(f, DIRTY_BLOCK, 20000);
	assert_false(group_takes(&f->inode));
	write_at(f, 0, DIRTY_BLOCK);
	assert_true(group_takes(&f->inode));
	f->inode.dirty.size += 1;
	assert_false(group_takes(&f->inode));
	f->inode.dirty.size -= 1;
	dirty_zero(f->log, &f->contents.file, OID, DIRTY_BLOCK, DIRTY_BLOCK);
	assert_false(group_takes(&f->inode));
	dirty_zero(f->log, &f->contents.file, OID, 0, DIRTY_BLOCK);
	assert_false(group_takes(&f->inode));
}

/* --- jobs --- */

static struct jobs *make_jobs(struct mountd *m, size_t bytes)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));
	uint8_t key[CAS_KEY_SIZE] = { 7 };

	assert_non_null(jobs);
	assert_int_equal(cas_chunker_init(&m->chunker, key, NULL), 0);
	assert_int_equal(jobs_init(jobs, m, bytes), 0);
	return jobs;
}

static void free_jobs(struct jobs *jobs)
{
	jobs_release(jobs);
	free(jobs);
}

/* Every job is the next stretch, and has room of its own to be sealed in. */
static void check_jobs(const struct jobs *jobs, const uint8_t *from, size_t len)
{
	const uint8_t *room = jobs->sealed;

	for (size_t i = 0; i < jobs->num; i++) {
		assert_ptr_equal(jobs->list[i].plain, from);
		assert_ptr_equal(jobs->list[i].buf, room);
		from += jobs->list[i].plain_len;
		room += cas_chunk_bound(jobs->list[i].plain_len);
		len -= jobs->list[i].plain_len;
	}
	assert_int_equal(len, 0);
	assert_ptr_equal(room, jobs->sealed + jobs->sealed_len);
}

static void jobs__are_all_bytes_of_files_that_end(void **state)
{
	static struct mountd m;
	static uint8_t data[GROUP_BYTES];
	struct jobs *jobs = make_jobs(&m, sizeof(data));
	size_t at = 0;

	randombytes_buf(data, sizeof(data));
	while (at < sizeof(data) && jobs->num + GROUP_FILE_MAX / CAS_CHUNKER_MIN + 1 <= JOBS_MAX) {
		size_t left = sizeof(data) - at, len = 1 + randombytes_uniform(GROUP_FILE_MAX);

		len = len < left ? len : left;
		assert_int_equal(jobs_cut(jobs, data + at, len, true), len);
		at += len;
	}
	check_jobs(jobs, data, at);
	jobs_clear(jobs);
	check_jobs(jobs, data, 0);
	free_jobs(jobs);
}

static void jobs__leave_the_end_of_what_goes_on(void **state)
{
	static struct mountd m;
	static uint8_t data[GROUP_BYTES];
	struct jobs *jobs = make_jobs(&m, sizeof(data));
	size_t cut;

	randombytes_buf(data, sizeof(data));
	cut = jobs_cut(jobs, data, sizeof(data), false);
	assert_true(cut > 0 && cut < sizeof(data) && sizeof(data) - cut < CAS_CHUNKER_MAX);
	check_jobs(jobs, data, cut);
	free_jobs(jobs);
}

static void jobs__stop_when_the_list_is_full(void **state)
{
	static struct mountd m;
	struct jobs *jobs = make_jobs(&m, JOBS_MAX + 1);
	uint8_t data[JOBS_MAX + 1] = { 0 };

	for (size_t i = 0; i < JOBS_MAX; i++)
		assert_int_equal(jobs_cut(jobs, data + i, 1, true), 1);
	assert_int_equal(jobs_cut(jobs, data + JOBS_MAX, 1, true), 0);
	check_jobs(jobs, data, JOBS_MAX);
	free_jobs(jobs);
}

static void jobs__say_what_the_tree_is_told(void **state)
{
	static struct mountd m;
	struct jobs *jobs = make_jobs(&m, 3000);
	struct cas_extent extents[2];
	uint8_t data[3000] = { 0 };

	for (size_t i = 0; i < 3; i++) {
		(void)jobs_cut(jobs, data + i * 1000, 1000 - i, true);
		memset(jobs->list[i].id.b, (int)i + 1, CAS_ID_SIZE);
	}
	assert_int_equal(jobs_extents(jobs, 1, 2, extents), 999 + 998);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(extents[i].len, 999 - i);
		assert_int_equal(extents[i].chunk_len, 999 - i);
		assert_int_equal(extents[i].chunk_off, 0);
		assert_int_equal(extents[i].id.b[0], i + 2);
	}
	free_jobs(jobs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			group__takes_what_is_all_new_and_small, setup, teardown),
		cmocka_unit_test_setup_teardown(
			group__leaves_what_is_clean_or_no_file_or_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			group__leaves_what_needs_stored_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(group__leaves_what_has_holes, setup, teardown),
		cmocka_unit_test(jobs__are_all_bytes_of_files_that_end),
		cmocka_unit_test(jobs__leave_the_end_of_what_goes_on),
		cmocka_unit_test(jobs__stop_when_the_list_is_full),
		cmocka_unit_test(jobs__say_what_the_tree_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
