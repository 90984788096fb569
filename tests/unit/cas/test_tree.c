/*
 * The extent tree against a flat model: one cell per byte of the file saying which byte of which
 * chunk it is. The node store loses and refuses nodes at random.
 */
#include "cas/tree.h"

#include "cas/id.h"

#include "cas_test.h"

#include <errno.h>

enum { CHUNK_LEN = 64, STORE_SLOTS = 1 << 16 };

struct stored {
	struct cas_id id;
	size_t len;
	uint8_t *data;
};

/* Nodes by the hash of their contents. */
struct store {
	struct cas_suite *suite;
	struct stored slots[STORE_SLOTS];
	size_t num, emits, loads;
	struct rng rng;
	unsigned int away, full; /* one load in `away` is -EAGAIN, one emit in `full` -ENOSPC */
};

static struct stored *store_slot(struct store *store, const struct cas_id *id)
{
	uint32_t i;

	memcpy(&i, id->b, sizeof(i));
	for (;; i++) {
		struct stored *s = &store->slots[i % STORE_SLOTS];

		if (!s->data || cas_id_equal(&s->id, id))
			return s;
	}
}

static int store_load(void *ctx, const struct cas_id *id, uint8_t *buf, size_t *ret_len)
{
	struct store *store = ctx;
	const struct stored *s = store_slot(store, id);

	store->loads++;
	assert_non_null(s->data);
	if (store->away && rng_below(&store->rng, store->away) == 0)
		return -EAGAIN;
	memcpy(buf, s->data, s->len);
	*ret_len = s->len;
	return 0;
}

static int store_emit(void *ctx, const uint8_t *node, size_t len, struct cas_id *ret_id)
{
	struct store *store = ctx;
	struct cas_node parsed;
	struct stored *s;

	assert_int_equal(cas_node_parse(node, len, &parsed), 0);
	if (store->full && rng_below(&store->rng, store->full) == 0)
		return -ENOSPC;
	store->emits++;
	cas_id_of(store->suite, node, len, ret_id);
	s = store_slot(store, ret_id);
	if (s->data)
		return 0;
	assert_true(++store->num < STORE_SLOTS * 3 / 4);
	s->id = *ret_id;
	s->len = len;
	s->data = malloc(len);
	memcpy(s->data, node, len);
	return 0;
}

static const struct cas_tree_ops ops = { store_load, store_emit };

static struct store *store_new(uint64_t seed)
{
	struct store *store = calloc(1, sizeof(*store));

	assert_non_null(store);
	store->suite = cas_suite_new();
	store->rng.state = seed;
	return store;
}

static void store_free(struct store *store)
{
	for (size_t i = 0; i < STORE_SLOTS; i++)
		free(store->slots[i].data);
	cas_suite_free(store->suite);
	free(store);
}

struct cell {
	uint32_t chunk, off; /* chunk 0: hole, off 0 */
};

struct model {
	struct cell *cells;
	size_t len, max;
};

static struct cas_extent extent_of(uint32_t chunk, uint32_t off, uint64_t len)
{
	struct cas_extent e = { .len = len, .chunk_off = off, .chunk_len = CHUNK_LEN };

	if (chunk == 0)
		return cas_extent_hole(len);
	memcpy(e.id.b, &chunk, sizeof(chunk));
	memcpy(e.h.b + 7, &chunk, sizeof(chunk));
	return e;
}

static uint32_t chunk_of(const struct cas_extent *e)
{
	uint32_t chunk;

	memcpy(&chunk, e->id.b, sizeof(chunk));
	return chunk;
}

static void check_range(struct cas_tree *tree, const struct model *model, size_t from, size_t to)
{
	struct cas_extent e[64];

	assert_int_equal(cas_tree_len(tree), model->len);
	to = to < model->len ? to : model->len;
	while (from < to) {
		size_t num, max = 1 + from % 64;

		assert_int_equal(cas_tree_slice(tree, from, to - from, e, max, &num), 0);
		assert_true(num > 0 && num <= max);
		for (size_t i = 0; i < num; i++) {
			uint32_t chunk = chunk_of(&e[i]);

			assert_true(cas_extent_is_valid(&e[i]));
			assert_true(e[i].len <= to - from);
			for (uint32_t j = 0; j < e[i].len; j++, from++) {
				assert_int_equal(model->cells[from].chunk, chunk);
				assert_int_equal(
					model->cells[from].off, chunk ? e[i].chunk_off + j : 0);
			}
		}
	}
}

/* As check_range() with every node at hand. */
static void check(struct store *store, struct cas_tree *tree, const struct model *model,
	size_t from, size_t to)
{
	unsigned int away = store->away;

	store->away = 0;
	check_range(tree, model, from, to);
	store->away = away;
}

struct edit {
	size_t off, len, num;
	struct cas_extent extents[64];
	bool is_resize;
};

/* One edit in `wild` may change half of the file; others are small. */
static void edit_draw(
	struct rng *rng, const struct model *model, size_t grain, size_t wild, struct edit *edit)
{
	bool is_wild = rng_below(rng, wild) == 0;

	size_t num = 1 + rng_below(rng, rng_below(rng, 8) == 0 ? 60 : 4), sum = 0;

	*edit = (struct edit){ .off = rng_below(rng, model->len + 1) };
	if (rng_below(rng, 3) == 0)
		edit->off = model->len;
	if (rng_below(rng, 40) == 0)
		edit->off += rng_below(rng, 100);
	if (rng_below(rng, 30) == 0) {
		edit->is_resize = true;
		edit->off =
			model->len - rng_below(rng, (model->len < 400 ? model->len : 400) / 8 + 1);
		if (is_wild)
			edit->off = rng_below(rng, model->len * 5 / 4 + 100);
		return;
	}
	if (rng_below(rng, 15) == 0) {
		/* A hole, often a large one. */
		edit->len = 1 + rng_below(rng, is_wild ? model->len / 2 + 1 : 50);
		return;
	}
	for (size_t i = 0; i < num; i++) {
		uint32_t len = 1 + (uint32_t)rng_below(rng, grain);
		uint32_t off = (uint32_t)rng_below(rng, CHUNK_LEN - len + 1);

		edit->extents[i] = extent_of((uint32_t)rng_below(rng, 200), off, len);
		sum += len;
	}
	edit->num = num;
	edit->len = sum;
}

static bool edit_fits(const struct edit *edit, const struct model *model)
{
	return edit->off + edit->len <= model->max;
}

static void model_apply(struct model *model, const struct edit *edit)
{
	size_t at = edit->off, end = edit->off + edit->len;

	if (end > model->len || edit->is_resize) {
		for (size_t i = model->len; i < end; i++)
			model->cells[i] = (struct cell){ 0 };
		model->len = end;
	}
	for (size_t i = at; i < end; i++)
		model->cells[i] = (struct cell){ 0 };
	for (size_t i = 0; i < edit->num; i++)
		for (uint32_t j = 0; j < edit->extents[i].len; j++, at++) {
			uint32_t chunk = chunk_of(&edit->extents[i]);

			model->cells[at] =
				(struct cell){ chunk, chunk ? edit->extents[i].chunk_off + j : 0 };
		}
}

static int tree_apply(struct cas_tree *tree, const struct edit *edit)
{
	if (edit->is_resize)
		return cas_tree_resize(tree, edit->off);
	return cas_tree_replace(tree, edit->off, edit->len, edit->extents, edit->num);
}

static void flush(struct store *store, struct cas_tree *tree, struct cas_tree_root *root)
{
	int r;

	do
		r = cas_tree_flush(tree, root);
	while (r == -ENOSPC);
	assert_int_equal(r, 0);
	assert_false(cas_tree_is_dirty(tree));
	assert_int_equal(cas_tree_num_dirty(tree), 0);
}

static void check_seek(struct cas_tree *tree, const struct model *model, size_t off, bool hole)
{
	uint64_t found;
	size_t want = off;
	int r;

	do
		r = cas_tree_seek(tree, off, hole, &found);
	while (r == -EAGAIN);
	while (want < model->len && (model->cells[want].chunk == 0) != hole)
		want++;
	if (off >= model->len || (want == model->len && !hole)) {
		assert_int_equal(r, -ENXIO);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(found, want);
}

/* Random edits of a file of at most max bytes in extents of at most grain bytes. */
static uint8_t run_against_model(
	uint64_t seed, size_t max, size_t grain, size_t wild, size_t edits, size_t start)
{
	struct rng rng = { seed };
	struct store *store = store_new(seed ^ 1);
	struct model model = { calloc(max, sizeof(struct cell)), 0, max };
	struct cas_tree_root root = { .len = 0 };
	struct cas_tree *tree;
	struct edit edit;
	uint8_t max_level = 0;

	assert_int_equal(cas_tree_open(&tree, NULL, &ops, store), 0);
	/* A file to begin with, of the smallest extents. */
	for (size_t i = 0; i < start; i++) {
		edit = (struct edit){ .off = i, .len = 1, .num = 1 };
		edit.extents[0] = extent_of(1 + i % 7, (uint32_t)(i * 5 % CHUNK_LEN), 1);
		model_apply(&model, &edit);
		assert_int_equal(tree_apply(tree, &edit), 0);
	}
	store->away = 3;
	store->full = 20;
	for (size_t n = 0; n < edits; n++) {
		int r;

		edit_draw(&rng, &model, grain, wild, &edit);
		if (!edit_fits(&edit, &model))
			continue;
		while ((r = tree_apply(tree, &edit)) == -EAGAIN)
			if (rng_below(&rng, 50) == 0)
				check(store, tree, &model, edit.off > 200 ? edit.off - 200 : 0,
					edit.off + edit.len + 200);
		assert_int_equal(r, 0);
		model_apply(&model, &edit);
		assert_int_equal(cas_tree_len(tree), model.len);
		if (rng_below(&rng, 8) == 0)
			check(store, tree, &model, edit.off > 50 ? edit.off - 50 : 0,
				edit.off + edit.len + 50);
		if (rng_below(&rng, 64) == 0)
			check_seek(tree, &model, rng_below(&rng, model.len + 2), n % 2);
		if (rng_below(&rng, edits / 60 + 1) == 0)
			check(store, tree, &model, 0, model.len);
		if (rng_below(&rng, 100) == 0)
			flush(store, tree, &root);
		max_level = root.level > max_level ? root.level : max_level;
		if (rng_below(&rng, 50) == 0)
			cas_tree_trim(tree, rng_below(&rng, 4));
		if (rng_below(&rng, 300) == 0) {
			flush(store, tree, &root);
			cas_tree_free(tree);
			assert_int_equal(cas_tree_open(&tree, &root, &ops, store), 0);
			assert_int_equal(cas_tree_len(tree), model.len);
		}
		/* Objects pile up: begin a new store with what the file is now. */
		if (store->num > STORE_SLOTS / 2)
			break;
	}
	flush(store, tree, &root);
	max_level = root.level > max_level ? root.level : max_level;
	cas_tree_trim(tree, 0);
	assert_int_equal(cas_tree_num_nodes(tree), 0);
	check(store, tree, &model, 0, model.len);
	cas_tree_free(tree);
	free(model.cells);
	store_free(store);
	return max_level;
}

static void tree__equals_a_flat_file_when_small(void **state)
{
	struct rng rng;

	rng_start(&rng);
	for (unsigned long i = 0; i < 60 * rng_runs(); i++)
		run_against_model(rng_next(&rng), 200 + rng_below(&rng, 6000), 1 + i % CHUNK_LEN, 4,
			8000, rng_below(&rng, 150));
}

static void tree__equals_a_flat_file_with_many_levels(void **state)
{
	unsigned int level, max_level = 0;
	struct rng rng;

	rng_start(&rng);
	for (unsigned long i = 0; i < 3 * rng_runs(); i++) {
		level = run_against_model(rng_next(&rng), 400000, 3, 2000, 25000, 150000);
		max_level = level > max_level ? level : max_level;
	}
	/* One run in thirty keeps to two. */
	assert_int_equal(max_level, 3);
}

/* One history; trimming and nodes that are away must not show in what is written. */
static struct cas_id shape_of(uint64_t seed, unsigned int away, bool trims)
{
	struct rng rng = { seed };
	struct store *store = store_new(1);
	struct model model = { calloc(50000, sizeof(struct cell)), 0, 50000 };
	struct cas_tree_root root;
	struct cas_tree *tree;
	struct edit edit;

	store->away = away;
	assert_int_equal(cas_tree_open(&tree, NULL, &ops, store), 0);
	for (size_t n = 0; n < 8000; n++) {
		edit_draw(&rng, &model, 4, 50, &edit);
		if (!edit_fits(&edit, &model))
			continue;
		model_apply(&model, &edit);
		while (tree_apply(tree, &edit) == -EAGAIN)
			;
		if (n % 300 == 0)
			flush(store, tree, &root);
		if (trims && n % 7 == 0)
			cas_tree_trim(tree, n % 3);
	}
	flush(store, tree, &root);
	cas_tree_free(tree);
	free(model.cells);
	store_free(store);
	return root.id;
}

static void tree__shape_depends_on_the_edits_alone(void **state)
{
	struct rng rng;

	rng_start(&rng);
	for (int i = 0; i < 5; i++) {
		uint64_t seed = rng_next(&rng);
		struct cas_id plain = shape_of(seed, 0, false), hard = shape_of(seed, 2, true);

		assert_true(cas_id_equal(&plain, &hard));
	}
}

/* Appends num extents of one byte. */
static struct cas_tree *make_file(struct store *store, size_t num)
{
	struct cas_tree *tree;

	assert_int_equal(cas_tree_open(&tree, NULL, &ops, store), 0);
	for (size_t i = 0; i < num; i++) {
		struct cas_extent e = extent_of((uint32_t)i + 1, 0, 1);

		assert_int_equal(cas_tree_replace(tree, i, 1, &e, 1), 0);
	}
	return tree;
}

static void tree__appending_fills_leaves(void **state)
{
	static const size_t nums[][3] = { { 1, 1, 0 }, { 64, 1, 0 }, { 65, 3, 1 }, { 4096, 65, 1 },
		{ 4097, 68, 2 } };

	for (size_t i = 0; i < sizeof(nums) / sizeof(nums[0]); i++) {
		struct store *store = store_new(1);
		struct cas_tree *tree = make_file(store, nums[i][0]);
		struct cas_tree_root root;

		assert_int_equal(cas_tree_flush(tree, &root), 0);
		assert_int_equal(store->emits, nums[i][1]);
		assert_int_equal(root.level, nums[i][2]);
		assert_int_equal(root.len, nums[i][0]);
		cas_tree_free(tree);
		store_free(store);
	}
}

/* A leaf as full as the format allows, of an older store. */
static void tree__a_fuller_leaf_is_edited(void **state)
{
	struct store *store = store_new(1);
	struct cas_extent extents[CAS_NODE_FANOUT], e = extent_of(1000, 0, 1), found;
	static uint8_t node[CAS_NODE_MAX];
	struct cas_tree_root root = { .len = CAS_NODE_FANOUT };
	struct cas_tree *tree;
	uint64_t start;
	size_t len;

	for (uint32_t i = 0; i < CAS_NODE_FANOUT; i++)
		extents[i] = extent_of(i + 1, 0, 1);
	len = cas_node_emit_leaf(extents, CAS_NODE_FANOUT, node);
	assert_int_equal(ops.emit(store, node, len, &root.id), 0);
	for (uint64_t at = 0; at <= CAS_NODE_FANOUT; at += CAS_NODE_FANOUT / 2) {
		assert_int_equal(cas_tree_open(&tree, &root, &ops, store), 0);
		assert_int_equal(cas_tree_replace(tree, at, 1, &e, 1), 0);
		for (uint64_t i = 1; i <= 300; i++)
			assert_int_equal(cas_tree_replace(tree, CAS_NODE_FANOUT + i, 1, &e, 1), 0);
		for (uint64_t i = 0; i < CAS_NODE_FANOUT; i++) {
			assert_int_equal(cas_tree_find(tree, i, &found, &start), 0);
			assert_memory_equal(
				&found.id, i == at ? &e.id : &extents[i].id, sizeof(e.id));
		}
		cas_tree_free(tree);
	}
	store_free(store);
}

static void tree__flushing_in_between_gives_the_same_root(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 1000), *other;
	struct cas_tree_root root, again;

	flush(store, tree, &root);
	cas_tree_free(tree);
	assert_int_equal(cas_tree_open(&other, NULL, &ops, store), 0);
	for (size_t i = 0; i < 1000; i++) {
		struct cas_extent e = extent_of((uint32_t)i + 1, 0, 1);

		assert_int_equal(cas_tree_replace(other, i, 1, &e, 1), 0);
		if (i % 37 == 0) {
			flush(store, other, &again);
			cas_tree_trim(other, 0);
		}
	}
	flush(store, other, &again);
	assert_memory_equal(&root.id, &again.id, sizeof(root.id));
	cas_tree_free(other);
	store_free(store);
}

static void tree__an_overwrite_rewrites_one_path(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 70000);
	struct cas_extent e = extent_of(1, 5, 1);
	struct cas_tree_root root;

	flush(store, tree, &root);
	assert_int_equal(root.level, 2);
	cas_tree_free(tree);
	assert_int_equal(cas_tree_open(&tree, &root, &ops, store), 0);
	store->emits = store->loads = 0;
	assert_int_equal(cas_tree_replace(tree, 30000, 1, &e, 1), 0);
	assert_int_equal(store->loads, 3);
	flush(store, tree, &root);
	assert_int_equal(store->emits, 3);
	/* Nothing changed: nothing written. */
	flush(store, tree, &root);
	assert_int_equal(store->emits, 3);
	cas_tree_free(tree);
	store_free(store);
}

static void tree__cutting_loads_an_edge_only(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 70000);
	struct cas_tree_root root, cut;

	flush(store, tree, &root);
	cas_tree_free(tree);
	assert_int_equal(cas_tree_open(&tree, &root, &ops, store), 0);
	store->loads = 0;
	assert_int_equal(cas_tree_resize(tree, 300), 0);
	assert_int_equal(store->loads, 3);
	flush(store, tree, &cut);
	assert_int_equal(cut.level, 1);
	assert_int_equal(cut.len, 300);
	cas_tree_free(tree);
	/* To nothing: loads nothing at all. */
	assert_int_equal(cas_tree_open(&tree, &root, &ops, store), 0);
	store->loads = 0;
	assert_int_equal(cas_tree_resize(tree, 0), 0);
	assert_true(cas_tree_is_dirty(tree));
	flush(store, tree, &cut);
	assert_int_equal(store->loads, 0);
	assert_int_equal(cut.len, 0);
	assert_int_equal(cut.level, 0);
	assert_true(cas_id_is_zero(&cut.id));
	cas_tree_free(tree);
	store_free(store);
}

static size_t count_extents(struct cas_tree *tree)
{
	struct cas_extent e[64];
	size_t num;

	assert_int_equal(cas_tree_slice(tree, 0, UINT64_MAX, e, 64, &num), 0);
	return num;
}

static void tree__neighbours_are_merged(void **state)
{
	struct store *store = store_new(1);
	struct cas_extent e[2] = { extent_of(1, 0, 20), extent_of(1, 20, 44) };
	struct cas_extent other = extent_of(2, 0, 10), part = extent_of(1, 10, 10), found;
	struct cas_tree *tree;
	uint64_t start;

	assert_int_equal(cas_tree_open(&tree, NULL, &ops, store), 0);
	assert_int_equal(cas_tree_replace(tree, 0, 64, e, 2), 0);
	assert_int_equal(count_extents(tree), 1);
	/* Something in the middle, and back again. */
	assert_int_equal(cas_tree_replace(tree, 10, 10, &other, 1), 0);
	assert_int_equal(count_extents(tree), 3);
	assert_int_equal(cas_tree_find(tree, 63, &found, &start), 0);
	assert_int_equal(start, 20);
	assert_int_equal(found.chunk_off, 20);
	assert_int_equal(cas_tree_replace(tree, 10, 10, &part, 1), 0);
	assert_int_equal(count_extents(tree), 1);
	/* Holes of any kind are one hole. */
	assert_int_equal(cas_tree_resize(tree, 1000), 0);
	assert_int_equal(cas_tree_replace(tree, 2000, 10, NULL, 0), 0);
	assert_int_equal(cas_tree_resize(tree, 5000), 0);
	assert_int_equal(count_extents(tree), 2);
	/* Same chunk, but not where the first ends. */
	assert_int_equal(cas_tree_resize(tree, 64), 0);
	assert_int_equal(cas_tree_replace(tree, 64, 10, &part, 1), 0);
	assert_int_equal(count_extents(tree), 2);
	cas_tree_free(tree);
	store_free(store);
}

static void tree__refuses_bad_arguments_without_effect(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 10);
	struct cas_extent e = extent_of(9, 0, 5), bad = e;
	struct cas_tree_root root = { .len = 5 };

	assert_int_equal(cas_tree_replace(tree, 0, 4, &e, 1), -EINVAL);
	assert_int_equal(cas_tree_replace(tree, 0, 6, &e, 1), -EINVAL);
	bad.chunk_off = CHUNK_LEN - 4;
	assert_int_equal(cas_tree_replace(tree, 0, 5, &bad, 1), -EINVAL);
	assert_int_equal(cas_tree_replace(tree, INT64_MAX, 5, &e, 1), -EFBIG);
	assert_int_equal(cas_tree_replace(tree, UINT64_MAX, 5, &e, 1), -EFBIG);
	assert_int_equal(cas_tree_replace(tree, 1, UINT64_MAX, NULL, 0), -EFBIG);
	assert_int_equal(cas_tree_resize(tree, UINT64_MAX), -EFBIG);
	assert_int_equal(cas_tree_len(tree), 10);
	assert_int_equal(cas_tree_replace(tree, INT64_MAX - 5, 5, &e, 1), 0);
	assert_int_equal(cas_tree_len(tree), INT64_MAX);
	cas_tree_free(tree);
	/* A length without an id, an id without a length, a level that cannot be. */
	assert_int_equal(cas_tree_open(&tree, &root, &ops, store), -EINVAL);
	root = (struct cas_tree_root){ .id = { { 1 } } };
	assert_int_equal(cas_tree_open(&tree, &root, &ops, store), -EINVAL);
	root = (struct cas_tree_root){ .id = { { 1 } }, .len = 1, .level = 8 };
	assert_int_equal(cas_tree_open(&tree, &root, &ops, store), -EINVAL);
	store_free(store);
}

/* A store that answers with another node of the same volume than the one asked for. */
static void tree__refuses_nodes_that_do_not_fit(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 1000);
	struct cas_tree_root root, wrong;
	struct cas_extent e;
	uint64_t start;

	flush(store, tree, &root);
	cas_tree_free(tree);
	wrong = root;
	wrong.len++;
	assert_int_equal(cas_tree_open(&tree, &wrong, &ops, store), 0);
	assert_int_equal(cas_tree_find(tree, 0, &e, &start), -EBADMSG);
	assert_int_equal(cas_tree_replace(tree, 5, 1, NULL, 0), -EBADMSG);
	assert_int_equal(cas_tree_resize(tree, 5), -EBADMSG);
	cas_tree_free(tree);
	wrong = root;
	wrong.level = 0;
	assert_int_equal(cas_tree_open(&tree, &wrong, &ops, store), 0);
	assert_int_equal(cas_tree_find(tree, 0, &e, &start), -EBADMSG);
	cas_tree_free(tree);
	store_free(store);
}

static void tree__trim_keeps_what_was_used_last(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 5000);
	struct cas_tree_root root;
	struct cas_extent e;
	uint64_t start;

	/* What is dirty stays. */
	cas_tree_trim(tree, 0);
	assert_int_equal(cas_tree_num_dirty(tree), cas_tree_num_nodes(tree));
	flush(store, tree, &root);
	cas_tree_trim(tree, 0);
	assert_int_equal(cas_tree_num_nodes(tree), 0);
	for (uint64_t at = 0; at < 5000; at++)
		assert_int_equal(cas_tree_find(tree, at, &e, &start), 0);
	assert_int_equal(cas_tree_num_nodes(tree), 82);
	cas_tree_trim(tree, 3);
	assert_int_equal(cas_tree_num_nodes(tree), 5);
	store->loads = 0;
	assert_int_equal(cas_tree_find(tree, 4999, &e, &start), 0);
	assert_int_equal(store->loads, 0);
	cas_tree_free(tree);
	store_free(store);
}

struct seen {
	size_t nodes, chunks, stop_after;
	bool skip_leaves;
};

static int on_visit(
	void *arg, const struct cas_id *id, bool is_node, const struct cas_extent *extent)
{
	struct seen *seen = arg;

	assert_true(is_node == (extent == NULL));
	if (is_node)
		seen->nodes++;
	else
		seen->chunks++;
	if (seen->stop_after && seen->nodes + seen->chunks >= seen->stop_after)
		return -ECANCELED;
	return seen->skip_leaves && is_node && seen->nodes > 1;
}

static void tree__walk_visits_everything_once(void **state)
{
	struct store *store = store_new(1);
	struct cas_tree *tree = make_file(store, 1000);
	struct seen seen = { 0 }, skip = { .skip_leaves = true }, stop = { .stop_after = 100 };
	struct cas_tree_root root, empty = { .len = 0 };

	assert_int_equal(cas_tree_replace(tree, 500, 3, NULL, 0), 0);
	flush(store, tree, &root);
	cas_tree_free(tree);
	assert_int_equal(cas_tree_walk(&root, &ops, store, on_visit, &seen), 0);
	assert_int_equal(seen.nodes, 17);
	assert_int_equal(seen.chunks, 997);
	assert_int_equal(cas_tree_walk(&root, &ops, store, on_visit, &skip), 0);
	assert_int_equal(skip.nodes, 17);
	assert_int_equal(skip.chunks, 0);
	assert_int_equal(cas_tree_walk(&root, &ops, store, on_visit, &stop), -ECANCELED);
	assert_int_equal(stop.nodes + stop.chunks, 100);
	assert_int_equal(cas_tree_walk(&empty, &ops, store, on_visit, &seen), 0);
	root.len++;
	assert_int_equal(cas_tree_walk(&root, &ops, store, on_visit, &seen), -EBADMSG);
	store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tree__appending_fills_leaves),
		cmocka_unit_test(tree__a_fuller_leaf_is_edited),
		cmocka_unit_test(tree__flushing_in_between_gives_the_same_root),
		cmocka_unit_test(tree__an_overwrite_rewrites_one_path),
		cmocka_unit_test(tree__cutting_loads_an_edge_only),
		cmocka_unit_test(tree__neighbours_are_merged),
		cmocka_unit_test(tree__refuses_bad_arguments_without_effect),
		cmocka_unit_test(tree__refuses_nodes_that_do_not_fit),
		cmocka_unit_test(tree__trim_keeps_what_was_used_last),
		cmocka_unit_test(tree__walk_visits_everything_once),
		cmocka_unit_test(tree__shape_depends_on_the_edits_alone),
		cmocka_unit_test(tree__equals_a_flat_file_when_small),
		cmocka_unit_test(tree__equals_a_flat_file_with_many_levels),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
