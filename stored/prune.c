#include "stored/prune.h"

#include "stored/change.h"
#include "stored/engine_state.h"
#include "stored/history.h"

#include <errno.h>
#include <string.h>

#define ROW_VERSION 1
#define ROW_SIZE    (1 + 8 + 4 * 4 + 8 + 8 * RETENTION_KINDS)
#define SLICE	    256 /* rows of `times` in one tick */
#define PASS_EVERY  (UINT64_C(3600) * 1000000000)
#define FIRST_PASS  (UINT64_C(60) * 1000000000)

/* ---- the policy and the cuts, as a row */

static void row_emit(const struct retention_policy *policy, const struct retention_kept *kept,
	uint8_t row[ROW_SIZE])
{
	uint8_t *p = row + 9;
	int i;

	row[0] = ROW_VERSION;
	le64_put(row + 1, policy->keep_all);
	le32_put(p, policy->hourly);
	le32_put(p + 4, policy->daily);
	le32_put(p + 8, policy->weekly);
	le32_put(p + 12, policy->monthly);
	le64_put(p + 16, kept->all);
	for (i = 0; i < RETENTION_KINDS; i++)
		le64_put(p + 24 + 8 * i, kept->from[i]);
}

static int row_parse(const uint8_t *row, size_t len, struct retention_policy *policy,
	struct retention_kept *kept)
{
	const uint8_t *p = row + 9;
	int i;

	if (len != ROW_SIZE || row[0] != ROW_VERSION)
		return -EUCLEAN;
	*policy = (struct retention_policy){ le64_get(row + 1), le32_get(p), le32_get(p + 4),
		le32_get(p + 8), le32_get(p + 12) };
	kept->all = le64_get(p + 16);
	for (i = 0; i < RETENTION_KINDS; i++)
		kept->from[i] = le64_get(p + 24 + 8 * i);
	return 0;
}

/* Syncs from before the cut cannot be undone. */
static int forget_pulls(struct engine *engine, const struct volume *vol)
{
	struct row_key k, old[64];
	struct db_iter it;
	size_t num, i;
	int r;

	row_start(&k, vol->number);
	do {
		num = 0;
		r = db_iter_first(&it, txn(engine), DB_PULLS, k.b, k.len, NULL, 0);
		while (r == 1 && num < 64 && be64_get(it.key + 4) <= vol->kept.all) {
			row_one(&old[num++], vol->number, be64_get(it.key + 4));
			r = db_iter_next(&it);
		}
		db_iter_close(&it);
		for (i = 0; r >= 0 && i < num; i++)
			r = db_delete(txn(engine), DB_PULLS, old[i].b, old[i].len);
	} while (r >= 0 && num == 64);
	return r < 0 ? r : 0;
}

int prune_row(struct engine *engine, struct volume *vol, const uint8_t *row, size_t len)
{
	int r = row_parse(row, len, &vol->policy, &vol->kept);

	return r < 0 ? r : forget_pulls(engine, vol);
}

static int log_row(struct engine *engine, struct volume *vol, const struct retention_policy *policy,
	const struct retention_kept *kept)
{
	struct change_head head = { .vol = vol->number };
	uint8_t key[5] = { 'h' }, row[ROW_SIZE];
	int r;

	be32_put(key + 1, vol->number);
	row_emit(policy, kept, row);
	r = change_begin(engine);
	if (r < 0)
		return r;
	r = change_row(engine, key, sizeof(key), row, sizeof(row));
	if (r == 0)
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	return r < 0 ? change_fail(engine, r) : 0;
}

int prune_load(struct engine *engine, struct volume *vol)
{
	uint8_t key[5] = { 'h' };
	const uint8_t *value;
	struct row_key k;
	struct db_iter it;
	size_t len;
	int r;

	be32_put(key + 1, vol->number);
	r = db_get(txn(engine), DB_SETTINGS, key, sizeof(key), &value, &len);
	if (r == 0)
		r = row_parse(value, len, &vol->policy, &vol->kept);
	if (r < 0 && r != -ENOENT)
		return r;
	row_start(&k, vol->number);
	r = db_iter_first(&it, txn(engine), DB_SNAPSHOTS, k.b, k.len, NULL, 0);
	while (r == 1) {
		r = it.value_len < 8 ? -EUCLEAN : retention_pin(&vol->kept, le64_get(it.value));
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

void prune_policy(const struct volume *vol, struct retention_policy *ret)
{
	*ret = vol->policy;
}

int prune_policy_set(
	struct engine *engine, struct volume *vol, const struct retention_policy *policy)
{
	int r;

	if (policy->keep_all > RETENTION_ALL_MAX || policy->hourly > RETENTION_NUMBER_MAX ||
		policy->daily > RETENTION_NUMBER_MAX || policy->weekly > RETENTION_NUMBER_MAX ||
		policy->monthly > RETENTION_NUMBER_MAX)
		return engine_fail(engine, -EINVAL,
			"volume %s: retention: at most %u hours, days, weeks or months, and 100 "
			"years of all",
			vol->name, RETENTION_NUMBER_MAX);
	r = engine_flush(engine);
	if (r == 0)
		r = log_row(engine, vol, policy, &vol->kept);
	if (r == 0)
		r = engine_sync(engine);
	if (r < 0)
		return engine_fail(engine, r, "volume %s: the store cannot be written: %s",
			vol->name, strerror(-r));
	prune_want(vol);
	return 0;
}

/* ---- what can be read */

uint64_t prune_oldest(struct engine *engine, const struct volume *vol)
{
	uint64_t oldest = vol->time > 0 ? vol->time : engine->io->now(engine->io->ctx);
	struct row_key k;
	struct db_iter it;

	row_start(&k, vol->number);
	if (db_iter_first(&it, txn(engine), DB_TIMES, k.b, k.len, NULL, 0) == 1)
		oldest = be64_get(it.key + 4);
	db_iter_close(&it);
	return oldest > vol->kept.all ? oldest : vol->kept.all;
}

uint64_t prune_newest(struct engine *engine, const struct volume *vol, uint64_t at)
{
	return retention_newest(&vol->kept, at);
}

/* ---- a row of `times` */

/* 1: the register got a value at this time that is there still. */
static int was_born(struct engine *engine, const struct row_key *live, uint64_t time)
{
	const uint8_t *value;
	struct row_key next;
	struct db_iter it;
	size_t len;
	int r;

	r = db_get(txn(engine), DB_RECORDS, live->b, live->len, &value, &len);
	if (r == 0 && len >= 8 && le64_get(value) == time)
		return 1;
	if (r < 0 && r != -ENOENT)
		return r;
	history_row(&next, HISTORY_REGISTER, live, time + 1);
	r = db_iter_first(&it, txn(engine), DB_HIST, live->b, live->len, next.b, next.len);
	if (r == 1)
		r = it.key_len == next.len && it.value_len >= 8 && le64_get(it.value) == time;
	db_iter_close(&it);
	return r;
}

/* 1: the entry stays, though what ended then may be gone. */
static int prune_entry(struct engine *engine, struct volume *vol, enum history_entry type,
	const struct row_key *live, uint64_t time, bool *dropped)
{
	enum db_table table = history_table(type);
	const uint8_t *value;
	struct row_key k;
	size_t len;
	int r;

	history_row(&k, type, live, time);
	r = db_get(txn(engine), table, k.b, k.len, &value, &len);
	if (r == 0 && len < 8)
		return -EUCLEAN;
	if (r == 0 && retention_keeps(&vol->kept, le64_get(value), time))
		return 1;
	if (r == 0) {
		*dropped = true;
		r = db_delete(txn(engine), table, k.b, k.len);
		if (type == HISTORY_REGISTER) {
			vol->num_history--;
			vol->is_dirty = true;
		}
	} else if (r == -ENOENT) {
		r = 0;
	}
	return r < 0 || type != HISTORY_REGISTER ? r : was_born(engine, live, time);
}

int prune_times(
	struct engine *engine, struct volume *vol, uint64_t time, uint32_t seq, bool *ret_dropped)
{
	uint8_t row[HISTORY_TIMES_MAX], kept[HISTORY_TIMES_MAX];
	struct history_cursor c = { row, row };
	enum history_entry type;
	const uint8_t *value, *bytes;
	struct row_key k, live;
	size_t len, kept_len = 0;
	int r;

	*ret_dropped = false;
	row_times(&k, vol->number, time, seq);
	r = db_get(txn(engine), DB_TIMES, k.b, k.len, &value, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (len > sizeof(row))
		return -EUCLEAN;
	memcpy(row, value, len);
	c.end = row + len;
	while ((r = history_next(&c, vol->number, &type, &live, &bytes, &len)) == 1) {
		r = prune_entry(engine, vol, type, &live, time, ret_dropped);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		memcpy(kept + kept_len, bytes, len);
		kept_len += len;
	}
	if (r < 0 || kept_len == (size_t)(c.end - row))
		return r;
	*ret_dropped = true;
	return kept_len > 0 ? db_put(txn(engine), DB_TIMES, k.b, k.len, kept, kept_len)
			    : db_delete(txn(engine), DB_TIMES, k.b, k.len);
}

/* ---- passes */

void prune_want(struct volume *vol)
{
	vol->prune.is_wanted = true;
}

static int pass_begin(struct engine *engine, struct volume *vol, uint64_t now)
{
	struct retention_kept kept = vol->kept;
	bool moved;
	int r;

	vol->prune.next_pass = now + PASS_EVERY;
	moved = retention_cut(&kept, &vol->policy, now);
	if (!moved && !vol->prune.is_wanted)
		return 0;
	r = engine_flush(engine);
	if (r == 0)
		r = log_row(engine, vol, &vol->policy, &kept);
	if (r < 0)
		return r;
	vol->prune.is_wanted = false;
	vol->prune.is_running = true;
	vol->prune.time = 0;
	vol->prune.seq = 0;
	return 0;
}

struct slice {
	uint64_t time[SLICE];
	uint32_t seq[SLICE];
	size_t num;
};

static int slice_fill(struct engine *engine, const struct volume *vol, struct slice *slice)
{
	struct row_key k, start;
	struct db_iter it;
	int r;

	slice->num = 0;
	row_start(&k, vol->number);
	row_times(&start, vol->number, vol->prune.time, vol->prune.seq);
	r = db_iter_first(&it, txn(engine), DB_TIMES, k.b, k.len, start.b, start.len);
	while (r == 1 && slice->num < SLICE && be64_get(it.key + 4) <= vol->kept.all) {
		slice->time[slice->num] = be64_get(it.key + 4);
		slice->seq[slice->num++] = be32_get(it.key + 12);
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r < 0 ? r : 0;
}

static int slice_run(struct engine *engine, struct volume *vol, const struct slice *slice)
{
	struct change_head head = { .vol = vol->number };
	bool dropped, any = false;
	size_t i;
	int r;

	r = engine_flush(engine);
	if (r == 0)
		r = change_begin(engine);
	if (r < 0)
		return r;
	for (i = 0; r == 0 && i < slice->num; i++) {
		r = change_prune(engine, vol, slice->time[i], slice->seq[i], &dropped);
		any |= r == 0 && dropped;
	}
	if (r == 0 && !any) {
		change_cancel(engine);
		return 0;
	}
	if (r == 0)
		r = change_end(engine, FRAME_SETTINGS, &head, NULL);
	return r < 0 ? change_fail(engine, r) : 0;
}

static int pass_step(struct engine *engine, struct volume *vol)
{
	struct slice slice;
	int r;

	r = slice_fill(engine, vol, &slice);
	if (r == 0 && slice.num > 0)
		r = slice_run(engine, vol, &slice);
	if (r < 0)
		return r;
	if (slice.num < SLICE) {
		vol->prune.is_running = false;
		return 0;
	}
	vol->prune.time = slice.time[SLICE - 1];
	vol->prune.seq = slice.seq[SLICE - 1] + 1;
	return 0;
}

int prune_tick(struct engine *engine, bool *ret_more)
{
	uint64_t now = engine->io->now(engine->io->ctx);
	size_t i;
	int r = 0;

	*ret_more = false;
	for (i = 0; i < engine->num_volumes; i++) {
		struct volume *vol = engine->volumes[i];
		struct prune *p = &vol->prune;

		if (vol->pull)
			continue;
		if (p->next_pass == 0)
			p->next_pass = now + FIRST_PASS;
		if (!p->is_running && (p->is_wanted || now >= p->next_pass))
			r = pass_begin(engine, vol, now);
		else if (p->is_running)
			r = pass_step(engine, vol);
		else
			continue;
		*ret_more |= p->is_running;
		break;
	}
	/* Full, or a page of the index too many: it has time. */
	return r == -ENOSPC || r == -EOVERFLOW ? 0 : r;
}
