/*
 * Writing a base: the rows out of a snapshot, a frame at a time, while changes go on.
 */
#include "stored/broken.h"
#include "stored/gc_base.h"
#include "stored/object.h"
#include "stored/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_BYTES (256u << 10) /* of rows, in one frame */

void gc_write_end(struct gc_base *b)
{
	if (b->snapshot)
		db_snapshot_close(b->snapshot);
	b->snapshot = NULL;
	base_release(&b->base);
	digest_free(b->digest);
	b->digest = NULL;
	free(b->buf);
	b->buf = NULL;
	b->cap = b->len = 0;
}

/* Of a pull that is staged the parts and the commit would lie on both sides. */
static bool is_staged(const struct engine *engine)
{
	for (size_t i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->pull)
			return true;
	return false;
}

int gc_write_begin(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	struct base_list list = { 0 };
	int r;

	if (is_staged(engine))
		return 1;
	r = engine_checkpoint(engine);
	if (r == 0)
		r = base_list(engine, &list);
	if (r == 0)
		r = db_snapshot(engine->db, &b->snapshot);
	if (r < 0)
		return r;
	b->digest = digest_new();
	if (!b->digest)
		return -ENOMEM;
	r = digest_begin(b->digest);
	if (r < 0)
		return r;
	b->base = (struct base){ .at = engine->committed, .generation = list.generation + 1 };
	b->base.cut = gc->num_bases > 0 ? gc->bases[0].at : list.cut;
	b->stage = BASE_WRITE;
	return 1;
}

static int put_frame(struct engine *engine, enum frame_type type, const uint8_t *payload,
	size_t len, struct place *ret)
{
	struct arenas *a = &engine->arenas;
	uint8_t *p;
	int r;

	r = engine_begin_frame(engine);
	if (r < 0)
		return r;
	p = arenas_add(a, len);
	if (!p) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	memcpy(p, payload, len);
	return arenas_end(a, type, ret);
}

static int put_base(struct engine *engine, struct gc_base *b)
{
	size_t len = base_size(&b->base);
	uint8_t *payload = malloc(len);
	int r;

	r = payload ? base_digest(&b->base, b->digest, b->base.digest) : -ENOMEM;
	if (r == 0)
		base_emit(&b->base, payload);
	if (r == 0)
		r = put_frame(engine, FRAME_BASE, payload, len, &b->base.frame);
	if (r == 0) {
		r = base_note(engine, b->base.frame, payload);
		/* The log has it and the index not. */
		if (r < 0)
			r = engine_undo(engine, r);
	}
	free(payload);
	return r;
}

static int put_rows(struct engine *engine, struct gc_base *b)
{
	struct place place;
	int r;

	if (b->len == 0)
		return 0;
	r = put_frame(engine, FRAME_ROWS, b->buf, b->len, &place);
	if (r == 0)
		r = base_add(&b->base, place);
	if (r == 0)
		r = digest_add(b->digest, b->buf, b->len);
	b->base.bytes += b->len;
	b->len = 0;
	if (BROKEN(BROKEN_BASE_HALF))
		b->table = BASE_TABLES + BASE_TWICE;
	return r < 0 ? r : engine_flush(engine);
}

static unsigned table_at(const struct gc_base *b)
{
	return b->table % BASE_TABLES;
}

static int add_row(struct gc_base *b, const struct db_iter *it)
{
	size_t size = base_row_size(it->key_len, it->value_len);
	int r = scratch_grow(&b->buf, &b->cap, b->len + size);

	if (r < 0)
		return r;
	base_row_emit(table_at(b), it, b->buf + b->len);
	b->len += size;
	b->base.num_rows++;
	b->table_rows++;
	/* The smallest key behind it. */
	memcpy(b->key, it->key, it->key_len);
	b->key[it->key_len] = 0;
	b->key_len = it->key_len + 1;
	return 0;
}

/*
 * A table is complete. A damaged page can hide rows without a word; here it would be for ever.
 */
static int next_table(struct engine *engine, struct gc_base *b)
{
	enum db_table table = base_table(table_at(b));

	if (table != DB_META && b->table_rows != db_rows(b->snapshot, table)) {
		engine_log(engine, 3, "store: the index is damaged and will be rebuilt");
		recover_distrust(engine);
		engine->is_broken = true;
		return -EIO;
	}
	b->table++;
	b->table_rows = 0;
	b->key_len = 0;
	return 0;
}

/* Rows of the table at hand, at most as many as *left. */
static int add_rows(struct engine *engine, struct gc_base *b, uint32_t *left)
{
	const char *prefix = base_prefix(table_at(b));
	struct db_iter it;
	int r;

	r = db_iter_first(&it, b->snapshot, base_table(table_at(b)), prefix, strlen(prefix),
		b->key_len ? b->key : NULL, b->key_len);
	for (; r == 1 && *left > 0 && b->len < FRAME_BYTES; --*left) {
		r = add_row(b, &it);
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r == 0 ? next_table(engine, b) : r;
}

/* All of it is in the log. */
static int finish(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	int r;

	r = put_base(engine, b);
	if (r == 0)
		r = BROKEN(BROKEN_BASE_FIRST) ? engine_flush(engine) : engine_checkpoint(engine);
	if (r < 0)
		return r;
	gc->report.written += b->base.bytes;
	engine->num_gone++;
	return 0;
}

int gc_write_step(struct engine *engine, struct gc *gc)
{
	struct gc_base *b = gc->base;
	unsigned end = b->table < BASE_TABLES ? BASE_TABLES : BASE_TABLES + BASE_TWICE;
	uint32_t left = gc->options.rows;
	int r = 0;

	while (r >= 0 && left > 0 && b->len < FRAME_BYTES && b->table < end)
		r = add_rows(engine, b, &left);
	if (r >= 0)
		r = put_rows(engine, b);
	if (r < 0)
		return r;
	return b->table == BASE_TABLES + BASE_TWICE ? finish(engine, gc) : 1;
}
