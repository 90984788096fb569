#include "stored/change.h"

#include "stored/change_state.h"
#include "stored/history.h"
#include "stored/object.h"
#include "stored/prune.h"
#include "stored/volume.h"

#include <errno.h>
#include <string.h>

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

int change_fail(struct engine *engine, int err)
{
	change_cancel(engine);
	return engine_rollback(engine) < 0 ? -EIO : err;
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

int change_commit_parts(
	struct engine *engine, struct volume *vol, const struct change_head *head, int r)
{
	if (r == 0)
		r = history_end(engine, vol);
	if (r == 0)
		r = change_end(engine, FRAME_PULL_COMMIT, head, NULL);
	if (r == 0)
		return engine_sync(engine);
	/* Nothing of it is committed: the index forgets it, the log ignores it. */
	if (r != -EOVERFLOW)
		return change_fail(engine, r);
	change_cancel(engine);
	return engine_undo(engine, r);
}

uint8_t *change_entry(struct engine *engine, enum change_type type, size_t len, int *ret_error)
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

/* ---- history, snapshots, syncs */

int change_prune(
	struct engine *engine, struct volume *vol, uint64_t time, uint32_t seq, bool *ret_dropped)
{
	uint8_t *p;
	int r;

	r = prune_times(engine, vol, time, seq, ret_dropped);
	if (r < 0 || !*ret_dropped)
		return r;
	engine->num_losses++;
	p = change_entry(engine, CHANGE_PRUNE, 12, &r);
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

	p = change_entry(engine, CHANGE_SNAPSHOT, 18 + len, &r);
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
	p = change_entry(engine, CHANGE_PULLED, sizeof(row), &r);
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
	p = change_entry(engine, CHANGE_STATE, 4 + len, &r);
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

	p = change_entry(engine, CHANGE_ROW, 7 + key_len + len, &r);
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
	if (r == 0 && key[0] == 'v') {
		engine->num_losses++;
		r = volume_drop(engine, be32_get(key + 1));
	}
	return r;
}
