/* As a batch of any size, whose records are loaded when their turn comes. */
#include "stored/batch_state.h"
#include "stored/change.h"

#include <errno.h>
#include <stdlib.h>

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
	err = batch_step(&r->b, step, &op);
	return err < 0 ? err : change_cut(r->b.engine, r->b.vol);
}

static int restore_run(struct restore *r, const struct batch_op *ops, size_t num)
{
	struct batch *b = &r->b;
	size_t i;
	int step, err = batch_begin(b);

	for (step = STEP_NOTE; step < STEP_NUM; step++)
		for (i = 0; err == 0 && i < num; i++)
			err = restore_step(r, step, &ops[i]);
	for (i = 0; err == 0 && i < b->num_inodes; i++) {
		err = batch_settle(b, &b->inodes[i]);
		if (err == 0)
			err = change_cut(b->engine, b->vol);
	}
	return err < 0 ? err : batch_end(b);
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
	batch_release(&r.b);
	return err;
}
