#include "stored/change_state.h"
#include "stored/crc32c.h"
#include "stored/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct reg none;

static uint32_t space_of(const struct volume *vol, bool aside)
{
	return vol->number | (aside ? ROWS_ASIDE : 0);
}

/* ---- changes of registers */

/* new := what of old stays beside an element with this stamp that replaces all up to seen. */
static void reg_keep(
	struct reg *new, const struct reg *old, uint32_t seen, const struct tree_stamp *stamp)
{
	size_t i;

	new->num = 0;
	for (i = 0; i < old->num; i++) {
		const struct element *e = &old->e[i];

		if (seen != CHANGE_SEEN_NONE && e->arrived <= seen)
			continue;
		if (stamp && tree_stamp_compare(e->e.stamp, *stamp) == 0)
			continue;
		new->e[new->num++] = *e;
	}
}

static int put_element(struct engine *engine, struct volume *vol, bool aside, uint32_t seen,
	const struct element *e)
{
	struct reg *old = &engine->old, *new = &engine->new;

	reg_keep(new, old, seen, &e->e.stamp);
	/* What comes from peers leaves room for a local write beside it. */
	if (new->num >= REGISTER_MAX - (e->arrived > 0))
		return -E2BIG;
	new->e[new->num++] = *e;
	return reg_write(engine, vol, aside, &e->e.key, old, new);
}

int change_put_at(struct engine *engine, struct volume *vol, bool aside, uint32_t seen,
	uint32_t arrived, const uint8_t *rec, size_t len, struct place place)
{
	enum change_type type = arrived ? CHANGE_RESTORE : CHANGE_PUT;
	size_t tail = arrived ? 4 : 0;
	struct reg *old = &engine->old;
	struct element e;
	uint8_t *p;
	size_t i;
	int r;

	r = element_of(&e, rec, len, place, arrived);
	if (r == 0)
		r = reg_load(old, txn(engine), space_of(vol, aside), &e.e.key);
	if (r < 0)
		return r;
	for (i = 0; i < old->num && !engine->is_replaying; i++)
		if (old->e[i].arrived > seen &&
			tree_stamp_compare(old->e[i].e.stamp, e.e.stamp) == 0)
			return -ESTALE;
	p = change_entry(engine, type, 9 + len + tail, &r);
	if (r < 0)
		return r;
	if (p) {
		p[0] = aside;
		le32_put(p + 1, seen);
		le32_put(p + 5, (uint32_t)len);
		memcpy(p + 9, rec, len);
		if (tail)
			le32_put(p + 9 + len, arrived);
		place = arenas_next(&engine->arenas);
		place.offset -= len + tail;
		r = element_of(&e, p + 9, len, place, arrived);
		if (r < 0)
			return r;
	}
	return put_element(engine, vol, aside, seen, &e);
}

int change_put(struct engine *engine, struct volume *vol, bool aside, uint32_t seen,
	const uint8_t *rec, size_t len)
{
	return change_put_at(engine, vol, aside, seen, 0, rec, len, (struct place){ 0 });
}

int change_restore(struct engine *engine, struct volume *vol, bool aside, uint32_t arrived,
	const uint8_t *rec, size_t len)
{
	return change_put_at(
		engine, vol, aside, arrived - 1, arrived, rec, len, (struct place){ 0 });
}

int change_remove(struct engine *engine, struct volume *vol, bool aside, const struct tree_key *key,
	uint32_t seen, size_t *ret_removed, size_t *ret_left)
{
	struct reg *old = &engine->old, *new = &engine->new;
	uint8_t *p;
	int r;

	r = reg_load(old, txn(engine), space_of(vol, aside), key);
	if (r < 0)
		return r;
	reg_keep(new, old, seen, NULL);
	if (ret_removed)
		*ret_removed = old->num - new->num;
	if (ret_left)
		*ret_left = new->num;
	if (old->num == new->num)
		return 0;
	p = change_entry(engine, CHANGE_REMOVE, 5 + TREE_KEY_SIZE, &r);
	if (p) {
		p[0] = aside;
		le32_put(p + 1, seen);
		tree_key_pack(key, p + 5);
	}
	return r < 0 ? r : reg_write(engine, vol, aside, key, old, new);
}

int change_delete(struct engine *engine, struct volume *vol, const struct tree_key *key,
	struct tree_stamp stamp)
{
	struct reg *old = &engine->old, *new = &engine->new;
	uint8_t *p;
	int r;

	r = reg_load(old, txn(engine), vol->number, key);
	if (r < 0)
		return r;
	reg_keep(new, old, CHANGE_SEEN_NONE, &stamp);
	p = change_entry(engine, CHANGE_DELETE, TREE_KEY_SIZE + STAMP_SIZE, &r);
	if (p) {
		tree_key_pack(key, p);
		stamp_put(p + TREE_KEY_SIZE, stamp);
	}
	return r < 0 ? r : reg_write(engine, vol, false, key, old, new);
}

int change_restamp(struct engine *engine, struct volume *vol, const struct tree_key *key,
	struct tree_stamp was, struct tree_stamp stamp, uint64_t lamport)
{
	struct reg *old = &engine->old, *new = &engine->new;
	uint8_t *p;
	size_t i;
	int r;

	r = reg_load(old, txn(engine), vol->number, key);
	if (r < 0)
		return r;
	p = change_entry(engine, CHANGE_RESTAMP, TREE_KEY_SIZE + 2 * STAMP_SIZE + 8, &r);
	if (r < 0)
		return r;
	if (p) {
		tree_key_pack(key, p);
		p = stamp_put(p + TREE_KEY_SIZE, was);
		le64_put(stamp_put(p, stamp), lamport);
	}
	new->num = old->num;
	for (i = 0; i < old->num; i++) {
		new->e[i] = old->e[i];
		if (tree_stamp_compare(old->e[i].e.stamp, was) != 0)
			continue;
		new->e[i].e.stamp = stamp;
		new->e[i].e.lamport = lamport;
	}
	return reg_write(engine, vol, false, key, old, new);
}

/* Into engine->record, while replaying. What cannot be read is damage where it is to the scan of
 * the log. */
static int read_again(struct engine *engine, struct place place, uint32_t crc)
{
	int r = arenas_read(&engine->arenas, place, engine->record);

	if (r == -EIO && engine->arenas.skips_unreadable)
		r = arenas_read(&engine->arenas, place, engine->record);
	if (r == 0)
		return crc32c(0, engine->record, place.len) == crc ? 0 : -EBADMSG;
	return r == -ENODATA || (r == -EIO && engine->arenas.skips_unreadable) ? -EBADMSG : r;
}

int change_take_at(struct engine *engine, struct volume *vol, struct place place,
	struct tree_stamp stamp, uint64_t lamport, uint32_t arrived, const uint32_t *crc)
{
	struct element e;
	uint8_t *p;
	int r;

	r = scratch_grow(&engine->record, &engine->record_cap, place.len);
	if (r == 0)
		r = crc ? read_again(engine, place, *crc)
			: arenas_read(&engine->arenas, place, engine->record);
	if (r == 0)
		r = element_of(&e, engine->record, place.len, place, arrived);
	if (r == 0)
		r = reg_load(&engine->old, txn(engine), vol->number, &e.e.key);
	if (r < 0)
		return r;
	e.e.stamp = stamp;
	e.e.lamport = lamport;
	p = change_entry(engine, CHANGE_TAKE, 16 + STAMP_SIZE + 16, &r);
	if (r < 0)
		return r;
	if (p) {
		le32_put(p, place.arena);
		le32_put(p + 4, place.len);
		le64_put(p + 8, place.offset);
		p = stamp_put(p + 16, stamp);
		le64_put(p, lamport);
		le32_put(p + 8, arrived);
		le32_put(p + 12, crc32c(0, engine->record, place.len));
	}
	return put_element(engine, vol, false, CHANGE_SEEN_NONE, &e);
}

int change_take(struct engine *engine, struct volume *vol, struct place place,
	struct tree_stamp stamp, uint64_t lamport, uint32_t arrived)
{
	return change_take_at(engine, vol, place, stamp, lamport, arrived, NULL);
}

int change_dead(struct engine *engine, struct volume *vol, const struct tree_unit *unit,
	struct tree_stamp label)
{
	struct tree_stamp was = { .replica = label.replica };
	const uint8_t *value;
	struct row_key k;
	uint8_t epoch[8];
	size_t len;
	uint8_t *p;
	int r;

	p = change_entry(engine, CHANGE_DEAD, TREE_UNIT_SIZE + STAMP_SIZE, &r);
	if (r < 0)
		return r;
	if (p) {
		tree_unit_pack(unit, p);
		stamp_put(p + TREE_UNIT_SIZE, label);
	}
	row_dead(&k, vol->number, unit, label.replica);
	r = db_get(txn(engine), DB_DEAD, k.b, k.len, &value, &len);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && len == 8) {
		was.epoch = le64_get(value);
		if (was.epoch >= label.epoch)
			return 0;
	}
	le64_put(epoch, label.epoch);
	r = db_put(txn(engine), DB_DEAD, k.b, k.len, epoch, sizeof(epoch));
	if (r == 0 && was.epoch > 0) {
		row_stamp(&k, vol->number, was, unit);
		r = db_delete(txn(engine), DB_LABELS, k.b, k.len);
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0)
		return r;
	row_stamp(&k, vol->number, label, unit);
	return db_put(txn(engine), DB_LABELS, k.b, k.len, NULL, 0);
}

/* ---- changes of whole units */

/* The keys of a unit's registers; the caller frees *ret. */
static int unit_keys(struct engine *engine, uint32_t space, const struct tree_unit *unit,
	struct tree_key **ret, size_t *ret_num)
{
	struct tree_key *keys = NULL;
	size_t num = 0, cap = 0;
	struct row_key k;
	struct db_iter it;
	int r;

	row_start(&k, space);
	row_unit(&k, unit);
	r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1) {
		uint8_t packed[TREE_KEY_SIZE] = { 0 };

		if (num == cap) {
			struct tree_key *more;

			cap = cap ? cap * 2 : 8;
			more = realloc(keys, cap * sizeof(*keys));
			if (!more) {
				r = -ENOMEM;
				break;
			}
			keys = more;
		}
		memcpy(packed, it.key + 4, it.key_len - 4);
		if (tree_key_unpack(packed, &keys[num++]) < 0)
			r = -EUCLEAN;
		else
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r < 0) {
		free(keys);
		return r;
	}
	*ret = keys;
	*ret_num = num;
	return 0;
}

static int move_register(struct engine *engine, struct volume *vol, const struct tree_key *key,
	bool to_aside, struct tree_stamp stamp, uint64_t lamport)
{
	struct reg *from = &engine->old, *there = &engine->new;
	const uint8_t *value;
	struct row_key k;
	size_t len;
	int r;

	row_record(&k, space_of(vol, !to_aside), key);
	r = db_get(txn(engine), DB_RECORDS, k.b, k.len, &value, &len);
	if (r == 0)
		r = scratch_grow(&engine->record, &engine->record_cap, len);
	if (r < 0)
		return r;
	/* A copy: the row goes before it is written at its other place. */
	memcpy(engine->record, value, len);
	r = reg_parse(from, engine->record, len);
	if (r == 0)
		r = reg_write(engine, vol, !to_aside, key, from, &none);
	if (r == 0)
		r = reg_load(there, txn(engine), space_of(vol, to_aside), key);
	if (r < 0)
		return r;
	if (!to_aside) {
		/* One stamp for one element: the winner is what its users saw. */
		from->e[0] = from->e[reg_winner(from)];
		from->num = 1;
		from->e[0].e.stamp = stamp;
		from->e[0].e.lamport = lamport;
		from->e[0].arrived = 0;
	}
	return reg_write(engine, vol, to_aside, key, there, from);
}

int change_move(struct engine *engine, struct volume *vol, const struct tree_unit *unit,
	bool to_aside, struct tree_stamp stamp, uint64_t lamport)
{
	struct tree_key *keys;
	size_t num, i;
	uint8_t *p;
	int r;

	r = unit_keys(engine, space_of(vol, !to_aside), unit, &keys, &num);
	if (r < 0)
		return r;
	p = change_entry(engine, CHANGE_MOVE, 1 + TREE_UNIT_SIZE + STAMP_SIZE + 8, &r);
	if (p) {
		p[0] = to_aside;
		tree_unit_pack(unit, p + 1);
		le64_put(stamp_put(p + 1 + TREE_UNIT_SIZE, stamp), lamport);
	}
	for (i = 0; r == 0 && i < num; i++)
		r = move_register(engine, vol, &keys[i], to_aside, stamp, lamport);
	free(keys);
	return r;
}

int change_drop(struct engine *engine, struct volume *vol, bool aside, const struct tree_unit *unit)
{
	struct tree_key *keys;
	size_t num, i;
	uint8_t *p;
	int r;

	r = unit_keys(engine, space_of(vol, aside), unit, &keys, &num);
	if (r < 0 || num == 0)
		return r;
	p = change_entry(engine, CHANGE_DROP, 1 + TREE_UNIT_SIZE, &r);
	if (p) {
		p[0] = aside;
		tree_unit_pack(unit, p + 1);
	}
	for (i = 0; r == 0 && i < num; i++) {
		r = reg_load(&engine->old, txn(engine), space_of(vol, aside), &keys[i]);
		if (r == 0)
			r = reg_write(engine, vol, aside, &keys[i], &engine->old, &none);
	}
	free(keys);
	return r;
}
