#include "stored/settings_rows.h"

#include "cas/id.h"
#include "stored/change.h"
#include "stored/rows.h"

#include <errno.h>
#include <string.h>

int settings_begin(struct engine *engine)
{
	int r = engine_flush(engine);

	return r < 0 ? r : change_begin(engine);
}

/* Durable, or as if it had never begun. r: how it went so far. */
int settings_finish(struct engine *engine, uint32_t vol, int r)
{
	struct change_head head = { .vol = vol };

	if (r == 0) {
		head.time = engine->io->now(engine->io->ctx);
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	}
	r = r == 0 ? engine_sync(engine) : change_fail(engine, r);
	if (r == -ENOSPC)
		return engine_fail(engine, r, "the disk is full; free some space and try again");
	if (r < 0)
		return engine_fail(engine, r, "the store cannot be written: %s", strerror(-r));
	return 0;
}

int settings_put_row(
	struct engine *engine, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
	static const uint8_t nothing[1];
	int r = settings_begin(engine);

	if (r == 0)
		r = change_row(engine, key, key_len, value ? value : nothing, value ? len : 0);
	return settings_finish(engine, 0, r);
}

bool settings_is_name(const char *name)
{
	size_t len = strlen(name), i;

	if (len == 0 || len > ENGINE_NAME_MAX)
		return false;
	for (i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			    c == '.' || c == '_' || c == '-'))
			return false;
	}
	return name[0] != '.' && name[0] != '-';
}

int settings_check_name(struct engine *engine, const char *what, const char *name)
{
	if (settings_is_name(name))
		return 0;
	return engine_fail(engine, -EINVAL,
		"%s: not a name; use 1 to %d of A-Z a-z 0-9 . _ - and begin with a letter, a digit "
		"or _",
		what, ENGINE_NAME_MAX);
}

bool settings_hex_key(const char *hex, uint8_t ret_key[32])
{
	struct cas_id key;

	if (cas_id_parse(hex, &key) < 0)
		return false;
	memcpy(ret_key, key.b, 32);
	return true;
}

size_t settings_storage_row(
	uint8_t key[17 + ENGINE_STORAGE_MAX], const uint8_t volume[16], const char *storage)
{
	key[0] = 's';
	memcpy(key + 1, volume, 16);
	memcpy(key + 17, storage, strlen(storage));
	return 17 + strlen(storage);
}

/* One change each. */
int settings_drop_rows(struct engine *engine, const uint8_t *prefix, size_t len, size_t match_at,
	const uint8_t *match, size_t match_len)
{
	uint8_t key[DB_KEY_MAX];
	struct db_iter it;
	size_t key_len;
	bool again;
	int r;

	do {
		again = false;
		r = db_iter_first(&it, txn(engine), DB_SETTINGS, prefix, len, NULL, 0);
		while (r == 1 && !again) {
			again = it.key_len >= match_at + match_len &&
				memcmp(it.key + match_at, match, match_len) == 0;
			if (again) {
				key_len = it.key_len;
				memcpy(key, it.key, key_len);
			} else {
				r = db_iter_next(&it);
			}
		}
		db_iter_close(&it);
		if (again)
			r = change_row(engine, key, key_len, NULL, 0);
	} while (r == 0 && again);
	return r;
}
