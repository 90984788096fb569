/* Removing a version of a conflict whose file is not stored: what is published, and as what. */
#include "mountd/sibling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/ring.h"
#include "mountd/contents.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "stored/intake.h"

#define FILE_OID    42
#define SIBLING_OID 43
#define REQUEST	    8
#define RESENT	    (UINT64_C(1) << 63)

struct fixture {
	struct mountd m;
	struct ipc_ring *consumer;
	struct inode *file, *sibling;
};

static struct sealed_body body_of(const char *text)
{
	return (struct sealed_body){ .size = strlen(text), .data = (uint8_t *)strdup(text) };
}

static struct inode *add(struct mountd *m, uint64_t oid, const char *text)
{
	struct inode *inode = inode_add(&m->inodes, oid);

	inode->attr.mode = S_IFREG | 0644;
	inode->body = body_of(text);
	inode->has_body = true;
	inode->nlink = 1;
	return inode;
}

static int make_memory(struct mountd *m, struct ipc_ring **ret_consumer)
{
	int fd = memfd_create("state", MFD_CLOEXEC), ring_fd, r;

	if (fd < 0 || ftruncate(fd, 1 << 20) < 0 || state_map(&m->state, fd) < 0)
		return -1;
	close(fd);
	fd = memfd_create("dirty", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 8 << 20) < 0 || dirty_log_open(&m->dirty, fd) < 0)
		return -1;
	close(fd);
	r = ipc_ring_create(1 << 20, &ring_fd);
	if (r == 0)
		r = ipc_ring_map(&m->ring, ring_fd, IPC_RING_PRODUCER);
	if (r == 0)
		r = ipc_ring_map(ret_consumer, ring_fd, IPC_RING_CONSUMER);
	close(ring_fd);
	return r;
}

static int setup(void **state)
{
	/* Kept to the end, as the threads of mountd are. */
	static struct fixture fixtures[3];
	static size_t num;
	struct fixture *f = &fixtures[num++];

	assert_int_equal(mountd_prepare(&f->m, ev_loop_new(EVFLAG_AUTO)), 0);
	assert_int_equal(mountd_entered(&f->m), 0);
	assert_int_equal(make_memory(&f->m, &f->consumer), 0);
	f->m.view = 2;
	f->m.session.unique = REQUEST;
	f->file = add(&f->m, FILE_OID, "ours");
	f->file->has_siblings = true;
	*state = f;
	return 0;
}

/* The file was changed when `view` pulls had been seen; beside it another version is shown. */
static void make_conflict(struct fixture *f, uint64_t view, const char *shown)
{
	f->sibling = add(&f->m, SIBLING_OID, shown);
	f->sibling->sibling_of = FILE_OID;
	f->sibling->pins = 1;
	f->m.view = view;
	assert_int_equal(contents_touch(&f->m, f->file, 1), 0);
	contents_write(&f->m, f->file, 0, "mine", 4, 0);
	f->m.view = 2;
}

/* The one batch in the ring, and that it answers the request. */
static struct intake_batch published(struct fixture *f)
{
	struct intake_batch head = { 0 };
	const void *data;
	uint32_t type, len;
	uint64_t end, oid;

	assert_int_equal(ipc_ring_peek(f->consumer, &end, &type, &data, &len), 1);
	assert_int_equal(type, INTAKE_BATCH);
	memcpy(&head, data, sizeof(head));
	ipc_ring_release(f->consumer, end);
	assert_int_equal(ipc_ring_peek(f->consumer, &end, &type, &data, &len), 0);
	assert_true(state_was_done(&f->m.state, REQUEST | RESENT, publish_position(&f->m), &oid));
	return head;
}

static void siblings__are_removed_by_the_batch_that_stores_the_file(void **state)
{
	struct fixture *f = *state;

	make_conflict(f, 2, "theirs");
	assert_int_equal(sibling_remove(&f->m, f->sibling), 0);
	assert_int_equal(published(f).unique, REQUEST);
	assert_null(inode_find(&f->m.inodes, SIBLING_OID));
	assert_int_equal(f->file->head, DIRTY_NO_HEAD);
}

static void siblings__that_came_while_the_file_was_dirty_are_removed_too(void **state)
{
	struct fixture *f = *state;

	make_conflict(f, 1, "theirs");
	assert_int_equal(sibling_remove(&f->m, f->sibling), 0);
	assert_int_equal(published(f).view, 2);
}

/* What is shown is what the file stands on, as another version won that nobody has seen. */
static void siblings__that_are_the_base_leave_the_unseen_winner(void **state)
{
	struct fixture *f = *state;

	make_conflict(f, 1, "ours");
	assert_int_equal(sibling_remove(&f->m, f->sibling), 0);
	assert_int_equal(published(f).view, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
			siblings__are_removed_by_the_batch_that_stores_the_file, setup),
		cmocka_unit_test_setup(
			siblings__that_came_while_the_file_was_dirty_are_removed_too, setup),
		cmocka_unit_test_setup(siblings__that_are_the_base_leave_the_unseen_winner, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
