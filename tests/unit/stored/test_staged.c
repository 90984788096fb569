#include "stored/staged.h"

#include "cas/sha256.h"
#include "ipc/ring.h"
#include "stored/digest.h"
#include "stored/intake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NUM 40
#define LEN 3000

static struct ipc_ring *in, *out;
static struct staged staged;
static uint8_t entry[INTAKE_TAG_SIZE + LEN];

static int setup(void **state)
{
	int fd;

	if (ipc_ring_create(1u << 20, &fd) < 0 || ipc_ring_map(&in, fd, IPC_RING_PRODUCER) < 0 ||
		ipc_ring_map(&out, fd, IPC_RING_CONSUMER) < 0)
		return -1;
	close(fd);
	staged = (struct staged){ 0 };
	return 0;
}

static int teardown(void **state)
{
	ipc_ring_unmap(in);
	ipc_ring_unmap(out);
	free(staged.buf);
	return 0;
}

/* Tag and bytes say which one it is. Returns where it begins. */
static uint64_t publish(enum intake_type type, int which, size_t len)
{
	uint64_t at = ipc_ring_head(in);

	memset(entry, which, sizeof(entry));
	assert_int_equal(ipc_ring_append(in, type, entry, (uint32_t)(INTAKE_TAG_SIZE + len)), 0);
	ipc_ring_commit(in);
	return at;
}

static void assert_is(const struct staged_object *object, int which, size_t len)
{
	struct digest *digest = digest_new();
	uint8_t id[32];

	assert_non_null(object);
	assert_int_equal(object->len, INTAKE_TAG_SIZE + len);
	memset(entry, which, sizeof(entry));
	assert_memory_equal(object->entry, entry, object->len);
	assert_int_equal(digest_of(digest, entry, len, id), 0);
	assert_memory_equal(object->id, id, sizeof(id));
	digest_free(digest);
}

static void staged__objects_are_copied_and_hashed(void **state)
{
	uint64_t at[NUM];

	if (!cas_sha256_has_lanes())
		skip();
	for (int i = 0; i < NUM; i++)
		at[i] = publish(INTAKE_OBJECT, i, (size_t)(LEN - i));
	staged_fill(&staged, out, 0, UINT64_MAX);
	for (int i = 0; i < STAGED_MAX; i++)
		assert_is(staged_find(&staged, at[i]), i, (size_t)(LEN - i));
	assert_null(staged_find(&staged, at[STAGED_MAX]));
	assert_null(staged_find(&staged, at[1] + 8));
	staged_fill(&staged, out, at[STAGED_MAX], UINT64_MAX);
	assert_is(staged_find(&staged, at[NUM - 1]), NUM - 1, LEN - NUM + 1);
	assert_null(staged_find(&staged, at[0]));
	staged_drop(&staged);
	assert_null(staged_find(&staged, at[NUM - 1]));
}

/* Who writes the ring may change it at any time. */
static void staged__what_was_hashed_is_ours(void **state)
{
	uint8_t *first;

	if (!cas_sha256_has_lanes())
		skip();
	first = ipc_ring_reserve(in, INTAKE_TAG_SIZE + LEN);
	for (int i = 0; i < STAGED_MAX; i++)
		publish(INTAKE_OBJECT, i, LEN);
	staged_fill(&staged, out, 0, UINT64_MAX);
	memset(first, 0xff, INTAKE_TAG_SIZE + LEN);
	assert_is(staged_find(&staged, 0), 0, LEN);
}

static void staged__batches_ends_and_malformed_entries_end_it(void **state)
{
	uint64_t at = 0, batch;

	if (!cas_sha256_has_lanes())
		skip();
	for (int i = 0; i < CAS_SHA256_FEW; i++)
		at = publish(INTAKE_OBJECT, i, LEN);
	batch = publish(INTAKE_BATCH, 1, 100);
	publish(INTAKE_OBJECT, 2, LEN);
	staged_fill(&staged, out, 0, UINT64_MAX);
	assert_is(staged_find(&staged, at), CAS_SHA256_FEW - 1, LEN);
	assert_int_equal(staged.num, CAS_SHA256_FEW);
	assert_null(staged_find(&staged, batch));
	/* One less is not worth it. */
	staged_fill(&staged, out, 0, at);
	assert_int_equal(staged.num, 0);
	for (int i = 0; i < CAS_SHA256_FEW; i++)
		at = publish(INTAKE_OBJECT, i, 0);
	staged_fill(&staged, out, at, UINT64_MAX);
	assert_int_equal(staged.num, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			staged__objects_are_copied_and_hashed, setup, teardown),
		cmocka_unit_test_setup_teardown(staged__what_was_hashed_is_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(
			staged__batches_ends_and_malformed_entries_end_it, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
