/*
 * Batches of mountd, under the rules for local writers of tree/merge.h (L1 to L6). A batch is
 * parsed whole before anything moves. Then, in this order: records of inodes, links put, links and
 * attributes removed, directories removed; at last every inode that a link left or whose attr was
 * to go is settled: alive, set aside, or gone.
 */
#include "stored/batch.h"

#include "stored/change.h"
#include "stored/fallen.h"
#include "stored/history.h"
#include "stored/intake.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct op {
	enum intake_op_type type;
	struct tree_key key;
	uint8_t *data; /* packed record of a put */
	size_t len;
	struct tree_element e; /* of a put */
};

enum inode_flags {
	INODE_ATTR_PUT = 1,
	INODE_ATTR_REMOVE = 2,
	INODE_UNLINKED = 4,
	INODE_LINKED = 8,    /* a link to it was put just now */
	INODE_ALIVE = 16,    /* has an attr among the live registers */
	INODE_LINK_PUT = 32, /* the batch holds a link to it */
};

struct inode {
	uint64_t oid;
	unsigned flags;
};

struct batch {
	struct engine *engine;
	struct volume *vol;
	struct op *ops;
	size_t num_ops;
	struct inode *inodes;
	size_t num_inodes, cap_inodes;
	uint32_t *places; /* of inodes, a hash by oid, of twice cap_inodes; 0: none; NULL: of few */
	uint32_t seen;
	uint32_t arrived; /* of what is put; 0: written by mountd */
	struct tree_stamp stamp;
	uint64_t lamport;
	struct engine_changes *changes;
};

/* ---- parsing */

static int id_is_known(const struct volume *vol, uint64_t id)
{
	uint32_t replica = (uint32_t)(id >> 32), counter = (uint32_t)id;

	if (replica == 0)
		return id == TREE_ROOT;
	if (replica == vol->state.clock.replica)
		return counter > 0 && counter < vol->next;
	return tree_knowledge_epoch(&vol->state.known, replica) > 0;
}

static int parse_op(struct batch *b, struct op *op)
{
	struct tree_record rec;

	if (op->type == INTAKE_REMOVE)
		return op->len == TREE_KEY_SIZE ? tree_key_unpack(op->data, &op->key) : -EBADMSG;
	if (op->type != INTAKE_PUT || tree_record_parse(op->data, op->len, &rec) < 0)
		return -EBADMSG;
	op->e = rec.e;
	op->key = rec.e.key;
	if (rec.e.stamp.replica != 1 || rec.e.stamp.epoch != 1 || rec.e.lamport != 1 ||
		!id_is_known(b->vol, op->key.id))
		return -EBADMSG;
	if (op->key.kind == TREE_LINK &&
		(!id_is_known(b->vol, op->e.parent) || !id_is_known(b->vol, op->e.target)))
		return -EBADMSG;
	return 0;
}

static int op_compare(const void *x, const void *y)
{
	return tree_key_compare(
		&(*(const struct op *const *)x)->key, &(*(const struct op *const *)y)->key);
}

/* One op for a register: otherwise "in which order" would be a question. */
static int check_unique(const struct batch *b)
{
	const struct op *few[16], **sorted = few;
	size_t i;
	int r = 0;

	if (b->num_ops > 16) {
		sorted = calloc(b->num_ops, sizeof(*sorted));
		if (!sorted)
			return -ENOMEM;
	}
	for (i = 0; i < b->num_ops; i++)
		sorted[i] = &b->ops[i];
	qsort(sorted, b->num_ops, sizeof(*sorted), op_compare);
	for (i = 1; i < b->num_ops; i++)
		if (tree_key_compare(&sorted[i - 1]->key, &sorted[i]->key) == 0)
			r = -EBADMSG;
	if (sorted != few)
		free(sorted);
	return r;
}

static int parse_entry(struct batch *b, uint8_t *data, size_t len, struct intake_batch *ret_head)
{
	struct intake_op op;
	size_t pos = sizeof(*ret_head), i;
	int r;

	if (len < sizeof(*ret_head) || len > INTAKE_BATCH_MAX)
		return -EBADMSG;
	memcpy(ret_head, data, sizeof(*ret_head));
	if (ret_head->version != INTAKE_VERSION || ret_head->num_ops == 0 ||
		ret_head->num_ops > INTAKE_OPS_MAX || ret_head->view > b->vol->view)
		return -EBADMSG;
	b->num_ops = ret_head->num_ops;
	b->ops = calloc(b->num_ops, sizeof(*b->ops));
	if (!b->ops)
		return -ENOMEM;
	for (i = 0; i < b->num_ops; i++) {
		if (len - pos < sizeof(op))
			return -EBADMSG;
		memcpy(&op, data + pos, sizeof(op));
		pos += sizeof(op);
		if (op.len > len - pos || INTAKE_PAD(op.len) > len - pos)
			return -EBADMSG;
		b->ops[i].type = op.type;
		b->ops[i].data = data + pos;
		b->ops[i].len = op.len;
		r = parse_op(b, &b->ops[i]);
		if (r < 0)
			return r;
		pos += INTAKE_PAD(op.len);
	}
	return pos == len ? check_unique(b) : -EBADMSG;
}

/* ---- the inodes that a batch touches */

#define FEW 16

/* Where the inode's number is in the hash, or would be. */
static uint32_t *place_of(struct batch *b, uint64_t oid)
{
	const size_t mask = b->cap_inodes * 2 - 1;
	size_t i = (size_t)(oid * UINT64_C(0x9e3779b97f4a7c15) >> 32) & mask;

	while (b->places[i] != 0 && b->inodes[b->places[i] - 1].oid != oid)
		i = (i + 1) & mask;
	return &b->places[i];
}

static int inodes_grow(struct batch *b)
{
	const size_t cap = b->cap_inodes ? b->cap_inodes * 2 : FEW;
	struct inode *inodes = realloc(b->inodes, cap * sizeof(*inodes));
	size_t i;

	if (!inodes)
		return -ENOMEM;
	b->inodes = inodes;
	b->cap_inodes = cap;
	if (cap == FEW)
		return 0;
	free(b->places);
	b->places = calloc(cap * 2, sizeof(*b->places));
	if (!b->places)
		return -ENOMEM;
	for (i = 0; i < b->num_inodes; i++)
		*place_of(b, b->inodes[i].oid) = (uint32_t)i + 1;
	return 0;
}

static struct inode *inode_find(struct batch *b, uint64_t oid)
{
	size_t i;

	if (b->places) {
		i = *place_of(b, oid);
		return i > 0 ? &b->inodes[i - 1] : NULL;
	}
	for (i = b->num_inodes; i-- > 0;)
		if (b->inodes[i].oid == oid)
			return &b->inodes[i];
	return NULL;
}

static struct inode *inode_of(struct batch *b, uint64_t oid)
{
	struct inode *inode = inode_find(b, oid);

	if (inode)
		return inode;
	if (b->num_inodes == b->cap_inodes && inodes_grow(b) < 0)
		return NULL;
	b->inodes[b->num_inodes++] = (struct inode){ .oid = oid };
	if (b->places)
		*place_of(b, oid) = (uint32_t)b->num_inodes;
	return &b->inodes[b->num_inodes - 1];
}

static int inode_flag(struct batch *b, uint64_t oid, unsigned flags)
{
	struct inode *inode = inode_of(b, oid);

	if (!inode)
		return -ENOMEM;
	inode->flags |= flags;
	return 0;
}

static bool has_attr(struct batch *b, uint64_t oid, bool aside)
{
	struct tree_key key = { .id = oid, .kind = TREE_ATTR };
	struct row_key k;

	row_record(&k, b->vol->number | (aside ? ROWS_ASIDE : 0), &key);
	return db_has(txn(b->engine), DB_RECORDS, k.b, k.len);
}

int links_count(struct db_txn *t, uint32_t vol, uint64_t oid, uint32_t *ret)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct row_key k;
	struct db_iter it;
	int r;

	row_record(&k, vol, &key);
	*ret = db_has(t, DB_RECORDS, k.b, k.len);
	if (*ret > 0) /* a directory has that one only */
		return 0;
	row_one(&k, vol, oid);
	r = db_iter_first(&it, t, DB_TARGETS, k.b, k.len, NULL, 0);
	while (r == 1) {
		++*ret;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

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

/* Brings back what was set aside, with the directories above it. */
static int revive(struct batch *b, uint64_t oid, unsigned depth)
{
	struct tree_unit inode = { .id = oid }, link = { .id = oid, .is_link = true };
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct reg *reg = &b->engine->old;
	uint64_t parent = 0;
	int r;

	if (depth > 4096)
		return -ELOOP;
	r = reg_load(reg, txn(b->engine), b->vol->number | ROWS_ASIDE, &key);
	if (r < 0)
		return r;
	if (reg->num > 0)
		parent = reg->e[reg_winner(reg)].e.parent;
	r = change_move(b->engine, b->vol, &inode, false, b->stamp, b->lamport);
	if (r == 0 && parent > 0)
		r = change_move(b->engine, b->vol, &link, false, b->stamp, b->lamport);
	b->changes->all = true;
	if (r < 0 || parent <= TREE_ROOT || has_attr(b, parent, false))
		return r;
	return revive(b, parent, depth + 1);
}

static bool has_link_aside(struct batch *b, uint64_t oid)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct row_key k;

	row_record(&k, b->vol->number | ROWS_ASIDE, &key);
	return db_has(txn(b->engine), DB_RECORDS, k.b, k.len);
}

/* 1: the inode is alive now, 0: it is nowhere. A directory comes back with its own link only: one
 * that was removed here has none any more. */
static int need_alive(struct batch *b, uint64_t oid, bool is_dir)
{
	struct inode *inode = inode_of(b, oid);
	int r;

	if (!inode)
		return -ENOMEM;
	if (oid == TREE_ROOT || (inode->flags & INODE_ALIVE))
		return 1;
	if (!has_attr(b, oid, false)) {
		if (!has_attr(b, oid, true) || (is_dir && !has_link_aside(b, oid)))
			return 0;
		r = revive(b, oid, 0);
		if (r < 0)
			return r;
	}
	return inode_flag(b, oid, INODE_ALIVE) < 0 ? -ENOMEM : 1;
}

/* ---- the steps */

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
	struct inode *inode = inode_of(b, op->key.id);
	bool is_aside;

	if (!inode)
		return -ENOMEM;
	if (inode->flags & INODE_ALIVE || op->key.id == TREE_ROOT)
		return put_stamped(b, op, false);
	if (has_attr(b, op->key.id, false)) {
		inode->flags |= INODE_ALIVE;
		return put_stamped(b, op, false);
	}
	is_aside = has_attr(b, op->key.id, true);
	if (is_aside && (inode->flags & INODE_LINK_PUT)) {
		if (need_alive(b, op->key.id, false) < 0)
			return -ENOMEM;
		return put_stamped(b, op, false);
	}
	if (is_aside)
		return put_stamped(b, op, true);
	/* New, or nothing that anybody knows any more. */
	if (!(inode->flags & INODE_ATTR_PUT))
		return 0;
	inode->flags |= INODE_ALIVE;
	return put_stamped(b, op, false);
}

static int unlinked(struct batch *b, const struct reg *old)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < old->num; i++)
		r = inode_flag(b, old->e[i].e.target, INODE_UNLINKED);
	return r;
}

static int put_link(struct batch *b, struct op *op)
{
	int r;

	r = need_alive(b, op->e.parent, true);
	if (r == 1)
		r = need_alive(b, op->e.target, false);
	if (r <= 0)
		return r;
	r = put_stamped(b, op, false);
	if (r == 0)
		r = unlinked(b, &b->engine->old);
	return r < 0 ? r : inode_flag(b, op->e.target, INODE_LINKED);
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
	struct inode *inode = inode_of(b, op->key.id);
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

static int settle(struct batch *b, const struct inode *inode)
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
	if (!has_attr(b, inode->oid, false))
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

enum step {
	STEP_NOTE,
	STEP_INODES,
	STEP_LINKS,
	STEP_REMOVALS,
	STEP_DIRS,
	STEP_NUM,
};

static int run_step(struct batch *b, enum step step, struct op *op)
{
	bool is_link = op->key.kind == TREE_LINK, is_put = op->type == INTAKE_PUT;

	switch (step) {
	case STEP_NOTE:
		if (op->key.kind == TREE_ATTR)
			return inode_flag(
				b, op->key.id, is_put ? INODE_ATTR_PUT : INODE_ATTR_REMOVE);
		return is_put && is_link ? inode_flag(b, op->e.target, INODE_LINK_PUT) : 0;
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

static int begin(struct batch *b)
{
	return tree_clock_write(&b->vol->state.clock, &b->vol->state.known, &b->stamp, &b->lamport);
}

static int end(struct batch *b)
{
	bool changed = false;
	int r = fallen_update(b->engine, b->vol, &changed);

	if (r == 0 && changed)
		b->changes->all = true;
	return r;
}

static int run(struct batch *b)
{
	size_t i;
	int step, r = begin(b);

	for (step = STEP_NOTE; step < STEP_NUM; step++)
		for (i = 0; r == 0 && i < b->num_ops; i++)
			r = run_step(b, step, &b->ops[i]);
	for (i = 0; r == 0 && i < b->num_inodes; i++)
		r = settle(b, &b->inodes[i]);
	return r < 0 ? r : end(b);
}

static int apply(
	struct batch *b, const struct intake_batch *head, uint64_t incarnation, uint64_t position)
{
	struct volume *vol = b->vol;
	struct change_head frame = { .vol = vol->number, .flags = CHANGE_WROTE };
	int r;

	r = change_begin(b->engine);
	if (r < 0)
		return r;
	vol->incarnation = incarnation;
	vol->position = position;
	vol->is_dirty = true;
	frame.time = change_time(b->engine, vol);
	r = run(b);
	if (r < 0)
		return engine_undo(b->engine, r);
	frame.incarnation = incarnation;
	frame.position = position;
	frame.epoch = vol->state.clock.epoch;
	frame.lamport = vol->state.clock.lamport;
	frame.unique = head->unique;
	frame.view = head->view;
	r = history_end(b->engine, vol);
	if (r == 0)
		r = change_end(b->engine, FRAME_BATCH, &frame, NULL);
	return r < 0 ? engine_undo(b->engine, r) : 0;
}

int engine_apply(struct engine *engine, struct volume *vol, uint8_t *entry, size_t len,
	uint64_t incarnation, uint64_t position, struct engine_changes *changes)
{
	struct batch b = { .engine = engine, .vol = vol, .changes = changes };
	struct intake_batch head;
	int r;

	if (vol->incarnation == incarnation && position <= vol->position)
		return 0;
	r = parse_entry(&b, entry, len, &head);
	if (r == 0) {
		b.seen = (uint32_t)head.view;
		r = apply(&b, &head, incarnation, position);
	}
	free(b.ops);
	free(b.inodes);
	free(b.places);
	return r;
}

/* ---- restoring: as a batch of any size, whose records are loaded when their turn comes */

struct restore {
	struct batch b;
	batch_load_fn *load;
	void *arg;
	uint8_t *buf;
};

static bool needs_record(enum step step, const struct batch_op *op)
{
	return op->is_put && step == (op->key.kind == TREE_LINK ? STEP_LINKS : STEP_INODES);
}

static int restore_step(struct restore *r, enum step step, const struct batch_op *from)
{
	struct op op = { .type = from->is_put ? INTAKE_PUT : INTAKE_REMOVE,
		.key = from->key,
		.e.target = from->target };
	struct tree_record rec;
	int err = 0;

	if (needs_record(step, from)) {
		err = r->load(r->arg, &from->key, r->buf, &op.len);
		if (err < 0)
			return err;
		if (tree_record_parse(r->buf, op.len, &rec) < 0)
			return -EUCLEAN;
		op.data = r->buf;
		op.e = rec.e;
	}
	err = run_step(&r->b, step, &op);
	return err < 0 ? err : change_cut(r->b.engine, r->b.vol);
}

static int restore_run(struct restore *r, const struct batch_op *ops, size_t num)
{
	struct batch *b = &r->b;
	size_t i;
	int step, err = begin(b);

	for (step = STEP_NOTE; step < STEP_NUM; step++)
		for (i = 0; err == 0 && i < num; i++)
			err = restore_step(r, step, &ops[i]);
	for (i = 0; err == 0 && i < b->num_inodes; i++) {
		err = settle(b, &b->inodes[i]);
		if (err == 0)
			err = change_cut(b->engine, b->vol);
	}
	return err < 0 ? err : end(b);
}

int batch_restore(struct engine *engine, struct volume *vol, const struct batch_op *ops, size_t num,
	batch_load_fn *load, void *arg, struct engine_changes *changes)
{
	struct restore r = {
		.b = { .engine = engine, .vol = vol, .changes = changes }, .load = load, .arg = arg
	};
	int err = -ENOMEM;

	r.b.seen = vol->view;
	r.b.arrived = vol->view + 1;
	r.buf = malloc(TREE_RECORD_MAX);
	if (r.buf)
		err = restore_run(&r, ops, num);
	free(r.buf);
	free(r.b.inodes);
	free(r.b.places);
	return err;
}

void engine_took(struct volume *vol, uint64_t incarnation, uint64_t position)
{
	vol->incarnation = incarnation;
	vol->position = position;
	vol->is_dirty = true;
}

uint64_t engine_taken(const struct volume *vol, uint64_t incarnation)
{
	return vol->incarnation == incarnation ? vol->position : 0;
}

int engine_changes_add(struct engine_changes *changes, const struct engine_change *change)
{
	if (changes->num == ENGINE_CHANGES_MAX) {
		changes->all = true;
		return 0;
	}
	if (changes->num == changes->cap) {
		size_t cap = changes->cap ? changes->cap * 2 : 64;
		struct engine_change *list = realloc(changes->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		changes->list = list;
		changes->cap = cap;
	}
	changes->list[changes->num++] = *change;
	return 0;
}

void engine_changes_release(struct engine_changes *changes)
{
	free(changes->list);
	*changes = (struct engine_changes){ 0 };
}
