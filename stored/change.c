#include "stored/change.h"

#include "stored/crc32c.h"
#include "stored/fallen.h"
#include "stored/history.h"
#include "stored/prune.h"
#include "stored/rows.h"
#include "stored/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum change_type {
	CHANGE_PUT = 1,	    /* aside u8, seen u32, len u32, record */
	CHANGE_REMOVE = 2,  /* aside u8, seen u32, key */
	CHANGE_DELETE = 3,  /* key, stamp */
	CHANGE_RESTAMP = 4, /* key, old stamp, stamp, lamport u64 */
	CHANGE_TAKE =
		5, /* arena u32, len u32, offset u64, stamp, lamport u64, arrived u32, crc u32 */
	CHANGE_DEAD = 6,      /* unit, stamp */
	CHANGE_MOVE = 7,      /* to_aside u8, unit, stamp, lamport u64 */
	CHANGE_DROP = 8,      /* aside u8, unit */
	CHANGE_STATE = 9,     /* len u32, volume state */
	CHANGE_ROW = 10,      /* delete u8, key len u16, value len u32, key, value */
	CHANGE_PRUNE = 11,    /* time u64, seq u32 */
	CHANGE_SNAPSHOT = 12, /* tag, len u16, name; len 0: deleted */
	CHANGE_PULLED = 13,   /* time u64, number of changes u64, undone u8, peer */
	CHANGE_RESTORE = 14,  /* as PUT, then arrived u32 */
};

#define STAMP_SIZE 12

static const struct reg none;

/* ---- writing the frame */

int change_begin(struct engine *engine)
{
	int r;

	if (engine->is_broken)
		return -EIO;
	r = engine_begin_frame(engine);
	if (r == 0 && !arenas_add(&engine->arenas, CHANGE_HEAD_SIZE))
		r = -ENOMEM;
	if (r < 0)
		arenas_cancel(&engine->arenas);
	return r;
}

uint64_t change_time(struct engine *engine, struct volume *vol)
{
	history_start(engine, vol, engine->io->now(engine->io->ctx));
	return engine->time;
}

int change_end(struct engine *engine, enum frame_type type, const struct change_head *head,
	struct place *ret_place)
{
	size_t len;
	uint8_t *p = arenas_payload(&engine->arenas, &len);

	le32_put(p, head->vol);
	le32_put(p + 4, head->flags);
	le64_put(p + 8, head->time);
	le64_put(p + 16, head->incarnation);
	le64_put(p + 24, head->position);
	le64_put(p + 32, head->epoch);
	le64_put(p + 40, head->lamport);
	le64_put(p + 48, head->unique);
	le64_put(p + 56, head->view);
	le64_put(p + 64, head->reserved);
	engine->ops++;
	return arenas_end(&engine->arenas, type, ret_place);
}

void change_cancel(struct engine *engine)
{
	arenas_cancel(&engine->arenas);
	history_drop(engine);
	engine->num_moved = 0;
}

int change_cut(struct engine *engine, const struct volume *vol)
{
	struct change_head head = { .vol = vol->number };
	size_t len;
	int r;

	arenas_payload(&engine->arenas, &len);
	if (len < engine->options.part_size)
		return 0;
	r = change_end(engine, FRAME_PULL_CHANGES, &head, NULL);
	if (r == 0)
		r = arenas_flush(&engine->arenas);
	return r < 0 ? r : change_begin(engine);
}

/* Room for one change in the open frame behind its type; NULL with *ret_error 0 while replaying. */
static uint8_t *entry(struct engine *engine, enum change_type type, size_t len, int *ret_error)
{
	uint8_t *p;

	*ret_error = 0;
	if (engine->is_replaying)
		return NULL;
	p = arenas_add(&engine->arenas, 1 + len);
	if (!p) {
		*ret_error = -ENOMEM;
		return NULL;
	}
	*p = (uint8_t)type;
	return p + 1;
}

static uint8_t *put_stamp(uint8_t *p, struct tree_stamp stamp)
{
	le32_put(p, stamp.replica);
	le64_put(p + 4, stamp.epoch);
	return p + STAMP_SIZE;
}

static struct tree_stamp get_stamp(const uint8_t *p)
{
	return (struct tree_stamp){ .replica = le32_get(p), .epoch = le64_get(p + 4) };
}

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

/* place: of the record while replaying, otherwise found out here. arrived: 0 for what is written
 * here. */
static int put(struct engine *engine, struct volume *vol, bool aside, uint32_t seen,
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
	p = entry(engine, type, 9 + len + tail, &r);
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
	return put(engine, vol, aside, seen, 0, rec, len, (struct place){ 0 });
}

int change_restore(struct engine *engine, struct volume *vol, bool aside, uint32_t arrived,
	const uint8_t *rec, size_t len)
{
	return put(engine, vol, aside, arrived - 1, arrived, rec, len, (struct place){ 0 });
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
	p = entry(engine, CHANGE_REMOVE, 5 + TREE_KEY_SIZE, &r);
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
	p = entry(engine, CHANGE_DELETE, TREE_KEY_SIZE + STAMP_SIZE, &r);
	if (p) {
		tree_key_pack(key, p);
		put_stamp(p + TREE_KEY_SIZE, stamp);
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
	p = entry(engine, CHANGE_RESTAMP, TREE_KEY_SIZE + 2 * STAMP_SIZE + 8, &r);
	if (r < 0)
		return r;
	if (p) {
		tree_key_pack(key, p);
		p = put_stamp(p + TREE_KEY_SIZE, was);
		le64_put(put_stamp(p, stamp), lamport);
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

/* crc: of the record as it was when it was taken first, which damage since then must not change. */
static int take_at(struct engine *engine, struct volume *vol, struct place place,
	struct tree_stamp stamp, uint64_t lamport, uint32_t arrived, const uint32_t *crc)
{
	struct element e;
	uint8_t *p;
	int r;

	r = scratch_grow(&engine->record, &engine->record_cap, place.len);
	if (r == 0)
		r = arenas_read(&engine->arenas, place, engine->record);
	if (r == 0 && crc && crc32c(0, engine->record, place.len) != *crc)
		r = -EBADMSG;
	if (r == 0)
		r = element_of(&e, engine->record, place.len, place, arrived);
	if (r == 0)
		r = reg_load(&engine->old, txn(engine), vol->number, &e.e.key);
	if (r < 0)
		return r;
	e.e.stamp = stamp;
	e.e.lamport = lamport;
	p = entry(engine, CHANGE_TAKE, 16 + STAMP_SIZE + 16, &r);
	if (r < 0)
		return r;
	if (p) {
		le32_put(p, place.arena);
		le32_put(p + 4, place.len);
		le64_put(p + 8, place.offset);
		p = put_stamp(p + 16, stamp);
		le64_put(p, lamport);
		le32_put(p + 8, arrived);
		le32_put(p + 12, crc32c(0, engine->record, place.len));
	}
	return put_element(engine, vol, false, CHANGE_SEEN_NONE, &e);
}

int change_take(struct engine *engine, struct volume *vol, struct place place,
	struct tree_stamp stamp, uint64_t lamport, uint32_t arrived)
{
	return take_at(engine, vol, place, stamp, lamport, arrived, NULL);
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

	p = entry(engine, CHANGE_DEAD, TREE_UNIT_SIZE + STAMP_SIZE, &r);
	if (r < 0)
		return r;
	if (p) {
		tree_unit_pack(unit, p);
		put_stamp(p + TREE_UNIT_SIZE, label);
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

int unit_keys(struct engine *engine, uint32_t space, const struct tree_unit *unit,
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
	p = entry(engine, CHANGE_MOVE, 1 + TREE_UNIT_SIZE + STAMP_SIZE + 8, &r);
	if (p) {
		p[0] = to_aside;
		tree_unit_pack(unit, p + 1);
		le64_put(put_stamp(p + 1 + TREE_UNIT_SIZE, stamp), lamport);
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
	p = entry(engine, CHANGE_DROP, 1 + TREE_UNIT_SIZE, &r);
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

/* ---- history, snapshots, syncs */

int change_prune(
	struct engine *engine, struct volume *vol, uint64_t time, uint32_t seq, bool *ret_dropped)
{
	uint8_t *p;
	int r;

	r = prune_times(engine, vol, time, seq, ret_dropped);
	if (r < 0 || !*ret_dropped)
		return r;
	p = entry(engine, CHANGE_PRUNE, 12, &r);
	if (p) {
		le64_put(p, time);
		le32_put(p + 8, seq);
	}
	return r;
}

static int drop_snapshot(struct engine *engine, struct volume *vol, const struct row_key *k)
{
	const uint8_t *value;
	size_t len;
	int r;

	r = db_get(txn(engine), DB_SNAPSHOTS, k->b, k->len, &value, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (len < 8)
		return -EUCLEAN;
	retention_unpin(&vol->kept, le64_get(value));
	return db_delete(txn(engine), DB_SNAPSHOTS, k->b, k->len);
}

int change_snapshot(struct engine *engine, struct volume *vol, const uint8_t tag[16],
	const uint8_t *name, size_t len)
{
	struct row_key k;
	uint8_t *p;
	int r;

	p = entry(engine, CHANGE_SNAPSHOT, 18 + len, &r);
	if (r < 0)
		return r;
	if (p) {
		memcpy(p, tag, 16);
		le16_put(p + 16, (uint16_t)len);
		if (len > 0)
			memcpy(p + 18, name, len);
	}
	row_start(&k, vol->number);
	memcpy(k.b + k.len, tag, 16);
	k.len += 16;
	r = drop_snapshot(engine, vol, &k);
	if (r < 0 || !name)
		return r;
	r = scratch_grow(&engine->value, &engine->value_cap, 8 + len);
	if (r == 0)
		r = retention_pin(&vol->kept, engine->time);
	if (r < 0)
		return r;
	le64_put(engine->value, engine->time);
	memcpy(engine->value + 8, name, len);
	return db_put(txn(engine), DB_SNAPSHOTS, k.b, k.len, engine->value, 8 + len);
}

int change_pulled(struct engine *engine, struct volume *vol, uint64_t time, const uint8_t peer[32],
	uint64_t num_changed, bool is_undone)
{
	uint8_t row[17 + 32];
	struct row_key k;
	uint8_t *p;
	int r;

	le64_put(row, time);
	le64_put(row + 8, num_changed);
	row[16] = is_undone;
	memcpy(row + 17, peer, 32);
	p = entry(engine, CHANGE_PULLED, sizeof(row), &r);
	if (r < 0)
		return r;
	if (p)
		memcpy(p, row, sizeof(row));
	row_one(&k, vol->number, time);
	return db_put(txn(engine), DB_PULLS, k.b, k.len, row + 8, sizeof(row) - 8);
}

/* ---- state and settings */

int change_state(struct engine *engine, struct volume *vol)
{
	size_t len;
	uint8_t *p;
	int r;

	vol->is_dirty = true;
	r = scratch_grow(&engine->value, &engine->value_cap, VOLUME_STATE_MAX);
	if (r < 0)
		return r;
	len = volume_state_emit(vol, false, engine->value);
	p = entry(engine, CHANGE_STATE, 4 + len, &r);
	if (p) {
		le32_put(p, (uint32_t)len);
		memcpy(p + 4, engine->value, len);
	}
	return r;
}

static int retention_row(struct engine *engine, uint32_t number, const uint8_t *value, size_t len)
{
	struct volume *vol = volume_numbered(engine, number);

	return vol ? prune_row(engine, vol, value, len) : -EBADMSG;
}

int change_row(
	struct engine *engine, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	uint8_t *p;
	int r;

	p = entry(engine, CHANGE_ROW, 7 + key_len + len, &r);
	if (r < 0)
		return r;
	if (p) {
		p[0] = value == NULL;
		le16_put(p + 1, (uint16_t)key_len);
		le32_put(p + 3, (uint32_t)len);
		memcpy(p + 7, key, key_len);
		if (len > 0)
			memcpy(p + 7 + key_len, value, len);
	}
	if (value) {
		r = db_put(txn(engine), DB_SETTINGS, key, key_len, value, len);
		if (r == 0 && key[0] == 'v')
			r = volume_configure(engine, be32_get(key + 1), value, len);
		if (r == 0 && key[0] == 'h')
			r = retention_row(engine, be32_get(key + 1), value, len);
		return r;
	}
	r = db_delete(txn(engine), DB_SETTINGS, key, key_len);
	if (r == -ENOENT)
		r = 0;
	if (r == 0 && key[0] == 'v')
		r = volume_drop(engine, be32_get(key + 1));
	return r;
}

/* ---- replaying */

struct cursor {
	const uint8_t *p, *start, *end;
	struct place place; /* of start */
};

/* len bytes, or NULL where the change ends early. */
static const uint8_t *take(struct cursor *c, size_t len)
{
	const uint8_t *p = c->p;

	if (len > (size_t)(c->end - c->p))
		return NULL;
	c->p += len;
	return p;
}

static int replay_put(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p = take(c, 9), *rec, *tail = NULL;
	struct place place = c->place;
	size_t len;

	if (!p)
		return -EBADMSG;
	len = le32_get(p + 5);
	rec = take(c, len);
	if (rec && type == CHANGE_RESTORE)
		tail = take(c, 4);
	if (!rec || (type == CHANGE_RESTORE && !tail))
		return -EBADMSG;
	place.offset += (uint64_t)(rec - c->start);
	return put(engine, vol, p[0], le32_get(p + 1), tail ? le32_get(tail) : 0, rec, len, place);
}

static int replay_row(struct engine *engine, struct cursor *c)
{
	const uint8_t *p = take(c, 7), *key;
	size_t key_len, len;

	if (!p)
		return -EBADMSG;
	key_len = le16_get(p + 1);
	len = le32_get(p + 3);
	key = take(c, key_len);
	if (!key || key_len == 0 || key_len > DB_KEY_MAX ||
		((key[0] == 'v' || key[0] == 'h') && key_len != 5) || !take(c, len))
		return -EBADMSG;
	return change_row(engine, key, key_len, p[0] ? NULL : key + key_len, len);
}

static int replay_take(struct engine *engine, struct volume *vol, struct cursor *c)
{
	const uint8_t *p = take(c, 16 + STAMP_SIZE + 16);
	struct place place;
	uint32_t crc;

	if (!p)
		return -EBADMSG;
	place = (struct place){ le32_get(p), le32_get(p + 4), le64_get(p + 8) };
	crc = le32_get(p + 28 + STAMP_SIZE);
	if (place.len > TREE_RECORD_MAX)
		return -EBADMSG;
	return take_at(engine, vol, place, get_stamp(p + 16), le64_get(p + 16 + STAMP_SIZE),
		le32_get(p + 24 + STAMP_SIZE), &crc);
}

static int replay_keyed(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p;
	struct tree_key key;
	bool aside = false;
	uint32_t seen = 0;

	if (type == CHANGE_REMOVE) {
		p = take(c, 5);
		if (!p)
			return -EBADMSG;
		aside = p[0];
		seen = le32_get(p + 1);
	}
	p = take(c, TREE_KEY_SIZE);
	if (!p || tree_key_unpack(p, &key) < 0)
		return -EBADMSG;
	if (type == CHANGE_REMOVE)
		return change_remove(engine, vol, aside, &key, seen, NULL, NULL);
	p = take(c, type == CHANGE_DELETE ? STAMP_SIZE : 2 * STAMP_SIZE + 8);
	if (!p)
		return -EBADMSG;
	if (type == CHANGE_DELETE)
		return change_delete(engine, vol, &key, get_stamp(p));
	return change_restamp(engine, vol, &key, get_stamp(p), get_stamp(p + STAMP_SIZE),
		le64_get(p + 2 * STAMP_SIZE));
}

static int replay_unit(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p = take(c, type == CHANGE_DEAD ? 0 : 1), *unit_at;
	struct tree_unit unit;

	unit_at = p ? take(c, TREE_UNIT_SIZE) : NULL;
	if (!unit_at || tree_unit_unpack(unit_at, &unit) < 0)
		return -EBADMSG;
	if (type == CHANGE_DROP)
		return change_drop(engine, vol, p[0], &unit);
	if (type == CHANGE_DEAD) {
		p = take(c, STAMP_SIZE);
		return p ? change_dead(engine, vol, &unit, get_stamp(p)) : -EBADMSG;
	}
	unit_at = take(c, STAMP_SIZE + 8);
	if (!unit_at)
		return -EBADMSG;
	return change_move(
		engine, vol, &unit, p[0], get_stamp(unit_at), le64_get(unit_at + STAMP_SIZE));
}

static int replay_state(struct engine *engine, struct volume *vol, struct cursor *c)
{
	const uint8_t *p = take(c, 4), *state;
	size_t len;

	if (!p)
		return -EBADMSG;
	len = le32_get(p);
	state = take(c, len);
	vol->is_dirty = true;
	return state ? volume_state_parse(vol, false, state, len) : -EBADMSG;
}

static int replay_history(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p, *name;
	bool dropped;
	size_t len;

	if (type == CHANGE_PRUNE) {
		p = take(c, 12);
		return p ? change_prune(engine, vol, le64_get(p), le32_get(p + 8), &dropped)
			 : -EBADMSG;
	}
	if (type == CHANGE_PULLED) {
		p = take(c, 17 + 32);
		return p ? change_pulled(engine, vol, le64_get(p), p + 17, le64_get(p + 8), p[16])
			 : -EBADMSG;
	}
	p = take(c, 18);
	len = p ? le16_get(p + 16) : 0;
	name = p ? take(c, len) : NULL;
	return name ? change_snapshot(engine, vol, p, len > 0 ? name : NULL, len) : -EBADMSG;
}

static int replay_one(struct engine *engine, uint32_t number, struct cursor *c)
{
	enum change_type type = *take(c, 1);
	struct volume *vol;

	if (type == CHANGE_ROW)
		return replay_row(engine, c);
	vol = volume_numbered(engine, number);
	if (!vol)
		return -EBADMSG;
	switch (type) {
	case CHANGE_PUT:
	case CHANGE_RESTORE:
		return replay_put(engine, vol, type, c);
	case CHANGE_PRUNE:
	case CHANGE_SNAPSHOT:
	case CHANGE_PULLED:
		return replay_history(engine, vol, type, c);
	case CHANGE_TAKE:
		return replay_take(engine, vol, c);
	case CHANGE_REMOVE:
	case CHANGE_DELETE:
	case CHANGE_RESTAMP:
		return replay_keyed(engine, vol, type, c);
	case CHANGE_DEAD:
	case CHANGE_MOVE:
	case CHANGE_DROP:
		return replay_unit(engine, vol, type, c);
	case CHANGE_STATE:
		return replay_state(engine, vol, c);
	case CHANGE_ROW:
		break;
	}
	return -EBADMSG;
}

/* Old logs have times that do not ascend: history_start mends them as it would have then. */
static bool is_timed(const struct frame_view *frame, const uint8_t *head)
{
	return frame->type == FRAME_BATCH || frame->type == FRAME_PULL_COMMIT ||
	       (le32_get(head + 4) & CHANGE_TIMED);
}

void change_replay_time(struct engine *engine, const struct frame_view *frame)
{
	struct volume *vol;

	if (frame->place.len < CHANGE_HEAD_SIZE)
		return;
	vol = volume_numbered(engine, le32_get(frame->payload));
	if (vol)
		history_start(engine, vol, le64_get(frame->payload + 8));
}

int change_replay(struct engine *engine, const struct frame_view *frame)
{
	struct cursor c = { frame->payload, frame->payload, frame->payload + frame->place.len,
		frame->place };
	const uint8_t *head = take(&c, CHANGE_HEAD_SIZE);
	struct volume *vol;
	uint32_t number;
	bool changed;
	int r = 0;

	if (!head)
		return -EBADMSG;
	number = le32_get(head);
	if (frame->type == FRAME_BATCH || frame->type == FRAME_SETTINGS)
		change_replay_time(engine, frame);
	while (r == 0 && c.p < c.end)
		r = replay_one(engine, number, &c);
	vol = volume_numbered(engine, number);
	if (r < 0 || !vol)
		return r;
	engine->ops++;
	if (frame->type == FRAME_BATCH) {
		struct tree_stamp stamp = { le64_get(head + 32), vol->state.clock.replica };

		vol->state.clock.epoch = stamp.epoch;
		vol->state.clock.lamport = le64_get(head + 40);
		vol->incarnation = le64_get(head + 16);
		vol->position = le64_get(head + 24);
		vol->is_dirty = true;
		if (le32_get(head + 4) & CHANGE_WROTE)
			r = tree_knowledge_raise(&vol->state.known, stamp);
	}
	if (r == 0 && frame->type != FRAME_PULL_CHANGES)
		r = fallen_update(engine, vol, &changed);
	return r == 0 && is_timed(frame, head) ? history_end(engine, vol) : r;
}
