#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mountd/acl.h"

#define NOBODY 0xffffffffu

struct list {
	uint8_t bytes[ACL_MAX + 64];
	size_t len;
};

static void put(struct list *list, uint16_t tag, uint16_t perms, uint32_t id)
{
	uint8_t *at = list->bytes + list->len;

	memcpy(at, &tag, 2);
	memcpy(at + 2, &perms, 2);
	memcpy(at + 4, &id, 4);
	list->len += 8;
}

static struct list head(void)
{
	return (struct list){ .bytes = { 2 }, .len = 4 };
}

static struct list plain(uint16_t owner, uint16_t group, uint16_t others)
{
	struct list list = head();

	put(&list, 1, owner, NOBODY);
	put(&list, 4, group, NOBODY);
	put(&list, 32, others, NOBODY);
	return list;
}

/* One more user, the group has more than the mask lets through. */
static struct list named(void)
{
	struct list list = head();

	put(&list, 1, 6, NOBODY);
	put(&list, 2, 7, 1000);
	put(&list, 4, 5, NOBODY);
	put(&list, 16, 4, NOBODY);
	put(&list, 32, 1, NOBODY);
	return list;
}

static void acl__a_plain_list_is_its_mode(void **state)
{
	struct list list = plain(7, 5, 1);

	assert_true(acl_is_sound(list.bytes, list.len));
	assert_true(acl_is_mode(list.bytes, list.len));
	assert_int_equal(acl_mode(list.bytes, list.len), 0751);
}

static void acl__the_group_bits_are_the_mask(void **state)
{
	struct list list = named();

	assert_true(acl_is_sound(list.bytes, list.len));
	assert_false(acl_is_mode(list.bytes, list.len));
	assert_int_equal(acl_mode(list.bytes, list.len), 0641);
}

static void acl__a_mode_changes_owner_mask_and_others_only(void **state)
{
	struct list list = named(), before = list;

	acl_set_mode(list.bytes, list.len, 0100720);
	assert_int_equal(acl_mode(list.bytes, list.len), 0720);
	assert_memory_equal(list.bytes + 12, before.bytes + 12, 16); /* the user and the group */
	acl_set_mode(list.bytes, list.len, 0641);
	assert_memory_equal(list.bytes, before.bytes, list.len);
}

static void acl__what_is_not_sound_is_seen(void **state)
{
	struct list list = plain(7, 5, 1), bad;

	for (size_t len = 0; len < list.len; len++)
		assert_false(acl_is_sound(list.bytes, len));
	bad = list;
	bad.bytes[0] = 1; /* version */
	assert_false(acl_is_sound(bad.bytes, bad.len));
	bad = list;
	bad.bytes[4] = 64; /* a tag that nobody knows */
	assert_false(acl_is_sound(bad.bytes, bad.len));
	bad = list;
	bad.bytes[6] = 8; /* permissions */
	assert_false(acl_is_sound(bad.bytes, bad.len));
	bad = list;
	put(&bad, 2, 7, 1000); /* named without a mask */
	assert_false(acl_is_sound(bad.bytes, bad.len));
	put(&bad, 16, 7, NOBODY);
	assert_true(acl_is_sound(bad.bytes, bad.len));
	put(&bad, 1, 7, NOBODY); /* two owners */
	assert_false(acl_is_sound(bad.bytes, bad.len));
	bad = named();
	while (bad.len < ACL_MAX)
		put(&bad, 2, 7, 1);
	assert_false(acl_is_sound(bad.bytes, bad.len));
}

static void acl__names(void **state)
{
	assert_true(acl_is_name("system.posix_acl_access"));
	assert_true(acl_is_name("system.posix_acl_default"));
	assert_false(acl_is_name("system.posix_acl"));
	assert_false(acl_is_name("user.posix_acl_access"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(acl__a_plain_list_is_its_mode),
		cmocka_unit_test(acl__the_group_bits_are_the_mask),
		cmocka_unit_test(acl__a_mode_changes_owner_mask_and_others_only),
		cmocka_unit_test(acl__what_is_not_sound_is_seen),
		cmocka_unit_test(acl__names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
