/* Records: what goes in comes out, padding hides lengths, and nothing opens where it does not
 * belong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cas/pad.h"
#include "cas/suite.h"
#include "mountd/sealed.h"

static struct sealer sealer = {
	.keys = { .seal = { 1 }, .siv = { 2 }, .name = { 3 }, .value = { 4 } },
	.volume = { 5 },
};

static struct tree_record parse(const uint8_t *buf, size_t len)
{
	struct tree_record rec;

	assert_int_equal(tree_record_parse(buf, len, &rec), 0);
	return rec;
}

static void sealed__link_comes_back(void **state)
{
	struct sealed_link link = { .lid = 0x700000002,
		.parent = 1,
		.target = 0x700000001,
		.type = S_IFREG >> 12,
		.name_len = 5,
		.name = "hello" };
	struct sealed_link out;
	uint8_t buf[TREE_RECORD_MAX], longer[TREE_RECORD_MAX];
	size_t len = sealed_put_link(&sealer, &link, buf);
	struct tree_record rec = parse(buf, len);

	assert_int_equal(sealed_get_link(&sealer, &rec, &out), 0);
	assert_string_equal(out.name, "hello");
	assert_int_equal(out.target, link.target);
	/* Names of 5 and of 12 bytes are equally long. */
	link.name_len = 12;
	memcpy(link.name, "hello, world", 12);
	assert_int_equal(sealed_put_link(&sealer, &link, longer), len);
	assert_null(memmem(longer, len, "hello", 5));
}

static void sealed__link_elsewhere_is_refused(void **state)
{
	struct sealed_link link = { .lid = 0x700000002,
		.parent = 1,
		.target = 0x700000001,
		.type = S_IFREG >> 12,
		.name_len = 1,
		.name = "a" };
	struct sealed_link out;
	struct sealer other = sealer;
	uint8_t buf[TREE_RECORD_MAX];
	size_t len = sealed_put_link(&sealer, &link, buf);
	struct tree_record rec;

	/* The clear part says another parent, target or name than the sealed one. */
	for (size_t at = 40; at < 72; at += 8) {
		buf[at] ^= 2;
		rec = parse(buf, len);
		assert_int_equal(sealed_get_link(&sealer, &rec, &out), -EBADMSG);
		buf[at] ^= 2;
	}
	buf[8] ^= 4; /* another register */
	rec = parse(buf, len);
	assert_int_equal(sealed_get_link(&sealer, &rec, &out), -EBADMSG);
	buf[8] ^= 4;
	other.volume[0]++;
	rec = parse(buf, len);
	assert_int_equal(sealed_get_link(&other, &rec, &out), -EBADMSG);
	assert_int_equal(sealed_get_link(&sealer, &rec, &out), 0);
	/* stored stamps records: that must not matter. */
	tree_record_restamp(buf, (struct tree_stamp){ .replica = 9, .epoch = 33 }, 1234);
	rec = parse(buf, len);
	assert_int_equal(sealed_get_link(&sealer, &rec, &out), 0);
}

static void sealed__slash_in_a_name_is_refused(void **state)
{
	static const char *const bad[] = { "a/b", ".", "..", "" };

	for (size_t i = 0; i < 4; i++) {
		struct sealed_link link = { .lid = 3, .parent = 1, .target = 2, .type = 8 };
		struct sealed_link out;
		uint8_t buf[TREE_RECORD_MAX];
		struct tree_record rec;

		link.name_len = (uint16_t)strlen(bad[i]);
		memcpy(link.name, bad[i], link.name_len);
		rec = parse(buf, sealed_put_link(&sealer, &link, buf));
		assert_int_equal(sealed_get_link(&sealer, &rec, &out), -EBADMSG);
	}
}

static void sealed__attr_comes_back(void **state)
{
	char target[] = "some/where";
	struct sealed_attr attr = { .mode = S_IFLNK | 0777,
		.uid = 1,
		.gid = 2,
		.atime = -3,
		.mtime = 4,
		.ctime = 5,
		.btime = 6,
		.symlink = target,
		.symlink_len = sizeof(target) - 1 };
	struct sealed_attr out;
	uint8_t buf[TREE_RECORD_MAX];
	struct tree_record rec = parse(buf, sealed_put_attr(&sealer, 77, &attr, buf));

	assert_int_equal(sealed_get_attr(&sealer, &rec, &out), 0);
	assert_string_equal(out.symlink, target);
	assert_int_equal(out.atime, -3);
	assert_int_equal(out.btime, 6);
	free(out.symlink);
	for (size_t i = TREE_RECORD_HEAD; i < TREE_RECORD_HEAD + rec.sealed_len; i++) {
		buf[i] ^= 1;
		assert_int_equal(sealed_get_attr(&sealer, &rec, &out), -EBADMSG);
		buf[i] ^= 1;
	}
}

static void sealed__bodies_come_back(void **state)
{
	struct sealed_body body = { .form = SEALED_INLINE, .size = 4096, .mtime = 1, .ctime = 2 };
	struct sealed_body out;
	uint8_t buf[TREE_RECORD_MAX], vtag[16];
	struct tree_record rec;

	body.data = calloc(1, 4096);
	memset(body.data, 'x', 4096);
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	memcpy(vtag, rec.e.vtag, 16);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
	assert_int_equal(out.size, 4096);
	assert_memory_equal(out.data, body.data, 4096);
	free(out.data);
	/* The same bytes at another time are the same value. */
	body.mtime = 99;
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_memory_equal(vtag, rec.e.vtag, 16);
	body.data[0] = 'y';
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_memory_not_equal(vtag, rec.e.vtag, 16);
	free(body.data);

	body = (struct sealed_body){ .form = SEALED_CHUNKS, .size = 300, .num_chunks = 2 };
	body.chunks[0] = (struct cas_extent){
		.len = 200, .chunk_len = 250, .chunk_off = 50, .id = { { 1 } }, .h = { { 2 } }
	};
	body.chunks[1] = cas_extent_hole(100);
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_int_equal(rec.num_refs, 1);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
	assert_int_equal(out.num_chunks, 2);
	assert_memory_equal(&out.chunks[0], &body.chunks[0], sizeof(out.chunks[0]));

	body = (struct sealed_body){ .form = SEALED_TREE, .size = UINT64_C(1) << 40 };
	body.root = (struct cas_tree_root){ .len = body.size, .level = 2, .id = { { 9 } } };
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_int_equal(rec.num_refs, 1);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
	assert_int_equal(out.root.level, 2);
	assert_int_equal(out.root.len, body.size);
}

static void sealed__text_is_packed_and_noise_is_not(void **state)
{
	struct sealed_body body = { .form = SEALED_INLINE }, out;
	uint8_t buf[TREE_RECORD_MAX], data[SEALED_INLINE_MAX];
	uint32_t noise = 1;
	struct tree_record rec;

	body.data = data;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) "some text that repeats itself, "[i % 31];
	for (body.size = 0; body.size <= sizeof(data); body.size += body.size < 40 ? 1 : 169) {
		rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
		assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
		assert_int_equal(out.size, body.size);
		if (body.size > 0)
			assert_memory_equal(out.data, data, body.size);
		free(out.data);
		if (body.size > 300)
			assert_true(rec.sealed_len < 300);
	}
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)((noise = noise * 1664525 + 1013904223) >> 24);
	body.size = 4000;
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_int_equal(rec.sealed_len, CAS_META_OVERHEAD + 32 + cas_padme(4000));
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
	assert_memory_equal(out.data, data, 4000);
	free(out.data);
}

/* A record of a version 1 body, as it was made before there was another. */
static struct tree_record old_body(uint8_t form, uint8_t num, uint32_t filled, uint64_t size,
	const uint8_t *contents, size_t len, uint8_t *buf)
{
	static uint8_t sealed[8192];
	uint8_t plain[8192] = { 1, form, 0, num }, aad[TREE_AAD_MAX];
	struct tree_element e = { .key = { .id = 77, .kind = TREE_BODY },
		.stamp = { .replica = 1, .epoch = 1 },
		.lamport = 1,
		.flags = form == SEALED_INLINE ? TREE_INLINE : 0 };
	struct tree_record rec = { .sealed_len = (uint32_t)(32 + len + CAS_META_OVERHEAD),
		.sealed = sealed };
	int r;

	memcpy(plain + 4, &filled, sizeof(filled));
	memcpy(plain + 8, &size, sizeof(size));
	memcpy(plain + 32, contents, len);
	cas_value_tag(&sealer.keys, plain, 32 + len, e.vtag);
	rec.e = e;
	cas_meta_seal(&sealer.keys, aad, tree_record_aad(sealer.volume, &e, aad), plain, 32 + len,
		sealed);
	r = tree_record_emit(&rec, buf, TREE_RECORD_MAX);
	assert_true(r > 0);
	return parse(buf, (size_t)r);
}

static void sealed__version_1_opens_and_is_the_same_value(void **state)
{
	struct sealed_body body = { .form = SEALED_INLINE, .size = 1000 }, out;
	uint8_t buf[TREE_RECORD_MAX], contents[4096] = { 0 }, vtag[16];
	struct tree_record rec;

	memset(contents, 'x', 1000);
	rec = old_body(SEALED_INLINE, 0, 0, 1000, contents, cas_padme(1000), buf);
	memcpy(vtag, rec.e.vtag, 16);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
	assert_int_equal(out.size, 1000);
	assert_memory_equal(out.data, contents, 1000);
	body.data = out.data;
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_memory_equal(rec.e.vtag, vtag, 16);
	free(out.data);

	body = (struct sealed_body){ .form = SEALED_CHUNKS, .size = 200, .num_chunks = 1 };
	body.chunks[0] = (struct cas_extent){
		.len = 200, .chunk_len = 200, .id = { { 1 } }, .h = { { 2 } }
	};
	memset(contents, 0, sizeof(contents));
	cas_node_emit_leaf(body.chunks, 1, contents);
	rec = old_body(SEALED_CHUNKS, 1, 0, 200, contents,
		CAS_NODE_HEADER + SEALED_FEW * CAS_LEAF_ENTRY, buf);
	memcpy(vtag, rec.e.vtag, 16);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), 0);
	assert_memory_equal(&out.chunks[0], &body.chunks[0], sizeof(out.chunks[0]));
	rec = parse(buf, sealed_put_body(&sealer, 77, &body, buf));
	assert_memory_equal(rec.e.vtag, vtag, 16);
}

static void sealed__lies_about_what_is_packed_are_refused(void **state)
{
	struct sealed_body out;
	uint8_t buf[TREE_RECORD_MAX], contents[4096];
	struct tree_record rec;

	memset(contents, 0xb5, sizeof(contents));
	/* No frame, one that is longer than the record, and contents that are none. */
	rec = old_body(SEALED_INLINE, 0, 100, 1000, contents, 1024, buf);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), -EBADMSG);
	rec = old_body(SEALED_INLINE, 0, 1025, 4000, contents, 1024, buf);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), -EBADMSG);
	rec = old_body(SEALED_INLINE, 0, 100, 0, contents, 1024, buf);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), -EBADMSG);
	/* More than there is; more than inline may be. */
	rec = old_body(SEALED_INLINE, 0, 0, 1025, contents, 1024, buf);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), -EBADMSG);
	rec = old_body(SEALED_INLINE, 0, 0, SEALED_INLINE_MAX + 1, contents, 4096, buf);
	assert_int_equal(sealed_get_body(&sealer, &rec, &out), -EBADMSG);
}

static int make_suite(void **state)
{
	sealer.suite = cas_suite_new();
	return sealer.suite == NULL;
}

static int drop_suite(void **state)
{
	cas_suite_free(sealer.suite);
	return 0;
}

static void sealed__xattr_comes_back(void **state)
{
	static uint8_t value[SEALED_XATTR_MAX], buf[TREE_RECORD_MAX], plain[TREE_XATTR_SEALED_MAX];
	struct tree_record rec;
	const char *name;
	const uint8_t *got;
	size_t name_len, len;

	memset(value, 7, sizeof(value));
	for (size_t size = 0; size <= sizeof(value); size = size * 2 + 1) {
		rec = parse(buf, sealed_put_xattr(&sealer, 77, "user.name", 9, value, size, buf));
		assert_int_equal(
			sealed_get_xattr(&sealer, &rec, plain, &name, &name_len, &got, &len), 0);
		assert_int_equal(len, size);
		assert_memory_equal(name, "user.name", 9);
		assert_memory_equal(got, value, size);
	}
	rec = parse(buf, sealed_put_xattr(&sealer, 77, "n", 1, value, sizeof(value), buf));
	assert_int_equal(sealed_get_xattr(&sealer, &rec, plain, &name, &name_len, &got, &len), 0);
	assert_int_equal(len, sizeof(value));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealed__link_comes_back),
		cmocka_unit_test(sealed__link_elsewhere_is_refused),
		cmocka_unit_test(sealed__slash_in_a_name_is_refused),
		cmocka_unit_test(sealed__attr_comes_back),
		cmocka_unit_test(sealed__bodies_come_back),
		cmocka_unit_test(sealed__text_is_packed_and_noise_is_not),
		cmocka_unit_test(sealed__version_1_opens_and_is_the_same_value),
		cmocka_unit_test(sealed__lies_about_what_is_packed_are_refused),
		cmocka_unit_test(sealed__xattr_comes_back),
	};

	return cmocka_run_group_tests(tests, make_suite, drop_suite);
}
