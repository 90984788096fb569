#include "stored/volume.h"

#include "stored/prune.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STATE_VERSION  2
#define STATE_FIXED    60
#define STATE_COUNTERS 40
#define DROP_STEP      20000

static struct volume *volume_any(struct engine *engine, uint32_t number)
{
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->number == number)
			return engine->volumes[i];
	return NULL;
}

struct volume *volume_numbered(struct engine *engine, uint32_t number)
{
	struct volume *vol = volume_any(engine, number);

	return vol && vol->is_live ? vol : NULL;
}

struct volume *engine_volume(struct engine *engine, const uint8_t id[16])
{
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->is_live && memcmp(engine->volumes[i]->id, id, 16) == 0)
			return engine->volumes[i];
	return NULL;
}

struct volume *engine_volume_named(struct engine *engine, const char *name)
{
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		if (engine->volumes[i]->is_live && strcmp(engine->volumes[i]->name, name) == 0)
			return engine->volumes[i];
	return NULL;
}

struct volume *engine_volume_at(struct engine *engine, size_t i)
{
	return i < engine->num_volumes ? engine->volumes[i] : NULL;
}

void volume_info(const struct volume *vol, struct volume_info *ret)
{
	*ret = (struct volume_info){
		.id = vol->id,
		.keyid = vol->keyid,
		.name = vol->name,
		.sharing = vol->sharing,
		.replica = vol->state.clock.replica,
		.view = vol->view,
		.links = vol->num_links,
		.inodes = vol->num_inodes,
		.conflicts = vol->num_conflicts,
		.incarnation = vol->incarnation,
		.position = vol->position,
		.time = vol->time,
		.history = vol->num_history,
	};
}

void volume_attached(struct volume *vol, bool is_attached)
{
	vol->keep_removed = is_attached;
}

/* ---- settings row: id[16] | keyid[8] | u8 n, name[n] | u8 n, sharing[n] */

static int row_text(const uint8_t **p, const uint8_t *end, char ret[ENGINE_NAME_MAX + 1])
{
	size_t len;

	if (*p >= end)
		return -EUCLEAN;
	len = *(*p)++;
	if (len > ENGINE_NAME_MAX || len > (size_t)(end - *p))
		return -EUCLEAN;
	memcpy(ret, *p, len);
	ret[len] = '\0';
	*p += len;
	return 0;
}

/* As a volume is before its first change. Who it is, and who holds on to it, stays. */
static void volume_reset(struct volume *vol)
{
	tree_state_release(&vol->state);
	vol->state = (struct tree_state){ .clock = { .epoch = 1 } };
	vol->next = vol->reserved = vol->fresh_from = 2;
	vol->view = 0;
	vol->incarnation = vol->position = 0;
	vol->num_links = vol->num_inodes = vol->num_conflicts = vol->num_fallen = 0;
	vol->num_history = vol->time = 0;
	vol->policy = (struct retention_policy)RETENTION_DEFAULT;
	retention_release(&vol->kept);
	vol->prune = (struct prune){ 0 };
}

int volume_configure(struct engine *engine, uint32_t number, const uint8_t *row, size_t len)
{
	struct volume *vol = volume_any(engine, number);
	char name[ENGINE_NAME_MAX + 1], sharing[ENGINE_NAME_MAX + 1];
	const uint8_t *p = row + 24;
	struct volume **volumes;

	if (len < 26 || row_text(&p, row + len, name) < 0 || row_text(&p, row + len, sharing) < 0)
		return -EUCLEAN;
	if (!vol) {
		volumes = realloc(engine->volumes, (engine->num_volumes + 1) * sizeof(*volumes));
		if (!volumes)
			return -ENOMEM;
		engine->volumes = volumes;
		vol = calloc(1, sizeof(*vol));
		if (!vol)
			return -ENOMEM;
		vol->number = number;
		engine->volumes[engine->num_volumes++] = vol;
	}
	if (!vol->is_live)
		volume_reset(vol);
	vol->is_live = true;
	memcpy(vol->id, row, 16);
	memcpy(vol->keyid, row + 16, 8);
	memcpy(vol->name, name, sizeof(name));
	memcpy(vol->sharing, sharing, sizeof(sharing));
	vol->is_dirty = true;
	return 0;
}

static void volume_free(struct volume *vol)
{
	tree_state_release(&vol->state);
	retention_release(&vol->kept);
	free(vol);
}

int volume_drop(struct engine *engine, uint32_t number)
{
	static const enum db_table tables[] = { DB_RECORDS, DB_NAMES, DB_DIRS, DB_TARGETS,
		DB_COUNTS, DB_STAMPS, DB_DEAD, DB_LABELS, DB_FALLEN, DB_HIST, DB_HNAMES, DB_HDIRS,
		DB_HTARGETS, DB_HFALLEN, DB_TIMES, DB_SNAPSHOTS, DB_PULLS };
	struct row_key k, aside;
	uint8_t meta[7] = "vol", policy[5] = "h";
	size_t i;
	int r;

	for (i = 0; i < engine->num_volumes; i++) {
		if (engine->volumes[i]->number != number)
			continue;
		engine->volumes[i]->is_live = false;
		if (engine->is_replaying)
			break;
		volume_free(engine->volumes[i]);
		engine->volumes[i] = engine->volumes[--engine->num_volumes];
		break;
	}
	row_start(&k, number);
	row_start(&aside, number | ROWS_ASIDE);
	engine->last_stamp_len = 0;
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		do
			r = db_delete_prefix(txn(engine), tables[i], k.b, k.len, DROP_STEP);
		while (r == DROP_STEP);
		if (r < 0)
			return r;
	}
	r = db_delete_prefix(txn(engine), DB_RECORDS, aside.b, aside.len, INT32_MAX);
	if (r < 0)
		return r;
	be32_put(policy + 1, number);
	r = db_delete(txn(engine), DB_SETTINGS, policy, sizeof(policy));
	if (r < 0 && r != -ENOENT)
		return r;
	be32_put(meta + 3, number);
	r = db_delete(txn(engine), DB_META, meta, sizeof(meta));
	return r == -ENOENT ? 0 : r;
}

void volumes_release(struct engine *engine)
{
	size_t i;

	for (i = 0; i < engine->num_volumes; i++)
		volume_free(engine->volumes[i]);
	free(engine->volumes);
	engine->volumes = NULL;
	engine->num_volumes = 0;
}

/* ---- state */

size_t volume_state_emit(const struct volume *vol, bool with_counters, uint8_t *buf)
{
	const struct tree_state *s = &vol->state;
	uint8_t *p = buf;

	memset(p, 0, STATE_FIXED);
	p[0] = STATE_VERSION;
	le32_put(p + 4, s->clock.replica);
	le64_put(p + 8, s->clock.epoch);
	le64_put(p + 16, s->clock.lamport);
	le32_put(p + 24, vol->reserved);
	le32_put(p + 28, vol->fresh_from);
	le32_put(p + 32, vol->view);
	le64_put(p + 36, vol->incarnation);
	le64_put(p + 44, vol->position);
	le64_put(p + 52, vol->time);
	p += STATE_FIXED;
	if (with_counters) {
		le64_put(p, vol->num_links);
		le64_put(p + 8, vol->num_inodes);
		le64_put(p + 16, vol->num_conflicts);
		le64_put(p + 24, vol->num_fallen);
		le64_put(p + 32, vol->num_history);
		p += STATE_COUNTERS;
	}
	p += tree_knowledge_encode(&s->known, p, TREE_KNOWLEDGE_SIZE);
	p += tree_knowledge_encode(&s->horizon, p, TREE_KNOWLEDGE_SIZE);
	return (size_t)(p - buf);
}

int volume_state_parse(struct volume *vol, bool with_counters, const uint8_t *data, size_t len)
{
	/* The log may have states of version 1, without the time. */
	size_t fixed = len > 0 && data[0] == 1 ? STATE_FIXED - 8 : STATE_FIXED;
	size_t head = fixed + (with_counters ? STATE_COUNTERS : 0), known;
	struct tree_state *s = &vol->state;
	int r;

	if (len < head + TREE_KNOWLEDGE_HEAD || data[0] < 1 || data[0] > STATE_VERSION)
		return -EUCLEAN;
	s->clock.replica = le32_get(data + 4);
	s->clock.epoch = le64_get(data + 8);
	s->clock.lamport = le64_get(data + 16);
	vol->next = vol->reserved = le32_get(data + 24);
	vol->fresh_from = le32_get(data + 28);
	vol->view = le32_get(data + 32);
	vol->incarnation = le64_get(data + 36);
	vol->position = le64_get(data + 44);
	if (data[0] > 1 && le64_get(data + 52) > vol->time)
		vol->time = le64_get(data + 52);
	if (with_counters) {
		vol->num_links = le64_get(data + fixed);
		vol->num_inodes = le64_get(data + fixed + 8);
		vol->num_conflicts = le64_get(data + fixed + 16);
		vol->num_fallen = le64_get(data + fixed + 24);
		vol->num_history = le64_get(data + fixed + 32);
	}
	data += head;
	len -= head;
	known = TREE_KNOWLEDGE_HEAD + (size_t)(le32_get(data) >> 8) * TREE_KNOWLEDGE_PAIR;
	if (known > len)
		return -EUCLEAN;
	r = tree_knowledge_decode(&s->known, data, known);
	if (r == 0)
		r = tree_knowledge_decode(&s->horizon, data + known, len - known);
	return r == -ENOMEM || r == 0 ? r : -EUCLEAN;
}

int volumes_load(struct engine *engine)
{
	const uint8_t *value;
	uint8_t meta[7] = "vol";
	struct db_iter it;
	size_t len, i;
	int r;

	for (i = 0; i < engine->num_volumes; i++)
		engine->volumes[i]->is_live = false;
	r = db_iter_first(&it, txn(engine), DB_SETTINGS, "v", 1, NULL, 0);
	while (r == 1) {
		r = it.key_len == 5
			    ? volume_configure(engine, be32_get(it.key + 1), it.value, it.value_len)
			    : -EUCLEAN;
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	for (i = 0; r == 0 && i < engine->num_volumes; i++) {
		if (!engine->volumes[i]->is_live)
			continue;
		be32_put(meta + 3, engine->volumes[i]->number);
		r = db_get(txn(engine), DB_META, meta, sizeof(meta), &value, &len);
		if (r == 0)
			r = volume_state_parse(engine->volumes[i], true, value, len);
		if (r == -ENOENT)
			r = -EUCLEAN;
		if (r == 0)
			r = prune_load(engine, engine->volumes[i]);
		engine->volumes[i]->is_dirty = false;
	}
	return r;
}

void volumes_prune(struct engine *engine)
{
	size_t i = 0;

	while (i < engine->num_volumes) {
		if (engine->volumes[i]->is_live) {
			i++;
			continue;
		}
		volume_free(engine->volumes[i]);
		engine->volumes[i] = engine->volumes[--engine->num_volumes];
	}
}

int volumes_save(struct engine *engine)
{
	uint8_t meta[7] = "vol";
	size_t len, i;
	int r;

	for (i = 0; i < engine->num_volumes; i++) {
		struct volume *vol = engine->volumes[i];

		if (!vol->is_dirty || !vol->is_live)
			continue;
		r = scratch_grow(&engine->value, &engine->value_cap, VOLUME_STATE_MAX);
		if (r < 0)
			return r;
		be32_put(meta + 3, vol->number);
		len = volume_state_emit(vol, true, engine->value);
		r = db_put(txn(engine), DB_META, meta, sizeof(meta), engine->value, len);
		if (r < 0)
			return r;
		vol->is_dirty = false;
	}
	return 0;
}

int volume_new_replica(struct engine *engine, const struct volume *vol, uint32_t *ret)
{
	int r;

	/* 0 is the root's and 1 is what mountd writes for "not stamped yet". */
	do {
		r = engine->io->random(engine->io->ctx, ret, sizeof(*ret));
		if (r < 0)
			return r;
		*ret &= TREE_REPLICA_MAX;
	} while (*ret <= 1 || tree_knowledge_epoch(&vol->state.known, *ret) > 0);
	return 0;
}

void engine_took(struct volume *vol, uint64_t incarnation, uint64_t position)
{
	vol->incarnation = incarnation;
	vol->position = position;
	vol->is_dirty = true;
}

uint64_t engine_taken(const struct volume *vol, uint64_t incarnation)
{
	return vol->incarnation == incarnation ? vol->position : 0;
}
