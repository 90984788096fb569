#include "stored/changes.h"
#include "stored/history.h"
#include "stored/undo_state.h"
#include "stored/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 4096

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

int undo_before(struct plan *p, const struct tree_key *key, struct reg *ret)
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

	r = undo_before(p, attr, reg);
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
		r = undo_before(p, &attr, reg);
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
			r = undo_before(p, key, was);
		if (r < 0 || was->num == 0)
			return r;
		oid = target = was->e[reg_winner(was)].e.target;
	}
	r = undo_before(p, key, was);
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

int undo_plan(struct plan *p)
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

void undo_plan_release(struct plan *p)
{
	free(p->keys);
	free(p->ops);
	free(p->held);
}
