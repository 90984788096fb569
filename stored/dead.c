#include "stored/dead.h"

#include "stored/broken.h"
#include "stored/change.h"
#include "stored/gc_state.h"
#include "stored/object.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLICE	   500
#define PASS_EVERY (3600 * UINT64_C(1000000000))

struct entry {
	struct tree_unit unit;
	struct tree_stamp label;
};

/* ---- the horizon */

static int move_horizon(struct engine *engine, struct volume *vol, const struct tree_knowledge *to)
{
	struct change_head head = { .vol = vol->number };
	int r;

	r = engine_flush(engine);
	if (r == 0)
		r = change_begin(engine);
	if (r < 0)
		return r;
	r = tree_knowledge_join(&vol->state.horizon, to);
	if (r == 0 && !BROKEN(BROKEN_HORIZON))
		r = change_state(engine, vol);
	if (r == 0)
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	return r < 0 ? change_fail(engine, r) : 0;
}

static int pass_begin(struct engine *engine, struct volume *vol, uint64_t now)
{
	bool is_huge =
		db_rows(txn(engine), DB_DEAD) > engine->options.dead_rows * (uint64_t)DEAD_TIMES;
	struct tree_knowledge to = { 0 };
	int r;

	r = tree_knowledge_copy(&to, &vol->state.known);
	if (r == 0 && !is_huge)
		r = gc_peers_known(engine, vol, now, &to);
	if (r == 0 && !tree_knowledge_within(&to, &vol->state.horizon))
		r = move_horizon(engine, vol, &to);
	tree_knowledge_release(&to);
	if (r < 0)
		return r;
	vol->cut.is_running = true;
	vol->cut.next_pass = now + PASS_EVERY;
	vol->cut.at_len = 0;
	return 0;
}

/* ---- the rows */

/* Looks at some rows; 0: those were the last. */
static int slice_fill(
	struct engine *engine, struct volume *vol, struct entry *entries, size_t *ret_num)
{
	struct dead_cut *cut = &vol->cut;
	struct row_key k;
	struct db_iter it;
	int r, seen;

	row_start(&k, vol->number);
	r = db_iter_first(
		&it, txn(engine), DB_LABELS, k.b, k.len, cut->at_len ? cut->at : NULL, cut->at_len);
	for (seen = 0; r == 1 && seen < SLICE; seen++) {
		struct entry entry = { .label = { be64_get(it.key + 8), be32_get(it.key + 4) } };

		if (it.key_len != DEAD_LABEL_KEY ||
			tree_unit_unpack(it.key + 16, &entry.unit) < 0) {
			r = -EUCLEAN;
			break;
		}
		if (tree_knowledge_covers(&vol->state.horizon, entry.label))
			entries[(*ret_num)++] = entry;
		/* The smallest key behind it. */
		memcpy(cut->at, it.key, it.key_len);
		cut->at[it.key_len] = 0;
		cut->at_len = it.key_len + 1;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int drop(struct engine *engine, struct volume *vol, const struct entry *entry)
{
	struct row_key k;
	int r;

	row_stamp(&k, vol->number, entry->label, &entry->unit);
	r = db_delete(txn(engine), DB_LABELS, k.b, k.len);
	if (r < 0)
		return r;
	row_dead(&k, vol->number, &entry->unit, entry->label.replica);
	engine->ops += 2;
	r = db_delete(txn(engine), DB_DEAD, k.b, k.len);
	return r == -ENOENT ? 0 : r;
}

static int pass_step(struct engine *engine, struct volume *vol)
{
	struct entry entries[SLICE];
	size_t num = 0, i;
	int r, more;

	r = more = slice_fill(engine, vol, entries, &num);
	for (i = 0; r >= 0 && i < num; i++)
		r = drop(engine, vol, &entries[i]);
	if (more == 0)
		vol->cut.is_running = false;
	/* Nothing was logged: the transaction is begun anew, and the pass with it. */
	if (r == -EOVERFLOW) {
		vol->cut.is_running = false;
		r = engine_undo(engine, r);
	}
	return r < 0 ? r : 0;
}

int dead_tick(struct engine *engine, bool *ret_more)
{
	uint64_t now = engine->io->now(engine->io->ctx);
	int r = 0;

	*ret_more = false;
	for (size_t i = 0; i < engine->num_volumes; i++) {
		struct volume *vol = engine->volumes[i];

		if (vol->pull)
			continue;
		if (vol->cut.is_running)
			r = pass_step(engine, vol);
		else if (now >= vol->cut.next_pass &&
			 db_rows(txn(engine), DB_DEAD) > engine->options.dead_rows)
			r = pass_begin(engine, vol, now);
		else
			continue;
		*ret_more |= vol->cut.is_running;
		break;
	}
	return r == -ENOSPC || r == -ERESTART ? 0 : r;
}
