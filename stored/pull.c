/*
 * A pull p <- q at p (tree/merge.h). What the peer sends is staged in arena frames of its own,
 * which mean nothing until the pull's commit frame: the changes refer to the records where they
 * lie. The commit frame, synced, is the moment at which the pull happened.
 */
#include "stored/change.h"
#include "stored/pull_state.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int engine_pull_begin(struct engine *engine, struct volume *vol, struct pull **ret,
	uint8_t *ret_known, size_t *ret_len)
{
	struct pull *pull;
	int r;

	if (vol->pull)
		return engine_fail(engine, -EBUSY,
			"volume %s: a sync is running already; wait for it to end", vol->name);
	pull = calloc(1, sizeof(*pull));
	if (!pull)
		return -ENOMEM;
	r = tree_knowledge_copy(&pull->asked, &vol->state.known);
	if (r == 0)
		r = tree_knowledge_encode(&pull->asked, ret_known, TREE_KNOWLEDGE_SIZE);
	if (r < 0) {
		tree_knowledge_release(&pull->asked);
		free(pull);
		return r;
	}
	*ret_len = (size_t)r;
	pull->vol = vol;
	vol->pull = pull;
	*ret = pull;
	return 0;
}

void engine_pull_name(struct pull *pull, const uint8_t peer[32])
{
	memcpy(pull->peer, peer, sizeof(pull->peer));
}

void engine_pull_abort(struct engine *engine, struct pull *pull)
{
	pull->vol->pull = NULL;
	tree_pull_free(pull->merge);
	tree_knowledge_release(&pull->asked);
	free(pull->blobs);
	free(pull);
}

int engine_pull_put(struct engine *engine, struct pull *pull, const uint8_t *a, size_t a_len,
	const uint8_t *b, size_t b_len)
{
	struct place place;
	uint8_t *p;
	int r;

	if (a_len + b_len == 0)
		return 0;
	if (engine_room(engine) != 0)
		return engine_fail(
			engine, -ENOSPC, "the disk is full; free some space and sync again");
	if (pull->num_blobs == pull->cap_blobs) {
		size_t cap = pull->cap_blobs ? pull->cap_blobs * 2 : 64;
		struct place *blobs = realloc(pull->blobs, cap * sizeof(*blobs));

		if (!blobs)
			return -ENOMEM;
		pull->blobs = blobs;
		pull->cap_blobs = cap;
	}
	r = engine_begin_frame(engine);
	if (r < 0)
		return r;
	p = arenas_add(&engine->arenas, a_len + b_len);
	if (!p) {
		arenas_cancel(&engine->arenas);
		return -ENOMEM;
	}
	if (a_len > 0)
		memcpy(p, a, a_len);
	if (b_len > 0)
		memcpy(p + a_len, b, b_len);
	r = arenas_end(&engine->arenas, FRAME_PULL_PART, &place);
	if (r == 0)
		r = engine_flush(engine);
	if (r == 0)
		pull->blobs[pull->num_blobs++] = place;
	return r;
}

/* ---- merging */

static int split_known(const uint8_t *data, size_t len, struct tree_knowledge *ret_known,
	struct tree_knowledge *ret_horizon)
{
	size_t size;
	int r;

	if (len < 2 * TREE_KNOWLEDGE_HEAD)
		return -EBADMSG;
	size = TREE_KNOWLEDGE_HEAD + (size_t)(le32_get(data) >> 8) * TREE_KNOWLEDGE_PAIR;
	if (size > len)
		return -EBADMSG;
	r = tree_knowledge_decode(ret_known, data, size);
	return r < 0 ? r : tree_knowledge_decode(ret_horizon, data + size, len - size);
}

static int merge_new(struct pull *pull, const uint8_t *known, size_t len, bool is_full)
{
	struct tree_knowledge remote = { 0 }, horizon = { 0 };
	int r;

	r = split_known(known, len, &remote, &horizon);
	if (r == 0)
		r = tree_pull_new(&pull->merge, &pull->asked, &remote, &horizon, is_full);
	tree_knowledge_release(&remote);
	tree_knowledge_release(&horizon);
	return r;
}

static int merge_feed(struct engine *engine, struct pull *pull)
{
	uint8_t *data = NULL;
	size_t cap = 0, i;
	int r = 0;

	for (i = 0; r == 0 && i < pull->num_blobs; i++) {
		struct place at = pull->blobs[i];

		r = scratch_grow(&data, &cap, at.len);
		if (r == 0)
			r = arenas_read(&engine->arenas, at, data);
		if (r == 0)
			r = tree_pull_feed(pull->merge, data, at.len,
				(uint64_t)at.arena << PULL_HANDLE_SHIFT | at.offset);
	}
	pull->num_blobs = 0;
	free(data);
	return r;
}

static void put_needs(const struct pull *pull, struct pull_result *result)
{
	size_t num = pull->merge->num_needs, i;

	if (num > result->need_cap / 8)
		num = result->need_cap / 8;
	for (i = 0; i < num; i++)
		le64_put(result->need + 8 * i, pull->merge->needs[i]);
	result->need_len = 8 * num;
}

static int step(struct engine *engine, struct pull *pull, const uint8_t *known, size_t len,
	bool is_full, struct pull_result *result)
{
	struct pull_local local = { engine, pull->vol };
	struct tree_local callbacks = pull_callbacks(&local);
	int r, attempt;

	r = engine_flush(engine);
	if (r == 0 && !pull->merge)
		r = merge_new(pull, known, len, is_full);
	if (r == 0)
		r = merge_feed(engine, pull);
	for (attempt = 0; r == 0 && attempt < 4; attempt++) {
		r = tree_pull_step(pull->merge, &pull->vol->state, &callbacks);
		if (r == TREE_PULL_NEED) {
			put_needs(pull, result);
			return TREE_PULL_NEED;
		}
		if (r < 0)
			return r;
		result->num_changed = pull->merge->num_effects;
		r = pull_apply(engine, pull, result);
		if (r != -ERESTART)
			return r;
		/* The index has grown meanwhile. */
		r = 0;
		engine_changes_release(&result->changes);
	}
	return r == 0 ? -EIO : r;
}

/* ---- failing */

static int explain(struct engine *engine, const struct volume *vol, int r)
{
	switch (r) {
	case -EBADMSG:
	case -EPROTONOSUPPORT:
		return engine_fail(engine, r,
			"volume %s: the peer sent what no bazil of this version sends; nothing was "
			"changed; upgrade the older of the two",
			vol->name);
	case -EAGAIN:
	case -ESTALE:
		return engine_fail(engine, r,
			"volume %s: files changed on both sides meanwhile; nothing was changed; "
			"sync "
			"again",
			vol->name);
	case -ENOSPC:
		return engine_fail(engine, r,
			"volume %s: the disk is full; nothing was changed; free some space and "
			"sync "
			"again",
			vol->name);
	case -ENOTUNIQ:
		return engine_fail(engine, r,
			"volume %s: another store uses the same replica number (was this data "
			"directory copied?); unmount the volume and sync again",
			vol->name);
	default:
		return engine_fail(engine, r, "volume %s: sync failed: %s; nothing was changed",
			vol->name, strerror(-r));
	}
}

/* Somebody else writes under our number: a copy of this store. From now on we have another one; the
 * numbers of inodes follow. A mount keeps a range of the old ones, so only without a mount. */
static void renumber(struct engine *engine, struct volume *vol)
{
	struct change_head head = { .vol = vol->number };
	uint32_t replica;
	int r;

	if (vol->keep_removed || engine_flush(engine) < 0 ||
		volume_new_replica(engine, vol, &replica) < 0 || change_begin(engine) < 0)
		return;
	vol->state.clock.replica = replica;
	vol->state.clock.epoch = 1;
	vol->next = vol->reserved = vol->fresh_from = 2;
	r = change_state(engine, vol);
	if (r == 0)
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	if (r == 0)
		r = engine_sync(engine);
	else
		change_fail(engine, r);
	if (r == 0)
		engine_log(engine, 4,
			"store: a volume took a new replica number, the old one is used twice");
}

int engine_pull_step(struct engine *engine, struct pull *pull, const uint8_t *known, size_t len,
	bool is_full, struct pull_result *result)
{
	struct volume *vol = pull->vol;
	int r;

	result->need_len = 0;
	r = step(engine, pull, known, len, is_full, result);
	if (r == TREE_PULL_NEED)
		return 0;
	result->num_conflicts = vol->num_conflicts;
	engine_pull_abort(engine, pull);
	if (r == -ENOTUNIQ)
		renumber(engine, vol);
	if (r < 0) {
		engine_changes_release(&result->changes);
		return explain(engine, vol, r);
	}
	return 0;
}
