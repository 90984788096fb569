/*
 * Batches of mountd, under the rules for local writers of tree/merge.h (L1 to L6). A batch is
 * parsed whole before anything moves. Then, in this order: records of inodes, links put, links and
 * attributes removed, directories removed; at last every inode that a link left or whose attr was
 * to go is settled: alive, set aside, or gone.
 */
#include "stored/batch.h"

#include "stored/batch_state.h"
#include "stored/change.h"
#include "stored/changes.h"
#include "stored/fallen.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the steps */

/* Logs a deletion, but for units made since anybody was last shown anything: nobody can have them.
 */
static int log_dead(struct batch *b, uint64_t id, bool is_link)
{
	struct tree_unit unit = { .id = id, .is_link = is_link };

	if ((uint32_t)(id >> 32) == b->vol->state.clock.replica &&
		(uint32_t)id >= b->vol->fresh_from)
		return 0;
	return change_dead(b->engine, b->vol, &unit, b->stamp);
}

static int put_one(struct batch *b, struct op *op, bool aside)
{
	tree_record_restamp(op->data, b->stamp, b->lamport);
	if (b->arrived > 0)
		return change_restore(b->engine, b->vol, aside, b->arrived, op->data, op->len);
	return change_put(b->engine, b->vol, aside, b->seen, op->data, op->len);
}

static int put_stamped(struct batch *b, struct op *op, bool aside)
{
	struct tree_clock *clock = &b->vol->state.clock;
	int r;

	r = put_one(b, op, aside);
	if (r != -ESTALE)
		return r;
	/* Something unseen that stays has our stamp (a pull gave it one): a new epoch (L1). */
	tree_clock_freeze(clock, &b->vol->state.known);
	r = tree_clock_write(clock, &b->vol->state.known, &b->stamp, &b->lamport);
	if (r < 0)
		return r;
	return put_one(b, op, aside);
}

static int put_inode(struct batch *b, struct op *op)
{
	struct inode *inode = batch_inode(b, op->key.id);
	bool is_alive, is_aside;
	int r = 0;

	if (!inode)
		return -ENOMEM;
	is_alive = inode->flags & INODE_ALIVE || op->key.id == TREE_ROOT ||
		   batch_has(b, op->key.id, TREE_ATTR, false);
	is_aside = !is_alive && batch_has(b, op->key.id, TREE_ATTR, true);
	if (is_aside && !(inode->flags & INODE_LINK_PUT))
		return put_stamped(b, op, true);
	/* New, or nothing that anybody knows any more. */
	if (!is_alive && !is_aside && !(inode->flags & INODE_ATTR_PUT))
		return 0;
	if (is_aside)
		r = batch_need_alive(b, op->key.id, false);
	inode->flags |= INODE_ALIVE;
	return r < 0 ? r : put_stamped(b, op, false);
}

static int unlinked(struct batch *b, const struct reg *old)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < old->num; i++)
		r = batch_flag(b, old->e[i].e.target, INODE_UNLINKED);
	return r;
}

static int put_link(struct batch *b, struct op *op)
{
	int r;

	r = batch_need_alive(b, op->e.parent, true);
	if (r == 1)
		r = batch_need_alive(b, op->e.target, false);
	if (r <= 0)
		return r;
	r = put_stamped(b, op, false);
	if (r == 0)
		r = unlinked(b, &b->engine->old);
	return r < 0 ? r : batch_flag(b, op->e.target, INODE_LINKED);
}

static int remove_link(struct batch *b, const struct op *op)
{
	size_t removed;
	int r;

	r = change_remove(b->engine, b->vol, false, &op->key, b->seen, &removed, NULL);
	if (r < 0 || removed == 0)
		return r;
	r = unlinked(b, &b->engine->old);
	return r < 0 ? r : log_dead(b, op->key.id, true);
}

static int remove_value(struct batch *b, const struct op *op)
{
	size_t removed;
	int r;

	r = change_remove(b->engine, b->vol, false, &op->key, b->seen, &removed, NULL);
	if (r == 0 && removed > 0)
		return log_dead(b, op->key.id, false);
	return r < 0 ? r : change_remove(b->engine, b->vol, true, &op->key, b->seen, NULL, NULL);
}

/* ---- directories going */

/* A link with an element below a directory that goes, where its winner is elsewhere. */
static int rewrite_loser(struct batch *b, const struct tree_key *key)
{
	struct reg *reg = &b->engine->old;
	struct tree_stamp losers[REGISTER_MAX], was;
	size_t num = 0, winner, i;
	int r;

	r = reg_load(reg, txn(b->engine), b->vol->number, key);
	if (r < 0)
		return r;
	winner = reg_winner(reg);
	was = reg->e[winner].e.stamp;
	for (i = 0; i < reg->num; i++)
		if (i != winner)
			losers[num++] = reg->e[i].e.stamp;
	for (i = 0; r == 0 && i < num; i++)
		r = change_delete(b->engine, b->vol, key, losers[i]);
	if (r == 0)
		r = change_restamp(b->engine, b->vol, key, was, b->stamp, b->lamport);
	return r;
}

/* 1: something is in the directory still. 0: nothing, or nothing any more. */
static int dir_clear(struct batch *b, uint64_t oid)
{
	struct tree_key *losers = NULL, key = { .kind = TREE_LINK };
	struct reg *reg = &b->engine->old;
	size_t num = 0, i;
	struct row_key k;
	struct db_iter it;
	int r;

	row_one(&k, b->vol->number, oid);
	r = db_iter_first(&it, txn(b->engine), DB_DIRS, k.b, k.len, NULL, 0);
	while (r == 1) {
		struct tree_key *more;

		key.id = be64_get(it.key + 12);
		r = reg_load(reg, txn(b->engine), b->vol->number, &key);
		if (r < 0)
			break;
		if (reg->num > 0 && reg->e[reg_winner(reg)].e.parent == oid) {
			r = 1;
			break;
		}
		more = realloc(losers, (num + 1) * sizeof(*losers));
		if (!more) {
			r = -ENOMEM;
			break;
		}
		losers = more;
		losers[num++] = key;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	for (i = 0; r == 0 && i < num; i++)
		r = rewrite_loser(b, &losers[i]);
	free(losers);
	return r;
}

static int remove_dir(struct batch *b, const struct op *op)
{
	struct inode *inode = batch_inode(b, op->key.id);
	struct engine_change change = { .kind = TREE_ATTR, .id = op->key.id };
	int r;

	if (!inode)
		return -ENOMEM;
	r = dir_clear(b, op->key.id);
	if (r == 0)
		return remove_link(b, op);
	if (r < 0)
		return r;
	inode->flags &= ~(unsigned)INODE_ATTR_REMOVE;
	b->changes->all = true;
	return engine_changes_add(b->changes, &change);
}

/* ---- settling */

static int settle_aside(struct batch *b, const struct inode *inode)
{
	struct tree_unit unit = { .id = inode->oid }, link = { .id = inode->oid, .is_link = true };
	int r;

	if (!(inode->flags & INODE_ATTR_REMOVE))
		return 0;
	r = change_drop(b->engine, b->vol, true, &unit);
	return r < 0 ? r : change_drop(b->engine, b->vol, true, &link);
}

int batch_settle(struct batch *b, const struct inode *inode)
{
	struct tree_unit unit = { .id = inode->oid };
	struct engine_change change = { .kind = TREE_ATTR, .id = inode->oid };
	uint32_t links;
	int r;

	if (inode->oid == TREE_ROOT)
		return 0;
	if ((inode->flags & INODE_LINKED) && !(inode->flags & INODE_ATTR_REMOVE))
		return 0;
	if (!(inode->flags & (INODE_ATTR_REMOVE | INODE_UNLINKED | INODE_ATTR_PUT)))
		return 0;
	if (!batch_has(b, inode->oid, TREE_ATTR, false))
		return settle_aside(b, inode);
	r = links_count(txn(b->engine), b->vol->number, inode->oid, &links);
	if (r < 0)
		return r;
	if (links > 0) {
		if (inode->flags & INODE_ATTR_REMOVE)
			return engine_changes_add(b->changes, &change);
		return 0;
	}
	if (inode->flags & INODE_ATTR_REMOVE)
		r = change_drop(b->engine, b->vol, false, &unit);
	else
		r = change_move(b->engine, b->vol, &unit, true, b->stamp, b->lamport);
	return r < 0 ? r : log_dead(b, inode->oid, false);
}

/* ---- all of it */

static bool is_dir_removal(struct batch *b, const struct op *op)
{
	struct reg *reg = &b->engine->old;

	if (op->type != INTAKE_REMOVE || op->key.kind != TREE_LINK ||
		reg_load(reg, txn(b->engine), b->vol->number, &op->key) < 0 || reg->num == 0)
		return false;
	return reg->e[reg_winner(reg)].e.flags & TREE_DIRECTORY;
}

int batch_step(struct batch *b, enum step step, struct op *op)
{
	bool is_link = op->key.kind == TREE_LINK, is_put = op->type == INTAKE_PUT;

	switch (step) {
	case STEP_NOTE:
		if (op->key.kind == TREE_ATTR)
			return batch_flag(
				b, op->key.id, is_put ? INODE_ATTR_PUT : INODE_ATTR_REMOVE);
		return is_put && is_link ? batch_flag(b, op->e.target, INODE_LINK_PUT) : 0;
	case STEP_INODES:
		return is_put && !is_link ? put_inode(b, op) : 0;
	case STEP_LINKS:
		return is_put && is_link ? put_link(b, op) : 0;
	case STEP_REMOVALS:
		if (is_put || op->key.kind == TREE_ATTR || is_dir_removal(b, op))
			return 0;
		return is_link ? remove_link(b, op) : remove_value(b, op);
	case STEP_DIRS:
		return is_dir_removal(b, op) ? remove_dir(b, op) : 0;
	case STEP_NUM:
		break;
	}
	return 0;
}

int batch_begin(struct batch *b)
{
	return tree_clock_write(&b->vol->state.clock, &b->vol->state.known, &b->stamp, &b->lamport);
}

int batch_end(struct batch *b)
{
	bool changed = false;
	int r = fallen_update(b->engine, b->vol, &changed);

	if (r == 0 && changed)
		b->changes->all = true;
	return r;
}

void batch_release(struct batch *b)
{
	free(b->ops);
	free(b->inodes);
	free(b->places);
}
