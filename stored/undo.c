#include "stored/undo.h"

#include "stored/batch.h"
#include "stored/change.h"
#include "stored/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX (48u << 20) /* of records in the one frame of an undo */
#define DEPTH_MAX 4096

/* ---- the list */

static int row_parse(struct pulled *ret, const struct row_key *k, const uint8_t *row, size_t len)
{
	if (len != 41)
		return -EUCLEAN;
	ret->time = be64_get(k->b + 4);
	ret->num_changed = le64_get(row);
	ret->is_undone = row[8];
	memcpy(ret->peer, row + 9, 32);
	return 0;
}

/* The table is ascending: all of it is read, and the last ones are kept. */
int undo_list(struct engine *engine, const struct volume *vol, uint64_t before, struct pulled *ret,
	size_t max, size_t *ret_num, bool *ret_end)
{
	struct row_key prefix, k;
	struct db_iter it;
	struct pulled one;
	size_t num = 0;
	int r;

	row_start(&prefix, vol->number);
	r = db_iter_first(&it, txn(engine), DB_PULLS, prefix.b, prefix.len, NULL, 0);
	while (r == 1 && it.key_len == 12 && (before == 0 || be64_get(it.key + 4) < before)) {
		memcpy(k.b, it.key, 12);
		r = row_parse(&one, &k, it.value, it.value_len);
		if (r < 0)
			break;
		ret[num++ % max] = one;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_end = num <= max;
	*ret_num = num < max ? num : max;
	if (num > max) { /* a ring: from its oldest on */
		struct pulled *copy = malloc(max * sizeof(*copy));

		if (!copy)
			return -ENOMEM;
		memcpy(copy, ret, max * sizeof(*copy));
		for (size_t i = 0; i < max; i++)
			ret[i] = copy[(num + i) % max];
		free(copy);
	}
	for (size_t i = 0; i < *ret_num / 2; i++) {
		one = ret[i];
		ret[i] = ret[*ret_num - 1 - i];
		ret[*ret_num - 1 - i] = one;
	}
	return r < 0 ? r : 0;
}

static bool is_sync(const struct pulled *p)
{
	static const uint8_t nobody[32];

	return memcmp(p->peer, nobody, sizeof(nobody)) != 0;
}

static int find(struct engine *engine, const struct volume *vol, uint64_t time, struct pulled *ret)
{
	struct row_key prefix, k;
	struct db_iter it;
	struct pulled one;
	int r, found = 0;

	row_start(&prefix, vol->number);
	r = db_iter_first(&it, txn(engine), DB_PULLS, prefix.b, prefix.len, NULL, 0);
	while (r == 1 && it.key_len == 12) {
		memcpy(k.b, it.key, 12);
		r = row_parse(&one, &k, it.value, it.value_len);
		if (r < 0)
			break;
		if (time ? one.time == time : is_sync(&one) && !one.is_undone) {
			*ret = one;
			found = 1;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : found ? 0 : -ENOENT;
}

/* ---- what is to be done */

struct plan {
	struct engine *engine;
	struct volume *vol;
	uint64_t time;
	struct tree_key *keys; /* of the registers that changed then, ascending */
	size_t num_keys, cap_keys;
	struct step {
		struct batch_op op;
		unsigned depth; /* of a directory that goes */
		/* Of a link: the inode, and where it was until now; parent 0: nowhere. */
		uint64_t target, parent;
		uint8_t tag[TREE_TAG_SIZE];
	} * steps;
	size_t num_steps, bytes;
	uint64_t *held; /* inodes that the sync brought and that somebody changed since */
	size_t num_held;
	struct undo_result *result;
};

static int key_compare(const void *x, const void *y)
{
	return tree_key_compare(x, y);
}

static int add_keys(struct plan *p, const uint8_t *row, size_t len)
{
	struct history_cursor c = { row, row + len };
	enum history_entry type;
	const uint8_t *bytes;
	struct row_key k;
	int r;

	while ((r = history_next(&c, p->vol->number, &type, &k, &bytes, &len)) == 1) {
		uint8_t packed[TREE_KEY_SIZE] = { 0 };

		if (type != HISTORY_REGISTER)
			continue;
		if (p->num_keys == UNDO_REGISTERS_MAX)
			return -E2BIG;
		if (p->num_keys == p->cap_keys) {
			size_t cap = p->cap_keys ? p->cap_keys * 2 : 256;
			struct tree_key *keys = realloc(p->keys, cap * sizeof(*keys));

			if (!keys)
				return -ENOMEM;
			p->keys = keys;
			p->cap_keys = cap;
		}
		memcpy(packed, bytes + 1, len - 1);
		if (tree_key_unpack(packed, &p->keys[p->num_keys++]) < 0)
			return -EUCLEAN;
	}
	return r;
}

static int find_keys(struct plan *p)
{
	struct row_key prefix;
	struct db_iter it;
	size_t i, num = 0;
	int r;

	row_one(&prefix, p->vol->number, p->time);
	r = db_iter_first(&it, txn(p->engine), DB_TIMES, prefix.b, prefix.len, NULL, 0);
	while (r == 1) {
		r = add_keys(p, it.value, it.value_len);
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r < 0 || p->num_keys == 0)
		return r;
	qsort(p->keys, p->num_keys, sizeof(*p->keys), key_compare);
	for (i = 1; i < p->num_keys; i++)
		if (tree_key_compare(&p->keys[num], &p->keys[i]) != 0)
			p->keys[++num] = p->keys[i];
	p->num_keys = num + 1;
	p->steps = calloc(p->num_keys, sizeof(*p->steps));
	p->held = calloc(p->num_keys, sizeof(*p->held));
	return p->steps && p->held ? 0 : -ENOMEM;
}

/* 1: the register has another value since the sync. */
static int changed_since(struct plan *p, const struct tree_key *key)
{
	struct row_key live, start;
	struct db_iter it;
	struct reg *reg = &p->engine->new;
	int r;

	r = reg_load(reg, txn(p->engine), p->vol->number, key);
	if (r < 0 || reg->num > 0)
		return r < 0 ? r : reg->since > p->time;
	row_record(&live, p->vol->number, key);
	history_row(&start, HISTORY_REGISTER, &live, p->time + 1);
	r = db_iter_first(&it, txn(p->engine), DB_HIST, live.b, live.len, start.b, start.len);
	if (r == 1)
		r = it.key_len == start.len;
	db_iter_close(&it);
	return r;
}

static int before(struct plan *p, const struct tree_key *key, struct reg *ret)
{
	return history_load(ret, txn(p->engine), p->vol, key, p->time - 1);
}

static bool is_held(const struct plan *p, uint64_t oid)
{
	size_t i;

	for (i = 0; i < p->num_held; i++)
		if (p->held[i] == oid)
			return true;
	return false;
}

/* It was not there before, and somebody wrote into it since. */
static int hold(struct plan *p, const struct tree_key *attr)
{
	struct tree_unit unit = { .id = attr->id };
	struct reg *reg = &p->engine->old;
	struct row_key k;
	struct db_iter it;
	int r;

	r = before(p, attr, reg);
	if (r < 0 || reg->num > 0)
		return r;
	row_start(&k, p->vol->number);
	row_unit(&k, &unit);
	r = db_iter_first(&it, txn(p->engine), DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1) {
		if (it.value_len >= 8 && le64_get(it.value) > p->time) {
			p->held[p->num_held++] = attr->id;
			break;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : 0;
}

static void stays(struct plan *p, uint64_t oid)
{
	struct undo_result *result = p->result;
	size_t i;

	result->num_stayed++;
	for (i = 0; i < result->num_kept; i++)
		if (result->kept[i] == oid)
			return;
	if (result->num_kept < UNDO_KEPT_MAX)
		result->kept[result->num_kept++] = oid;
}

static unsigned depth_of(struct plan *p, uint64_t dir)
{
	struct tree_key key = { .id = dir, .kind = TREE_LINK };
	struct reg *reg = &p->engine->new;
	unsigned depth = 1;

	while (key.id != TREE_ROOT && depth < DEPTH_MAX) {
		if (reg_load(reg, txn(p->engine), p->vol->number, &key) < 0 || reg->num == 0)
			break;
		key.id = reg->e[reg_winner(reg)].e.parent;
		depth++;
	}
	return depth;
}

/* A link whose register is loaded in p->engine->new. */
static void leaves(struct plan *p, struct step *step)
{
	const struct reg *reg = &p->engine->new;

	if (step->op.key.kind != TREE_LINK || reg->num == 0)
		return;
	step->target = reg->e[reg_winner(reg)].e.target;
	step->parent = reg->e[reg_winner(reg)].e.parent;
	memcpy(step->tag, reg->e[reg_winner(reg)].e.tag, TREE_TAG_SIZE);
}

static int add_put(struct plan *p, const struct tree_key *key, const struct reg *was)
{
	const struct element *e = &was->e[reg_winner(was)];
	struct batch_op op = { .key = *key, .len = element_size(e) };
	struct step *step;
	int r;

	p->bytes += op.len;
	if (p->bytes > BYTES_MAX)
		return -E2BIG;
	op.data = malloc(op.len);
	if (!op.data)
		return -ENOMEM;
	step = &p->steps[p->num_steps++];
	step->op = op;
	step->target = e->e.target;
	r = element_read(&p->engine->arenas, e, op.data);
	if (r == 0)
		r = reg_load(&p->engine->new, txn(p->engine), p->vol->number, key);
	if (r == 0)
		leaves(p, step);
	return r == -EBADMSG ? -EIO : r;
}

static int add_removal(struct plan *p, const struct tree_key *key)
{
	struct reg *reg = &p->engine->new;
	struct tree_key attr = { .id = key->id, .kind = TREE_ATTR };
	struct step *step;
	int r;

	/* With its attr all of an inode goes. */
	if (key->kind == TREE_BODY || key->kind == TREE_XATTR) {
		r = before(p, &attr, reg);
		if (r < 0 || reg->num == 0)
			return r;
	}
	/* The first contents of a file that was made empty: a merge takes a body that goes alone
	 * for one half of a deletion and brings it back, and nobody here can seal an empty one. */
	if (key->kind == TREE_BODY) {
		stays(p, key->id);
		return 0;
	}
	r = reg_load(reg, txn(p->engine), p->vol->number, key);
	if (r < 0 || reg->num == 0)
		return r;
	step = &p->steps[p->num_steps++];
	step->op.key = *key;
	leaves(p, step);
	if (key->kind == TREE_LINK && (reg->e[reg_winner(reg)].e.flags & TREE_DIRECTORY))
		step->depth = depth_of(p, key->id);
	return 0;
}

static int plan_one(struct plan *p, const struct tree_key *key)
{
	struct reg *was = &p->engine->old;
	uint64_t oid = key->id, target = 0;
	int r, changed;

	changed = changed_since(p, key);
	if (changed < 0)
		return changed;
	if (key->kind == TREE_LINK) {
		r = history_load(was, txn(p->engine), p->vol, key, p->time);
		if (r == 0 && was->num == 0)
			r = before(p, key, was);
		if (r < 0 || was->num == 0)
			return r;
		oid = target = was->e[reg_winner(was)].e.target;
	}
	r = before(p, key, was);
	if (r < 0)
		return r;
	if (changed || (was->num == 0 && is_held(p, target ? target : key->id))) {
		stays(p, oid);
		return 0;
	}
	return was->num > 0 ? add_put(p, key, was) : add_removal(p, key);
}

/* What goes comes in the order of depth, the deepest first; the order of the rest is free. */
static int step_compare(const void *x, const void *y)
{
	unsigned a = ((const struct step *)x)->depth, b = ((const struct step *)y)->depth;

	return (a < b) - (a > b);
}

static int plan(struct plan *p)
{
	size_t i;
	int r;

	r = find_keys(p);
	for (i = 0; r == 0 && i < p->num_keys; i++)
		if (p->keys[i].kind == TREE_ATTR)
			r = hold(p, &p->keys[i]);
	for (i = 0; r == 0 && i < p->num_keys; i++)
		r = plan_one(p, &p->keys[i]);
	if (r == 0 && p->num_steps > 0)
		qsort(p->steps, p->num_steps, sizeof(*p->steps), step_compare);
	return r;
}

/* ---- doing it */

static int note_link(struct plan *p, const struct step *step)
{
	struct engine_changes *changes = &p->result->changes;
	struct engine_change change = {
		.kind = TREE_LINK, .id = step->op.key.id, .parent = step->parent
	};
	struct tree_record rec;
	int r = 0;

	memcpy(change.tag, step->tag, TREE_TAG_SIZE);
	if (step->parent != 0)
		r = engine_changes_add(changes, &change);
	if (r == 0 && step->op.data) {
		r = tree_record_parse(step->op.data, step->op.len, &rec);
		change.parent = rec.e.parent;
		memcpy(change.tag, rec.e.tag, TREE_TAG_SIZE);
		if (r == 0)
			r = engine_changes_add(changes, &change);
	}
	/* Its number of links changed as well. */
	change = (struct engine_change){ .kind = TREE_ATTR, .id = step->target };
	return r < 0 ? r : engine_changes_add(changes, &change);
}

static int note_changes(struct plan *p)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < p->num_steps; i++) {
		const struct tree_key *key = &p->steps[i].op.key;
		struct engine_change change = { .kind = key->kind, .id = key->id };

		memcpy(change.tag, key->tag, TREE_TAG_SIZE);
		r = key->kind == TREE_LINK ? note_link(p, &p->steps[i])
					   : engine_changes_add(&p->result->changes, &change);
	}
	return r;
}

static int apply(struct plan *p, const struct batch_op *ops, const struct pulled *sync)
{
	static const uint8_t nobody[32];
	struct engine *engine = p->engine;
	struct volume *vol = p->vol;
	struct change_head head = { .vol = vol->number };
	int r;

	r = change_begin(engine);
	if (r < 0)
		return r;
	head.time = change_time(engine, vol);
	r = batch_restore(engine, vol, ops, p->num_steps, &p->result->changes);
	if (r == 0)
		r = note_changes(p);
	vol->view++;
	if (r == 0)
		r = change_pulled(engine, vol, sync->time, sync->peer, sync->num_changed, true);
	if (r == 0)
		r = change_pulled(engine, vol, head.time, nobody, p->num_steps, false);
	if (r == 0)
		r = change_state(engine, vol);
	if (r == 0)
		r = history_end(engine, vol);
	if (r == 0)
		r = change_end(engine, FRAME_PULL_COMMIT, &head, NULL);
	if (r == 0)
		return engine_sync(engine);
	change_cancel(engine);
	return engine_rollback(engine) < 0 ? -EIO : r;
}

static int run(struct plan *p, const struct pulled *sync)
{
	struct batch_op *ops;
	size_t i;
	int r;

	r = plan(p);
	if (r < 0 || p->num_steps == 0)
		return r;
	ops = calloc(p->num_steps, sizeof(*ops));
	if (!ops)
		return -ENOMEM;
	for (i = 0; i < p->num_steps; i++)
		ops[i] = p->steps[i].op;
	r = apply(p, ops, sync);
	free(ops);
	if (r == 0)
		p->result->num_restored = p->num_steps;
	return r;
}

static int explain(struct engine *engine, const struct volume *vol, int r)
{
	switch (r) {
	case -ENOENT:
		return engine_fail(engine, r,
			"volume %s: there is no such sync to undo; `bazil volume syncs` lists them",
			vol->name);
	case -ESTALE:
		return engine_fail(engine, r,
			"volume %s: what was before that sync is not kept any more", vol->name);
	case -EALREADY:
		return engine_fail(engine, r,
			"volume %s: that sync is undone; undo the undoing to have it again",
			vol->name);
	case -E2BIG:
		return engine_fail(engine, r,
			"volume %s: that sync changed too much to undo it at once; mount the "
			"instant "
			"before it and copy what is needed",
			vol->name);
	case -EBUSY:
		return engine_fail(
			engine, r, "volume %s: a sync is running; wait for it to end", vol->name);
	case -ENOSPC:
		return engine_fail(engine, r,
			"volume %s: the disk is full; nothing was changed; free some space",
			vol->name);
	default:
		return engine_fail(engine, r, "volume %s: undo failed: %s; nothing was changed",
			vol->name, strerror(-r));
	}
}

int undo_run(struct engine *engine, struct volume *vol, uint64_t time, struct undo_result *result)
{
	struct plan p = { .engine = engine, .vol = vol, .result = result };
	struct pulled sync;
	size_t i;
	int r;

	result->num_restored = result->num_stayed = result->num_kept = 0;
	r = vol->pull ? -EBUSY : engine_flush(engine);
	if (r == 0)
		r = find(engine, vol, time, &sync);
	if (r == 0 && sync.is_undone)
		r = -EALREADY;
	if (r == 0 && sync.time <= vol->kept.all)
		r = -ESTALE;
	if (r == 0) {
		result->time = p.time = sync.time;
		r = run(&p, &sync);
	}
	for (i = 0; i < p.num_steps; i++)
		free(p.steps[i].op.data);
	free(p.steps);
	free(p.keys);
	free(p.held);
	return r < 0 ? explain(engine, vol, r) : 0;
}
