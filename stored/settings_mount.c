#include "stored/settings.h"

#include "cas/bytes.h"
#include "stored/change.h"
#include "stored/rows.h"
#include "stored/settings_rows.h"

#include <errno.h>
#include <string.h>

#define KEY_SIZE 17

static void key_of(const uint8_t volume[16], uint8_t ret_key[KEY_SIZE])
{
	ret_key[0] = 'm';
	memcpy(ret_key + 1, volume, 16);
}

static int forget(struct engine *engine, const uint8_t key[KEY_SIZE])
{
	int r;

	if (!db_has(txn(engine), DB_SETTINGS, key, KEY_SIZE))
		return 0;
	r = settings_begin(engine);
	if (r == 0)
		r = change_row(engine, key, KEY_SIZE, NULL, 0);
	return settings_finish(engine, 0, r);
}

static int num_mounts(struct engine *engine)
{
	struct db_iter it;
	int r, num = 0;

	r = db_iter_first(&it, txn(engine), DB_SETTINGS, "m", 1, NULL, 0);
	for (; r == 1; r = db_iter_next(&it))
		num++;
	db_iter_close(&it);
	return r < 0 ? r : num;
}

int settings_mount_set(struct engine *engine, const char *volume, const char *path, uint32_t flags)
{
	struct volume *vol = settings_volume(engine, volume);
	uint8_t key[KEY_SIZE], row[4 + SETTINGS_PATH_MAX];
	const size_t len = strlen(path);
	int num;

	if (!vol)
		return -ENOENT;
	key_of(vol->id, key);
	if (len == 0)
		return forget(engine, key);
	if (len > SETTINGS_PATH_MAX)
		return engine_fail(
			engine, -ENAMETOOLONG, "volume %s: the path is too long", volume);
	num = num_mounts(engine);
	if (num < 0)
		return num;
	if (num >= SETTINGS_MOUNTS_MAX && !db_has(txn(engine), DB_SETTINGS, key, KEY_SIZE))
		return engine_fail(engine, -ENOSPC,
			"volume %s: %d volumes are mounted at every start already", volume,
			SETTINGS_MOUNTS_MAX);
	le32_put(row, flags);
	memcpy(row + 4, path, len);
	return settings_put_row(engine, key, KEY_SIZE, row, 4 + len);
}

int settings_mount_get(struct engine *engine, const uint8_t volume[16], struct settings_mount *ret)
{
	uint8_t key[KEY_SIZE];
	const uint8_t *row;
	size_t len;
	int r;

	key_of(volume, key);
	r = db_get(txn(engine), DB_SETTINGS, key, KEY_SIZE, &row, &len);
	if (r < 0)
		return r;
	if (len < 5 || len > 4 + SETTINGS_PATH_MAX || memchr(row + 4, 0, len - 4))
		return -EUCLEAN;
	ret->flags = le32_get(row);
	memcpy(ret->path, row + 4, len - 4);
	ret->path[len - 4] = '\0';
	return 0;
}
