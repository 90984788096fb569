#include "stored/snapshot.h"

#include "stored/change.h"
#include "stored/history.h"
#include "stored/prune.h"

#include <errno.h>
#include <string.h>

static void row_snapshot(struct row_key *k, const struct volume *vol, const uint8_t tag[16])
{
	row_start(k, vol->number);
	memcpy(k->b + k->len, tag, 16);
	k->len += 16;
}

/* name NULL: removes it. */
static int change_one(struct engine *engine, struct volume *vol, const uint8_t tag[16],
	const uint8_t *name, size_t len, uint64_t *ret_time)
{
	struct change_head head = { .vol = vol->number, .flags = CHANGE_TIMED };
	int r;

	r = engine_flush(engine);
	if (r == 0)
		r = change_begin(engine);
	if (r < 0)
		return r;
	head.time = change_time(engine, vol);
	r = change_snapshot(engine, vol, tag, name, len);
	if (r == 0)
		r = history_end(engine, vol);
	if (r == 0)
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	if (r < 0)
		return change_fail(engine, r);
	*ret_time = head.time;
	return engine_sync(engine);
}

int snapshot_create(struct engine *engine, struct volume *vol, const uint8_t tag[16],
	const uint8_t *name, size_t len, uint64_t *ret_time)
{
	struct row_key k;

	row_snapshot(&k, vol, tag);
	if (db_has(txn(engine), DB_SNAPSHOTS, k.b, k.len))
		return -EEXIST;
	if (vol->kept.num_pins >= SNAPSHOTS_MAX)
		return -EMLINK;
	if (len == 0 || len > SNAPSHOT_NAME_MAX)
		return -EINVAL;
	return change_one(engine, vol, tag, name, len, ret_time);
}

int snapshot_remove(struct engine *engine, struct volume *vol, const uint8_t tag[16])
{
	struct row_key k;
	uint64_t time;
	int r;

	row_snapshot(&k, vol, tag);
	if (!db_has(txn(engine), DB_SNAPSHOTS, k.b, k.len))
		return -ENOENT;
	r = change_one(engine, vol, tag, NULL, 0, &time);
	if (r == 0)
		prune_want(vol);
	return r;
}

int snapshot_list(struct engine *engine, struct volume *vol, const uint8_t after[16],
	struct snapshot *ret, size_t max, size_t *ret_num, bool *ret_end)
{
	struct row_key k, start;
	struct db_iter it;
	int r;

	*ret_num = 0;
	row_start(&k, vol->number);
	row_snapshot(&start, vol, after);
	r = db_iter_first(&it, txn(engine), DB_SNAPSHOTS, k.b, k.len, start.b, start.len);
	while (r == 1 && *ret_num < max) {
		if (it.key_len != start.len || it.value_len < 8) {
			r = -EUCLEAN;
			break;
		}
		if (memcmp(it.key, start.b, start.len) != 0) {
			struct snapshot *s = &ret[(*ret_num)++];

			memcpy(s->tag, it.key + 4, 16);
			s->time = le64_get(it.value);
			s->name = it.value + 8;
			s->name_len = it.value_len - 8;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_end = r == 0;
	return r < 0 ? r : 0;
}
