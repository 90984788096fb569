#include "cas/object.h"
#include "stored/damage.h"
#include "stored/gc_state.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WALK_STEP 16 /* manifests */

static int push(struct gc *gc, const uint8_t id[32], bool is_new)
{
	if (gc->num_stack == gc->cap_stack) {
		size_t cap = gc->cap_stack ? 2 * gc->cap_stack : 1024;
		void *stack =
			cap <= GC_STACK_MAX ? realloc(gc->stack, cap * sizeof(*gc->stack)) : NULL;

		if (!stack)
			return -ENOMEM;
		gc->stack = stack;
		gc->cap_stack = cap;
	}
	gc->stack[gc->num_stack].is_new = is_new;
	memcpy(gc->stack[gc->num_stack++].id, id, 32);
	return 0;
}

static int id_compare(const void *x, const void *y)
{
	return memcmp(x, y, 32);
}

/* Marked, if it is a leaf; true: it is to be walked. */
static bool reach(struct gc *gc, const uint8_t id[32])
{
	if (gc_table_mark(&gc->table, id, gc->why))
		return true;
	return gc->num_damaged > 0 && bsearch(id, gc->damaged, gc->num_damaged, 32, id_compare);
}

static int mark(struct gc *gc, const uint8_t id[32])
{
	return reach(gc, id) ? push(gc, id, false) : 0;
}

static int mark_refs(struct gc *gc, const uint8_t *ids, size_t num)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < num; i++)
		r = mark(gc, ids + 32 * i);
	return r;
}

/* The clear part of an element says what it refers to, near or far. */
static int mark_element(struct gc *gc, const struct element *e)
{
	return mark_refs(gc, e->raw + TREE_RECORD_HEAD, e->raw[3]);
}

int gc_mark_register(struct gc *gc, const struct reg *reg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < reg->num; i++)
		r = mark_element(gc, &reg->e[i]);
	return r < 0 ? r : gc_far_note(gc, reg);
}

/* ---- hooks */

static void hook(struct gc *gc, int r)
{
	if (r < 0 && gc->failed == 0)
		gc->failed = r;
}

/* While the objects are numbered nothing can be marked: it waits on the stack. */
static void promise_now(struct gc *gc, const uint8_t id[32])
{
	if (gc->phase == GC_TABLE)
		hook(gc, push(gc, id, false));
	else if (gc->phase <= GC_VERDICT)
		hook(gc, mark(gc, id));
}

/* 1: there was a note. */
static int take_back(struct engine *engine, const uint8_t id[32])
{
	uint8_t key[33] = { 'd' };
	int r;

	memcpy(key + 1, id, 32);
	r = db_delete(txn(engine), DB_GC, key, sizeof(key));
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	engine->ops++;
	return 1;
}

static int promised_add(struct engine *engine, const uint8_t id[32])
{
	if (engine->promised.num == engine->promised.cap) {
		size_t cap = engine->promised.cap ? engine->promised.cap * 2 : 64;
		void *ids = realloc(engine->promised.ids, cap * sizeof(*engine->promised.ids));

		if (!ids)
			return -ENOMEM;
		engine->promised.ids = ids;
		engine->promised.cap = cap;
	}
	memcpy(engine->promised.ids[engine->promised.num++], id, 32);
	return 0;
}

int gc_promise(struct engine *engine, const uint8_t id[32])
{
	int r;

	if (engine->gc)
		promise_now(engine->gc, id);
	r = take_back(engine, id);
	return r > 0 ? promised_add(engine, id) : r;
}

int gc_promise_again(struct engine *engine)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < engine->promised.num; i++)
		r = take_back(engine, engine->promised.ids[i]);
	return r < 0 ? r : 0;
}

void gc_note_register(struct engine *engine, const struct reg *reg)
{
	struct gc *gc = engine->gc;

	engine->num_losses++;
	if (gc)
		hook(gc, gc_far_note(gc, reg));
	for (size_t i = 0; gc && i < reg->num; i++)
		for (size_t n = 0; n < reg->e[i].raw[3]; n++)
			promise_now(gc, reg->e[i].raw + TREE_RECORD_HEAD + 32 * n);
}

void gc_note_object(struct engine *engine, const uint8_t id[32], bool is_leaf)
{
	struct gc *gc = engine->gc;

	/* It is in an arena that is not looked at, but its children need not be. */
	if (gc && !is_leaf && gc->phase <= GC_VERDICT)
		hook(gc, push(gc, id, true));
}

/* ---- numbering */

static int start_iter(struct engine *engine, struct gc *gc, struct db_iter *it, enum db_table table)
{
	int r = db_iter_first(
		it, txn(engine), table, "", 0, gc->at_len ? gc->at : NULL, gc->at_len);

	if (r == 1 && it->key_len == gc->at_len && memcmp(it->key, gc->at, gc->at_len) == 0)
		r = db_iter_next(it);
	return r;
}

static void keep_at(struct gc *gc, const struct db_iter *it)
{
	memcpy(gc->at, it->key, it->key_len);
	gc->at_len = it->key_len;
	gc->report.done++;
}

/* The table has exactly what was there when the collection began. */
static int number_row(struct gc *gc, const uint8_t id[32], const struct object_row *row)
{
	if (!arenas_is_before(row->place, gc->begin))
		return 0;
	return gc_table_add(&gc->table, id, row->is_leaf);
}

static int table_step(struct engine *engine, struct gc *gc)
{
	struct object_row row;
	struct db_iter it;
	int r, i;

	r = start_iter(engine, gc, &it, DB_OBJECTS);
	for (i = 0; r == 1 && i < (int)gc->options.rows; i++) {
		if (it.key_len != 32 || object_row_parse(it.value, it.value_len, &row) < 0)
			r = -EUCLEAN;
		else if ((r = number_row(gc, it.key, &row)) == 0) {
			keep_at(gc, &it);
			r = db_iter_next(&it);
		}
	}
	db_iter_close(&it);
	if (r == 0)
		r = gc_table_end(&gc->table);
	else if (r == 1)
		return 1;
	if (r < 0)
		return r;
	gc->phase = GC_LIVE;
	gc->at_len = 0;
	return 1;
}

/* ---- walking manifests */

static void is_old(struct gc *gc, struct place place)
{
	if (arenas_is_before(gc->old, place))
		gc->old = place;
}

/* 1: it is here; 0: far, and so is what is below it. */
static int locate(struct engine *engine, struct gc *gc, const uint8_t id[32], struct place *ret)
{
	int r = engine_locate(engine, id, ret);

	if (r != -ENOENT)
		return r < 0 ? r : 1;
	/* Not far, but damaged here: its children are wanted when it is healed. */
	if (!damage_is_noted(engine, id))
		return 0;
	memcpy(gc->report.damaged, id, 32);
	return -EBADMSG;
}

static int walk(struct engine *engine, struct gc *gc, const uint8_t id[32], struct place place)
{
	const uint8_t *refs;
	size_t num;
	int r = 0;

	if (place.len > CAS_OBJECT_MAX)
		return 0;
	/* What is buffered can be read only when it is written. */
	if (engine->arenas.len > 0)
		r = engine_flush(engine);
	if (r < 0)
		return r;
	r = engine_read_object(engine, id, place, gc->object);
	if (r == -EBADMSG || r == -ENODATA || r == -EIO) {
		memcpy(gc->report.damaged, id, 32);
		return -EBADMSG;
	}
	if (r < 0)
		return r;
	r = cas_object_refs(gc->object, place.len, &refs, &num);
	if (r == -ENODATA) {
		is_old(gc, place);
		return 0;
	}
	/* No manifest: all other objects refer to nothing. */
	return r < 0 ? 0 : mark_refs(gc, refs, num);
}

static int walk_node(struct engine *engine, struct gc *gc, const struct gc_node *node)
{
	struct place place;
	int r;

	/* It was there twice, or promised while the objects were numbered, and is a leaf. */
	if (!node->is_new && !reach(gc, node->id))
		return 0;
	r = locate(engine, gc, node->id, &place);
	if (r <= 0)
		return r;
	if (!node->is_new) {
		/* The table has taken it for another; it has been walked since it was put. */
		if (!arenas_is_before(place, gc->begin))
			return 0;
		gc_table_walk(&gc->table, node->id, gc->why);
	}
	return walk(engine, gc, node->id, place);
}

static int walk_step(struct engine *engine, struct gc *gc)
{
	struct gc_node node;
	int r = 0;

	for (int i = 0; r == 0 && i < WALK_STEP && gc->num_stack > 0; i++) {
		node = gc->stack[--gc->num_stack];
		r = walk_node(engine, gc, &node);
	}
	return r < 0 ? r : 1;
}

/* ---- roots */

static int live_row(struct engine *engine, struct gc *gc, const struct db_iter *it)
{
	int r = reg_parse(&engine->old, it->value, it->value_len);

	return r < 0 ? r : gc_mark_register(gc, &engine->old);
}

/* Some rows of a table of registers; 0: that was all of it. */
static int rows_step(struct engine *engine, struct gc *gc, enum db_table table,
	int (*row)(struct engine *engine, struct gc *gc, const struct db_iter *it))
{
	struct db_iter it;
	int r, i;

	r = start_iter(engine, gc, &it, table);
	for (i = 0; r == 1 && i < (int)gc->options.rows && gc->num_stack == 0; i++) {
		r = row(engine, gc, &it);
		if (r == 0) {
			keep_at(gc, &it);
			r = db_iter_next(&it);
		}
	}
	db_iter_close(&it);
	return r == 0 && gc->num_stack > 0 ? 1 : r;
}

static int live_step(struct engine *engine, struct gc *gc)
{
	int r = rows_step(engine, gc, DB_RECORDS, live_row);

	if (r != 0)
		return r;
	gc->phase = GC_HISTORY;
	gc->at_len = 0;
	gc_history_begin(gc);
	return 1;
}

/* What a register was is marked when it goes into history while this runs, and no row of history
 * ever changes. */
static int history_step(struct engine *engine, struct gc *gc)
{
	int r = rows_step(engine, gc, DB_HIST, gc_history_row);

	if (r != 0)
		return r;
	gc->at_len = 0;
	if (!gc_history_again(gc))
		gc->phase = gc->options.is_dry ? GC_VERDICT : GC_NOTES;
	return 1;
}

int gc_mark_step(struct engine *engine, struct gc *gc)
{
	if (gc->phase == GC_TABLE)
		return table_step(engine, gc);
	/* First what was reached already: so the stack stays small. */
	if (gc->num_stack > 0)
		return walk_step(engine, gc);
	return gc->phase == GC_LIVE ? live_step(engine, gc) : history_step(engine, gc);
}
