#include "stored/batch_state.h"
#include "stored/change.h"
#include "stored/history.h"
#include "stored/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static int run(struct batch *b)
{
	size_t i;
	int step, r = batch_begin(b);

	for (step = STEP_NOTE; step < STEP_NUM; step++)
		for (i = 0; r == 0 && i < b->num_ops; i++)
			r = batch_step(b, step, &b->ops[i]);
	for (i = 0; r == 0 && i < b->num_inodes; i++)
		r = batch_settle(b, &b->inodes[i]);
	return r < 0 ? r : batch_end(b);
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
	batch_release(&b);
	return r;
}
