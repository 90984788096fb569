#include "tree/merge.h"

#include "tree/broken.h"
#include "tree/oidset.h"
#include "tree/pull.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An element of p that the element rule ends. */
struct dying {
	struct tree_element e;
	bool is_revived;
};

/* An element that closure brings back: dying at p, or out of q's answer to a need. */
struct revived {
	const struct tree_element *e;
	struct dying *dying; /* NULL: from q */
	uint64_t handle;
};

/* One step: everything here lives from its beginning to its end. */
struct merge {
	struct tree_pulled *pulled;
	const struct tree_state *me;
	const struct tree_local *local;
	struct dying *dying; /* by key, stamp once the element rule is through */
	size_t num_dying, cap_dying;
	struct tree_item **by_target, **by_parent; /* links that are taken */
	size_t num_links, cap_links;
	struct revived *revived;
	size_t num_revived, cap_revived;
	struct tree_oids marks;	 /* inodes that the element rule may have left open */
	struct tree_oids forced; /* stack: parents of links that came back */
	struct tree_oids needs;
	struct tree_oidset closed; /* inodes that are dealt with */
	uint64_t lamport;
};

/* An inode as closure looks at it. "has": after the merge; "had": at p before. */
struct inode {
	struct merge *m;
	uint64_t oid;
	bool had_attr, has_attr, has_body, has_any, has_link, has_child;
	bool lost_any;			/* an element or link of p dies */
	bool q_has_attr, q_has_covered; /* of what q listed */
};

/* --- the element rule --- */

static int compare_elements(const struct tree_element *a, const struct tree_element *b)
{
	int c = tree_key_compare(&a->key, &b->key);

	return c ? c : tree_stamp_compare(a->stamp, b->stamp);
}

static int compare_dying(const void *a, const void *b)
{
	return compare_elements(&((const struct dying *)a)->e, &((const struct dying *)b)->e);
}

static struct dying *find_dying(const struct merge *m, const struct tree_element *e)
{
	struct dying wanted = { .e = *e };

	if (m->num_dying == 0)
		return NULL;
	return bsearch(&wanted, m->dying, m->num_dying, sizeof(wanted), compare_dying);
}

/* An element of p in a unit that q listed: on both it stays, unknown to q it stays, else it was
 * ended. */
static int see_local(void *arg, const struct tree_element *e)
{
	struct merge *m = arg;
	struct tree_item *item = tree_pulled_find(m->pulled, &e->key, e->stamp);
	struct tree_unit unit = tree_key_unit(&e->key);
	size_t num;
	int r;

	if (item) {
		item->on_p = true;
		return 0;
	}
	if (!tree_knowledge_covers(&m->pulled->remote, e->stamp) &&
		!(BROKEN(BROKEN_LATEST_ONLY) && tree_pulled_unit(m->pulled, &unit, &num)))
		return 0;
	r = tree_grow(&m->dying, &m->cap_dying, m->num_dying, sizeof(*m->dying));
	if (r < 0)
		return r;
	m->dying[m->num_dying++] = (struct dying){ .e = *e };
	return 0;
}

static int see_listed_units(struct merge *m)
{
	const struct tree_delta_units *units = &m->pulled->units;

	if (m->pulled->pull.is_full)
		return m->local->all(m->local->ctx, see_local, m);
	for (size_t i = 0; i < units->num_units; i++) {
		int r = m->local->unit(m->local->ctx, &units->units[i], see_local, m);
		if (r != 0)
			return r;
	}
	return 0;
}

static int mark(struct merge *m, const struct tree_element *e, bool is_taken)
{
	int r = tree_oids_add(&m->marks, e->key.kind == TREE_LINK ? e->target : e->key.id);

	if (r == 0 && is_taken && e->key.kind == TREE_LINK)
		r = tree_oids_add(&m->marks, e->parent);
	return r;
}

static int take_link(struct merge *m, struct tree_item *item)
{
	size_t cap = m->cap_links;
	int r = tree_grow(&m->by_target, &cap, m->num_links, sizeof(struct tree_item *));

	if (r == 0)
		r = tree_grow(
			&m->by_parent, &m->cap_links, m->num_links, sizeof(struct tree_item *));
	if (r < 0)
		return r;
	m->by_target[m->num_links] = item;
	m->by_parent[m->num_links++] = item;
	return 0;
}

static int take(struct merge *m)
{
	struct tree_items *items = &m->pulled->listed;

	for (size_t i = 0; i < items->num; i++) {
		struct tree_item *item = &items->items[i];
		int r = 0;
		if (item->on_p || tree_knowledge_covers(&m->me->known, item->e.stamp))
			continue;
		if (!item->has_record)
			return -EBADMSG;
		item->taken = true;
		if (item->e.lamport > m->lamport)
			m->lamport = item->e.lamport;
		if (item->e.key.kind == TREE_LINK)
			r = take_link(m, item);
		if (r == 0)
			r = mark(m, &item->e, true);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compare_targets(const void *a, const void *b)
{
	const struct tree_item *x = *(struct tree_item *const *)a,
			       *y = *(struct tree_item *const *)b;

	return (x->e.target > y->e.target) - (x->e.target < y->e.target);
}

static int compare_parents(const void *a, const void *b)
{
	const struct tree_item *x = *(struct tree_item *const *)a,
			       *y = *(struct tree_item *const *)b;

	return (x->e.parent > y->e.parent) - (x->e.parent < y->e.parent);
}

static int apply_element_rule(struct merge *m)
{
	struct tree_items *items = &m->pulled->listed;
	int r;

	for (size_t i = 0; i < items->num; i++)
		items->items[i].on_p = items->items[i].taken = false;
	r = see_listed_units(m);
	if (r == 0)
		r = take(m);
	if (r != 0)
		return r;
	if (m->num_dying)
		qsort(m->dying, m->num_dying, sizeof(*m->dying), compare_dying);
	if (m->num_links) {
		qsort(m->by_target, m->num_links, sizeof(*m->by_target), compare_targets);
		qsort(m->by_parent, m->num_links, sizeof(*m->by_parent), compare_parents);
	}
	for (size_t i = 0; i < m->num_dying; i++) {
		r = mark(m, &m->dying[i].e, false);
		if (r < 0)
			return r;
	}
	tree_oids_sort(&m->marks);
	return 0;
}

/* --- closure --- */

static bool takes_link_to(const struct merge *m, uint64_t oid)
{
	struct tree_item wanted = { .e = { .target = oid } }, *at = &wanted;

	return m->num_links &&
	       bsearch(&at, m->by_target, m->num_links, sizeof(at), compare_targets) != NULL;
}

static bool takes_link_under(const struct merge *m, uint64_t oid)
{
	struct tree_item wanted = { .e = { .parent = oid } }, *at = &wanted;

	return m->num_links &&
	       bsearch(&at, m->by_parent, m->num_links, sizeof(at), compare_parents) != NULL;
}

static int see_own(void *arg, const struct tree_element *e)
{
	struct inode *inode = arg;

	inode->had_attr |= e->key.kind == TREE_ATTR;
	if (find_dying(inode->m, e)) {
		inode->lost_any = true;
		return 0;
	}
	inode->has_any = true;
	inode->has_attr |= e->key.kind == TREE_ATTR;
	inode->has_body |= e->key.kind == TREE_BODY;
	return 0;
}

static int see_link(void *arg, const struct tree_element *e)
{
	struct inode *inode = arg;

	if (find_dying(inode->m, e)) {
		inode->lost_any = true;
		return 0;
	}
	inode->has_link = true;
	return 1;
}

static int see_child(void *arg, const struct tree_element *e)
{
	struct inode *inode = arg;

	if (find_dying(inode->m, e))
		return 0;
	inode->has_child = true;
	return 1;
}

/* What q's answer alone tells. True if the inode arrives whole, the bulk of a large first pull. */
static bool see_answer(struct inode *inode)
{
	struct tree_unit unit = { .id = inode->oid };
	bool takes_attr = false, is_directory = false, is_whole = true;
	size_t num;
	const struct tree_item *items = tree_pulled_unit(inode->m->pulled, &unit, &num);

	for (size_t i = 0; i < num; i++) {
		const struct tree_item *item = &items[i];
		bool is_attr = item->e.key.kind == TREE_ATTR;
		inode->q_has_attr |= is_attr;
		is_whole &= item->taken;
		if (tree_knowledge_covers(&inode->m->me->known, item->e.stamp))
			inode->q_has_covered = true;
		if (!item->taken)
			continue;
		inode->has_any = true;
		inode->has_attr |= is_attr;
		inode->has_body |= item->e.key.kind == TREE_BODY;
		takes_attr |= is_attr;
		is_directory |= is_attr && (item->e.flags & TREE_DIRECTORY);
	}
	inode->has_link = takes_link_to(inode->m, inode->oid);
	return takes_attr && is_whole && inode->has_link && (inode->has_body || is_directory);
}

static int see_inode(struct inode *inode)
{
	const struct tree_local *local = inode->m->local;
	struct tree_unit unit = { .id = inode->oid };
	int r = local->unit(local->ctx, &unit, see_own, inode);

	if (r == 0 && !inode->has_link)
		r = local->links_to(local->ctx, inode->oid, see_link, inode);
	if (r < 0)
		return r;
	if (inode->has_any || inode->has_link || inode->has_child)
		return 0;
	inode->has_child = takes_link_under(inode->m, inode->oid);
	if (!inode->has_child)
		r = local->links_under(local->ctx, inode->oid, see_child, inode);
	return r < 0 ? r : 0;
}

static int revive(
	struct merge *m, const struct tree_element *e, struct dying *dying, uint64_t handle)
{
	int r = tree_grow(&m->revived, &m->cap_revived, m->num_revived, sizeof(*m->revived));

	if (r < 0 || (dying && dying->is_revived))
		return r;
	m->revived[m->num_revived++] = (struct revived){ .e = e, .dying = dying, .handle = handle };
	if (dying)
		dying->is_revived = true;
	if (e->lamport > m->lamport)
		m->lamport = e->lamport;
	/* A link needs its parent, which may have gone in the same deletion. */
	return e->key.kind == TREE_LINK ? tree_oids_add(&m->forced, e->parent) : 0;
}

/* Index of the first dying element that is not before the inode's unit. */
static size_t first_dying(const struct merge *m, const struct tree_unit *unit)
{
	size_t low = 0, high = m->num_dying;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		struct tree_unit at = tree_key_unit(&m->dying[mid].e.key);
		if (tree_unit_compare(&at, unit) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/*
 * Brings p's dying elements of the inode back: all of them if q deleted it as a whole. Else, and
 * this needs two deletions by third parties that each knew one of two concurrent writes, its attr
 * or body where nothing is left of that.
 */
static int revive_own(struct inode *inode, bool is_whole)
{
	struct merge *m = inode->m;
	struct tree_unit unit = { .id = inode->oid };
	bool had_attr = inode->has_attr, had_body = inode->has_body;

	for (size_t i = first_dying(m, &unit); i < m->num_dying; i++) {
		struct dying *dying = &m->dying[i];
		struct tree_unit at = tree_key_unit(&dying->e.key);
		bool is_attr = dying->e.key.kind == TREE_ATTR,
		     is_body = dying->e.key.kind == TREE_BODY;
		int r;
		if (tree_unit_compare(&at, &unit) != 0)
			break;
		if (!is_whole && !(is_attr && !had_attr) && !(is_body && !had_body))
			continue;
		if (BROKEN(BROKEN_HALF_INODE) && !is_attr)
			continue;
		r = revive(m, &dying->e, dying, 0);
		if (r < 0)
			return r;
		inode->has_attr |= is_attr;
	}
	return 0;
}

/* Whether q, when it answered the need, still had all of the inode that it listed before. If it did
 * not, as when it deleted the inode in between, what comes back would be less than a whole. */
static bool has_all_sources(const struct inode *inode)
{
	const struct merge *m = inode->m;
	struct tree_unit unit = { .id = inode->oid };
	size_t num;
	const struct tree_item *items = tree_pulled_unit(m->pulled, &unit, &num);

	for (size_t i = 0; i < num; i++) {
		if (!items[i].taken && !items[i].on_p &&
			!tree_pulled_has_source(m->pulled, &items[i].e.key, items[i].e.stamp))
			return false;
	}
	return true;
}

static int revive_remote(struct inode *inode)
{
	size_t num;
	const struct tree_item *items = tree_pulled_need(inode->m->pulled, inode->oid, &num);

	for (size_t i = 0; i < num; i++) {
		bool is_attr = items[i].e.key.kind == TREE_ATTR;
		int r;
		if (items[i].e.key.kind == TREE_LINK ||
			!tree_knowledge_covers(&inode->m->me->known, items[i].e.stamp))
			continue;
		if (BROKEN(BROKEN_HALF_INODE) && !is_attr)
			continue;
		r = revive(inode->m, &items[i].e, NULL, items[i].handle);
		if (r < 0)
			return r;
		inode->has_attr |= is_attr;
	}
	return 0;
}

/* Links to the inode that one side still has and the merge would drop. */
struct candidates {
	struct merge *m;
	struct revived *list;
	size_t num, cap;
};

static int add_candidate(struct candidates *c, const struct revived *link)
{
	int r = tree_grow(&c->list, &c->cap, c->num, sizeof(*c->list));

	if (r == 0)
		c->list[c->num++] = *link;
	return r;
}

static int see_candidate(void *arg, const struct tree_element *e)
{
	struct candidates *c = arg;
	struct dying *dying = find_dying(c->m, e);

	return dying ? add_candidate(c, &(struct revived){ .e = &dying->e, .dying = dying }) : 0;
}

static int remote_candidates(struct candidates *c, uint64_t oid)
{
	size_t num;
	const struct tree_item *items = tree_pulled_need(c->m->pulled, oid, &num);
	int r = 0;

	for (size_t i = 0; i < num && r == 0; i++) {
		if (items[i].e.key.kind == TREE_LINK &&
			tree_knowledge_covers(&c->m->me->known, items[i].e.stamp))
			r = add_candidate(c,
				&(struct revived){ .e = &items[i].e, .handle = items[i].handle });
	}
	return r;
}

/* Lids first: restamping may change the order of elements, but both sides must choose one link. */
static bool is_greater(const struct tree_element *a, const struct tree_element *b)
{
	if (a->key.id != b->key.id)
		return a->key.id > b->key.id;
	return tree_element_compare(a, b) > 0;
}

static int revive_links(struct inode *inode, bool p_deleted, bool q_deleted)
{
	struct merge *m = inode->m;
	struct candidates c = { .m = m };
	size_t best = 0;
	int r = 0;

	if (!p_deleted)
		r = m->local->links_to(m->local->ctx, inode->oid, see_candidate, &c);
	if (r == 0 && !q_deleted)
		r = remote_candidates(&c, inode->oid);
	if (r == 0 && c.num == 0)
		r = -EAGAIN;
	if (r == 0 && !p_deleted && !q_deleted) {
		for (size_t i = 1; i < c.num; i++) {
			if (is_greater(c.list[i].e, c.list[best].e))
				best = i;
		}
		r = revive(m, c.list[best].e, c.list[best].dying, c.list[best].handle);
	} else {
		for (size_t i = 0; i < c.num && r == 0; i++)
			r = revive(m, c.list[i].e, c.list[i].dying, c.list[i].handle);
	}
	free(c.list);
	return r;
}

/*
 * Makes C1 and C2 true for one inode. p deleted it if p has no attr of it while q has elements that
 * p's knowledge covers, or while something that stays refers to it; q deleted it if q listed it
 * without an attr and something of p's goes. It cannot be both: what both deleted has nothing left
 * to refer to it.
 */
static int close_inode(struct merge *m, uint64_t oid, bool is_forced)
{
	struct inode inode = { .m = m, .oid = oid, .has_child = is_forced };
	struct tree_unit unit = { .id = oid };
	bool p_deleted, q_deleted;
	int r;

	if (oid == TREE_ROOT || tree_oidset_has(&m->closed, oid) || see_answer(&inode))
		return 0;
	r = see_inode(&inode);
	if (r < 0 || !(inode.has_any || inode.has_link || inode.has_child))
		return r;
	r = tree_oidset_add(&m->closed, oid);
	if (r < 0)
		return r;
	p_deleted = !inode.had_attr && (!inode.has_attr || inode.q_has_covered);
	q_deleted = inode.had_attr && inode.lost_any && !inode.q_has_attr &&
		    tree_pulled_is_listed(m->pulled, &unit);
	if ((p_deleted || (!inode.has_link && !q_deleted)) &&
		!tree_oids_has(&m->pulled->answered, oid))
		return tree_oids_add(&m->needs, oid);
	r = revive_own(&inode, q_deleted);
	if (r == 0 && p_deleted)
		r = has_all_sources(&inode) ? revive_remote(&inode) : -EAGAIN;
	if (r == 0 && !inode.has_link)
		r = revive_links(&inode, p_deleted, q_deleted);
	if (r == 0 && !inode.has_attr)
		r = -EAGAIN;
	return r;
}

static int close_all(struct merge *m)
{
	if (BROKEN(BROKEN_NO_CLOSURE))
		return 0;
	for (size_t i = 0; i < m->marks.num; i++) {
		int r = close_inode(m, m->marks.oids[i], false);
		while (r == 0 && m->forced.num)
			r = close_inode(m, m->forced.oids[--m->forced.num], true);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the outcome --- */

struct outcome {
	struct tree_effect *effects;
	size_t num_effects, cap_effects;
	struct tree_change *changes;
	size_t num_changes, cap_changes;
};

static int add_effect(struct outcome *out, const struct tree_effect *effect)
{
	const struct tree_element *e = &effect->e;
	int r = tree_grow(
		&out->effects, &out->cap_effects, out->num_effects, sizeof(*out->effects));

	if (r < 0)
		return r;
	out->effects[out->num_effects++] = *effect;
	if (effect->type == TREE_RESTAMP)
		return 0;
	r = tree_grow(&out->changes, &out->cap_changes, out->num_changes, sizeof(*out->changes));
	if (r < 0)
		return r;
	out->changes[out->num_changes++] = (struct tree_change){
		.kind = e->key.kind,
		.flags = e->flags,
		.id = e->key.id,
		.oid = e->key.kind == TREE_LINK ? e->target : e->key.id,
		.parent = e->parent,
	};
	return 0;
}

static int compare_revived(const void *a, const void *b)
{
	const struct revived *x = a, *y = b;

	return compare_elements(x->e, y->e);
}

/*
 * Stamps what came back. The epoch is a new one, never shown and not in any element, and moves on
 * within a register, so that two elements that come back into one register keep different stamps.
 */
static int restamp(struct merge *m, struct tree_state *state, struct outcome *out)
{
	uint64_t first, last;
	struct tree_stamp stamp = { .replica = state->clock.replica };

	if (m->num_revived == 0)
		return 0;
	qsort(m->revived, m->num_revived, sizeof(*m->revived), compare_revived);
	tree_clock_freeze(&state->clock, &m->me->known);
	first = last = stamp.epoch = state->clock.epoch;
	for (size_t i = 0; i < m->num_revived; i++) {
		const struct revived *now = &m->revived[i];
		struct tree_effect effect = { .e = *now->e, .old = now->e->stamp };
		int r;
		bool same = i && tree_key_compare(&now->e->key, &m->revived[i - 1].e->key) == 0;
		stamp.epoch = same ? stamp.epoch + 1 : first;
		if (stamp.epoch > last)
			last = stamp.epoch;
		effect.e.stamp = BROKEN(BROKEN_OLD_STAMP) ? effect.old : stamp;
		effect.type = now->dying ? TREE_RESTAMP : TREE_TAKE_RESTAMPED;
		effect.handle = now->handle;
		r = add_effect(out, &effect);
		if (r < 0)
			return r;
	}
	stamp.epoch = state->clock.epoch = last;
	return tree_knowledge_raise(&state->known, stamp);
}

static int list_effects(struct merge *m, struct outcome *out)
{
	const struct tree_items *items = &m->pulled->listed;
	int r = 0;

	for (size_t i = 0; i < m->num_dying && r == 0; i++) {
		const struct tree_element *e = &m->dying[i].e;
		if (!m->dying[i].is_revived)
			r = add_effect(out, &(struct tree_effect){ TREE_REMOVE, *e, e->stamp, 0 });
	}
	for (size_t i = 0; i < items->num && r == 0; i++) {
		const struct tree_item *item = &items->items[i];
		if (item->taken)
			r = add_effect(out, &(struct tree_effect){ TREE_TAKE, item->e,
						    item->e.stamp, item->handle });
	}
	return r;
}

static int list_deaths(struct merge *m, struct tree_death **ret, size_t *ret_num)
{
	const struct tree_pulled *pulled = m->pulled;
	size_t cap = 0;

	if (BROKEN(BROKEN_NO_LABELS))
		return 0;
	for (size_t i = 0; i < pulled->num_deaths; i++) {
		int r;
		/* What is covered is in p's own log, or was cut there. */
		if (tree_knowledge_covers(&m->me->known, pulled->deaths[i].label))
			continue;
		r = tree_grow(ret, &cap, *ret_num, sizeof(**ret));
		if (r < 0)
			return r;
		(*ret)[(*ret_num)++] = pulled->deaths[i];
	}
	return 0;
}

static int copy_state(struct tree_state *dst, const struct tree_state *src)
{
	int r = tree_knowledge_copy(&dst->known, &src->known);

	if (r == 0)
		r = tree_knowledge_copy(&dst->horizon, &src->horizon);
	dst->clock = src->clock;
	return r;
}

static int finish(struct merge *m)
{
	struct tree_pull *pull = &m->pulled->pull;
	struct outcome out = { 0 };
	struct tree_death *deaths = NULL;
	int r = restamp(m, &pull->state, &out);

	if (r == 0)
		r = list_effects(m, &out);
	if (r == 0)
		r = list_deaths(m, &deaths, &pull->num_deaths);
	pull->effects = out.effects;
	pull->num_effects = out.num_effects;
	pull->changes = out.changes;
	pull->num_changes = out.num_changes;
	pull->deaths = deaths;
	pull->num_revived = m->num_revived;
	if (m->lamport > pull->state.clock.lamport)
		pull->state.clock.lamport = m->lamport;
	if (r == 0 && !BROKEN(BROKEN_NO_JOIN))
		r = tree_knowledge_join(&pull->state.known, &m->pulled->remote);
	/* Labels below q's horizon may be missing in q's log, hence now in p's. */
	if (r == 0 && pull->is_full)
		r = tree_knowledge_join(&pull->state.horizon, &m->pulled->horizon);
	return r;
}

void tree_state_release(struct tree_state *state)
{
	tree_knowledge_release(&state->known);
	tree_knowledge_release(&state->horizon);
}

static void clear_outcome(struct tree_pull *pull)
{
	bool is_full = pull->is_full;

	free((void *)pull->needs);
	free((void *)pull->effects);
	free((void *)pull->deaths);
	free((void *)pull->changes);
	tree_state_release(&pull->state);
	*pull = (struct tree_pull){ .is_full = is_full };
}

static void merge_release(struct merge *m)
{
	free(m->dying);
	free(m->by_target);
	free(m->by_parent);
	free(m->revived);
	free(m->marks.oids);
	free(m->forced.oids);
	free(m->needs.oids);
	tree_oidset_release(&m->closed);
}

static int merge_run(struct merge *m)
{
	struct tree_pull *pull = &m->pulled->pull;
	int r;

	tree_pulled_sort(m->pulled);
	r = apply_element_rule(m);
	if (r == 0)
		r = close_all(m);
	if (r != 0)
		return r;
	if (m->needs.num) {
		pull->needs = m->needs.oids;
		pull->num_needs = m->needs.num;
		m->needs.oids = NULL;
		return TREE_PULL_NEED;
	}
	return finish(m);
}

int tree_pull_step(
	struct tree_pull *pull, const struct tree_state *me, const struct tree_local *local)
{
	struct tree_pulled *pulled = (struct tree_pulled *)pull;
	struct merge m = {
		.pulled = pulled, .me = me, .local = local, .lamport = me->clock.lamport
	};
	uint32_t self = me->clock.replica;
	int r;

	clear_outcome(pull);
	if (tree_knowledge_epoch(&pulled->remote, self) > tree_knowledge_epoch(&me->known, self))
		return -ENOTUNIQ;
	if (!tree_knowledge_within(&pulled->asked, &me->known))
		return -ESTALE;
	r = copy_state(&pull->state, me);
	if (r < 0 || tree_knowledge_within(&pulled->remote, &me->known))
		return r;
	r = merge_run(&m);
	merge_release(&m);
	return r;
}
