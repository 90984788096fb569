/*
 * A pull p <- q at p (tree/merge.h). What the peer sends is staged in arena frames of its own,
 * which mean nothing until the pull's commit frame: the changes refer to the records where they
 * lie. The commit frame, synced, is the moment at which the pull happened.
 */
#include "stored/change.h"
#include "stored/changes.h"
#include "stored/fallen.h"
#include "stored/history.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_SHIFT 40 /* a handle is arena << 40 | offset of the record */
#define EFFECT_BYTES 64 /* of an effect in the log, about */

struct pull {
	struct volume *vol;
	struct tree_pull *merge; /* made by the first step */
	struct tree_knowledge asked;
	uint8_t peer[32];    /* who is pulled from */
	struct place *blobs; /* staged and not fed yet */
	size_t num_blobs, cap_blobs;
};

int engine_pull_begin(struct engine *engine, struct volume *vol, struct pull **ret,
	uint8_t *ret_known, size_t *ret_len)
{
	struct pull *pull;
	int r;

	if (vol->pull)
		return engine_fail(engine, -EBUSY,
			"volume %s: a sync is running already; wait for it to end", vol->name);
	pull = calloc(1, sizeof(*pull));
	if (!pull)
		return -ENOMEM;
	r = tree_knowledge_copy(&pull->asked, &vol->state.known);
	if (r == 0)
		r = tree_knowledge_encode(&pull->asked, ret_known, TREE_KNOWLEDGE_SIZE);
	if (r < 0) {
		tree_knowledge_release(&pull->asked);
		free(pull);
		return r;
	}
	*ret_len = (size_t)r;
	pull->vol = vol;
	vol->pull = pull;
	*ret = pull;
	return 0;
}

void engine_pull_name(struct pull *pull, const uint8_t peer[32])
{
	memcpy(pull->peer, peer, sizeof(pull->peer));
}

void engine_pull_abort(struct engine *engine, struct pull *pull)
{
	pull->vol->pull = NULL;
	tree_pull_free(pull->merge);
	tree_knowledge_release(&pull->asked);
	free(pull->blobs);
	free(pull);
}

int engine_pull_put(struct engine *engine, struct pull *pull, const uint8_t *a, size_t a_len,
	const uint8_t *b, size_t b_len)
{
	struct place place;
	uint8_t *p;
	int r;

	if (a_len + b_len == 0)
		return 0;
	if (engine_room(engine) != 0)
		return engine_fail(
			engine, -ENOSPC, "the disk is full; free some space and sync again");
	if (pull->num_blobs == pull->cap_blobs) {
		size_t cap = pull->cap_blobs ? pull->cap_blobs * 2 : 64;
		struct place *blobs = realloc(pull->blobs, cap * sizeof(*blobs));

		if (!blobs)
			return -ENOMEM;
		pull->blobs = blobs;
		pull->cap_blobs = cap;
	}
	r = engine_begin_frame(engine);
	if (r < 0)
		return r;
	p = arenas_add(&engine->arenas, a_len + b_len);
	if (!p) {
		arenas_cancel(&engine->arenas);
		return -ENOMEM;
	}
	if (a_len > 0)
		memcpy(p, a, a_len);
	if (b_len > 0)
		memcpy(p + a_len, b, b_len);
	r = arenas_end(&engine->arenas, FRAME_PULL_PART, &place);
	if (r == 0)
		r = engine_flush(engine);
	if (r == 0)
		pull->blobs[pull->num_blobs++] = place;
	return r;
}

/* ---- the local side, as the merge asks for it */

struct local {
	struct engine *engine;
	struct volume *vol;
};

static int visit_register(
	struct engine *engine, const struct reg *reg, tree_visit_fn *visit, void *arg)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < reg->num; i++)
		r = visit(arg, &reg->e[i].e);
	return r;
}

static int visit_prefix(
	struct local *l, const struct row_key *prefix, tree_visit_fn *visit, void *arg)
{
	struct reg *reg = &l->engine->old;
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(l->engine), DB_RECORDS, prefix->b, prefix->len, NULL, 0);
	while (r == 1) {
		r = reg_parse(reg, it.value, it.value_len);
		if (r == 0)
			r = visit_register(l->engine, reg, visit, arg);
		if (r != 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int local_unit(void *ctx, const struct tree_unit *unit, tree_visit_fn *visit, void *arg)
{
	struct local *l = ctx;
	struct row_key k;

	row_start(&k, l->vol->number);
	row_unit(&k, unit);
	return visit_prefix(l, &k, visit, arg);
}

static int local_all(void *ctx, tree_visit_fn *visit, void *arg)
{
	struct local *l = ctx;
	struct row_key k;

	row_start(&k, l->vol->number);
	return visit_prefix(l, &k, visit, arg);
}

/* Elements of the links that a table names; by_target: those that point to oid, else those below.
 */
static int visit_links(struct local *l, enum db_table table, uint64_t oid, bool by_target,
	tree_visit_fn *visit, void *arg)
{
	struct tree_key key = { .kind = TREE_LINK };
	struct reg *reg = &l->engine->old;
	struct row_key k;
	struct db_iter it;
	size_t i;
	int r;

	row_one(&k, l->vol->number, oid);
	r = db_iter_first(&it, txn(l->engine), table, k.b, k.len, NULL, 0);
	while (r == 1) {
		key.id = be64_get(it.key + 12);
		r = reg_load(reg, txn(l->engine), l->vol->number, &key);
		for (i = 0; r == 0 && i < reg->num; i++)
			if ((by_target ? reg->e[i].e.target : reg->e[i].e.parent) == oid)
				r = visit(arg, &reg->e[i].e);
		if (r != 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int local_links_to(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct local *l = ctx;
	struct reg *reg = &l->engine->old;
	size_t i;
	int r;

	/* A directory's own link has no row in targets. */
	r = reg_load(reg, txn(l->engine), l->vol->number, &key);
	for (i = 0; r == 0 && i < reg->num; i++)
		if (reg->e[i].e.target == oid)
			r = visit(arg, &reg->e[i].e);
	return r != 0 ? r : visit_links(l, DB_TARGETS, oid, true, visit, arg);
}

static int local_links_under(void *ctx, uint64_t oid, tree_visit_fn *visit, void *arg)
{
	return visit_links(ctx, DB_DIRS, oid, false, visit, arg);
}

/* ---- merging */

static int split_known(const uint8_t *data, size_t len, struct tree_knowledge *ret_known,
	struct tree_knowledge *ret_horizon)
{
	size_t size;
	int r;

	if (len < 2 * TREE_KNOWLEDGE_HEAD)
		return -EBADMSG;
	size = TREE_KNOWLEDGE_HEAD + (size_t)(le32_get(data) >> 8) * TREE_KNOWLEDGE_PAIR;
	if (size > len)
		return -EBADMSG;
	r = tree_knowledge_decode(ret_known, data, size);
	return r < 0 ? r : tree_knowledge_decode(ret_horizon, data + size, len - size);
}

static int merge_new(struct pull *pull, const uint8_t *known, size_t len, bool is_full)
{
	struct tree_knowledge remote = { 0 }, horizon = { 0 };
	int r;

	r = split_known(known, len, &remote, &horizon);
	if (r == 0)
		r = tree_pull_new(&pull->merge, &pull->asked, &remote, &horizon, is_full);
	tree_knowledge_release(&remote);
	tree_knowledge_release(&horizon);
	return r;
}

static int merge_feed(struct engine *engine, struct pull *pull)
{
	uint8_t *data = NULL;
	size_t cap = 0, i;
	int r = 0;

	for (i = 0; r == 0 && i < pull->num_blobs; i++) {
		struct place at = pull->blobs[i];

		r = scratch_grow(&data, &cap, at.len);
		if (r == 0)
			r = arenas_read(&engine->arenas, at, data);
		if (r == 0)
			r = tree_pull_feed(pull->merge, data, at.len,
				(uint64_t)at.arena << HANDLE_SHIFT | at.offset);
	}
	pull->num_blobs = 0;
	free(data);
	return r;
}

/* ---- applying */

struct applying {
	struct engine *engine;
	struct volume *vol;
	const struct tree_pull *merge;
	uint64_t *kept; /* inodes whose attr register gets something, sorted */
	size_t num_kept;
	struct engine_changes *changes;
	uint64_t last_target;
};

static int oid_compare(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return (a > b) - (a < b);
}

static int find_kept(struct applying *a)
{
	size_t i;

	a->kept = malloc((a->merge->num_effects + 1) * sizeof(*a->kept));
	if (!a->kept)
		return -ENOMEM;
	for (i = 0; i < a->merge->num_effects; i++) {
		const struct tree_effect *effect = &a->merge->effects[i];

		if (effect->e.key.kind == TREE_ATTR && effect->type != TREE_REMOVE)
			a->kept[a->num_kept++] = effect->e.key.id;
	}
	if (a->num_kept > 0)
		qsort(a->kept, a->num_kept, sizeof(*a->kept), oid_compare);
	return 0;
}

/* The peer deleted an inode that somebody here may have open: all of it is set aside first. */
static int keep_removed(struct applying *a, const struct tree_effect *effect)
{
	struct tree_unit inode = { .id = effect->e.key.id };
	struct tree_unit link = { .id = effect->e.key.id, .is_link = true };
	struct tree_stamp none = { 0 };
	struct tree_element e;
	struct reg *reg = &a->engine->old;
	int r;

	if (effect->type != TREE_REMOVE || effect->e.key.kind != TREE_ATTR ||
		(a->num_kept > 0 &&
			bsearch(&inode.id, a->kept, a->num_kept, sizeof(*a->kept), oid_compare)))
		return 0;
	r = reg_load(reg, txn(a->engine), a->vol->number, &effect->e.key);
	if (r < 0 || reg->num != 1)
		return r;
	e = reg->e[0].e;
	r = change_move(a->engine, a->vol, &inode, true, none, 0);
	if (r == 0 && (e.flags & TREE_DIRECTORY))
		r = change_move(a->engine, a->vol, &link, true, none, 0);
	return r;
}

static int apply_effect(struct applying *a, const struct tree_effect *effect)
{
	struct place place = { .arena = (uint32_t)(effect->handle >> HANDLE_SHIFT),
		.offset = effect->handle & ((UINT64_C(1) << HANDLE_SHIFT) - 1) };
	const struct tree_element *e = &effect->e;
	uint8_t head[TREE_RECORD_HEAD];
	int r;

	switch (effect->type) {
	case TREE_TAKE:
	case TREE_TAKE_RESTAMPED:
		place.len = sizeof(head);
		r = arenas_read(&a->engine->arenas, place, head);
		if (r < 0)
			return r;
		place.len =
			(uint32_t)(TREE_RECORD_HEAD + head[3] * TREE_REF_SIZE) + le32_get(head + 4);
		if (place.len > TREE_RECORD_MAX)
			return -EBADMSG;
		return change_take(
			a->engine, a->vol, place, e->stamp, e->lamport, a->vol->view + 1);
	case TREE_RESTAMP:
		return change_restamp(
			a->engine, a->vol, &e->key, effect->old, e->stamp, e->lamport);
	case TREE_REMOVE:
		return change_delete(a->engine, a->vol, &e->key, e->stamp);
	}
	return -EBADMSG;
}

static int note_change(struct applying *a, const struct tree_element *e)
{
	struct engine_change change = { .kind = e->key.kind, .id = e->key.id, .parent = e->parent };
	int r;

	memcpy(change.tag, e->tag, TREE_TAG_SIZE);
	r = engine_changes_add(a->changes, &change);
	if (r < 0 || e->key.kind != TREE_LINK || e->target == a->last_target)
		return r;
	/* Its number of links changed as well. */
	a->last_target = e->target;
	change = (struct engine_change){ .kind = TREE_ATTR, .id = e->target };
	return engine_changes_add(a->changes, &change);
}

/* Where a link is shown before an effect: another of its elements may win, and that place is none
 * of the peer's; nor is the root, where it may be out of a cycle. */
static int note_place(struct applying *a, const struct tree_key *key)
{
	struct engine_change change = { .kind = TREE_LINK, .id = key->id };
	struct reg *reg = &a->engine->new;
	const struct tree_element *shown;
	int r;

	if (key->kind != TREE_LINK)
		return 0;
	r = reg_load(reg, txn(a->engine), a->vol->number, key);
	if (r < 0 || reg->num == 0)
		return r;
	shown = &reg->e[reg_winner(reg)].e;
	change.parent = fallen_has(a->engine, a->vol, key->id) ? TREE_ROOT : shown->parent;
	memcpy(change.tag, shown->tag, sizeof(change.tag));
	return engine_changes_add(a->changes, &change);
}

static int apply_all(struct applying *a)
{
	const struct tree_pull *merge = a->merge;
	struct volume *vol = a->vol;
	bool changed = false;
	size_t i;
	int r;

	r = vol->keep_removed ? find_kept(a) : 0;
	for (i = 0; r == 0 && vol->keep_removed && i < merge->num_effects; i++) {
		r = keep_removed(a, &merge->effects[i]);
		if (r == 0)
			r = change_cut(a->engine, a->vol);
	}
	/* What goes makes room first, so that a register never holds more than it ends with. */
	for (i = 0; r == 0 && i < merge->num_effects * 2; i++) {
		const struct tree_effect *effect = &merge->effects[i % merge->num_effects];

		if ((effect->type == TREE_REMOVE) != (i < merge->num_effects))
			continue;
		r = note_place(a, &effect->e.key);
		if (r == 0)
			r = apply_effect(a, effect);
		if (r == 0)
			r = note_change(a, &effect->e);
		if (r == 0)
			r = change_cut(a->engine, a->vol);
	}
	for (i = 0; r == 0 && i < merge->num_deaths; i++) {
		r = change_dead(a->engine, vol, &merge->deaths[i].unit, merge->deaths[i].label);
		if (r == 0)
			r = change_cut(a->engine, a->vol);
	}
	if (r == 0)
		r = fallen_update(a->engine, vol, &changed);
	if (r < 0)
		return r;
	if (changed)
		a->changes->all = true;
	vol->state.clock = merge->state.clock;
	vol->view++;
	r = tree_knowledge_copy(&vol->state.known, &merge->state.known);
	if (r == 0)
		r = tree_knowledge_copy(&vol->state.horizon, &merge->state.horizon);
	return r < 0 ? r : change_state(a->engine, vol);
}

static int apply(struct engine *engine, struct pull *pull, struct pull_result *result)
{
	struct volume *vol = pull->vol;
	struct change_head head = { .vol = vol->number };
	struct applying a = {
		.engine = engine, .vol = vol, .merge = pull->merge, .changes = &result->changes
	};
	int r = 0;

	/* Of more than a part its rows would fill the memory. */
	if (pull->merge->num_effects > engine->options.part_size / EFFECT_BYTES)
		r = engine_go_straight(engine);
	if (r == 0)
		r = change_begin(engine);
	if (r < 0)
		return r;
	head.time = change_time(engine, vol);
	r = apply_all(&a);
	free(a.kept);
	if (r == 0 && pull->merge->num_effects > 0)
		r = change_pulled(
			engine, vol, head.time, pull->peer, pull->merge->num_effects, false);
	if (r == 0)
		r = history_end(engine, vol);
	if (r == 0)
		r = change_end(engine, FRAME_PULL_COMMIT, &head, NULL);
	if (r == 0)
		return engine_sync(engine);
	/* Nothing of it is committed: the index forgets it, the log ignores it. */
	change_cancel(engine);
	if (r == -EOVERFLOW)
		return engine_undo(engine, r);
	if (engine_rollback(engine) < 0)
		return -EIO;
	return r;
}

static int explain(struct engine *engine, const struct volume *vol, int r)
{
	switch (r) {
	case -EBADMSG:
	case -EPROTONOSUPPORT:
		return engine_fail(engine, r,
			"volume %s: the peer sent what no bazil of this version sends; nothing was "
			"changed; upgrade the older of the two",
			vol->name);
	case -EAGAIN:
	case -ESTALE:
		return engine_fail(engine, r,
			"volume %s: files changed on both sides meanwhile; nothing was changed; "
			"sync "
			"again",
			vol->name);
	case -ENOSPC:
		return engine_fail(engine, r,
			"volume %s: the disk is full; nothing was changed; free some space and "
			"sync "
			"again",
			vol->name);
	case -ENOTUNIQ:
		return engine_fail(engine, r,
			"volume %s: another store uses the same replica number (was this data "
			"directory copied?); unmount the volume and sync again",
			vol->name);
	default:
		return engine_fail(engine, r, "volume %s: sync failed: %s; nothing was changed",
			vol->name, strerror(-r));
	}
}

/* Somebody else writes under our number: a copy of this store. From now on we have another one; the
 * numbers of inodes follow. A mount keeps a range of the old ones, so only without a mount. */
static void renumber(struct engine *engine, struct volume *vol)
{
	struct change_head head = { .vol = vol->number };
	uint32_t replica;

	if (vol->keep_removed || engine_flush(engine) < 0)
		return;
	do {
		if (engine->io->random(engine->io->ctx, &replica, sizeof(replica)) < 0)
			return;
		replica &= TREE_REPLICA_MAX;
	} while (replica <= 1 || tree_knowledge_epoch(&vol->state.known, replica) > 0);
	vol->state.clock.replica = replica;
	vol->state.clock.epoch = 1;
	vol->next = vol->reserved = vol->fresh_from = 2;
	if (change_begin(engine) < 0)
		return;
	if (change_state(engine, vol) < 0 || change_end(engine, FRAME_SETTINGS, &head, NULL) < 0) {
		change_cancel(engine);
		engine_rollback(engine);
		return;
	}
	engine_sync(engine);
	engine_log(
		engine, 4, "store: a volume took a new replica number, the old one is used twice");
}

static void put_needs(const struct pull *pull, struct pull_result *result)
{
	size_t num = pull->merge->num_needs, i;

	if (num > result->need_cap / 8)
		num = result->need_cap / 8;
	for (i = 0; i < num; i++)
		le64_put(result->need + 8 * i, pull->merge->needs[i]);
	result->need_len = 8 * num;
}

static int step(struct engine *engine, struct pull *pull, const uint8_t *known, size_t len,
	bool is_full, struct pull_result *result)
{
	struct local local = { engine, pull->vol };
	struct tree_local callbacks = { &local, local_unit, local_links_to, local_links_under,
		local_all };
	int r, attempt;

	r = engine_flush(engine);
	if (r == 0 && !pull->merge)
		r = merge_new(pull, known, len, is_full);
	if (r == 0)
		r = merge_feed(engine, pull);
	for (attempt = 0; r == 0 && attempt < 4; attempt++) {
		r = tree_pull_step(pull->merge, &pull->vol->state, &callbacks);
		if (r == TREE_PULL_NEED) {
			put_needs(pull, result);
			return TREE_PULL_NEED;
		}
		if (r < 0)
			return r;
		result->num_changed = pull->merge->num_effects;
		r = apply(engine, pull, result);
		if (r != -ERESTART)
			return r;
		/* The index has grown meanwhile. */
		r = 0;
		engine_changes_release(&result->changes);
	}
	return r == 0 ? -EIO : r;
}

int engine_pull_step(struct engine *engine, struct pull *pull, const uint8_t *known, size_t len,
	bool is_full, struct pull_result *result)
{
	struct volume *vol = pull->vol;
	int r;

	result->need_len = 0;
	r = step(engine, pull, known, len, is_full, result);
	if (r == TREE_PULL_NEED)
		return 0;
	result->num_conflicts = vol->num_conflicts;
	engine_pull_abort(engine, pull);
	if (r == -ENOTUNIQ)
		renumber(engine, vol);
	if (r < 0) {
		engine_changes_release(&result->changes);
		return explain(engine, vol, r);
	}
	return 0;
}
