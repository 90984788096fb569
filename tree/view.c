#include "tree/view.h"

#include "tree/broken.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t tree_view_winner(const struct tree_element *elements, size_t num)
{
	size_t best = 0;

	for (size_t i = 1; i < num; i++) {
		if (tree_element_compare(&elements[i], &elements[best]) > 0)
			best = i;
	}
	return best;
}

static bool has_value(
	const struct tree_element *elements, const size_t *order, size_t num, const uint8_t *vtag)
{
	for (size_t i = 0; i < num; i++) {
		if (memcmp(elements[order[i]].vtag, vtag, TREE_TAG_SIZE) == 0)
			return true;
	}
	return false;
}

size_t tree_view_values(const struct tree_element *elements, size_t num, size_t *ret_order)
{
	size_t n = 0;

	/* Insertion sort: a register has one element, rarely a handful. */
	for (size_t i = 0; i < num; i++) {
		size_t j = i;
		for (; j > 0 && tree_element_compare(&elements[i], &elements[ret_order[j - 1]]) > 0;
			j--)
			ret_order[j] = ret_order[j - 1];
		ret_order[j] = i;
	}
	for (size_t i = 0; i < num; i++) {
		if (!has_value(elements, ret_order, n, elements[ret_order[i]].vtag))
			ret_order[n++] = ret_order[i];
	}
	return n;
}

static int compare_names(const void *a, const void *b)
{
	const struct tree_element *x = a, *y = b;
	int c = memcmp(x->tag, y->tag, TREE_TAG_SIZE);

	if (c == 0)
		c = tree_element_compare(y, x);
	/* Two registers may hold the same stamp and lamport; the lid decides then. */
	return c ? c : (x->key.id > y->key.id) - (x->key.id < y->key.id);
}

void tree_view_names(struct tree_element *links, size_t num, uint32_t *ret_ranks)
{
	if (num == 0)
		return;
	qsort(links, num, sizeof(*links), compare_names);
	ret_ranks[0] = 0;
	for (size_t i = 1; i < num; i++) {
		bool same = memcmp(links[i].tag, links[i - 1].tag, TREE_TAG_SIZE) == 0;
		ret_ranks[i] = same ? ret_ranks[i - 1] + 1 : 0;
	}
}

/* Across registers stamps repeat, so the lid makes the order total. */
static bool is_greater(const struct tree_element *a, const struct tree_element *b)
{
	int c = tree_element_compare(a, b);

	return c ? c > 0 : a->key.id > b->key.id;
}

/*
 * Walks up from oid. If it comes back to oid, *ret_fallen is the greatest link of that cycle; if it
 * ends in the root, or runs into a cycle that oid is not on, then 0. Every directory has one
 * parent, so the graph is functional: a walk either ends, returns to its start, or circles
 * elsewhere, which Brent's method sees without memory.
 */
static int walk(const struct tree_dirs *dirs, uint64_t oid, uint64_t max,
	struct tree_element *ret_start, uint64_t *ret_fallen)
{
	struct tree_element greatest, link;
	uint64_t at, tortoise, steps = 0, power = 1;
	int r = dirs->winner(dirs->ctx, oid, ret_start);

	*ret_fallen = 0;
	if (r < 0)
		return r;
	greatest = *ret_start;
	tortoise = oid;
	at = ret_start->parent;
	for (uint64_t n = 1; at != TREE_ROOT; n++) {
		if (at == oid) {
			*ret_fallen = BROKEN(BROKEN_NO_CYCLE) ? 0 : greatest.key.id;
			return 0;
		}
		if (at == tortoise)
			return 0;
		if (++steps == power) {
			tortoise = at;
			power *= 2;
			steps = 0;
		}
		if (n > 4 * max + 4)
			return -ELOOP;
		r = dirs->winner(dirs->ctx, at, &link);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		if (is_greater(&link, &greatest))
			greatest = link;
		at = link.parent;
	}
	return 0;
}

int tree_view_fallen(
	const struct tree_dirs *dirs, uint64_t oid, uint64_t num_dirs_max, uint64_t *ret_oid)
{
	struct tree_element start;

	*ret_oid = 0;
	if (oid == TREE_ROOT)
		return 0;
	return walk(dirs, oid, num_dirs_max, &start, ret_oid);
}

int tree_view_parent(const struct tree_dirs *dirs, uint64_t oid, uint64_t num_dirs_max,
	uint64_t *ret_parent, bool *ret_fallen)
{
	struct tree_element start, parent;
	uint64_t fallen;
	int r;

	*ret_parent = TREE_ROOT;
	*ret_fallen = false;
	if (oid == TREE_ROOT)
		return 0;
	r = walk(dirs, oid, num_dirs_max, &start, &fallen);
	if (r < 0)
		return r;
	if (start.parent == TREE_ROOT)
		return 0;
	if (fallen == oid) {
		*ret_fallen = true;
		return 0;
	}
	r = dirs->winner(dirs->ctx, start.parent, &parent);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_fallen = r == -ENOENT;
	*ret_parent = r == -ENOENT ? TREE_ROOT : start.parent;
	return 0;
}
