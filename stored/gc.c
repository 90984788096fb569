#include "stored/gc.h"

#include "cas/object.h"
#include "stored/damage.h"
#include "stored/gc_state.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DAY_NS (86400 * UINT64_C(1000000000))

static void gc_free(struct engine *engine, struct gc *gc)
{
	gc_table_release(&gc->table);
	gc_base_end(engine, gc);
	gc_compact_end(engine, gc);
	for (size_t i = 0; i < gc->num_arenas; i++)
		free(gc->arenas[i].far);
	free(gc->damaged);
	free(gc->stack);
	free(gc->object);
	free(gc->peers);
	free(gc->arenas);
	free(gc);
}

/* Those that are there now. */
static int gc_list_arenas(struct engine *engine, struct gc *gc)
{
	const struct arenas *a = &engine->arenas;

	gc->arenas = calloc(a->num, sizeof(*gc->arenas));
	if (!gc->arenas)
		return -ENOMEM;
	for (; gc->num_arenas < a->num; gc->num_arenas++) {
		struct gc_arena *arena = &gc->arenas[gc->num_arenas];

		arena->number = a->list[gc->num_arenas].number;
		arena->num_far = (size_t)(a->list[gc->num_arenas].size / GC_BLOCK + 1);
	}
	return 0;
}

static struct gc *gc_new(struct engine *engine, const struct gc_options *options)
{
	struct gc *gc = calloc(1, sizeof(*gc));

	if (!gc)
		return NULL;
	gc->options = *options;
	gc->why = GC_WHY_LIVE;
	if (gc->options.rows == 0 || gc->options.rows > GC_ROWS_MAX)
		gc->options.rows = GC_ROWS_MAX;
	if (gc->options.bucket == 0)
		gc->options.bucket = GC_TABLE_BUCKET;
	gc->object = malloc(CAS_OBJECT_MAX);
	gc->now = engine->io->now(engine->io->ctx);
	if (!gc->object || gc_list_arenas(engine, gc) < 0 ||
		gc_table_init(&gc->table, gc->now, gc->options.bucket) < 0) {
		gc_free(engine, gc);
		return NULL;
	}
	return gc;
}

static uint64_t lost_until(const struct engine *engine, uint64_t now)
{
	uint64_t until = engine->lost_at + GC_LOST_DAYS * DAY_NS;

	if (engine->arenas.num_aside > 0)
		return UINT64_MAX;
	return engine->lost_at > 0 && now < until ? until : 0;
}

int gc_begin(struct engine *engine, const struct gc_options *options)
{
	struct arenas *a = &engine->arenas;
	struct gc *gc;
	int r;

	if (engine->gc)
		return -EBUSY;
	if (engine->is_broken)
		return -EIO;
	r = engine_flush(engine);
	if (r == 0 && options->roll > 0 && !options->is_dry &&
		arenas_position(a).offset >= options->roll)
		r = engine_roll(engine);
	if (r < 0)
		return r;
	gc = gc_new(engine, options);
	if (!gc)
		return -ENOMEM;
	gc->begin = arenas_position(a);
	gc->was_serving = engine->serves != NULL;
	gc->report.lost_until = lost_until(engine, gc->now);
	if (gc->report.lost_until > 0)
		gc->options.is_final = false;
	gc->report.expect = db_rows(txn(engine), DB_OBJECTS) * 2 + db_rows(txn(engine), DB_RECORDS);
	engine->gc = gc;
	r = gc_peers_load(engine, gc);
	if (r == 0)
		r = damage_nodes(engine, &gc->damaged, &gc->num_damaged);
	if (r < 0)
		gc_end(engine);
	return r;
}

void gc_end(struct engine *engine)
{
	struct gc *gc = engine->gc;

	if (!gc)
		return;
	engine->gc = NULL;
	gc_free(engine, gc);
}

const struct gc_report *gc_report(const struct engine *engine)
{
	return engine->gc ? &engine->gc->report : NULL;
}

static int known_row(struct engine *engine, uint64_t values[3])
{
	const uint8_t *row;
	size_t len;
	int r;

	memset(values, 0, 3 * sizeof(*values));
	r = db_get(txn(engine), DB_GC, "s", 1, &row, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; len == 24 && i < 3; i++)
		values[i] = le64_get(row + 8 * i);
	return 0;
}

/* The collection is complete. */
static int finish(struct engine *engine, struct gc *gc)
{
	uint64_t values[3];
	uint8_t row[24];
	int r;

	if (gc->options.is_dry)
		return 0;
	r = known_row(engine, values);
	if (r < 0)
		return r;
	le64_put(row, gc->now);
	le64_put(row + 8, values[1] + gc->report.freed.objects);
	le64_put(row + 16, values[2] + gc->report.freed.bytes);
	r = db_put(txn(engine), DB_GC, "s", 1, row, sizeof(row));
	engine->ops++;
	return r;
}

/* Rows that are not about garbage: of peers, and of the last collection. */
static int count_others(struct engine *engine, uint64_t *ret)
{
	static const char *const kinds[] = { "p", "k", "s" };
	struct db_iter it;
	int r = 0;

	*ret = 0;
	for (size_t i = 0; r >= 0 && i < sizeof(kinds) / sizeof(*kinds); i++) {
		r = db_iter_first(&it, txn(engine), DB_GC, kinds[i], 1, NULL, 0);
		for (; r == 1; r = db_iter_next(&it))
			++*ret;
		db_iter_close(&it);
	}
	return r;
}

int gc_known(struct engine *engine, struct gc_known *ret)
{
	uint64_t values[3], others;
	int r = known_row(engine, values);

	if (r == 0)
		r = count_others(engine, &others);
	if (r < 0)
		return r;
	*ret = (struct gc_known){ .last = values[0],
		.freed_objects = values[1],
		.freed_bytes = values[2],
		.noted = db_rows(txn(engine), DB_GC) - others,
		.losses = engine->num_losses };
	return 0;
}

/* A pull that runs has records staged whose objects may be here already: it ends first. */
static bool is_pulling(const struct engine *engine)
{
	for (size_t i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->pull)
			return true;
	return false;
}

static int phase_step(struct engine *engine, struct gc *gc)
{
	switch (gc->phase) {
	case GC_TABLE:
	case GC_LIVE:
	case GC_HISTORY:
		return gc_mark_step(engine, gc);
	case GC_NOTES:
	case GC_VERDICT:
		/* What was promised since is marked before anything is judged. */
		if (gc->num_stack > 0)
			return gc_mark_step(engine, gc);
		if (is_pulling(engine))
			return 1;
		return gc->phase == GC_NOTES ? gc_notes_step(engine, gc)
					     : gc_verdict_step(engine, gc);
	case GC_TAGS:
		return gc_tags_step(engine, gc);
	case GC_BASE:
		return gc_base_step(engine, gc);
	case GC_COMPACT:
		return gc_compact_step(engine, gc);
	case GC_PUNCH:
	case GC_PUNCH_MOVED:
		return gc_punch_step(engine, gc);
	case GC_DONE:
		break;
	}
	return finish(engine, gc);
}

int gc_wait(struct engine *engine, struct gc *gc)
{
	int r = engine_commit_poll(engine, gc->ticket);

	return r == 1 ? 2 : r;
}

int gc_step(struct engine *engine)
{
	struct gc *gc = engine->gc;
	int r;

	if (!gc)
		return -EINVAL;
	if (engine->is_broken)
		return -EIO;
	if (gc->failed < 0)
		return gc->failed;
	if (engine_is_behind(engine)) {
		r = engine_tick(engine);
		return r < 0 ? r : 2;
	}
	r = phase_step(engine, gc);
	if (r == 1 && !gc->options.is_dry) {
		r = engine_tick(engine);
		return r < 0 ? r : 1;
	}
	/* The map of the index is full: it grows, the work is done again from the start. */
	if (r == -EOVERFLOW)
		r = engine_undo(engine, r);
	return r;
}
