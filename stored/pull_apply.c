#include "stored/change.h"
#include "stored/changes.h"
#include "stored/fallen.h"
#include "stored/history.h"
#include "stored/object.h"
#include "stored/pull_state.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	struct place place = { .arena = (uint32_t)(effect->handle >> PULL_HANDLE_SHIFT),
		.offset = effect->handle & ((UINT64_C(1) << PULL_HANDLE_SHIFT) - 1) };
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

int pull_apply(struct engine *engine, struct pull *pull, struct pull_result *result)
{
	struct volume *vol = pull->vol;
	struct change_head head = { .vol = vol->number };
	struct applying a = {
		.engine = engine, .vol = vol, .merge = pull->merge, .changes = &result->changes
	};
	int r;

	r = engine_expect(engine, pull->merge->num_effects);
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
	return change_commit_parts(engine, vol, &head, r);
}
