/* The dirty log against a flat model, and what it says after its process died at any step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mountd/dirty.h"

#define FILE_MAX (1u << 18)
#define OID	 42

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % n;
}

static int make_memfd(void)
{
	int fd = memfd_create("dirty", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8 << 20), 0);
	return fd;
}

/* Which bytes are unstored, and what they are. */
struct model {
	uint8_t data[FILE_MAX], is_dirty[FILE_MAX];
};

static void compare(struct dirty_log *log, const struct dirty_file *file, const struct model *model,
	uint64_t size)
{
	uint64_t at = 0, bytes = 0;

	for (size_t i = 0; i < file->num; i++) {
		const struct dirty_extent *e = &file->extents[i];

		assert_true(e->offset >= at && e->len > 0);
		for (; at < e->offset; at++)
			assert_false(at < size && model->is_dirty[at]);
		if (!e->is_zero) {
			assert_memory_equal(dirty_data(log, e), model->data + at, e->len);
			bytes += e->len;
		}
		for (; at < e->offset + e->len && at < size; at++) {
			assert_true(model->is_dirty[at]);
			if (e->is_zero)
				assert_int_equal(model->data[at], 0);
		}
		at = e->offset + e->len;
	}
	for (; at < size; at++)
		assert_false(model->is_dirty[at]);
	assert_int_equal(file->bytes, bytes);
}

static bool on_head(void *ctx, uint32_t index, const struct dirty_head *head)
{
	return head->oid == OID;
}

static struct dirty_file *on_file(void *ctx, uint64_t oid)
{
	return oid == OID ? ctx : NULL;
}

/* As a new process would find it. */
static void reopen(struct dirty_log **log, int fd, struct dirty_file *file)
{
	struct dirty_recovery recovery = { .ctx = file, .on_head = on_head, .on_file = on_file };

	dirty_log_close(*log);
	free(file->extents);
	*file = (struct dirty_file){ 0 };
	assert_int_equal(dirty_log_open(log, fd), 0);
	assert_int_equal(dirty_recover(*log, &recovery), 0);
}

static void dirty__is_what_was_written(void **state)
{
	const char *seed = getenv("BAZIL_SEED");
	static struct model model;
	static uint8_t data[20000];
	int fd = make_memfd();
	struct dirty_file file = { 0 };
	struct dirty_log *log;
	uint32_t num_slots;
	uint64_t size = FILE_MAX;

	random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)getpid() * 7919;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)random_state);
	assert_int_equal(dirty_log_open(&log, fd), 0);
	num_slots = dirty_log_free_slots(log);
	for (int step = 0; step < 20000; step++) {
		uint32_t offset = random_below(FILE_MAX - 20000);
		uint32_t len = 1 + random_below(random_below(4) ? 300 : 20000);

		switch (random_below(8)) {
		case 0:
			dirty_zero(log, &file, OID, offset, len);
			memset(model.data + offset, 0, len);
			memset(model.is_dirty + offset, 1, len);
			break;
		case 1:
			if (random_below(20) != 0)
				break;
			dirty_truncate(log, &file, offset);
			memset(model.is_dirty + offset, 0, FILE_MAX - offset);
			/* A zero extent keeps whole blocks: its tail is cut by the size. */
			for (size_t i = 0; i < file.num; i++)
				if (file.extents[i].is_zero)
					for (uint64_t k = offset;
						k < file.extents[i].offset + file.extents[i].len;
						k++) {
						model.is_dirty[k] = 1;
						model.data[k] = 0;
					}
			break;
		case 2:
			if (random_below(50) == 0)
				reopen(&log, fd, &file);
			break;
		default:
			for (uint32_t i = 0; i < len; i++)
				data[i] = (uint8_t)random_below(256);
			dirty_write(log, &file, OID, offset, data, len);
			memcpy(model.data + offset, data, len);
			memset(model.is_dirty + offset, 1, len);
		}
		if (step % 50 == 0)
			compare(log, &file, &model, size);
	}
	compare(log, &file, &model, size);
	reopen(&log, fd, &file);
	compare(log, &file, &model, size);
	dirty_clear(log, &file);
	assert_int_equal(dirty_log_free_slots(log), num_slots);
	dirty_log_close(log);
	close(fd);
}

static void dirty__release_keeps_what_is_newer(void **state)
{
	int fd = make_memfd();
	struct dirty_file file = { 0 };
	struct dirty_log *log;
	uint8_t data[3 * DIRTY_BLOCK] = { 1 };
	uint64_t seq;

	assert_int_equal(dirty_log_open(&log, fd), 0);
	dirty_write(log, &file, OID, 0, data, sizeof(data));
	seq = dirty_log_seq(log);
	dirty_write(log, &file, OID, DIRTY_BLOCK + 5, "new", 3);
	dirty_release(log, &file, 0, sizeof(data), seq);
	assert_int_equal(file.num, 1);
	assert_int_equal(file.extents[0].offset, DIRTY_BLOCK);
	dirty_clear(log, &file);
	dirty_log_close(log);
	close(fd);
}

static void dirty__newer_slot_wins_over_older(void **state)
{
	int fd = make_memfd();
	struct dirty_file file = { 0 };
	struct dirty_log *log;
	uint8_t *copy = malloc(8 << 20);
	int revived = 0;

	/* Killed between the new slot and the freeing of the old ones: both are there. The
	 * headers of the old ones are put back from a snapshot. */
	assert_int_equal(dirty_log_open(&log, fd), 0);
	dirty_write(log, &file, OID, 100, "AAAAAAAAAA", 10);
	dirty_write(log, &file, OID, 200, "BBBBBBBBBB", 10);
	assert_int_equal(pread(fd, copy, 8 << 20, 0), 8 << 20);
	dirty_write(log, &file, OID, 105,
		"cccccccccccccccccccccccccccccccccccccccccccccccccc"
		"cccccccccccccccccccccccccccccccccccccccccccccccccc",
		100);
	assert_int_equal(file.num, 1);
	for (long at = 4096 + 8192 * 80; at < 4096 + 8192 * 80 + 1000 * 64; at += 64) {
		uint32_t state_now;

		assert_int_equal(pread(fd, &state_now, 4, at + 32), 4);
		if (copy[at + 32] == 1 && state_now == 0) {
			assert_int_equal(pwrite(fd, copy + at, 64, at), 64);
			revived++;
		}
	}
	assert_int_equal(revived, 2);
	reopen(&log, fd, &file);
	assert_int_equal(file.num, 1);
	assert_int_equal(file.extents[0].offset, 100);
	assert_int_equal(file.extents[0].len, 110);
	assert_memory_equal(dirty_data(log, &file.extents[0]), "AAAAAcccc", 9);
	assert_memory_equal(dirty_data(log, &file.extents[0]) + 100, "cccccBBBBB", 10);
	dirty_log_close(log);
	free(file.extents);
	free(copy);
	close(fd);
}

static void dirty__garbage_is_refused_or_freed(void **state)
{
	int fd = make_memfd();
	struct dirty_file file = { 0 };
	struct dirty_log *log;
	uint8_t noise[4096];
	uint32_t num_slots, magic = 0x12345678;

	random_state = 99;
	assert_int_equal(dirty_log_open(&log, fd), 0);
	num_slots = dirty_log_free_slots(log);
	/* Slot headers and heads overwritten by a broken process. */
	for (int page = 1; page < 200; page++) {
		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = random_below(3) ? 0 : (uint8_t)random_below(256);
		assert_int_equal(pwrite(fd, noise, sizeof(noise), page * 4096L), 4096);
	}
	reopen(&log, fd, &file);
	dirty_clear(log, &file);
	assert_int_equal(dirty_log_free_slots(log), num_slots);
	dirty_log_close(log);
	assert_int_equal(pwrite(fd, &magic, 4, 0), 4);
	assert_int_equal(dirty_log_open(&log, fd), -EPROTONOSUPPORT);
	close(fd);
}

static void dirty__heads_come_back(void **state)
{
	int fd = make_memfd();
	struct dirty_log *log;
	struct dirty_head head = { .oid = OID, .size = 77, .mtime = 5 };
	struct dirty_file file = { 0 };
	uint32_t index = DIRTY_NO_HEAD, before;

	assert_int_equal(dirty_log_open(&log, fd), 0);
	before = dirty_log_free_heads(log);
	assert_int_equal(dirty_head_set(log, &index, &head), 0);
	head.oid = OID + 1; /* nobody's: freed */
	index = DIRTY_NO_HEAD;
	assert_int_equal(dirty_head_set(log, &index, &head), 0);
	reopen(&log, fd, &file);
	assert_int_equal(dirty_log_free_heads(log), before - 1);
	dirty_log_close(log);
	close(fd);
}

struct found {
	struct dirty_head head;
	unsigned num;
};

static bool note_head(void *ctx, uint32_t index, const struct dirty_head *head)
{
	struct found *found = ctx;

	found->head = *head;
	found->num++;
	return true;
}

static struct dirty_file *no_file(void *ctx, uint64_t oid)
{
	return NULL;
}

static void find_heads(int fd, struct found *ret)
{
	struct dirty_recovery recovery = { .ctx = ret, .on_head = note_head, .on_file = no_file };
	struct dirty_log *log;

	*ret = (struct found){ 0 };
	assert_int_equal(dirty_log_open(&log, fd), 0);
	assert_int_equal(dirty_recover(log, &recovery), 0);
	dirty_log_close(log);
}

static void dirty__attributes_come_back(void **state)
{
	struct dirty_head head = { .oid = OID, .mode = 0100640, .uid = 7, .gid = 8, .atime = -9 };
	uint32_t index = DIRTY_NO_HEAD;
	int fd = make_memfd();
	struct dirty_log *log;
	struct found found;

	assert_int_equal(dirty_log_open(&log, fd), 0);
	assert_true(dirty_log_takes_attrs(log));
	assert_int_equal(dirty_head_set(log, &index, &head), 0);
	find_heads(fd, &found);
	assert_false(found.head.holds_attr);
	head.holds_attr = 1;
	assert_int_equal(dirty_head_set(log, &index, &head), 0);
	find_heads(fd, &found);
	assert_int_equal(found.num, 1);
	assert_memory_equal(&found.head, &head, sizeof(head));
	head.holds_attr = 0;
	assert_int_equal(dirty_head_set(log, &index, &head), 0);
	find_heads(fd, &found);
	assert_false(found.head.holds_attr);
	dirty_log_close(log);
	close(fd);
}

static void dirty__a_log_of_version_1_is_served(void **state)
{
	const struct {
		uint32_t magic, version;
		uint64_t size;
	} header = { 0x474c5a42, 1, 8 << 20 };
	const struct {
		uint32_t used, pad;
		uint64_t oid, size, base_limit, view;
		int64_t mtime, ctime;
		uint64_t spare;
	} heads[2] = { { 1, 0, OID, 77, 6, 5, 4, 3, 0 }, { 1, 0, OID + 1, 78, 0, 0, 2, 1, 0 } };
	uint32_t index = DIRTY_NO_HEAD;
	int fd = make_memfd();
	struct dirty_log *log;
	struct dirty_head head = { .oid = OID + 2, .holds_attr = 1 };
	struct found found;

	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pwrite(fd, heads, sizeof(heads), 4096), sizeof(heads));
	find_heads(fd, &found);
	assert_int_equal(found.num, 2);
	assert_int_equal(found.head.oid, OID + 1);
	assert_int_equal(found.head.ctime, 1);
	assert_false(found.head.holds_attr);
	assert_int_equal(dirty_log_open(&log, fd), 0);
	assert_false(dirty_log_takes_attrs(log));
	assert_int_equal(dirty_head_set(log, &index, &head), 0);
	dirty_log_close(log);
	find_heads(fd, &found);
	assert_int_equal(found.num, 3);
	assert_int_equal(found.head.oid, OID + 2);
	assert_false(found.head.holds_attr);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dirty__is_what_was_written),
		cmocka_unit_test(dirty__release_keeps_what_is_newer),
		cmocka_unit_test(dirty__newer_slot_wins_over_older),
		cmocka_unit_test(dirty__garbage_is_refused_or_freed),
		cmocka_unit_test(dirty__heads_come_back),
		cmocka_unit_test(dirty__attributes_come_back),
		cmocka_unit_test(dirty__a_log_of_version_1_is_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
