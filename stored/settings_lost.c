#include "stored/settings.h"

#include "cas/bytes.h"
#include "stored/change.h"
#include "stored/rows.h"
#include "stored/settings_rows.h"

#include <string.h>

#define KEY_SIZE 17

static void key_of(const uint8_t volume[16], uint8_t ret_key[KEY_SIZE])
{
	ret_key[0] = 'd';
	memcpy(ret_key + 1, volume, 16);
}

int settings_lost_note(struct engine *engine)
{
	struct volume *vol;
	uint8_t key[KEY_SIZE], row[8];
	int r = 0;

	if (!engine->has_lost_changes)
		return 0;
	le64_put(row, engine->io->now(engine->io->ctx));
	for (size_t i = 0; r == 0 && (vol = engine_volume_at(engine, i)); i++) {
		key_of(vol->id, key);
		if (!db_has(txn(engine), DB_SETTINGS, key, KEY_SIZE))
			r = settings_put_row(engine, key, KEY_SIZE, row, sizeof(row));
	}
	engine->has_lost_changes = r < 0;
	return r;
}

uint64_t settings_lost_at(struct engine *engine, const uint8_t volume[16])
{
	uint8_t key[KEY_SIZE];
	const uint8_t *row;
	size_t len;

	key_of(volume, key);
	if (db_get(txn(engine), DB_SETTINGS, key, KEY_SIZE, &row, &len) < 0 || len != 8)
		return 0;
	return le64_get(row);
}
