#include "stored/fallen.h"

#include "stored/engine_state.h"
#include "stored/history.h"
#include "stored/rows.h"
#include "tree/view.h"

#include <errno.h>
#include <stdlib.h>

int fallen_moved(struct engine *engine, uint64_t oid)
{
	if (engine->num_moved == engine->moved_cap) {
		size_t cap = engine->moved_cap ? engine->moved_cap * 2 : 64;
		uint64_t *moved = realloc(engine->moved, cap * sizeof(*moved));

		if (!moved)
			return -ENOMEM;
		engine->moved = moved;
		engine->moved_cap = cap;
	}
	engine->moved[engine->num_moved++] = oid;
	return 0;
}

bool fallen_has(struct engine *engine, const struct volume *vol, uint64_t oid)
{
	struct row_key k;

	if (vol->num_fallen == 0)
		return false;
	row_one(&k, vol->number, oid);
	return db_has(txn(engine), DB_FALLEN, k.b, k.len);
}

/* The directories of the table as it was, each with the row's value, so that those that stay keep
 * their time. */
struct fell {
	uint64_t oid, since;
	bool stays;
};

struct dirs {
	struct engine *engine;
	struct volume *vol;
};

static int dirs_winner(void *ctx, uint64_t oid, struct tree_element *ret)
{
	struct dirs *dirs = ctx;
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct reg *reg = &dirs->engine->old;
	int r;

	r = reg_load(reg, txn(dirs->engine), dirs->vol->number, &key);
	if (r < 0)
		return r;
	if (reg->num == 0)
		return -ENOENT;
	*ret = reg->e[reg_winner(reg)].e;
	return 0;
}

/* Adds what is in the table to the directories to look at, and empties it. */
static int fallen_take(
	struct engine *engine, struct volume *vol, struct fell **ret, size_t *ret_num)
{
	struct fell *fell;
	struct row_key k;
	struct db_iter it;
	int r;

	*ret = NULL;
	*ret_num = 0;
	if (vol->num_fallen == 0)
		return 0;
	fell = calloc(vol->num_fallen, sizeof(*fell));
	if (!fell)
		return -ENOMEM;
	*ret = fell;
	row_start(&k, vol->number);
	r = db_iter_first(&it, txn(engine), DB_FALLEN, k.b, k.len, NULL, 0);
	while (r == 1) {
		if (*ret_num == vol->num_fallen || it.value_len != HISTORY_PLACE_SIZE) {
			r = -EUCLEAN;
			break;
		}
		fell[*ret_num] = (struct fell){ be64_get(it.key + 4), le64_get(it.value), false };
		r = fallen_moved(engine, fell[*ret_num].oid);
		if (r < 0)
			break;
		++*ret_num;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r == 0)
		r = db_delete_prefix(txn(engine), DB_FALLEN, k.b, k.len, INT32_MAX);
	vol->num_fallen = 0;
	vol->is_dirty = true;
	return r < 0 ? r : 0;
}

static int fallen_put(
	struct engine *engine, struct volume *vol, uint64_t oid, struct fell *fell, size_t num)
{
	uint64_t since = engine->time;
	struct row_key k;
	uint8_t row[8];
	size_t i;

	row_one(&k, vol->number, oid);
	if (db_has(txn(engine), DB_FALLEN, k.b, k.len))
		return 0;
	for (i = 0; i < num; i++) {
		if (fell[i].oid != oid)
			continue;
		since = fell[i].since;
		fell[i].stays = true;
	}
	vol->num_fallen++;
	le64_put(row, since);
	return db_put(txn(engine), DB_FALLEN, k.b, k.len, row, sizeof(row));
}

/* Those that are in their place again. */
static int fallen_end(
	struct engine *engine, struct volume *vol, const struct fell *fell, size_t num)
{
	struct row_key k;
	uint8_t row[8];
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < num; i++) {
		if (fell[i].stays)
			continue;
		row_one(&k, vol->number, fell[i].oid);
		le64_put(row, fell[i].since);
		r = history_place(engine, vol, DB_FALLEN, &k, row);
	}
	return r;
}

int fallen_update(struct engine *engine, struct volume *vol, bool *ret_changed)
{
	struct dirs ctx = { engine, vol };
	struct tree_dirs dirs = { &ctx, dirs_winner };
	size_t num_before, num_moved, num_same = 0, i;
	struct fell *fell;
	uint64_t oid;
	int r;

	*ret_changed = false;
	if (engine->num_moved == 0 && vol->num_fallen == 0)
		return 0;
	num_moved = engine->num_moved;
	r = fallen_take(engine, vol, &fell, &num_before);
	for (i = 0; r == 0 && i < engine->num_moved; i++) {
		oid = 0;
		r = tree_view_fallen(&dirs, engine->moved[i], vol->num_links + 2, &oid);
		if (r == -ENOENT)
			r = 0;
		if (r == 0 && oid > 0)
			r = fallen_put(engine, vol, oid, fell, num_before);
	}
	if (r == 0)
		r = fallen_end(engine, vol, fell, num_before);
	for (i = num_moved; r == 0 && i < engine->num_moved; i++)
		num_same += fallen_has(engine, vol, engine->moved[i]);
	*ret_changed = num_same != num_before || vol->num_fallen != num_before;
	engine->num_moved = 0;
	free(fell);
	return r;
}
