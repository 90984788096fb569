#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int sim_winner(void *ctx, uint64_t oid, struct tree_element *ret)
{
	const struct sim_peer *p = ctx;
	bool found = false;

	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		if (e->key.kind != TREE_LINK || e->key.id != oid)
			continue;
		if (!found || tree_element_compare(e, ret) > 0)
			*ret = *e;
		found = true;
	}
	return found ? 0 : -ENOENT;
}

/* Where the view shows a link: its winner's parent, or the root for a directory that closed a
 * cycle. */
static int shown_under(
	struct sim_peer *p, uint64_t lid, struct tree_element *ret_winner, uint64_t *ret_parent)
{
	struct tree_dirs dirs = { p, sim_winner };
	bool fallen;
	int r = sim_winner(p, lid, ret_winner);

	if (r < 0)
		return r;
	*ret_parent = ret_winner->parent;
	if (!(ret_winner->flags & TREE_DIRECTORY))
		return 0;
	return tree_view_parent(&dirs, lid, p->num, ret_parent, &fallen);
}

bool sim_is_shown(struct sim_peer *p, uint64_t lid, uint64_t parent)
{
	struct tree_element winner;
	uint64_t at;

	return shown_under(p, lid, &winner, &at) == 0 && at == parent;
}

size_t sim_count(const struct sim_peer *p, enum tree_kind kind, uint64_t id)
{
	size_t n = 0;

	for (size_t i = 0; i < p->num; i++)
		n += p->elements[i].e.key.kind == kind && p->elements[i].e.key.id == id;
	return n;
}

bool sim_has_write(const struct sim_peer *p, uint32_t write)
{
	for (size_t i = 0; i < p->num; i++) {
		if (p->elements[i].write == write)
			return true;
	}
	return false;
}

static bool has_link_to(const struct sim_peer *p, uint64_t oid)
{
	for (size_t i = 0; i < p->num; i++) {
		if (p->elements[i].e.key.kind == TREE_LINK && p->elements[i].e.target == oid)
			return true;
	}
	return false;
}

/* C1, C2, and that a file keeps its bytes. */
static void check_closed(struct sim *sim, int index)
{
	const struct sim_peer *p = &sim->peers[index];

	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		uint64_t oid = e->key.kind == TREE_LINK ? e->target : e->key.id;
		if (e->key.kind == TREE_LINK && e->parent != TREE_ROOT &&
			!sim_count(p, TREE_ATTR, e->parent))
			sim_fail(sim, "peer %d: link %llx has no parent %llx", index,
				(unsigned long long)e->key.id, (unsigned long long)e->parent);
		if (!sim_count(p, TREE_ATTR, oid))
			sim_fail(sim, "peer %d: inode %llx has no attr", index,
				(unsigned long long)oid);
		if (!has_link_to(p, oid))
			sim_fail(sim, "peer %d: inode %llx has no link", index,
				(unsigned long long)oid);
		if (e->key.kind == TREE_ATTR && !(e->flags & TREE_DIRECTORY) &&
			!sim_count(p, TREE_BODY, oid))
			sim_fail(sim, "peer %d: file %llx lost its body", index,
				(unsigned long long)oid);
	}
}

/* Every directory reaches the root within as many steps as there are elements. */
static void check_rooted(struct sim *sim, int index)
{
	struct sim_peer *p = &sim->peers[index];
	struct tree_dirs dirs = { p, sim_winner };

	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		uint64_t at = e->key.id;
		bool fallen;
		size_t steps = 0;
		if (e->key.kind != TREE_LINK || !(e->flags & TREE_DIRECTORY))
			continue;
		while (at != TREE_ROOT && steps++ <= p->num) {
			if (tree_view_parent(&dirs, at, p->num, &at, &fallen) < 0) {
				sim_fail(sim, "peer %d: directory %llx has no place", index,
					(unsigned long long)at);
				return;
			}
			sim->num_fallen += fallen && steps == 1;
		}
		if (at != TREE_ROOT)
			sim_fail(sim, "peer %d: directory %llx is not below the root", index,
				(unsigned long long)e->key.id);
	}
}

void sim_check_peer(struct sim *sim, int p)
{
	if (sim->failure[0])
		return;
	check_closed(sim, p);
	check_rooted(sim, p);
}

void sim_check_no_conflict(struct sim *sim, int index)
{
	const struct sim_peer *p = &sim->peers[index];

	for (size_t i = 0; i < p->num; i++) {
		for (size_t j = i + 1; j < p->num; j++) {
			if (tree_key_compare(&p->elements[i].e.key, &p->elements[j].e.key) == 0)
				sim_fail(sim, "peer %d: a conflict in a sequence, kind %d of %llx",
					index, p->elements[i].e.key.kind,
					(unsigned long long)p->elements[i].e.key.id);
		}
	}
}

/* --- the canonical dump: the elements, then the tree they make --- */

struct place {
	uint64_t parent, lid;
	struct tree_element link;
	uint32_t rank;
};

static int compare_elements(const void *a, const void *b)
{
	const struct sim_element *x = a, *y = b;
	int c = tree_key_compare(&x->e.key, &y->e.key);

	if (c == 0)
		c = tree_stamp_compare(x->e.stamp, y->e.stamp);
	return c ? c : memcmp(x->packed, y->packed, SIM_PACKED);
}

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	return (x->lid > y->lid) - (x->lid < y->lid);
}

static uint32_t rank_in(struct sim *sim, struct sim_peer *p, const struct place *place)
{
	struct tree_element *links = calloc(p->num + 1, sizeof(*links));
	uint32_t *ranks = calloc(p->num + 1, sizeof(*ranks)), rank = 0;
	size_t n = 0;

	for (size_t i = 0; i < p->num; i++) {
		struct tree_element winner;
		uint64_t lid = p->elements[i].e.key.id, parent;
		if (p->elements[i].e.key.kind != TREE_LINK)
			continue;
		if (shown_under(p, lid, &winner, &parent) < 0 || parent != place->parent ||
			tree_element_compare(&winner, &p->elements[i].e) != 0)
			continue;
		links[n++] = winner;
	}
	tree_view_names(links, n, ranks);
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < i; j++) {
			if (ranks[i] == ranks[j] &&
				memcmp(links[i].tag, links[j].tag, TREE_TAG_SIZE) == 0)
				sim_fail(sim, "two links have one name and rank");
		}
		if (links[i].key.id == place->lid)
			rank = ranks[i];
	}
	free(links);
	free(ranks);
	return rank;
}

static size_t dump(struct sim *sim, struct sim_peer *p, struct sim_element **ret_elements,
	struct place **ret_places)
{
	struct sim_element *elements = calloc(p->num + 1, sizeof(*elements));
	struct place *places = calloc(p->num + 1, sizeof(*places));
	size_t n = 0;

	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		elements[i] = p->elements[i];
		if (i && e->key.kind == TREE_BODY && sim_count(p, TREE_BODY, e->key.id) > 1)
			sim->num_conflicts++;
		if (e->key.kind != TREE_LINK)
			continue;
		if (shown_under(p, e->key.id, &places[n].link, &places[n].parent) < 0)
			sim_fail(sim, "a link without a place");
		places[n].lid = e->key.id;
		places[n].rank = rank_in(sim, p, &places[n]);
		n++;
	}
	qsort(elements, p->num, sizeof(*elements), compare_elements);
	qsort(places, n, sizeof(*places), compare_places);
	*ret_elements = elements;
	*ret_places = places;
	return n;
}

void sim_check_equal(struct sim *sim)
{
	struct sim_element *first = NULL, *other;
	struct place *first_places = NULL, *places;
	size_t num_first = 0, num;

	for (int i = 0; i < sim->params.num_peers && !sim->failure[0]; i++) {
		struct sim_peer *p = &sim->peers[i];
		if (tree_knowledge_compare(&p->state.known, &sim->peers[0].state.known) !=
			TREE_EQUAL)
			sim_fail(sim, "peers 0 and %d know different things after all have pulled",
				i);
		num = dump(sim, p, &other, &places);
		if (i == 0) {
			first = other, first_places = places, num_first = num;
			continue;
		}
		if (p->num != sim->peers[0].num || num != num_first)
			sim_fail(sim, "peer %d has %zu elements, peer 0 %zu", i, p->num,
				sim->peers[0].num);
		for (size_t n = 0; !sim->failure[0] && n < p->num; n++) {
			if (memcmp(first[n].packed, other[n].packed, SIM_PACKED) != 0)
				sim_fail(sim, "peers 0 and %d differ in element %zu", i, n);
		}
		for (size_t n = 0; !sim->failure[0] && n < num; n++) {
			if (first_places[n].parent != places[n].parent ||
				first_places[n].lid != places[n].lid ||
				first_places[n].rank != places[n].rank)
				sim_fail(sim, "peers 0 and %d show link %llx differently", i,
					(unsigned long long)places[n].lid);
		}
		free(other);
		free(places);
	}
	free(first);
	free(first_places);
}
