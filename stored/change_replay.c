#include "stored/change_state.h"
#include "stored/fallen.h"
#include "stored/history.h"
#include "stored/volume.h"

#include <errno.h>

struct cursor {
	const uint8_t *p, *start, *end;
	struct place place; /* of start */
};

/* len bytes, or NULL where the change ends early. */
static const uint8_t *take(struct cursor *c, size_t len)
{
	const uint8_t *p = c->p;

	if (len > (size_t)(c->end - c->p))
		return NULL;
	c->p += len;
	return p;
}

static int replay_put(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p = take(c, 9), *rec, *tail = NULL;
	struct place place = c->place;
	size_t len;

	if (!p)
		return -EBADMSG;
	len = le32_get(p + 5);
	rec = take(c, len);
	if (rec && type == CHANGE_RESTORE)
		tail = take(c, 4);
	if (!rec || (type == CHANGE_RESTORE && !tail))
		return -EBADMSG;
	place.offset += (uint64_t)(rec - c->start);
	return change_put_at(
		engine, vol, p[0], le32_get(p + 1), tail ? le32_get(tail) : 0, rec, len, place);
}

static int replay_row(struct engine *engine, struct cursor *c)
{
	const uint8_t *p = take(c, 7), *key;
	size_t key_len, len;

	if (!p)
		return -EBADMSG;
	key_len = le16_get(p + 1);
	len = le32_get(p + 3);
	key = take(c, key_len);
	if (!key || key_len == 0 || key_len > DB_KEY_MAX ||
		((key[0] == 'v' || key[0] == 'h') && key_len != 5) || !take(c, len))
		return -EBADMSG;
	return change_row(engine, key, key_len, p[0] ? NULL : key + key_len, len);
}

static int replay_take(struct engine *engine, struct volume *vol, struct cursor *c)
{
	const uint8_t *p = take(c, 16 + STAMP_SIZE + 16);
	struct place place;
	uint32_t crc;

	if (!p)
		return -EBADMSG;
	place = (struct place){ le32_get(p), le32_get(p + 4), le64_get(p + 8) };
	crc = le32_get(p + 28 + STAMP_SIZE);
	if (place.len > TREE_RECORD_MAX)
		return -EBADMSG;
	return change_take_at(engine, vol, place, stamp_get(p + 16), le64_get(p + 16 + STAMP_SIZE),
		le32_get(p + 24 + STAMP_SIZE), &crc);
}

static int replay_keyed(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p;
	struct tree_key key;
	bool aside = false;
	uint32_t seen = 0;

	if (type == CHANGE_REMOVE) {
		p = take(c, 5);
		if (!p)
			return -EBADMSG;
		aside = p[0];
		seen = le32_get(p + 1);
	}
	p = take(c, TREE_KEY_SIZE);
	if (!p || tree_key_unpack(p, &key) < 0)
		return -EBADMSG;
	if (type == CHANGE_REMOVE)
		return change_remove(engine, vol, aside, &key, seen, NULL, NULL);
	p = take(c, type == CHANGE_DELETE ? STAMP_SIZE : 2 * STAMP_SIZE + 8);
	if (!p)
		return -EBADMSG;
	if (type == CHANGE_DELETE)
		return change_delete(engine, vol, &key, stamp_get(p));
	return change_restamp(engine, vol, &key, stamp_get(p), stamp_get(p + STAMP_SIZE),
		le64_get(p + 2 * STAMP_SIZE));
}

static int replay_unit(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p = take(c, type == CHANGE_DEAD ? 0 : 1), *unit_at;
	struct tree_unit unit;

	unit_at = p ? take(c, TREE_UNIT_SIZE) : NULL;
	if (!unit_at || tree_unit_unpack(unit_at, &unit) < 0)
		return -EBADMSG;
	if (type == CHANGE_DROP)
		return change_drop(engine, vol, p[0], &unit);
	if (type == CHANGE_DEAD) {
		p = take(c, STAMP_SIZE);
		return p ? change_dead(engine, vol, &unit, stamp_get(p)) : -EBADMSG;
	}
	unit_at = take(c, STAMP_SIZE + 8);
	if (!unit_at)
		return -EBADMSG;
	return change_move(
		engine, vol, &unit, p[0], stamp_get(unit_at), le64_get(unit_at + STAMP_SIZE));
}

static int replay_state(struct engine *engine, struct volume *vol, struct cursor *c)
{
	const uint8_t *p = take(c, 4), *state;
	size_t len;

	if (!p)
		return -EBADMSG;
	len = le32_get(p);
	state = take(c, len);
	vol->is_dirty = true;
	return state ? volume_state_parse(vol, false, state, len) : -EBADMSG;
}

static int replay_history(
	struct engine *engine, struct volume *vol, enum change_type type, struct cursor *c)
{
	const uint8_t *p, *name;
	bool dropped;
	size_t len;

	if (type == CHANGE_PRUNE) {
		p = take(c, 12);
		return p ? change_prune(engine, vol, le64_get(p), le32_get(p + 8), &dropped)
			 : -EBADMSG;
	}
	if (type == CHANGE_PULLED) {
		p = take(c, 17 + 32);
		return p ? change_pulled(engine, vol, le64_get(p), p + 17, le64_get(p + 8), p[16])
			 : -EBADMSG;
	}
	p = take(c, 18);
	len = p ? le16_get(p + 16) : 0;
	name = p ? take(c, len) : NULL;
	return name ? change_snapshot(engine, vol, p, len > 0 ? name : NULL, len) : -EBADMSG;
}

static int replay_one(struct engine *engine, uint32_t number, struct cursor *c)
{
	enum change_type type = *take(c, 1);
	struct volume *vol;

	if (type == CHANGE_ROW)
		return replay_row(engine, c);
	vol = volume_numbered(engine, number);
	if (!vol)
		return -EBADMSG;
	switch (type) {
	case CHANGE_PUT:
	case CHANGE_RESTORE:
		return replay_put(engine, vol, type, c);
	case CHANGE_PRUNE:
	case CHANGE_SNAPSHOT:
	case CHANGE_PULLED:
		return replay_history(engine, vol, type, c);
	case CHANGE_TAKE:
		return replay_take(engine, vol, c);
	case CHANGE_REMOVE:
	case CHANGE_DELETE:
	case CHANGE_RESTAMP:
		return replay_keyed(engine, vol, type, c);
	case CHANGE_DEAD:
	case CHANGE_MOVE:
	case CHANGE_DROP:
		return replay_unit(engine, vol, type, c);
	case CHANGE_STATE:
		return replay_state(engine, vol, c);
	case CHANGE_ROW:
		break;
	}
	return -EBADMSG;
}

/* Old logs have times that do not ascend: history_start mends them as it would have then. */
static bool is_timed(const struct frame_view *frame, const uint8_t *head)
{
	return frame->type == FRAME_BATCH || frame->type == FRAME_PULL_COMMIT ||
	       (le32_get(head + 4) & CHANGE_TIMED);
}

void change_replay_time(struct engine *engine, const struct frame_view *frame)
{
	struct volume *vol;

	if (frame->place.len < CHANGE_HEAD_SIZE)
		return;
	vol = volume_numbered(engine, le32_get(frame->payload));
	if (vol)
		history_start(engine, vol, le64_get(frame->payload + 8));
}

int change_replay(struct engine *engine, const struct frame_view *frame)
{
	struct cursor c = { frame->payload, frame->payload, frame->payload + frame->place.len,
		frame->place };
	const uint8_t *head = take(&c, CHANGE_HEAD_SIZE);
	struct volume *vol;
	uint32_t number;
	bool changed;
	int r = 0;

	if (!head)
		return -EBADMSG;
	number = le32_get(head);
	if (frame->type == FRAME_BATCH || frame->type == FRAME_SETTINGS)
		change_replay_time(engine, frame);
	while (r == 0 && c.p < c.end)
		r = replay_one(engine, number, &c);
	vol = volume_numbered(engine, number);
	if (r < 0 || !vol)
		return r;
	engine->ops++;
	if (frame->type == FRAME_BATCH) {
		struct tree_stamp stamp = { le64_get(head + 32), vol->state.clock.replica };

		vol->state.clock.epoch = stamp.epoch;
		vol->state.clock.lamport = le64_get(head + 40);
		vol->incarnation = le64_get(head + 16);
		vol->position = le64_get(head + 24);
		vol->is_dirty = true;
		if (le32_get(head + 4) & CHANGE_WROTE)
			r = tree_knowledge_raise(&vol->state.known, stamp);
	}
	if (r == 0 && frame->type != FRAME_PULL_CHANGES)
		r = fallen_update(engine, vol, &changed);
	return r == 0 && is_timed(frame, head) ? history_end(engine, vol) : r;
}
