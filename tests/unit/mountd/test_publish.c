/*
 * What a mountd that dies leaves behind for the next one: the intent in the state memory, beside
 * the batches in the ring.
 */
#include "mountd/publish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/ring.h"
#include "mountd/mountd.h"
#include "mountd/tree_edit.h"
#include "stored/intake.h"

#define RESENT	  (UINT64_C(1) << 63)
#define REQUEST	  42
#define LATER	  44
#define ANSWER	  77
#define DEAD_FILE 99

static int setup(void **state)
{
	struct mountd *m = calloc(1, sizeof(*m));
	int ring_fd, state_fd = memfd_create("state", MFD_CLOEXEC);

	assert_non_null(m);
	assert_int_equal(ftruncate(state_fd, 1 << 20), 0);
	assert_int_equal(state_map(&m->state, state_fd), 0);
	assert_int_equal(ipc_ring_create(1 << 20, &ring_fd), 0);
	assert_int_equal(ipc_ring_map(&m->ring, ring_fd, IPC_RING_PRODUCER), 0);
	assert_int_equal(inodes_init(&m->inodes, 16, NULL, NULL), 0);
	m->batch_buf = malloc(INTAKE_BATCH_MAX);
	assert_non_null(m->batch_buf);
	close(ring_fd);
	close(state_fd);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct mountd *m = *state;

	inodes_release(&m->inodes);
	ipc_ring_unmap(m->ring);
	state_unmap(&m->state);
	free(m->batch_buf);
	free(m);
	return 0;
}

/* A change that REQUEST asks for and that ANSWER is the answer to. */
static void change(struct mountd *m)
{
	struct batch batch;

	m->session.unique = REQUEST;
	batch_begin(m, &batch);
	batch_remove(&batch, TREE_LINK, 1, NULL);
	assert_int_equal(batch_publish(&batch, 0, ANSWER), 0);
}

static void assert_answered(const struct mountd *m)
{
	uint64_t oid = 0;

	assert_true(state_was_done(&m->state, REQUEST | RESENT, publish_position(m), &oid));
	assert_int_equal(oid, ANSWER);
}

static void intents__are_of_the_batch_that_answers(void **state)
{
	struct mountd *m = *state;
	uint64_t oid;

	change(m);
	assert_answered(m);
	assert_false(state_was_done(&m->state, REQUEST, publish_position(m), &oid));
	assert_false(state_was_done(&m->state, LATER | RESENT, publish_position(m), &oid));
}

static void intents__stay_beside_what_is_published_aside(void **state)
{
	struct mountd *m = *state;
	struct batch batch;

	change(m);
	m->session.unique = LATER | RESENT;
	batch_begin(m, &batch);
	batch_remove(&batch, TREE_LINK, 2, NULL);
	assert_int_equal(batch_publish_aside(&batch, 0), 0);
	assert_answered(m);
}

/* The kernel hands out forgets before the requests that it sends again. */
static void intents__stay_when_a_forget_removes_an_inode(void **state)
{
	struct mountd *m = *state;
	uint64_t before;

	change(m);
	inode_add(&m->inodes, DEAD_FILE);
	before = publish_position(m);
	m->session.unique = LATER;
	edit_remove_orphan(m, DEAD_FILE);
	assert_true(publish_position(m) > before);
	assert_answered(m);
}

/* The removal of a file that nobody holds publishes its name's end, then its own. */
static void intents__stay_when_a_request_goes_on_to_remove_an_inode(void **state)
{
	struct mountd *m = *state;

	change(m);
	inode_add(&m->inodes, DEAD_FILE);
	edit_remove_orphan(m, DEAD_FILE);
	assert_answered(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			intents__are_of_the_batch_that_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(
			intents__stay_beside_what_is_published_aside, setup, teardown),
		cmocka_unit_test_setup_teardown(
			intents__stay_when_a_forget_removes_an_inode, setup, teardown),
		cmocka_unit_test_setup_teardown(
			intents__stay_when_a_request_goes_on_to_remove_an_inode, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
