#include "sim.h"

#include "tree/broken.h"
#include "tree/pull.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int r)
{
	if (r < 0)
		abort();
}

uint32_t sim_random(struct sim *sim, uint32_t below)
{
	uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
	va_list ap;

	if (sim->failure[0])
		return;
	va_start(ap, fmt);
	vsnprintf(sim->failure, sizeof(sim->failure), fmt, ap);
	va_end(ap);
}

static void peer_release(struct sim_peer *p)
{
	tree_state_release(&p->state);
	free(p->elements);
	free(p->log);
	memset(p, 0, sizeof(*p));
}

static void peer_copy(struct sim_peer *dst, const struct sim_peer *src)
{
	peer_release(dst);
	dst->state.clock = src->state.clock;
	must(tree_knowledge_copy(&dst->state.known, &src->state.known));
	must(tree_knowledge_copy(&dst->state.horizon, &src->state.horizon));
	for (; dst->num < src->num; dst->num++) {
		must(tree_grow(&dst->elements, &dst->cap, dst->num, sizeof(*dst->elements)));
		dst->elements[dst->num] = src->elements[dst->num];
	}
	for (; dst->num_log < src->num_log; dst->num_log++) {
		must(tree_grow(&dst->log, &dst->cap_log, dst->num_log, sizeof(*dst->log)));
		dst->log[dst->num_log] = src->log[dst->num_log];
	}
	dst->counter = src->counter;
	memcpy(dst->seen, src->seen, sizeof(dst->seen));
}

void sim_init(struct sim *sim, uint64_t seed, const struct sim_params *params)
{
	memset(sim, 0, sizeof(*sim));
	sim->params = *params;
	sim->random = seed;
	for (int i = 0; i < params->num_peers; i++)
		sim->peers[i].state.clock =
			(struct tree_clock){ .replica = ++sim->num_replicas, .epoch = 1 };
}

void sim_release(struct sim *sim)
{
	for (int i = 0; i < SIM_PEERS; i++) {
		peer_release(&sim->peers[i]);
		peer_release(&sim->backups[i]);
	}
	free(sim->history);
	free(sim->created);
	free(sim->ends);
}

/* --- the oracle --- */

static bool has_seen(const uint64_t *seen, uint32_t event)
{
	return seen[event / 64] >> event % 64 & 1;
}

uint32_t sim_event(struct sim *sim, struct sim_peer *p)
{
	uint32_t event = sim->num_events++;

	if (event >= SIM_EVENTS)
		abort();
	p->seen[event / 64] |= UINT64_C(1) << event % 64;
	return event;
}

static uint32_t new_eid(struct sim *sim, const struct sim_element *element, uint32_t event)
{
	must(tree_grow(&sim->history, &sim->cap_history, sim->num_eids, sizeof(*sim->history)));
	must(tree_grow(&sim->created, &sim->cap_created, sim->num_eids, sizeof(*sim->created)));
	sim->history[sim->num_eids] = *element;
	sim->created[sim->num_eids] = event;
	return sim->num_eids++;
}

/* The newest element ever made with that key, stamp and write. */
static uint32_t find_eid(struct sim *sim, const struct sim_element *element)
{
	for (uint32_t i = sim->num_eids; i-- > 0;) {
		const struct sim_element *h = &sim->history[i];
		if (h->write == element->write &&
			tree_stamp_compare(h->e.stamp, element->e.stamp) == 0 &&
			tree_key_compare(&h->e.key, &element->e.key) == 0)
			return i;
	}
	sim_fail(sim, "an element that nobody ever wrote");
	return 0;
}

static void check_oracle(struct sim *sim, int index, const char *when)
{
	const struct sim_peer *p = &sim->peers[index];
	uint8_t *expected = calloc(sim->num_eids + 1, 1);

	for (uint32_t i = 0; i < sim->num_eids; i++)
		expected[i] = has_seen(p->seen, sim->created[i]);
	for (size_t i = 0; i < sim->num_ends; i++) {
		if (has_seen(p->seen, sim->ends[i].event))
			expected[sim->ends[i].eid] = 0;
	}
	for (size_t i = 0; i < p->num; i++) {
		if (!expected[p->elements[i].eid])
			sim_fail(sim,
				"%s: peer %d holds element %u (kind %d of %llx) that was ended",
				when, index, p->elements[i].eid, p->elements[i].e.key.kind,
				(unsigned long long)p->elements[i].e.key.id);
		expected[p->elements[i].eid] = 0;
	}
	for (uint32_t i = 0; i < sim->num_eids; i++) {
		if (expected[i])
			sim_fail(sim, "%s: peer %d lost element %u (kind %d of %llx)", when, index,
				i, sim->history[i].e.key.kind,
				(unsigned long long)sim->history[i].e.key.id);
	}
	free(expected);
}

/* --- a peer's store --- */

static void add_element(struct sim_peer *p, const struct sim_element *element)
{
	must(tree_grow(&p->elements, &p->cap, p->num, sizeof(*p->elements)));
	p->elements[p->num++] = *element;
}

void sim_put(
	struct sim *sim, struct sim_peer *p, uint32_t event, struct tree_element e, uint32_t write)
{
	struct sim_element element = { .e = e, .write = write };
	struct tree_record rec = { .e = e, .sealed_len = 4, .sealed = (const uint8_t *)&write };

	if (tree_record_emit(&rec, element.packed, SIM_PACKED) != SIM_PACKED)
		sim_fail(sim, "a record that cannot be written");
	element.eid = new_eid(sim, &element, event);
	add_element(p, &element);
}

void sim_end(struct sim *sim, struct sim_peer *p, uint32_t event, size_t i)
{
	must(tree_grow(&sim->ends, &sim->cap_ends, sim->num_ends, sizeof(*sim->ends)));
	sim->ends[sim->num_ends++] = (struct sim_end){ p->elements[i].eid, event };
	p->elements[i] = p->elements[--p->num];
}

void sim_log(struct sim_peer *p, const struct tree_unit *unit, struct tree_stamp label)
{
	for (size_t i = 0; i < p->num_log; i++) {
		struct tree_death *d = &p->log[i];
		if (tree_unit_compare(&d->unit, unit) == 0 && d->label.replica == label.replica) {
			if (d->label.epoch < label.epoch)
				d->label = label;
			return;
		}
	}
	must(tree_grow(&p->log, &p->cap_log, p->num_log, sizeof(*p->log)));
	p->log[p->num_log++] = (struct tree_death){ *unit, label };
}

static int visit_where(struct sim_peer *p, int what, uint64_t id, tree_visit_fn *visit, void *arg)
{
	int r = 0;

	for (size_t i = 0; i < p->num && r == 0; i++) {
		const struct tree_element *e = &p->elements[i].e;
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
	return visit_where(ctx, unit->is_link ? 1 : 2, unit->id, visit, arg);
}

static int local_links_to(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return visit_where(ctx, 3, oid, visit, arg);
}

static int local_links_under(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return visit_where(ctx, 4, oid, visit, arg);
}

static int local_all(void *ctx, tree_visit_fn *visit, void *arg)
{
	return visit_where(ctx, 0, 0, visit, arg);
}

/* --- a pull --- */

struct blob {
	uint8_t *data;
	size_t len, cap;
};

static void blob_put(struct blob *b, const struct tree_delta_entry *entry)
{
	while (b->cap - b->len < 256)
		must(tree_grow(&b->data, &b->cap, b->cap, 1));
	int n = tree_delta_put(entry, b->data + b->len, b->cap - b->len);
	must(n);
	b->len += (size_t)n;
}

static void blob_put_unit(struct blob *b, const struct sim_peer *q, const struct tree_unit *unit,
	const struct tree_knowledge *asked)
{
	blob_put(b, &(struct tree_delta_entry){ .type = TREE_DELTA_UNIT, .unit = *unit });
	for (size_t i = 0; i < q->num; i++) {
		const struct sim_element *el = &q->elements[i];
		struct tree_unit at = tree_key_unit(&el->e.key);
		struct tree_delta_entry entry = {
			.type = TREE_DELTA_RECORD, .packed = el->packed, .packed_len = SIM_PACKED
		};
		if (tree_unit_compare(&at, unit) != 0)
			continue;
		if (asked && tree_knowledge_covers(asked, el->e.stamp))
			entry = (struct tree_delta_entry){
				.type = TREE_DELTA_ELEMENT, .key = el->e.key, .stamp = el->e.stamp
			};
		blob_put(b, &entry);
	}
}

/* q's answer, as tree/delta.h says. */
static void answer(
	struct blob *b, struct sim_peer *q, const struct tree_knowledge *asked, bool *ret_full)
{
	struct tree_delta_units units = { 0 };

	if (!BROKEN(BROKEN_NO_FREEZE))
		tree_clock_freeze(&q->state.clock, &q->state.known);
	*ret_full = !tree_knowledge_within(&q->state.horizon, asked) && !BROKEN(BROKEN_NO_HORIZON);
	for (size_t i = 0; i < q->num; i++) {
		struct tree_unit unit = tree_key_unit(&q->elements[i].e.key);
		if (*ret_full || !tree_knowledge_covers(asked, q->elements[i].e.stamp))
			must(tree_delta_units_add(&units, &unit));
	}
	for (size_t i = 0; i < q->num_log; i++) {
		if (tree_knowledge_covers(asked, q->log[i].label))
			continue;
		must(tree_delta_units_add(&units, &q->log[i].unit));
		blob_put(b, &(struct tree_delta_entry){ .type = TREE_DELTA_DEAD,
				    .unit = q->log[i].unit,
				    .stamp = q->log[i].label });
	}
	tree_delta_units_sort(&units);
	for (size_t i = 0; i < units.num_units; i++)
		blob_put_unit(b, q, &units.units[i], asked);
	tree_delta_units_release(&units);
}

static void answer_need(struct blob *b, const struct sim_peer *q, uint64_t oid)
{
	blob_put(b, &(struct tree_delta_entry){ .type = TREE_DELTA_INODE, .oid = oid });
	blob_put_unit(b, q, &(struct tree_unit){ .id = oid }, NULL);
	for (size_t i = 0; i < q->num; i++) {
		const struct tree_element *e = &q->elements[i].e;
		if (e->key.kind != TREE_LINK || e->target != oid)
			continue;
		blob_put(b, &(struct tree_delta_entry){ .type = TREE_DELTA_UNIT,
				    .unit = { .id = e->key.id, .is_link = true } });
		blob_put(b, &(struct tree_delta_entry){ .type = TREE_DELTA_RECORD,
				    .packed = q->elements[i].packed,
				    .packed_len = SIM_PACKED });
	}
}

static size_t find_element(
	const struct sim_peer *p, const struct tree_key *key, struct tree_stamp stamp)
{
	for (size_t i = 0; i < p->num; i++) {
		if (tree_key_compare(&p->elements[i].e.key, key) == 0 &&
			tree_stamp_compare(p->elements[i].e.stamp, stamp) == 0)
			return i;
	}
	return p->num;
}

static void take_out(
	struct sim *sim, struct sim_peer *p, const struct tree_key *key, struct tree_stamp stamp)
{
	size_t i = find_element(p, key, stamp);

	if (i == p->num)
		sim_fail(sim, "an effect on an element that is not there");
	else
		p->elements[i] = p->elements[--p->num];
}

static void put_in(struct sim *sim, struct sim_peer *p, const struct tree_effect *effect,
	const uint8_t *packed, uint32_t event)
{
	struct sim_element element = { .e = effect->e };
	struct tree_record rec;

	memcpy(element.packed, packed, SIM_PACKED);
	tree_record_restamp(element.packed, effect->e.stamp, effect->e.lamport);
	if (tree_record_parse(element.packed, SIM_PACKED, &rec) < 0 ||
		tree_key_compare(&rec.e.key, &effect->e.key) != 0)
		sim_fail(sim, "an effect's handle leads to another record");
	memcpy(&element.write, rec.sealed, 4);
	if (find_element(p, &effect->e.key, effect->e.stamp) != p->num)
		sim_fail(sim, "two elements of a register with one stamp");
	element.eid =
		effect->type == TREE_TAKE ? find_eid(sim, &element) : new_eid(sim, &element, event);
	add_element(p, &element);
}

/* Closure may bring back only what something that stays refers to, directly or through what came
 * back. */
static void check_revival(struct sim *sim, const struct sim_peer *p, const struct tree_pull *pull)
{
	struct tree_oids wanted = { 0 };
	size_t before;

	for (size_t i = 0; i < p->num; i++) {
		const struct tree_element *e = &p->elements[i].e;
		bool came_back = e->stamp.replica == p->state.clock.replica &&
				 e->stamp.epoch >= pull->state.clock.epoch && pull->num_revived;
		if (came_back)
			continue;
		must(tree_oids_add(&wanted, e->key.kind == TREE_LINK ? e->target : e->key.id));
		if (e->key.kind == TREE_LINK)
			must(tree_oids_add(&wanted, e->parent));
	}
	tree_oids_sort(&wanted);
	do {
		before = wanted.num;
		for (size_t i = 0; i < pull->num_effects; i++) {
			const struct tree_element *e = &pull->effects[i].e;
			if (e->key.kind == TREE_LINK && tree_oids_has(&wanted, e->target) &&
				!tree_oids_has(&wanted, e->parent)) {
				must(tree_oids_add(&wanted, e->parent));
				tree_oids_sort(&wanted);
			}
		}
	} while (wanted.num != before);
	for (size_t i = 0; i < pull->num_effects; i++) {
		const struct tree_effect *x = &pull->effects[i];
		if ((x->type == TREE_RESTAMP || x->type == TREE_TAKE_RESTAMPED) &&
			!tree_oids_has(
				&wanted, x->e.key.kind == TREE_LINK ? x->e.target : x->e.key.id))
			sim_fail(sim, "inode %llx came back though nothing refers to it",
				(unsigned long long)x->e.key.id);
	}
	free(wanted.oids);
}

/* The transaction. */
static void apply(struct sim *sim, struct sim_peer *p, const struct tree_pull *pull,
	const struct blob *b, const uint64_t *seen)
{
	uint32_t event = pull->num_revived ? sim_event(sim, p) : 0;

	if (!tree_knowledge_within(&p->state.known, &pull->state.known))
		sim_fail(sim, "knowledge went down");
	/* Everything that goes first: a restamped element may take the place of one that goes. */
	struct sim_element *kept = calloc(pull->num_effects + 1, sizeof(*kept));
	for (size_t i = 0; i < pull->num_effects; i++) {
		const struct tree_effect *x = &pull->effects[i];
		size_t at;
		if (x->type != TREE_REMOVE && x->type != TREE_RESTAMP)
			continue;
		at = find_element(p, &x->e.key, x->old);
		if (at < p->num)
			kept[i] = p->elements[at];
		take_out(sim, p, &x->e.key, x->old);
	}
	for (size_t i = 0; i < pull->num_effects && !sim->failure[0]; i++) {
		const struct tree_effect *x = &pull->effects[i];
		if (x->type == TREE_TAKE || x->type == TREE_TAKE_RESTAMPED)
			put_in(sim, p, x, b->data + x->handle, event);
		else if (x->type == TREE_RESTAMP)
			put_in(sim, p, x, kept[i].packed, event);
	}
	free(kept);
	for (size_t i = 0; i < pull->num_deaths; i++)
		sim_log(p, &pull->deaths[i].unit, pull->deaths[i].label);
	for (size_t i = 0; i < SIM_EVENTS / 64; i++)
		p->seen[i] |= seen[i];
	if (!BROKEN(BROKEN_OLD_STAMP))
		check_revival(sim, p, pull);
	p->state.clock = pull->state.clock;
	must(tree_knowledge_copy(&p->state.known, &pull->state.known));
	must(tree_knowledge_copy(&p->state.horizon, &pull->state.horizon));
}

static void race(struct sim *sim, int p, int q)
{
	if (!sim->params.races || sim_random(sim, 4))
		return;
	switch (sim_random(sim, 3)) {
	case 0:
		sim_random_op(sim, p);
		break;
	case 1:
		sim_random_op(sim, q);
		break;
	case 2: {
		int third = (int)sim_random(sim, (uint32_t)sim->params.num_peers);
		sim->params.races = false;
		sim_pull(sim, sim_random(sim, 2) ? p : q, third);
		sim->params.races = true;
		break;
	}
	}
}

static int pull_steps(struct sim *sim, struct tree_pull *pull, int index, int q, struct blob *b,
	const uint64_t *seen)
{
	struct sim_peer *p = &sim->peers[index];
	const struct tree_local local = { p, local_unit, local_links_to, local_links_under,
		local_all };
	size_t fed = 0;

	for (int i = 0; i < 200; i++) {
		int r = tree_pull_feed(pull, b->data + fed, b->len - fed, fed);
		fed = b->len;
		if (r < 0)
			return r;
		race(sim, index, q);
		if (sim->params.races && sim_random(sim, 8) == 0)
			return -EINTR;
		r = tree_pull_step(pull, &p->state, &local);
		if (r < 0)
			return r;
		if (r == TREE_PULL_DONE) {
			sim->num_revived += pull->num_revived;
			apply(sim, p, pull, b, seen);
			return (int)pull->num_effects;
		}
		sim->num_needs += pull->num_needs;
		for (size_t n = 0; n < pull->num_needs; n++)
			answer_need(b, &sim->peers[q], pull->needs[n]);
	}
	sim_fail(sim, "a pull that never ends");
	return -ELOOP;
}

int sim_pull(struct sim *sim, int index, int from)
{
	struct sim_peer *p = &sim->peers[index], *q = &sim->peers[from];
	struct tree_pull *pull = NULL;
	struct blob b = { 0 };
	uint64_t seen[SIM_EVENTS / 64];
	bool is_full;
	int r;

	if (index == from || sim->failure[0])
		return 0;
	sim->num_pulls++;
	if (tree_knowledge_within(&q->state.known, &p->state.known) && !BROKEN(BROKEN_NO_FREEZE)) {
		sim->num_skipped++;
		check_oracle(sim, index, "a pull with nothing new");
		return 0;
	}
	memcpy(seen, q->seen, sizeof(seen));
	answer(&b, q, &p->state.known, &is_full);
	sim->num_full += is_full;
	must(tree_pull_new(&pull, &p->state.known, &q->state.known, &q->state.horizon, is_full));
	r = pull_steps(sim, pull, index, from, &b, seen);
	tree_pull_free(pull);
	free(b.data);
	if (r == -EAGAIN)
		sim->num_again++;
	if (r < 0 && !(sim->params.races && (r == -EAGAIN || r == -EINTR)))
		sim_fail(sim, "pull %d <- %d: %s", index, from, strerror(-r));
	if (r >= 0) {
		check_oracle(sim, index, "after a pull");
		sim_check_peer(sim, index);
	}
	return r;
}

/* --- misfortune --- */

void sim_backup(struct sim *sim, int p)
{
	tree_clock_freeze(&sim->peers[p].state.clock, &sim->peers[p].state.known);
	peer_copy(&sim->backups[p], &sim->peers[p]);
	sim->has_backup[p] = true;
}

void sim_restore(struct sim *sim, int p)
{
	peer_copy(&sim->peers[p], &sim->backups[p]);
	if (!BROKEN(BROKEN_SAME_REPLICA)) {
		sim->peers[p].state.clock.replica = ++sim->num_replicas;
		sim->peers[p].state.clock.epoch = 1;
		sim->peers[p].counter = 0;
	}
}

void sim_cut_log(struct sim *sim, int index)
{
	struct sim_peer *p = &sim->peers[index];
	struct tree_knowledge cut = { 0 };
	size_t n = 0;

	/* All of it is what rebuilding an index leaves. */
	must(tree_knowledge_copy(&cut, &p->state.known));
	for (size_t i = 0; i < cut.num_stamps && sim_random(sim, 3); i++)
		cut.stamps[i].epoch = 1 + sim_random(sim, (uint32_t)cut.stamps[i].epoch);
	for (size_t i = 0; i < p->num_log; i++) {
		if (!tree_knowledge_covers(&cut, p->log[i].label))
			p->log[n++] = p->log[i];
	}
	p->num_log = n;
	must(tree_knowledge_join(&p->state.horizon, &cut));
	tree_knowledge_release(&cut);
}

/* --- a run --- */

static void random_thing(struct sim *sim)
{
	int n = sim->params.num_peers;
	int p = (int)sim_random(sim, (uint32_t)n);
	uint32_t dice = sim_random(sim, 100);

	if (dice < 62)
		sim_random_op(sim, p);
	else if (dice < 92)
		sim_pull(sim, p, (int)sim_random(sim, (uint32_t)n));
	else if (dice < 95 && sim->params.cuts)
		sim_cut_log(sim, p);
	else if (dice < 97 && sim->params.restores)
		sim_backup(sim, p);
	else if (dice < 98 && sim->params.restores && sim->has_backup[p])
		sim_restore(sim, p);
}

/* One pair of hands: whoever writes next pulls first; others look on in any order. */
static void sequential_thing(struct sim *sim, int *writer)
{
	int n = sim->params.num_peers;

	if (sim_random(sim, 3) == 0) {
		int next = (int)sim_random(sim, (uint32_t)n);
		sim_pull(sim, next, *writer);
		*writer = next;
	}
	if (sim_random(sim, 3) == 0)
		sim_pull(sim, (int)sim_random(sim, (uint32_t)n), (int)sim_random(sim, (uint32_t)n));
	if (sim->params.cuts && sim_random(sim, 20) == 0)
		sim_cut_log(sim, (int)sim_random(sim, (uint32_t)n));
	sim_random_op(sim, *writer);
	for (int i = 0; i < n; i++)
		sim_check_no_conflict(sim, i);
	if (sim->num_revived)
		sim_fail(sim, "something came back though all was done in sequence");
}

void sim_settle(struct sim *sim)
{
	int n = sim->params.num_peers, changes = 1, rounds = 0;

	sim->params.races = false;
	for (; changes && !sim->failure[0]; rounds++) {
		changes = 0;
		for (int p = 0; p < n; p++) {
			for (int q = 0; q < n; q++)
				changes += sim_pull(sim, p, q) > 0;
		}
		/* One for the news, one for what closure wrote meanwhile, one to see that it is
		 * quiet. */
		if (rounds > 3)
			sim_fail(sim, "still changing after %d rounds of all pairs", rounds);
	}
	sim_check_equal(sim);
}

void sim_run(struct sim *sim)
{
	int writer = 0;

	for (int i = 0; i < sim->params.num_ops && !sim->failure[0]; i++) {
		if (sim->params.sequential)
			sequential_thing(sim, &writer);
		else
			random_thing(sim);
	}
	sim_settle(sim);
}
