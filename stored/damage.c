#include "stored/damage.h"

#include "cas/bytes.h"
#include "stored/engine_state.h"
#include "stored/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX	 "bad"
#define KEY_SIZE (3 + 32)
#define ROW_SIZE 25
#define ROW_OLD	 24 /* without the last byte */

static void note_key(uint8_t key[KEY_SIZE], const uint8_t id[32])
{
	memcpy(key, PREFIX, 3);
	memcpy(key + 3, id, 32);
}

bool damage_is_noted(struct engine *engine, const uint8_t id[32])
{
	uint8_t key[KEY_SIZE];

	note_key(key, id);
	return db_has(txn(engine), DB_META, key, sizeof(key));
}

static bool is_same(struct place x, struct place y)
{
	return x.arena == y.arena && x.offset == y.offset && x.len == y.len;
}

bool damage_is_expected(struct engine *engine, const uint8_t id[32], struct place place)
{
	struct place now;

	return engine_locate(engine, id, &now) == 0 && is_same(now, place);
}

int damage_note(struct engine *engine, const uint8_t id[32], struct place place)
{
	uint8_t key[KEY_SIZE], row[ROW_SIZE];
	int r;

	if (!damage_is_expected(engine, id, place))
		return 0;
	note_key(key, id);
	le64_put(row, engine->io->now(engine->io->ctx));
	le32_put(row + 8, place.arena);
	le32_put(row + 12, place.len);
	le64_put(row + 16, place.offset);
	row[24] = !object_is_leaf(engine, id);
	r = db_put(txn(engine), DB_META, key, sizeof(key), row, sizeof(row));
	if (r == 0)
		r = db_delete(txn(engine), DB_OBJECTS, id, 32);
	if (r < 0)
		return r;
	engine->object_bytes -= place.len;
	engine->ops++;
	engine->num_noted++;
	engine_log(engine, 3, "store: arena %u: the object at %llu is damaged", place.arena,
		(unsigned long long)place.offset);
	return 0;
}

int damage_check(struct engine *engine, const uint8_t id[32])
{
	struct place place;
	uint8_t *buf;
	int r;

	r = engine_locate(engine, id, &place);
	if (r < 0)
		return r;
	buf = malloc(place.len);
	if (!buf)
		return -ENOMEM;
	r = engine_flush(engine); /* an object still in the buffer is not on the disk to be read */
	if (r == 0)
		r = engine_read_object(engine, id, place, buf);
	free(buf);
	if (r != -EBADMSG && r != -EIO && r != -ENODATA)
		return r;
	r = damage_note(engine, id, place);
	return r < 0 ? r : -EBADMSG;
}

/* Whether it is one, also of an older program. */
static bool is_note(const struct db_iter *it)
{
	return it->key_len == KEY_SIZE && (it->value_len == ROW_SIZE || it->value_len == ROW_OLD);
}

static void note_parse(const struct db_iter *it, struct damage *ret)
{
	memcpy(ret->id, it->key + 3, 32);
	ret->found = le64_get(it->value);
	ret->place.arena = le32_get(it->value + 8);
	ret->place.len = le32_get(it->value + 12);
	ret->place.offset = le64_get(it->value + 16);
}

int damage_list(struct engine *engine, const uint8_t *after, struct damage *ret_list, size_t max)
{
	uint8_t start[KEY_SIZE];
	struct db_iter it;
	size_t num = 0;
	int r;

	if (after)
		note_key(start, after);
	r = db_iter_first(&it, txn(engine), DB_META, PREFIX, 3, after ? start : NULL,
		after ? sizeof(start) : 0);
	while (r > 0 && num < max) {
		if (is_note(&it) && (!after || memcmp(it.key, start, KEY_SIZE) != 0))
			note_parse(&it, &ret_list[num++]);
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : (int)num;
}

int damage_settle(struct engine *engine)
{
	struct damage list[64];
	uint8_t key[KEY_SIZE], after[32];
	struct place place;
	int num, settled = 0, r = 0;

	num = damage_list(engine, NULL, list, 64);
	while (num > 0 && r == 0) {
		for (int i = 0; i < num && r == 0; i++) {
			if (engine_locate(engine, list[i].id, &place) < 0)
				continue;
			note_key(key, list[i].id);
			r = db_delete(txn(engine), DB_META, key, sizeof(key));
			settled += r == 0;
		}
		memcpy(after, list[num - 1].id, sizeof(after));
		num = damage_list(engine, after, list, 64);
	}
	return r < 0 ? r : num < 0 ? num : settled;
}

static bool is_lost_node(struct engine *engine, const struct db_iter *it)
{
	struct place place;

	return is_note(it) && it->value_len == ROW_SIZE && it->value[24] &&
	       engine_locate(engine, it->key + 3, &place) == -ENOENT;
}

int damage_nodes(struct engine *engine, uint8_t (**ret)[32], size_t *ret_num)
{
	size_t num = 0, cap = 0;
	uint8_t *ids = NULL;
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), DB_META, PREFIX, 3, NULL, 0);
	while (r == 1) {
		r = 0;
		if (is_lost_node(engine, &it)) {
			r = scratch_grow(&ids, &cap, (num + 1) * 32);
			if (r == 0)
				memcpy(ids + 32 * num++, it.key + 3, 32);
		}
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r < 0) {
		free(ids);
		return r;
	}
	*ret = (uint8_t(*)[32])ids;
	*ret_num = num;
	return 0;
}
