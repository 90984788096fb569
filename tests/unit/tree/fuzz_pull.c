/*
 * A hostile answer to a pull: the bytes are fed as a delta, needs are answered with the same bytes
 * again, and every step must end in effects that can be applied: a register never gets two elements
 * with one stamp, nothing that p does not have is removed.
 */
#include "tree/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* p has a directory 10 with the file 11 in it (link 12), stamped (1, 1) by itself and (1, 2) by the
 * other. */
static const struct tree_element store[] = {
	{ .key = { .id = 10, .kind = TREE_LINK },
		.flags = TREE_DIRECTORY,
		.stamp = { 1, 1 },
		.lamport = 1,
		.parent = TREE_ROOT,
		.target = 10 },
	{ .key = { .id = 10, .kind = TREE_ATTR },
		.flags = TREE_DIRECTORY,
		.stamp = { 1, 1 },
		.lamport = 1 },
	{ .key = { .id = 12, .kind = TREE_LINK },
		.stamp = { 1, 2 },
		.lamport = 2,
		.parent = 10,
		.target = 11 },
	{ .key = { .id = 11, .kind = TREE_ATTR }, .stamp = { 1, 2 }, .lamport = 2 },
	{ .key = { .id = 11, .kind = TREE_BODY }, .stamp = { 1, 1 }, .lamport = 2 },
};
#define NUM_STORE (sizeof(store) / sizeof(store[0]))

static int visit_if(int what, uint64_t id, tree_visit_fn *visit, void *arg)
{
	int r = 0;

	for (size_t i = 0; i < NUM_STORE && r == 0; i++) {
		const struct tree_element *e = &store[i];
		bool is_link = e->key.kind == TREE_LINK;
		if (what == 0 || (what == 1 && is_link && e->key.id == id) ||
			(what == 2 && !is_link && e->key.id == id) ||
			(what == 3 && is_link && e->target == id) ||
			(what == 4 && is_link && e->parent == id))
			r = visit(arg, e);
	}
	return r;
}

static int local_unit(void *ctx, const struct tree_unit *unit, tree_visit_fn *visit, void *arg)
{
	return visit_if(unit->is_link ? 1 : 2, unit->id, visit, arg);
}

static int local_links_to(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return visit_if(3, oid, visit, arg);
}

static int local_links_under(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return visit_if(4, oid, visit, arg);
}

static int local_all(void *ctx, tree_visit_fn *visit, void *arg)
{
	return visit_if(0, 0, visit, arg);
}

static bool is_same(const struct tree_key *a, struct tree_stamp s, const struct tree_key *b,
	struct tree_stamp t)
{
	return tree_key_compare(a, b) == 0 && tree_stamp_compare(s, t) == 0;
}

static void check(const struct tree_pull *pull)
{
	for (size_t i = 0; i < pull->num_effects; i++) {
		const struct tree_effect *x = &pull->effects[i];
		bool removes = x->type == TREE_REMOVE || x->type == TREE_RESTAMP, found = false;
		for (size_t n = 0; n < NUM_STORE; n++)
			found |= is_same(&store[n].key, store[n].stamp, &x->e.key,
				removes ? x->old : x->e.stamp);
		if (found != removes)
			abort();
		for (size_t n = 0; n < i; n++) {
			const struct tree_effect *y = &pull->effects[n];
			if (y->type != TREE_REMOVE && x->type != TREE_REMOVE &&
				is_same(&x->e.key, x->e.stamp, &y->e.key, y->e.stamp))
				abort();
		}
	}
}

static void run(const uint8_t *data, size_t size, bool is_full)
{
	static const struct tree_local local = { NULL, local_unit, local_links_to,
		local_links_under, local_all };
	struct tree_stamp knows[] = { { 1, 1 }, { 1, 2 } },
			  more[] = { { 1, 1 }, { 9, 2 }, { 9, 3 } };
	struct tree_state me = { .clock = { 1, 2, 2 }, .known = { knows, 2 } };
	struct tree_knowledge remote = { more, 3 }, none = { 0 };
	struct tree_pull *pull;
	int r;

	if (tree_pull_new(&pull, &me.known, &remote, &none, is_full) < 0)
		abort();
	r = tree_pull_feed(pull, data, size, 0);
	for (int i = 0; i < 20 && r == 0; i++) {
		r = tree_pull_step(pull, &me, &local);
		if (r == TREE_PULL_DONE) {
			check(pull);
			break;
		}
		if (r != TREE_PULL_NEED)
			break;
		r = 0;
		uint64_t needs[64];
		size_t num = pull->num_needs < 64 ? pull->num_needs : 64;
		memcpy(needs, pull->needs, num * sizeof(*needs));
		for (size_t n = 0; n < num && r == 0; n++) {
			r = tree_pull_inode(pull, needs[n]);
			tree_pull_feed(pull, data, size, 0);
		}
	}
	tree_pull_free(pull);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 8192)
		return 0;
	run(data, size, false);
	run(data, size, true);
	return 0;
}
