#include "stored/settings.h"

#include "stored/change.h"
#include "stored/rows.h"
#include "stored/settings_rows.h"
#include "stored/volume.h"

#include <errno.h>
#include <string.h>

struct volume *settings_volume(struct engine *engine, const char *name)
{
	struct volume *vol = engine_volume_named(engine, name);

	if (!vol)
		engine_fail(engine, -ENOENT,
			"volume %s: there is none of this name; `bazil volume list` shows those "
			"that "
			"there are",
			settings_is_name(name) ? name : "?");
	return vol;
}

static uint32_t free_number(const struct engine *engine)
{
	uint32_t number = 1;
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->number >= number)
			number = engine->volumes[i]->number + 1;
	return number;
}

static size_t volume_row(uint8_t row[26 + 2 * ENGINE_NAME_MAX], const uint8_t id[16],
	const uint8_t keyid[8], const char *name, const char *sharing)
{
	size_t name_len = strlen(name), sharing_len = strlen(sharing);

	memcpy(row, id, 16);
	memcpy(row + 16, keyid, 8);
	row[24] = (uint8_t)name_len;
	memcpy(row + 25, name, name_len);
	row[25 + name_len] = (uint8_t)sharing_len;
	memcpy(row + 26 + name_len, sharing, sharing_len);
	return 26 + name_len + sharing_len;
}

static int volume_make(struct engine *engine, uint32_t number, const uint8_t id[16],
	const uint8_t keyid[8], const char *name, const char *sharing)
{
	uint8_t key[5] = "v", row[26 + 2 * ENGINE_NAME_MAX], storage[17 + ENGINE_STORAGE_MAX];
	struct volume *vol;
	int r;

	be32_put(key + 1, number);
	r = change_row(engine, key, sizeof(key), row, volume_row(row, id, keyid, name, sharing));
	if (r == 0)
		r = change_row(engine, storage, settings_storage_row(storage, id, STORAGE_LOCAL),
			(const uint8_t *)sharing, strlen(sharing));
	if (r < 0)
		return r;
	vol = engine_volume(engine, id);
	r = volume_new_replica(engine, vol, &vol->state.clock.replica);
	return r < 0 ? r : change_state(engine, vol);
}

int settings_volume_add(struct engine *engine, const char *name, const uint8_t id[16],
	const char *sharing, const uint8_t keyid[8])
{
	uint32_t number = free_number(engine);
	uint8_t fresh[16];
	int r;

	if (settings_check_name(engine, "volume", name) < 0 ||
		settings_check_name(engine, "sharing key", sharing) < 0)
		return -EINVAL;
	if (engine_volume_named(engine, name))
		return engine_fail(engine, -EEXIST,
			"volume %s: exists already; choose another name or remove it first", name);
	if (id && engine_volume(engine, id))
		return engine_fail(engine, -EEXIST, "volume %s: is here already under the name %s",
			name, engine_volume(engine, id)->name);
	if (engine->num_volumes >= SETTINGS_VOLUMES_MAX)
		return engine_fail(engine, -ENOSPC, "volume %s: there are %d volumes already", name,
			SETTINGS_VOLUMES_MAX);
	if (!id) {
		r = engine->io->random(engine->io->ctx, fresh, sizeof(fresh));
		if (r < 0)
			return r;
		id = fresh;
	}
	r = settings_begin(engine);
	if (r == 0)
		r = volume_make(engine, number, id, keyid, name, sharing);
	return settings_finish(engine, number, r);
}

int settings_volume_remove(struct engine *engine, const char *name)
{
	struct volume *vol = settings_volume(engine, name);
	uint8_t key[5] = "v", id[16];
	int r;

	if (!vol)
		return -ENOENT;
	if (vol->pull)
		return engine_fail(
			engine, -EBUSY, "volume %s: a sync is running; wait for it to end", name);
	memcpy(id, vol->id, sizeof(id));
	be32_put(key + 1, vol->number);
	r = engine_go_straight(engine);
	if (r == 0)
		r = settings_begin(engine);
	if (r == 0)
		r = settings_drop_rows(engine, (const uint8_t *)"s", 1, 1, id, sizeof(id));
	if (r == 0)
		r = settings_drop_rows(engine, (const uint8_t *)"m", 1, 1, id, sizeof(id));
	if (r == 0)
		r = settings_drop_rows(engine, (const uint8_t *)"d", 1, 1, id, sizeof(id));
	if (r == 0)
		r = settings_drop_rows(engine, (const uint8_t *)"a", 1, 33, id, sizeof(id));
	if (r == 0)
		r = change_row(engine, key, sizeof(key), NULL, 0);
	return settings_finish(engine, 0, r);
}
