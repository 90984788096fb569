/*
 * Marking from history, and when retention will let go of what only history has.
 */
#include "cas/bytes.h"
#include "stored/gc_state.h"
#include "stored/retention.h"
#include "stored/volume.h"

#include <errno.h>

#define DAY_NS (86400 * UINT64_C(1000000000))

void gc_history_begin(struct gc *gc)
{
	gc->why = gc->options.is_dry ? GC_WHY_SNAPSHOT : GC_WHY_LATER;
}

bool gc_history_again(struct gc *gc)
{
	while (gc->options.is_dry && gc->why > GC_WHY_DAY)
		if (gc->whys & 1u << --gc->why)
			return true;
	return false;
}

/* When retention lets go of a row, not before now; UINT64_MAX: a snapshot has it. */
static uint64_t row_ends(struct engine *engine, const struct gc *gc, const struct db_iter *it)
{
	const struct volume *vol = volume_numbered(engine, be32_get(it->key));
	uint64_t ends = 0;

	if (vol)
		ends = retention_until(&vol->kept, &vol->policy, le64_get(it->value),
			be64_get(it->key + it->key_len - 8));
	return ends > gc->now ? ends : gc->now;
}

static enum gc_why why_of(const struct gc *gc, uint64_t ends)
{
	if (ends == UINT64_MAX)
		return GC_WHY_SNAPSHOT;
	if (ends - gc->now > 31 * DAY_NS)
		return GC_WHY_LATER;
	if (ends - gc->now > 7 * DAY_NS)
		return GC_WHY_MONTH;
	return ends - gc->now > DAY_NS ? GC_WHY_WEEK : GC_WHY_DAY;
}

/* Nothing stronger has this object, which the row refers to. */
static void note_end(struct gc *gc, const uint8_t id[32], uint64_t ends)
{
	struct gc_report *report = &gc->report;
	int why = gc_table_why(&gc->table, id);

	if (why < 0 || why >= GC_WHY_SNAPSHOT)
		return;
	if (ends > report->ages_until)
		report->ages_until = ends;
	if (why == GC_WHY_NONE && (report->ages_from == 0 || ends < report->ages_from))
		report->ages_from = ends;
}

static void note_ends(struct gc *gc, const struct reg *reg, uint64_t ends)
{
	for (size_t i = 0; i < reg->num; i++)
		for (size_t n = 0; n < reg->e[i].raw[3]; n++)
			note_end(gc, reg->e[i].raw + TREE_RECORD_HEAD + 32 * n, ends);
}

int gc_history_row(struct engine *engine, struct gc *gc, const struct db_iter *it)
{
	int r = it->key_len < 12 ? -EUCLEAN : reg_parse(&engine->old, it->value, it->value_len);
	uint64_t ends;

	if (r < 0)
		return r;
	if (gc->options.is_dry) {
		ends = row_ends(engine, gc, it);
		gc->whys |= 1u << why_of(gc, ends);
		if (why_of(gc, ends) != gc->why)
			return 0;
		if (gc->why != GC_WHY_SNAPSHOT)
			note_ends(gc, &engine->old, ends);
	}
	return gc_mark_register(gc, &engine->old);
}
