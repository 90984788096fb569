#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* One local change: an event, its stamp, its lamport time. */
struct op {
	struct sim *sim;
	struct sim_peer *p;
	uint32_t event;
	struct tree_stamp stamp;
	uint64_t lamport;
};

static struct op begin(struct sim *sim, int index)
{
	struct op op = { .sim = sim, .p = &sim->peers[index] };

	op.event = sim_event(sim, op.p);
	if (tree_clock_write(&op.p->state.clock, &op.p->state.known, &op.stamp, &op.lamport) < 0)
		abort();
	return op;
}

static void put(struct op *op, struct tree_element e, uint32_t write)
{
	e.stamp = op->stamp;
	e.lamport = op->lamport;
	sim_put(op->sim, op->p, op->event, e, write);
}

static void end_register(struct op *op, const struct tree_key *key)
{
	for (size_t i = op->p->num; i-- > 0;) {
		if (tree_key_compare(&op->p->elements[i].e.key, key) == 0)
			sim_end(op->sim, op->p, op->event, i);
	}
}

static void end_unit(struct op *op, const struct tree_unit *unit)
{
	for (size_t i = op->p->num; i-- > 0;) {
		struct tree_unit at = tree_key_unit(&op->p->elements[i].e.key);
		if (tree_unit_compare(&at, unit) == 0)
			sim_end(op->sim, op->p, op->event, i);
	}
	sim_log(op->p, unit, op->stamp);
}

static struct tree_element link_element(
	uint64_t lid, uint64_t target, uint64_t parent, uint32_t name, bool is_directory)
{
	struct tree_element e = { .key = { .id = lid, .kind = TREE_LINK },
		.flags = is_directory ? TREE_DIRECTORY : 0,
		.parent = parent,
		.target = target };

	memcpy(e.tag, &parent, 8);
	memcpy(e.tag + 8, &name, 4);
	memcpy(e.vtag, e.tag, TREE_TAG_SIZE);
	e.vtag[15] = 1;
	return e;
}

static struct tree_element value_element(struct sim *sim, enum tree_kind kind, uint64_t oid,
	uint32_t name, uint32_t value, uint8_t flags)
{
	struct tree_element e = { .key = { .id = oid, .kind = (uint8_t)kind }, .flags = flags };
	uint32_t different = value ? value : 1000 + sim->num_writes;

	memcpy(e.vtag, &different, 4);
	e.vtag[15] = (uint8_t)kind;
	if (kind == TREE_XATTR) {
		memcpy(e.tag, &name, 4);
		e.tag[15] = 2;
		memcpy(e.key.tag, e.tag, TREE_TAG_SIZE);
	}
	return e;
}

static const struct tree_element *winner_of(struct sim_peer *p, const struct tree_key *key)
{
	const struct tree_element *best = NULL;

	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		if (tree_key_compare(&e->key, key) == 0 &&
			(!best || tree_element_compare(e, best) > 0))
			best = e;
	}
	return best;
}

static const struct tree_element *winner_link(struct sim_peer *p, uint64_t lid)
{
	struct tree_key key = { .id = lid, .kind = TREE_LINK };

	return winner_of(p, &key);
}

static uint64_t create(struct op *op, uint64_t parent, uint32_t name, bool is_directory)
{
	uint32_t replica = op->p->state.clock.replica;
	/* Counter 1 of replica 0 is the root, so any counter will do here. */
	uint64_t oid = tree_oid(replica, ++op->p->counter);
	uint64_t lid = is_directory ? oid : tree_oid(replica, ++op->p->counter);
	uint8_t flags = is_directory ? TREE_DIRECTORY : 0;

	put(op, link_element(lid, oid, parent, name, is_directory), ++op->sim->num_writes);
	put(op, value_element(op->sim, TREE_ATTR, oid, 0, 0, flags), ++op->sim->num_writes);
	if (!is_directory)
		put(op, value_element(op->sim, TREE_BODY, oid, 0, 0, 0), ++op->sim->num_writes);
	return is_directory ? oid : lid;
}

uint64_t sim_create(struct sim *sim, int p, uint64_t parent, uint32_t name, bool is_directory)
{
	struct op op = begin(sim, p);

	return create(&op, parent, name, is_directory);
}

uint64_t sim_link(struct sim *sim, int p, uint64_t oid, uint64_t parent, uint32_t name)
{
	struct op op = begin(sim, p);
	uint64_t lid = tree_oid(op.p->state.clock.replica, ++op.p->counter);

	put(&op, link_element(lid, oid, parent, name, false), ++sim->num_writes);
	return lid;
}

static void move(struct op *op, uint64_t lid, uint64_t parent, uint32_t name)
{
	const struct tree_element *old = winner_link(op->p, lid);
	struct tree_element e =
		link_element(lid, old->target, parent, name, old->flags & TREE_DIRECTORY);

	end_register(op, &e.key);
	put(op, e, ++op->sim->num_writes);
}

void sim_rename(struct sim *sim, int p, uint64_t lid, uint64_t parent, uint32_t name)
{
	struct op op = begin(sim, p);

	move(&op, lid, parent, name);
}

static void unlink_file(struct op *op, uint64_t lid)
{
	uint64_t oid = winner_link(op->p, lid)->target;

	end_unit(op, &(struct tree_unit){ .id = lid, .is_link = true });
	for (size_t i = 0; i < op->p->num; i++) {
		const struct tree_element *e = &op->p->elements[i].e;
		if (e->key.kind == TREE_LINK && e->target == oid)
			return;
	}
	end_unit(op, &(struct tree_unit){ .id = oid });
}

void sim_unlink(struct sim *sim, int p, uint64_t lid)
{
	struct op op = begin(sim, p);

	unlink_file(&op, lid);
}

/* L4: what else names d as its parent. A winner still below d is one that is shown in the root. */
static void settle_links_under(struct op *op, uint64_t d)
{
	for (size_t i = 0; i < op->p->num; i++) {
		struct tree_element e = op->p->elements[i].e, winner;
		uint32_t name;
		if (e.key.kind != TREE_LINK || e.parent != d)
			continue;
		winner = *winner_link(op->p, e.key.id);
		memcpy(&name, winner.tag + 8, 4);
		move(op, e.key.id, winner.parent == d ? TREE_ROOT : winner.parent, name);
		i = (size_t)-1;
	}
}

static void remove_dir(struct op *op, uint64_t oid)
{
	settle_links_under(op, oid);
	end_unit(op, &(struct tree_unit){ .id = oid, .is_link = true });
	end_unit(op, &(struct tree_unit){ .id = oid });
}

static bool has_shown_child(struct sim_peer *p, uint64_t d)
{
	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		if (e->key.kind == TREE_LINK && e->parent == d && sim_is_shown(p, e->key.id, d))
			return true;
	}
	return false;
}

void sim_rmdir(struct sim *sim, int p, uint64_t oid)
{
	struct op op;

	if (has_shown_child(&sim->peers[p], oid))
		return;
	op = begin(sim, p);
	remove_dir(&op, oid);
}

static void remove_tree(struct op *op, uint64_t oid)
{
	for (size_t i = 0; i < op->p->num; i++) {
		const struct tree_element *e = &op->p->elements[i].e;
		uint64_t lid = e->key.id;
		if (e->key.kind != TREE_LINK || e->parent != oid || !sim_is_shown(op->p, lid, oid))
			continue;
		if (e->flags & TREE_DIRECTORY)
			remove_tree(op, lid);
		else
			unlink_file(op, lid);
		i = (size_t)-1;
	}
	remove_dir(op, oid);
}

void sim_remove_tree(struct sim *sim, int p, uint64_t oid)
{
	struct op op = begin(sim, p);

	remove_tree(&op, oid);
}

/* keep: a handle that was open for write while a pull brought more: ends what it had seen, the
 * winner's value. */
uint32_t sim_write(struct sim *sim, int p, enum tree_kind kind, uint64_t oid, uint32_t name,
	uint32_t value, bool keep)
{
	struct sim_peer *peer = &sim->peers[p];
	struct tree_element e = value_element(sim, kind, oid, name, value, 0);
	const struct tree_element *winner = winner_of(peer, &e.key);
	struct tree_stamp seen = winner ? winner->stamp : (struct tree_stamp){ 0 };
	struct op op;

	if (winner && kind == TREE_ATTR)
		e.flags = winner->flags;
	if (keep) /* L1 */
		tree_clock_freeze(&peer->state.clock, &peer->state.known);
	op = begin(sim, p);
	for (size_t i = peer->num; i-- > 0;) {
		const struct tree_element *at = &peer->elements[i].e;
		if (tree_key_compare(&at->key, &e.key) == 0 &&
			(!keep || tree_stamp_compare(at->stamp, seen) == 0))
			sim_end(sim, peer, op.event, i);
	}
	put(&op, e, ++sim->num_writes);
	return sim->num_writes;
}

void sim_remove_xattr(struct sim *sim, int p, uint64_t oid, uint32_t name)
{
	struct tree_element e = value_element(sim, TREE_XATTR, oid, name, 1, 0);
	struct op op;

	if (!winner_of(&sim->peers[p], &e.key))
		return;
	op = begin(sim, p);
	end_register(&op, &e.key);
	sim_log(op.p, &(struct tree_unit){ .id = oid }, op.stamp);
}

/* --- anything --- */

static const struct tree_element *random_element(
	struct sim *sim, struct sim_peer *p, unsigned kinds)
{
	for (int tries = 0; p->num && tries < 20; tries++) {
		const struct tree_element *e = &p->elements[sim_random(sim, (uint32_t)p->num)].e;
		if (kinds >> e->key.kind & 1)
			return e;
	}
	return NULL;
}

static uint64_t random_dir(struct sim *sim, struct sim_peer *p)
{
	for (int tries = 0; p->num && tries < 4; tries++) {
		const struct tree_element *e = random_element(sim, p, 1u << TREE_ATTR);
		if (e && (e->flags & TREE_DIRECTORY))
			return e->key.id;
	}
	return TREE_ROOT;
}

/* As mountd would refuse it. */
static bool is_below(struct sim_peer *p, uint64_t dir, uint64_t top)
{
	struct tree_dirs dirs = { p, sim_winner };
	bool fallen;

	for (int i = 0; dir != TREE_ROOT && i < 2000; i++) {
		if (dir == top || tree_view_parent(&dirs, dir, p->num, &dir, &fallen) < 0)
			return true;
	}
	return dir != TREE_ROOT;
}

/* Moves one thing, over a file of that name if there is one, refused over a directory. */
static void random_rename(struct sim *sim, int index)
{
	struct sim_peer *p = &sim->peers[index];
	const struct tree_element *e = random_element(sim, p, 1u << TREE_LINK);
	uint64_t parent = random_dir(sim, p), lid, over = 0;
	uint32_t name = sim_random(sim, 5);
	struct tree_element there;
	struct op op;

	if (!e || ((e->flags & TREE_DIRECTORY) && is_below(p, parent, e->key.id)))
		return;
	lid = e->key.id;
	there = link_element(1, 2, parent, name, false);
	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *x = &p->elements[i].e;
		if (x->key.kind != TREE_LINK || x->key.id == lid ||
			memcmp(x->tag, there.tag, TREE_TAG_SIZE) != 0)
			continue;
		if (x->flags & TREE_DIRECTORY)
			return;
		if (winner_link(p, x->key.id) == x)
			over = x->key.id;
	}
	op = begin(sim, index);
	move(&op, lid, parent, name);
	if (over)
		unlink_file(&op, over);
}

static void random_removal(struct sim *sim, int index)
{
	struct sim_peer *p = &sim->peers[index];
	const struct tree_element *e = random_element(sim, p, 1u << TREE_LINK);

	if (!e)
		return;
	if (!(e->flags & TREE_DIRECTORY))
		sim_unlink(sim, index, e->key.id);
	else if (sim_random(sim, 3))
		sim_rmdir(sim, index, e->key.id);
	else
		sim_remove_tree(sim, index, e->key.id);
}

static void random_write(struct sim *sim, int index)
{
	struct sim_peer *p = &sim->peers[index];
	const struct tree_element *e = random_element(sim, p, 1u << TREE_BODY | 1u << TREE_ATTR);
	bool keep = !sim->params.sequential && sim_random(sim, 5) == 0;
	uint32_t value = sim_random(sim, 4) ? 0 : 1 + sim_random(sim, 3);
	uint32_t name = sim_random(sim, 3);

	if (!e)
		return;
	if (sim_random(sim, 4))
		sim_write(sim, index, e->key.kind, e->key.id, 0, value, keep);
	else if (sim_random(sim, 2))
		sim_write(sim, index, TREE_XATTR, e->key.id, name, value, false);
	else
		sim_remove_xattr(sim, index, e->key.id, name);
}

void sim_random_op(struct sim *sim, int index)
{
	struct sim_peer *p = &sim->peers[index];
	const struct tree_element *e;
	uint32_t dice = sim_random(sim, 100);

	if (sim->failure[0] || sim->num_events > SIM_EVENTS - 64)
		return;
	if (dice < 22) {
		sim_create(
			sim, index, random_dir(sim, p), sim_random(sim, 5), sim_random(sim, 5) < 2);
	} else if (dice < 30) {
		e = random_element(sim, p, 1u << TREE_BODY);
		if (e)
			sim_link(sim, index, e->key.id, random_dir(sim, p), sim_random(sim, 5));
	} else if (dice < 52) {
		random_rename(sim, index);
	} else if (dice < 70) {
		random_removal(sim, index);
	} else {
		random_write(sim, index);
	}
}
