#include "stored/meta.h"

#include "stored/broken.h"
#include "stored/rows.h"
#include "stored/volume.h"

#include <errno.h>
#include <string.h>

int meta_get(struct engine *engine, const char *name, const uint8_t **ret, size_t *ret_len)
{
	int r = db_get(txn(engine), DB_META, name, strlen(name), ret, ret_len);

	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

int meta_put(struct engine *engine, const char *name, const void *row, size_t len)
{
	return db_put(txn(engine), DB_META, name, strlen(name), row, len);
}

int meta_save(struct engine *engine, struct place position)
{
	uint8_t row[24], bytes[8];
	int r;

	if (BROKEN(BROKEN_POSITION))
		position.offset += 8;
	le32_put(row, ROWS_VERSION);
	le32_put(row + 4, position.arena);
	le64_put(row + 8, position.offset);
	le64_put(row + 16, engine->arenas.next_sequence);
	le64_put(bytes, engine->object_bytes);
	r = volumes_save(engine);
	if (r == 0)
		r = meta_put(engine, "objects", bytes, sizeof(bytes));
	return r < 0 ? r : meta_put(engine, "checkpoint", row, sizeof(row));
}

/* A number by itself. */
static int load_u64(struct engine *engine, const char *name, uint64_t *ret)
{
	const uint8_t *row;
	size_t len;
	int r = meta_get(engine, name, &row, &len);

	*ret = r == 1 && len == 8 ? le64_get(row) : 0;
	return r < 0 ? r : 0;
}

static int load_from(struct engine *engine)
{
	const uint8_t *row;
	size_t len;
	int r = meta_get(engine, "from", &row, &len);

	if (r <= 0)
		return r;
	if (len != 12)
		return -EUCLEAN;
	engine->from = (struct place){ .arena = le32_get(row), .offset = le64_get(row + 4) };
	return 0;
}

static bool is_empty(struct engine *engine)
{
	return !db_rows(txn(engine), DB_RECORDS) && !db_rows(txn(engine), DB_SETTINGS) &&
	       !db_rows(txn(engine), DB_OBJECTS);
}

int meta_load(struct engine *engine)
{
	const uint8_t *row;
	size_t len;
	int r;

	engine->committed = engine->from = (struct place){ 0 };
	engine->object_bytes = engine->lost_at = 0;
	r = meta_get(engine, "checkpoint", &row, &len);
	if (r == 0)
		return is_empty(engine) ? 0 : -EUCLEAN;
	if (r < 0)
		return r;
	if (len != 24 || le32_get(row) != ROWS_VERSION)
		return -EUCLEAN;
	engine->committed.arena = le32_get(row + 4);
	engine->committed.offset = le64_get(row + 8);
	if (le64_get(row + 16) > engine->arenas.next_sequence)
		engine->arenas.next_sequence = le64_get(row + 16);
	r = load_u64(engine, "objects", &engine->object_bytes);
	if (r == 0)
		r = load_u64(engine, "lost", &engine->lost_at);
	return r < 0 ? r : load_from(engine);
}

int meta_save_lost(struct engine *engine)
{
	uint8_t row[8];

	if (engine->lost_at == 0)
		return 0;
	le64_put(row, engine->lost_at);
	return meta_put(engine, "lost", row, sizeof(row));
}

int meta_save_from(struct engine *engine)
{
	uint8_t row[12];

	le32_put(row, engine->from.arena);
	le64_put(row + 4, engine->from.offset);
	return meta_put(engine, "from", row, sizeof(row));
}
