#include "stored/object.h"

#include "cas/object.h"
#include "stored/bulk.h"
#include "stored/gc_state.h"
#include "stored/intake.h"
#include "stored/recover.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t zero_tag[32];

int engine_undo(struct engine *engine, int err)
{
	arenas_cancel(&engine->arenas);
	if (err == -EOVERFLOW) {
		arenas_drop(&engine->arenas);
		db_abort(engine->db);
		if (db_grow(engine->db) == 0 && engine_rollback(engine) == 0)
			return -ERESTART;
	}
	engine_log(engine, 3, "store: a change failed: %s", strerror(-err));
	engine->is_broken = true;
	return -EIO;
}

#define LEAF_BIT 0x80000000u

int object_row_parse(const uint8_t *value, size_t len, struct object_row *ret)
{
	uint32_t bytes;

	if (len != 16)
		return -EUCLEAN;
	bytes = le32_get(value + 4);
	ret->place = (struct place){ le32_get(value), bytes & ~LEAF_BIT, le64_get(value + 8) };
	ret->is_leaf = bytes & LEAF_BIT;
	return 0;
}

static int object_row(struct engine *engine, const uint8_t id[32], struct object_row *ret)
{
	const uint8_t *row;
	size_t len;
	int r;

	r = db_get(txn(engine), DB_OBJECTS, id, 32, &row, &len);
	return r < 0 ? r : object_row_parse(row, len, ret);
}

bool object_is_leaf(struct engine *engine, const uint8_t id[32])
{
	struct object_row row;

	return object_row(engine, id, &row) == 0 && row.is_leaf;
}

/* Where the row of an object says that it is; -ENOENT. */
static int object_place(struct engine *engine, const uint8_t id[32], struct place *ret)
{
	struct object_row row;
	int r = object_row(engine, id, &row);

	if (r == 0)
		*ret = row.place;
	return r;
}

static bool is_manifest(const uint8_t *sealed, size_t len)
{
	return len >= CAS_OBJECT_HEADER && memcmp(sealed, "BZO1", 4) == 0 &&
	       sealed[6] == CAS_TYPE_MANIFEST;
}

int object_put_row(struct engine *engine, const uint8_t id[32], const uint8_t tag[32],
	struct place sealed, bool is_leaf)
{
	bool has_tag = memcmp(tag, zero_tag, 32) != 0;
	struct place old;
	uint8_t row[16];
	int r;

	r = object_place(engine, id, &old);
	if (r == 0)
		engine->object_bytes -= old.len;
	else if (r != -ENOENT)
		return r;
	le32_put(row, sealed.arena);
	le32_put(row + 4, sealed.len | (is_leaf || has_tag ? LEAF_BIT : 0));
	le64_put(row + 8, sealed.offset);
	r = db_put(txn(engine), DB_OBJECTS, id, 32, row, sizeof(row));
	engine->object_bytes += sealed.len;
	return r;
}

int object_put_tag(struct engine *engine, const uint8_t id[32], const uint8_t tag[32])
{
	return memcmp(tag, zero_tag, 32) == 0 ? 0 : db_put(txn(engine), DB_TAGS, tag, 32, id, 32);
}

static int object_index(struct engine *engine, const uint8_t *id, const uint8_t *tag,
	struct place sealed, bool is_leaf)
{
	int r = object_put_row(engine, id, tag, sealed, is_leaf);

	return r < 0 ? r : object_put_tag(engine, id, tag);
}

static int hole_add(struct engine *engine, struct place place)
{
	struct place *list = engine->holes.list;

	if (engine->holes.num == engine->holes.cap) {
		size_t cap = engine->holes.cap ? engine->holes.cap * 2 : 64;

		list = realloc(list, cap * sizeof(*list));
		if (!list)
			return -ENOMEM;
		engine->holes.list = list;
		engine->holes.cap = cap;
	}
	list[engine->holes.num++] = place;
	return 0;
}

int object_replay(struct engine *engine, const struct frame_view *frame)
{
	struct place sealed = frame->place;

	if (frame->is_hole)
		return hole_add(engine, sealed);
	sealed.offset += FRAME_OBJECT_HEAD;
	sealed.len -= FRAME_OBJECT_HEAD;
	/* Of a sealed arena the footer is read and not the object. */
	return bulk_add(engine, frame->payload, frame->payload + 32, sealed);
}

/* ---- giving up */

/* 1: it was here, at this place. */
static int object_forget(struct engine *engine, const struct frame_freed *freed)
{
	struct place place = { 0 };
	int r;

	r = object_place(engine, freed->id, &place);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (place.arena != freed->arena ||
		place.offset != freed->offset + FRAME_HEAD_SIZE + FRAME_OBJECT_HEAD)
		return 0;
	engine->object_bytes -= place.len;
	r = db_delete(txn(engine), DB_OBJECTS, freed->id, 32);
	return r < 0 ? r : 1;
}

/* Of one FRAME_FREED. */
static int forget_one(struct engine *engine, const struct frame_freed *freed, bool *ret_any)
{
	int r = object_forget(engine, freed);

	*ret_any |= r > 0;
	return r < 0 ? r : gc_note_freed(engine, freed);
}

/* Holes are noted in the order of the log. */
static void hole_named(struct engine *engine, const struct frame_freed *freed)
{
	struct place at = { .arena = freed->arena, .offset = freed->offset + FRAME_HEAD_SIZE };
	size_t low = 0, high = engine->holes.num;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (arenas_is_before(engine->holes.list[mid], at))
			low = mid + 1;
		else
			high = mid;
	}
	if (low < engine->holes.num && !arenas_is_before(at, engine->holes.list[low]))
		engine->holes.list[low].len = 0;
}

int object_replay_freed(struct engine *engine, const struct frame_view *frame)
{
	int num = frame_freed_num(frame->payload, frame->place.len), i, r;
	struct frame_freed freed;
	bool any = false;

	if (num < 0)
		return num;
	r = bulk_flush(engine);
	for (i = 0; r == 0 && i < num; i++) {
		frame_freed_parse(frame->payload, i, &freed);
		hole_named(engine, &freed);
		r = forget_one(engine, &freed, &any);
	}
	return r == 0 && any ? gc_note_tags(engine) : r;
}

void object_holes_end(struct engine *engine)
{
	const struct place *hole;
	size_t i;

	for (i = 0; i < engine->holes.num; i++) {
		hole = &engine->holes.list[i];
		if (hole->len == 0)
			continue;
		recover_note_lost(engine);
		engine_note_range(engine, hole->arena, hole->offset, hole->offset + hole->len);
		engine_log(engine, 3, "store: arena %u: the object at %llu is damaged", hole->arena,
			(unsigned long long)hole->offset);
	}
	engine->holes.num = 0;
}

int object_free(struct engine *engine, const struct frame_freed *list, uint32_t num)
{
	struct arenas *a = &engine->arenas;
	bool any = false;
	uint32_t i;
	uint8_t *p;
	int r;

	if (num > (FRAME_LEN_MAX - FRAME_FREED_HEAD) / FRAME_FREED_SIZE)
		return -E2BIG;
	if (engine->is_broken)
		return -EIO;
	r = engine_begin_frame(engine);
	if (r < 0)
		return r;
	p = arenas_add(a, FRAME_FREED_HEAD + (size_t)num * FRAME_FREED_SIZE);
	if (!p) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	frame_freed_head_emit(num, p);
	for (i = 0; i < num; i++)
		frame_freed_emit(&list[i], p + FRAME_FREED_HEAD + (size_t)i * FRAME_FREED_SIZE);
	for (i = 0; r == 0 && i < num; i++)
		r = forget_one(engine, &list[i], &any);
	if (r == 0 && any)
		r = gc_note_tags(engine);
	if (r < 0)
		return engine_undo(engine, r);
	engine->ops++;
	return arenas_end(a, FRAME_FREED, NULL);
}

int object_move(struct engine *engine, const struct sealed_object *object, const uint8_t *sealed)
{
	size_t len = object->place.len;
	struct arenas *a = &engine->arenas;
	struct place place = { 0 };
	uint8_t *p;
	int r;

	if (engine->is_broken)
		return -EIO;
	r = engine_begin_frame(engine);
	if (r < 0)
		return r;
	p = arenas_add(a, FRAME_OBJECT_HEAD + len);
	if (!p) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	memcpy(p, object->id, 32);
	memcpy(p + 32, object->tag, 32);
	memcpy(p + FRAME_OBJECT_HEAD, sealed, len);
	place = arenas_next(a);
	place.offset -= len;
	place.len = (uint32_t)len;
	r = object_index(engine, object->id, object->tag, place, !is_manifest(sealed, len));
	if (r < 0)
		return engine_undo(engine, r);
	engine->ops++;
	return arenas_end(a, FRAME_OBJECT, NULL);
}

/* ---- putting and finding */

/* What claims to be a manifest must say what it refers to: gc believes it. All else is opaque. */
static bool object_is_sane(const uint8_t *sealed, size_t len)
{
	const uint8_t *ids;
	size_t num;
	int r;

	if (!is_manifest(sealed, len))
		return true;
	r = cas_object_refs(sealed, len, &ids, &num);
	return r == 0 || r == -ENODATA;
}

/* Tags outlive their object for a while. */
static bool is_findable(struct engine *engine, const uint8_t tag[32])
{
	const uint8_t *row;
	uint8_t id[32];
	size_t len;

	if (db_get(txn(engine), DB_TAGS, tag, 32, &row, &len) < 0)
		return false;
	memcpy(id, row, 32);
	return db_has(txn(engine), DB_OBJECTS, id, 32);
}

static int learn_tag(struct engine *engine, const uint8_t tag[32], const uint8_t id[32])
{
	return is_findable(engine, tag) ? 0 : object_put_tag(engine, id, tag);
}

/* id: of sealed; NULL: not known yet. */
static int put(struct engine *engine, const uint8_t tag[32], const uint8_t *sealed, size_t len,
	const uint8_t *id, uint8_t ret_id[32])
{
	struct arenas *a = &engine->arenas;
	struct place place;
	bool is_leaf;
	uint8_t *p;
	int r;

	if (len == 0 || len > INTAKE_OBJECT_MAX)
		return -EBADMSG;
	if (engine->is_broken)
		return -EIO;
	r = engine_begin_frame(engine);
	if (r < 0)
		return r;
	p = arenas_add(a, FRAME_OBJECT_HEAD + len);
	if (!p) {
		arenas_cancel(a);
		return -ENOMEM;
	}
	/* Copied first and hashed as copied: the source may be shared memory. */
	memcpy(p + 64, sealed, len);
	is_leaf = !is_manifest(p + 64, len);
	memcpy(p + 32, tag && is_leaf ? tag : zero_tag, 32);
	r = object_is_sane(p + 64, len) ? 0 : -EBADMSG;
	if (r == 0 && id)
		memcpy(p, id, 32);
	else if (r == 0)
		r = digest_of(engine->digest, p + 64, len, p);
	if (r < 0) {
		arenas_cancel(a);
		return r;
	}
	memcpy(ret_id, p, 32);
	if (db_has(txn(engine), DB_OBJECTS, ret_id, 32)) {
		r = gc_promise(engine, ret_id);
		if (r == 0)
			r = learn_tag(engine, p + 32, ret_id);
		arenas_cancel(a);
		return r < 0 ? engine_undo(engine, r) : 0;
	}
	place = arenas_next(a);
	place.offset -= len;
	place.len = (uint32_t)len;
	r = object_index(engine, ret_id, p + 32, place, is_leaf);
	if (r < 0)
		return engine_undo(engine, r);
	engine->ops++;
	r = arenas_end(a, FRAME_OBJECT, NULL);
	if (r == 0)
		gc_note_object(engine, ret_id, is_leaf);
	return r;
}

int engine_put_object(struct engine *engine, const uint8_t tag[32], const uint8_t *sealed,
	size_t len, uint8_t ret_id[32])
{
	return put(engine, tag, sealed, len, NULL, ret_id);
}

int engine_put_hashed(struct engine *engine, const uint8_t tag[32], const uint8_t *sealed,
	size_t len, const uint8_t id[32])
{
	uint8_t same[32];

	return put(engine, tag, sealed, len, id, same);
}

int engine_locate(struct engine *engine, const uint8_t id[32], struct place *ret)
{
	return object_place(engine, id, ret);
}

int engine_have(struct engine *engine, const uint8_t tag[32], uint8_t ret_id[32])
{
	const uint8_t *row;
	size_t len;
	int r;

	r = db_get(txn(engine), DB_TAGS, tag, 32, &row, &len);
	if (r < 0)
		return r;
	memcpy(ret_id, row, 32);
	/* Its tags outlive an object for a while. */
	r = db_has(txn(engine), DB_OBJECTS, ret_id, 32) ? gc_promise(engine, ret_id) : -ENOENT;
	if (r < 0)
		memset(ret_id, 0, 32);
	return r == -EOVERFLOW ? engine_undo(engine, r) : r;
}

int engine_learn_tag(struct engine *engine, const uint8_t tag[32], const uint8_t id[32])
{
	int r;

	if (engine->is_broken)
		return -EIO;
	if (!object_is_leaf(engine, id))
		return -ENOENT;
	r = learn_tag(engine, tag, id);
	return r == -EOVERFLOW ? engine_undo(engine, r) : r;
}

int engine_read_object(
	struct engine *engine, const uint8_t id[32], struct place place, uint8_t *buf)
{
	uint8_t is[32];
	int r;

	r = arenas_read(&engine->arenas, place, buf);
	if (r == 0)
		r = digest_of(engine->digest, buf, place.len, is);
	if (r == 0 && memcmp(is, id, 32) != 0)
		return -EBADMSG;
	return r;
}

int engine_arena_open(struct engine *engine, uint32_t arena)
{
	return arenas_open_one(&engine->arenas, arena);
}
