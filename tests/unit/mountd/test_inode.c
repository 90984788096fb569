/* The order in which changed inodes are stored. */
#include "mountd/inode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct inodes inodes;

static int setup(void **state)
{
	return inodes_init(&inodes, 16, NULL, NULL);
}

static int teardown(void **state)
{
	inodes_release(&inodes);
	return 0;
}

static struct inode *dirty(uint64_t oid, double now)
{
	struct inode *inode = inode_add(&inodes, oid);

	inode_mark_dirty(&inodes, inode, now);
	return inode;
}

static void assert_order(const uint64_t *oids, size_t num)
{
	const struct inode *inode = inodes.dirty.dirty_next;
	double since = 0;

	for (size_t i = 0; i < num; i++, inode = inode->dirty_next) {
		assert_int_equal(inode->oid, oids[i]);
		assert_true(inode->dirty_since >= since);
		since = inode->dirty_since;
	}
	assert_ptr_equal(inode, &inodes.dirty);
	assert_int_equal(inodes.num_dirty, num);
}

static void dirty__is_stored_in_the_order_of_its_changes(void **state)
{
	struct inode *second;

	dirty(11, 1);
	second = dirty(12, 2);
	dirty(13, 3);
	inode_mark_dirty(&inodes, second, 4);
	assert_order((const uint64_t[]){ 11, 12, 13 }, 3);
	inode_mark_clean(&inodes, second);
	assert_order((const uint64_t[]){ 11, 13 }, 2);
}

/* At the head of the list it would hide the age of those behind it. */
static void dirty__goes_behind_the_others_when_it_cannot_be_stored(void **state)
{
	struct inode *first = dirty(11, 1);

	dirty(12, 2);
	inode_stay_dirty(&inodes, first, 3);
	assert_order((const uint64_t[]){ 12, 11 }, 2);
	inode_stay_dirty(&inodes, first, 4);
	assert_order((const uint64_t[]){ 12, 11 }, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			dirty__is_stored_in_the_order_of_its_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			dirty__goes_behind_the_others_when_it_cannot_be_stored, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
