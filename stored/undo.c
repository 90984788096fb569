#include "stored/undo.h"

#include "stored/batch.h"
#include "stored/change.h"
#include "stored/changes.h"
#include "stored/history.h"
#include "stored/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	struct batch_op *ops; /* depth: of a directory that goes */
	size_t num_ops;
	uint64_t *held; /* inodes that the sync brought and that somebody changed since */
	size_t num_held, cap_held;
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
	p->ops = calloc(p->num_keys, sizeof(*p->ops));
	return p->ops ? 0 : -ENOMEM;
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

static int oid_compare(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return (a > b) - (a < b);
}

static bool is_held(const struct plan *p, uint64_t oid)
{
	return p->num_held > 0 &&
	       bsearch(&oid, p->held, p->num_held, sizeof(oid), oid_compare) != NULL;
}

/* In the order of the keys, which is that of the inodes. */
static int add_held(struct plan *p, uint64_t oid)
{
	if (p->num_held == p->cap_held) {
		size_t cap = p->cap_held ? p->cap_held * 2 : 64;
		uint64_t *held = realloc(p->held, cap * sizeof(*held));

		if (!held)
			return -ENOMEM;
		p->held = held;
		p->cap_held = cap;
	}
	p->held[p->num_held++] = oid;
	return 0;
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
			r = add_held(p, attr->id);
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

static int note(struct plan *p, const struct tree_element *e, uint8_t kind)
{
	struct engine_change change = { .kind = kind, .id = e->key.id };

	memcpy(change.tag, kind == TREE_LINK ? e->tag : e->key.tag, TREE_TAG_SIZE);
	if (kind == TREE_LINK)
		change.parent = e->parent;
	return engine_changes_add(&p->result->changes, &change);
}

/* What mountd is to look at anew: of a link where it was (its register is loaded in engine->new)
 * and will be, and its inode, whose number of links changes as well. */
static int note_op(struct plan *p, const struct tree_key *key, const struct tree_element *is)
{
	const struct reg *reg = &p->engine->new;
	const struct tree_element *was = reg->num > 0 ? &reg->e[reg_winner(reg)].e : NULL;
	struct tree_element inode = { .key.id = is ? is->target : was ? was->target : 0 };
	int r = 0;

	if (key->kind != TREE_LINK)
		return note(p, &(struct tree_element){ .key = *key }, key->kind);
	if (was)
		r = note(p, was, TREE_LINK);
	if (r == 0 && is)
		r = note(p, is, TREE_LINK);
	return r < 0 ? r : note(p, &inode, TREE_ATTR);
}

/* was: in engine->old. */
static int add_put(struct plan *p, const struct tree_key *key, const struct reg *was)
{
	const struct tree_element *e = &was->e[reg_winner(was)].e;
	int r;

	p->ops[p->num_ops++] =
		(struct batch_op){ .key = *key, .target = e->target, .is_put = true };
	r = reg_load(&p->engine->new, txn(p->engine), p->vol->number, key);
	return r < 0 ? r : note_op(p, key, e);
}

static int add_removal(struct plan *p, const struct tree_key *key)
{
	struct reg *reg = &p->engine->new;
	struct tree_key attr = { .id = key->id, .kind = TREE_ATTR };
	struct batch_op *op;
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
	op = &p->ops[p->num_ops++];
	*op = (struct batch_op){ .key = *key };
	r = note_op(p, key, NULL);
	if (key->kind == TREE_LINK && (reg->e[reg_winner(reg)].e.flags & TREE_DIRECTORY))
		op->depth = depth_of(p, key->id);
	return r;
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
static int op_compare(const void *x, const void *y)
{
	uint32_t a = ((const struct batch_op *)x)->depth, b = ((const struct batch_op *)y)->depth;

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
	if (r == 0 && p->num_ops > 0)
		qsort(p->ops, p->num_ops, sizeof(*p->ops), op_compare);
	free(p->keys);
	p->keys = NULL;
	return r;
}

/* ---- doing it */

static int load(void *arg, const struct tree_key *key, uint8_t *buf, size_t *ret_len)
{
	struct plan *p = arg;
	struct reg *was = &p->engine->old;
	const struct element *e;
	int r = before(p, key, was);

	if (r < 0 || was->num == 0)
		return r < 0 ? r : -EUCLEAN;
	e = &was->e[reg_winner(was)];
	*ret_len = element_size(e);
	if (*ret_len > TREE_RECORD_MAX)
		return -EUCLEAN;
	r = element_read(&p->engine->arenas, e, buf);
	return r == -EBADMSG ? -EIO : r;
}

static int apply(struct plan *p, const struct pulled *sync)
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
	r = batch_restore(engine, vol, p->ops, p->num_ops, load, p, &p->result->changes);
	vol->view++;
	if (r == 0)
		r = change_pulled(engine, vol, sync->time, sync->peer, sync->num_changed, true);
	if (r == 0)
		r = change_pulled(engine, vol, head.time, nobody, p->num_ops, false);
	if (r == 0)
		r = change_state(engine, vol);
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
	return engine_rollback(engine) < 0 ? -EIO : r;
}

static int attempt(struct plan *p, const struct pulled *sync)
{
	struct undo_result *result = p->result;
	int r;

	result->num_restored = result->num_stayed = result->num_kept = 0;
	r = plan(p);
	if (r == 0 && p->num_ops > 0)
		r = apply(p, sync);
	if (r == 0)
		result->num_restored = p->num_ops;
	else
		engine_changes_release(&result->changes);
	free(p->keys);
	free(p->ops);
	free(p->held);
	return r;
}

static int run(struct engine *engine, struct volume *vol, const struct pulled *sync,
	struct undo_result *result)
{
	int i, r = -ERESTART;

	/* The index may have grown meanwhile. */
	for (i = 0; r == -ERESTART && i < 4; i++) {
		struct plan p = {
			.engine = engine, .vol = vol, .time = sync->time, .result = result
		};

		r = attempt(&p, sync);
	}
	return r == -ERESTART ? -EIO : r;
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
	struct pulled sync;
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
		result->time = sync.time;
		r = run(engine, vol, &sync, result);
	}
	return r < 0 ? explain(engine, vol, r) : 0;
}
