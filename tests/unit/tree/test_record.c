#include "tree/record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t refs[2 * TREE_REF_SIZE] = { 7, 8, 9 };
static const uint8_t sealed[5] = { 1, 2, 3, 4, 5 };

static struct tree_record body_record(void)
{
	return (struct tree_record){
		.e = { .key = { .id = tree_oid(3, 9), .kind = TREE_BODY },
			.stamp = { .epoch = UINT64_C(0x1122334455667788), .replica = 0xa1b2c3d4 },
			.lamport = 44,
			.vtag = { 0x5a } },
		.num_refs = 2,
		.sealed_len = sizeof(sealed),
		.refs = refs,
		.sealed = sealed,
	};
}

static struct tree_record link_record(void)
{
	return (struct tree_record){
		.e = { .key = { .id = 70, .kind = TREE_LINK },
			.stamp = { 1, 2 },
			.lamport = 1,
			.parent = TREE_ROOT,
			.target = 71,
			.tag = { 0x33 } },
	};
}

static void record__round_trip(void **state)
{
	struct tree_record in = body_record(), out;
	uint8_t buf[512];
	int n = tree_record_emit(&in, buf, sizeof(buf));

	assert_int_equal(n, TREE_RECORD_HEAD + sizeof(refs) + sizeof(sealed));
	assert_int_equal(tree_record_parse(buf, (size_t)n, &out), 0);
	assert_int_equal(tree_key_compare(&in.e.key, &out.e.key), 0);
	assert_int_equal(tree_element_compare(&in.e, &out.e), 0);
	assert_memory_equal(out.refs, refs, sizeof(refs));
	assert_memory_equal(out.sealed, sealed, sizeof(sealed));
	assert_int_equal(tree_record_emit(&in, buf, (size_t)n - 1), -ENOBUFS);
}

/* The bytes are a contract between machines: a change of this test is a new version. */
static void record__bytes_are_as_documented(void **state)
{
	struct tree_record in = body_record();
	uint8_t buf[512];
	static const uint8_t head[48] = { 1, 2, 0, 2, 5, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 0x88,
		0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xd4, 0xc3, 0xb2, 0xa1, 0, 0, 0, 0, 44 };

	assert_true(tree_record_emit(&in, buf, sizeof(buf)) > 0);
	assert_memory_equal(buf, head, sizeof(head));
	assert_int_equal(buf[72], 0x5a);
	assert_memory_equal(buf + 88, refs, sizeof(refs));
}

static void record__every_truncation_and_extension_is_refused(void **state)
{
	struct tree_record in = body_record(), out;
	uint8_t buf[512] = { 0 };
	int n = tree_record_emit(&in, buf, sizeof(buf));

	for (int len = 0; len < n; len++)
		assert_int_equal(tree_record_parse(buf, (size_t)len, &out), -EBADMSG);
	assert_int_equal(tree_record_parse(buf, (size_t)n + 1, &out), -EBADMSG);
}

static void record__wrong_fields_are_refused(void **state)
{
	static const struct {
		size_t offset;
		uint8_t value;
		int error;
	} rows[] = {
		{ 0, 2, -EPROTONOSUPPORT },		/* version */
		{ 1, 0, -EBADMSG },			/* kind */
		{ 1, 5, -EBADMSG }, { 2, 4, -EBADMSG }, /* unknown flag */
		{ 2, TREE_INLINE, -EBADMSG },		/* not of a link */
		{ 3, 1, -EBADMSG },			/* a link refers to no object */
		{ 8, 71, -EBADMSG },			/* lid of a file equal to its inode */
		{ 28, 1, -EBADMSG },			/* padding */
		{ 40, 0, -EBADMSG },			/* no parent */
		{ 48, 0, -EBADMSG },			/* no target */
		{ 48, 1, -EBADMSG },			/* a link to the root */
		{ 24, 0, -EBADMSG },			/* no replica */
		{ 16, 0, -EBADMSG },			/* no epoch */
		{ 32, 0, -EBADMSG },			/* no lamport */
		{ 39, 0x80, -EBADMSG },			/* a lamport that would run out */
	};
	struct tree_record in = link_record(), out;
	uint8_t buf[256];
	int n = tree_record_emit(&in, buf, sizeof(buf));

	assert_int_equal(n, TREE_RECORD_HEAD);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t bad[TREE_RECORD_HEAD];
		memcpy(bad, buf, sizeof(bad));
		bad[rows[i].offset] = rows[i].value;
		if (tree_record_parse(bad, sizeof(bad), &out) != rows[i].error)
			fail_msg("byte %zu = %u is not refused as it should be", rows[i].offset,
				rows[i].value);
	}
}

static void record__sizes_are_bounded(void **state)
{
	struct tree_record in = body_record();
	uint8_t *big = calloc(1, TREE_XATTR_SEALED_MAX + 1), *buf = malloc(TREE_RECORD_MAX);

	in.sealed = big;
	in.sealed_len = TREE_SEALED_MAX;
	assert_true(tree_record_emit(&in, buf, TREE_RECORD_MAX) > 0);
	in.sealed_len++;
	assert_int_equal(tree_record_emit(&in, buf, TREE_RECORD_MAX), -EBADMSG);
	in.e.key.kind = TREE_XATTR;
	in.num_refs = 0;
	in.sealed_len = TREE_XATTR_SEALED_MAX;
	assert_true(tree_record_emit(&in, buf, TREE_RECORD_MAX) > 0);
	in.sealed_len++;
	assert_int_equal(tree_record_emit(&in, buf, TREE_RECORD_MAX), -EBADMSG);
	free(big);
	free(buf);
}

static void record__restamp_changes_stamp_and_lamport_only(void **state)
{
	static const uint8_t volume[16] = { 1 };
	struct tree_record in = body_record(), out;
	uint8_t buf[512], before[TREE_AAD_MAX], after[TREE_AAD_MAX];
	int n = tree_record_emit(&in, buf, sizeof(buf));
	size_t len = tree_record_aad(volume, &in.e, before);

	tree_record_restamp(buf, (struct tree_stamp){ .epoch = 6, .replica = 5 }, 77);
	assert_int_equal(tree_record_parse(buf, (size_t)n, &out), 0);
	assert_int_equal(out.e.stamp.replica, 5);
	assert_int_equal(out.e.stamp.epoch, 6);
	assert_int_equal(out.e.lamport, 77);
	assert_int_equal(tree_record_aad(volume, &out.e, after), len);
	assert_memory_equal(before, after, len);
	out.e.key.id++;
	tree_record_aad(volume, &out.e, after);
	assert_memory_not_equal(before, after, len);
}

static void key__packed_order_keeps_units_together(void **state)
{
	struct tree_key keys[] = {
		{ .id = 2, .kind = TREE_LINK },
		{ .id = UINT64_C(1) << 40, .kind = TREE_LINK },
		{ .id = 1, .kind = TREE_ATTR },
		{ .id = 2, .kind = TREE_BODY },
		{ .id = 2, .kind = TREE_ATTR },
		{ .id = 2, .kind = TREE_XATTR, .tag = { 1 } },
		{ .id = 2, .kind = TREE_XATTR, .tag = { 2 } },
		{ .id = 300, .kind = TREE_BODY },
	};
	uint8_t a[TREE_KEY_SIZE], b[TREE_KEY_SIZE];
	struct tree_key back;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		tree_key_pack(&keys[i], b);
		assert_int_equal(tree_key_unpack(b, &back), 0);
		assert_int_equal(tree_key_compare(&keys[i], &back), 0);
		if (i) {
			assert_true(memcmp(a, b, sizeof(a)) < 0);
			assert_true(tree_key_compare(&keys[i - 1], &keys[i]) < 0);
		}
		memcpy(a, b, sizeof(a));
	}
	b[0] = 0; /* a body among the links */
	assert_int_equal(tree_key_unpack(b, &back), -EBADMSG);
	b[0] = 2;
	assert_int_equal(tree_key_unpack(b, &back), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(record__round_trip),
		cmocka_unit_test(record__bytes_are_as_documented),
		cmocka_unit_test(record__every_truncation_and_extension_is_refused),
		cmocka_unit_test(record__wrong_fields_are_refused),
		cmocka_unit_test(record__sizes_are_bounded),
		cmocka_unit_test(record__restamp_changes_stamp_and_lamport_only),
		cmocka_unit_test(key__packed_order_keeps_units_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
