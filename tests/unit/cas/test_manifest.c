#include "cas/manifest.h"

#include "cas/object.h"

#include "cas_test.h"
#include "vectors.h"

#include <errno.h>

static uint8_t buf[CAS_NODE_MAX];

static struct cas_extent slice(uint8_t name, uint64_t len, uint32_t off, uint32_t of)
{
	return (struct cas_extent){ .len = len,
		.chunk_off = off,
		.chunk_len = of,
		.id = { { name } },
		.h = { { name, 1 } } };
}

static void node__vector(void **state)
{
	struct cas_extent e;
	struct cas_node node;
	uint8_t again[CAS_NODE_MAX];
	size_t len;

	sodium_hex2bin(buf, sizeof(buf), VECTOR_NODE, strlen(VECTOR_NODE), NULL, &len, NULL);
	assert_int_equal(cas_node_parse(buf, len, &node), 0);
	assert_int_equal(node.count, 1);
	assert_int_equal(node.len, 1000);
	cas_node_extent(&node, 0, &e);
	assert_hex(e.id.b, 32, VECTOR_CHUNK_OLD_ID);
	assert_hex(e.h.b, 32, VECTOR_CHUNK_OLD_H);
	assert_int_equal(e.chunk_len, 1000);
	assert_int_equal(cas_node_emit_leaf(&e, 1, again), len);
	assert_memory_equal(again, buf, len);
}

static void node__leaves_round_trip(void **state)
{
	struct cas_extent in[CAS_NODE_FANOUT], e;
	struct cas_node node;
	uint64_t sum = 0;

	for (size_t count = 1; count <= CAS_NODE_FANOUT; count++) {
		size_t i = count - 1, len;

		in[i] = i % 5 ? slice((uint8_t)(1 + i % 200), i, (uint32_t)i, (uint32_t)(3 * i))
			      : cas_extent_hole((uint64_t)(i + 1) << 40);
		sum += in[i].len;
		len = cas_node_emit_leaf(in, count, buf);
		assert_int_equal(cas_node_parse(buf, len, &node), 0);
		assert_int_equal(node.level, 0);
		assert_int_equal(node.count, count);
		assert_int_equal(node.len, sum);
		for (size_t j = 0; j < count; j++) {
			cas_node_extent(&node, j, &e);
			assert_memory_equal(&e, &in[j], sizeof(e));
		}
		assert_int_equal(cas_node_parse(buf, len - 1, &node), -EBADMSG);
		if (len < sizeof(buf))
			assert_int_equal(cas_node_parse(buf, len + 1, &node), -EBADMSG);
	}
}

static void node__inner_nodes_round_trip(void **state)
{
	struct cas_child in[CAS_NODE_FANOUT], c;
	struct cas_node node;
	size_t len;

	for (size_t i = 0; i < CAS_NODE_FANOUT; i++)
		in[i] = (struct cas_child){ .len = i + 1, .id = { { 1, (uint8_t)i } } };
	for (uint8_t level = 1; level <= CAS_NODE_LEVEL_MAX; level++) {
		len = cas_node_emit_inner(in, CAS_NODE_FANOUT, level, buf);
		assert_int_equal(cas_node_parse(buf, len, &node), 0);
		assert_int_equal(node.level, level);
		assert_int_equal(node.len, 256 * 257 / 2);
		cas_node_child(&node, 255, &c);
		assert_memory_equal(&c, &in[255], sizeof(c));
	}
	len = cas_node_emit_inner(in, 1, CAS_NODE_LEVEL_MAX + 1, buf);
	assert_int_equal(cas_node_parse(buf, len, &node), -EBADMSG);
}

static int parse_one(struct cas_extent e)
{
	struct cas_node node;

	return cas_node_parse(buf, cas_node_emit_leaf(&e, 1, buf), &node);
}

static void node__refuses_impossible_extents(void **state)
{
	struct cas_extent hole = cas_extent_hole(5), e;

	assert_int_equal(parse_one(slice(1, 10, 5, 15)), 0);
	assert_int_equal(parse_one(slice(1, 0, 5, 15)), -EBADMSG);
	assert_int_equal(parse_one(slice(1, 11, 5, 15)), -EBADMSG);
	assert_int_equal(parse_one(slice(1, 1, 15, 15)), -EBADMSG);
	assert_int_equal(parse_one(slice(1, 10, UINT32_MAX, 5)), -EBADMSG);
	assert_int_equal(parse_one(slice(1, UINT64_MAX, 5, 15)), -EBADMSG);
	assert_int_equal(parse_one(slice(1, 1, 0, CAS_CHUNK_PLAIN_MAX)), 0);
	assert_int_equal(parse_one(slice(1, 1, 0, CAS_CHUNK_PLAIN_MAX + 1)), -EBADMSG);
	assert_int_equal(parse_one(hole), 0);
	assert_int_equal(parse_one(cas_extent_hole(0)), -EBADMSG);
	assert_int_equal(parse_one(cas_extent_hole(INT64_MAX)), 0);
	assert_int_equal(parse_one(cas_extent_hole((uint64_t)INT64_MAX + 1)), -EBADMSG);
	e = hole;
	e.chunk_off = 1;
	assert_int_equal(parse_one(e), -EBADMSG);
	e = hole;
	e.chunk_len = 5;
	assert_int_equal(parse_one(e), -EBADMSG);
	e = hole;
	e.h.b[31] = 1;
	assert_int_equal(parse_one(e), -EBADMSG);
}

static void node__refuses_sums_beyond_a_file(void **state)
{
	struct cas_extent e[2] = { cas_extent_hole(INT64_MAX), cas_extent_hole(1) };
	struct cas_child c[3] = { { .len = INT64_MAX, .id = { { 1 } } },
		{ .len = INT64_MAX, .id = { { 2 } } }, { .len = 2, .id = { { 3 } } } };
	struct cas_node node;

	assert_int_equal(cas_node_parse(buf, cas_node_emit_leaf(e, 2, buf), &node), -EBADMSG);
	/* These wrap around to 0 in 64 bits. */
	assert_int_equal(cas_node_parse(buf, cas_node_emit_inner(c, 3, 1, buf), &node), -EBADMSG);
	assert_int_equal(cas_node_parse(buf, cas_node_emit_inner(c, 1, 1, buf), &node), 0);
	c[0].len = 0;
	assert_int_equal(cas_node_parse(buf, cas_node_emit_inner(c, 1, 1, buf), &node), -EBADMSG);
	c[0] = (struct cas_child){ .len = 1 };
	assert_int_equal(cas_node_parse(buf, cas_node_emit_inner(c, 1, 1, buf), &node), -EBADMSG);
}

static void node__refuses_bad_headers(void **state)
{
	struct cas_extent e = slice(1, 10, 0, 10);
	struct cas_node node;
	size_t len = cas_node_emit_leaf(&e, 1, buf);

	for (size_t i = 0; i < 8; i++) {
		buf[i] ^= 0x80;
		assert_int_equal(
			cas_node_parse(buf, len, &node), i == 4 ? -EPROTONOSUPPORT : -EBADMSG);
		buf[i] ^= 0x80;
	}
	for (size_t n = 0; n < len; n++)
		assert_int_equal(cas_node_parse(buf, n, &node), -EBADMSG);
	buf[6] = 0;
	assert_int_equal(cas_node_parse(buf, 8, &node), -EBADMSG);
	buf[6] = 1;
	buf[len - 1] = 1;
	assert_int_equal(cas_node_parse(buf, len, &node), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(node__vector),
		cmocka_unit_test(node__leaves_round_trip),
		cmocka_unit_test(node__inner_nodes_round_trip),
		cmocka_unit_test(node__refuses_impossible_extents),
		cmocka_unit_test(node__refuses_sums_beyond_a_file),
		cmocka_unit_test(node__refuses_bad_headers),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
