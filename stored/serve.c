#include "stored/serve.h"

#include "stored/change.h"
#include "stored/rows.h"
#include "stored/settings.h"
#include "tree/delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A cursor counts deletions, then units; its low bits count the elements of a unit sent before. */
#define CURSOR_SHIFT 20
#define CURSOR_LOW   ((UINT64_C(1) << CURSOR_SHIFT) - 1)

/* ---- beginning */

/* From here on two states never show the same epoch, and inodes made before may be known. */
static int freeze(struct engine *engine, struct volume *vol)
{
	struct change_head head = { .vol = vol->number };
	int r;

	if (tree_clock_freeze(&vol->state.clock, &vol->state.known)) {
		vol->fresh_from = vol->next;
		r = change_begin(engine);
		if (r == 0)
			r = change_state(engine, vol);
		if (r == 0)
			r = change_end(engine, FRAME_SETTINGS, &head, NULL);
		if (r < 0)
			return change_fail(engine, r);
	}
	return engine_checkpoint(engine);
}

static int add_deaths(struct serve *serve, const struct tree_knowledge *known)
{
	struct tree_death *deaths;
	struct row_key k;
	struct db_iter it;
	int r;

	row_start(&k, serve->vol);
	r = db_iter_first(&it, serve->txn, DB_LABELS, k.b, k.len, NULL, 0);
	while (r == 1) {
		struct tree_death death = { .label = {
						    be64_get(it.key + 8), be32_get(it.key + 4) } };

		if (tree_unit_unpack(it.key + 16, &death.unit) < 0) {
			r = -EUCLEAN;
			break;
		}
		if (!tree_knowledge_covers(&serve->asked, death.label)) {
			if (serve->num_deaths == serve->deaths_cap) {
				size_t cap = serve->deaths_cap ? serve->deaths_cap * 2 : 256;

				deaths = realloc(serve->deaths, cap * sizeof(*deaths));
				if (!deaths) {
					r = -ENOMEM;
					break;
				}
				serve->deaths = deaths;
				serve->deaths_cap = cap;
			}
			serve->deaths[serve->num_deaths++] = death;
			r = tree_delta_units_add(&serve->units, &death.unit);
			if (r < 0)
				break;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

/* Units with an element of this replica newer than what the peer has seen. */
static int add_stamped(struct serve *serve, uint32_t replica, uint64_t seen)
{
	struct tree_unit unit;
	struct row_key k, start;
	struct db_iter it;
	int r;

	row_start(&k, serve->vol);
	be32_put(k.b + 4, replica);
	k.len = 8;
	start = k;
	row_u64(&start, seen + 1);
	r = db_iter_first(&it, serve->txn, DB_STAMPS, k.b, k.len, start.b, start.len);
	while (r == 1) {
		r = tree_unit_unpack(it.key + 16, &unit) < 0
			    ? -EUCLEAN
			    : tree_delta_units_add(&serve->units, &unit);
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int add_all(struct serve *serve)
{
	struct tree_unit unit, last = { 0 };
	struct row_key k;
	struct db_iter it;
	int r;

	row_start(&k, serve->vol);
	r = db_iter_first(&it, serve->txn, DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1) {
		r = tree_unit_unpack(it.key + 4, &unit) < 0 ? -EUCLEAN : 0;
		if (r == 0 && tree_unit_compare(&unit, &last) != 0)
			r = tree_delta_units_add(&serve->units, &unit);
		last = unit;
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int find_units(struct serve *serve, const struct tree_state *state, bool is_full)
{
	size_t i;
	int r = 0;

	if (is_full)
		r = add_all(serve);
	for (i = 0; r == 0 && !is_full && i < state->known.num_stamps; i++) {
		uint32_t replica = state->known.stamps[i].replica;
		uint64_t seen = tree_knowledge_epoch(&serve->asked, replica);

		if (state->known.stamps[i].epoch > seen)
			r = add_stamped(serve, replica, seen);
	}
	if (r == 0)
		r = add_deaths(serve, &state->known);
	if (r == 0)
		tree_delta_units_sort(&serve->units);
	return r;
}

static int put_known(const struct tree_state *state, struct serve_info *info)
{
	int a, b;

	a = tree_knowledge_encode(&state->known, info->known, TREE_KNOWLEDGE_SIZE);
	if (a < 0)
		return a;
	b = tree_knowledge_encode(&state->horizon, info->known + a, TREE_KNOWLEDGE_SIZE);
	if (b < 0)
		return b;
	info->known_len = (size_t)a + (size_t)b;
	return 0;
}

static int serve_open(
	struct engine *engine, struct volume *vol, struct serve *serve, struct serve_info *info)
{
	int r;

	r = freeze(engine, vol);
	if (r == 0)
		r = db_snapshot(engine->db, &serve->txn);
	if (r < 0)
		return r;
	info->is_full = !tree_knowledge_within(&vol->state.horizon, &serve->asked);
	r = find_units(serve, &vol->state, info->is_full);
	info->num_units = serve->units.num_units;
	return r < 0 ? r : put_known(&vol->state, info);
}

int engine_serve_begin(struct engine *engine, struct volume *vol, const uint8_t *asked, size_t len,
	struct serve **ret, struct serve_info *info)
{
	struct serve *serve, *other;
	size_t num = 0;
	int r;

	*ret = NULL;
	if (engine->has_lost_changes || settings_lost_at(engine, vol->id) > 0)
		return -EUCLEAN;
	info->is_full = info->has_nothing = false;
	info->num_units = 0;
	for (other = engine->serves; other; other = other->next)
		num++;
	if (num >= ENGINE_SERVES_MAX)
		return -EBUSY;
	serve = calloc(1, sizeof(*serve));
	if (!serve)
		return -ENOMEM;
	serve->engine = engine;
	serve->vol = vol->number;
	serve->next = engine->serves;
	engine->serves = serve;
	r = tree_knowledge_decode(&serve->asked, asked, len);
	if (r == 0 && tree_knowledge_within(&vol->state.known, &serve->asked)) {
		info->has_nothing = true;
		r = put_known(&vol->state, info);
		engine_serve_end(serve);
		return r;
	}
	if (r == 0)
		r = serve_open(engine, vol, serve, info);
	if (r < 0) {
		engine_serve_end(serve);
		return r;
	}
	*ret = serve;
	return 0;
}

void engine_serve_end(struct serve *serve)
{
	struct serve **link = &serve->engine->serves;

	while (*link != serve)
		link = &(*link)->next;
	*link = serve->next;
	db_snapshot_close(serve->txn);
	tree_knowledge_release(&serve->asked);
	tree_delta_units_release(&serve->units);
	free(serve->deaths);
	free(serve);
}

/* ---- paging */

struct writer {
	uint8_t *buf;
	size_t cap, len;
};

static int write_entry(struct writer *w, const struct tree_delta_entry *entry)
{
	int n = tree_delta_put(entry, w->buf + w->len, w->cap - w->len);

	if (n < 0)
		return n;
	w->len += (size_t)n;
	return 0;
}

/* whole: as a record whatever the asker knows. */
static int write_element(struct serve *serve, struct writer *w, const struct element *e, bool whole)
{
	struct tree_delta_entry entry = { .type = TREE_DELTA_ELEMENT };
	struct engine *engine = serve->engine;
	int r;

	if (!whole && tree_knowledge_covers(&serve->asked, e->e.stamp)) {
		entry.key = e->e.key;
		entry.stamp = e->e.stamp;
		return write_entry(w, &entry);
	}
	entry.type = TREE_DELTA_RECORD;
	entry.packed_len = element_size(e);
	r = scratch_grow(&engine->record, &engine->record_cap, entry.packed_len);
	if (r == 0)
		r = element_read(&engine->arenas, e, engine->record);
	/* Without it the peer would take it for deleted: there is no pull until the file is. */
	if (r == -EBADMSG || r == -EIO || r == -ENODATA)
		engine_note_record(engine, e->sealed);
	if (r < 0)
		return r;
	entry.packed = engine->record;
	return write_entry(w, &entry);
}

/* The unit and its elements from *skip on. -ENOBUFS: not all fitted, *skip says how far. */
static int write_unit(struct serve *serve, struct writer *w, const struct tree_unit *unit,
	bool whole, uint64_t *skip)
{
	struct tree_delta_entry entry = { .type = TREE_DELTA_UNIT, .unit = *unit };
	struct reg *reg = &serve->engine->old;
	uint64_t num = 0;
	struct row_key k;
	struct db_iter it;
	size_t i;
	int r;

	r = write_entry(w, &entry);
	if (r < 0)
		return r;
	row_start(&k, serve->vol);
	row_unit(&k, unit);
	r = db_iter_first(&it, serve->txn, DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1) {
		r = reg_parse(reg, it.value, it.value_len);
		for (i = 0; r == 0 && i < reg->num; i++) {
			if (num++ < *skip)
				continue;
			r = write_element(serve, w, &reg->e[i], whole);
			if (r == 0)
				*skip = num;
		}
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

int engine_serve_page(struct serve *serve, uint64_t *cursor, uint8_t *buf, size_t cap,
	size_t *ret_len, bool *ret_end)
{
	struct tree_delta_entry dead = { .type = TREE_DELTA_DEAD };
	struct writer w = { buf, cap, 0 };
	uint64_t i = *cursor >> CURSOR_SHIFT, skip = *cursor & CURSOR_LOW, before = *cursor;
	uint64_t end = serve->num_deaths + serve->units.num_units;
	size_t mark;
	int r = 0;

	for (; i < serve->num_deaths; i++) {
		dead.unit = serve->deaths[i].unit;
		dead.stamp = serve->deaths[i].label;
		r = write_entry(&w, &dead);
		if (r < 0)
			break;
	}
	for (; r == 0 && i < end; i++) {
		uint64_t skipped = skip;

		mark = w.len;
		r = write_unit(serve, &w, &serve->units.units[i - serve->num_deaths], false, &skip);
		/* A unit entry without anything behind it would say that all of it is gone. */
		if (r == -ENOBUFS && skip == skipped)
			w.len = mark;
		if (r < 0)
			break;
		skip = 0;
	}
	*cursor = i << CURSOR_SHIFT | skip;
	*ret_len = w.len;
	*ret_end = i >= end;
	if (r == -ENOBUFS && *cursor != before)
		r = 0;
	return r;
}

/* ---- needs */

static int write_links(struct serve *serve, struct writer *w, uint64_t oid)
{
	struct tree_unit unit = { .id = oid, .is_link = true };
	struct row_key k;
	struct db_iter it;
	uint64_t skip = 0;
	int r;

	row_start(&k, serve->vol);
	row_unit(&k, &unit);
	k.b[k.len++] = TREE_LINK;
	if (db_has(serve->txn, DB_RECORDS, k.b, k.len)) {
		r = write_unit(serve, w, &unit, true, &skip);
		if (r < 0)
			return r;
	}
	row_one(&k, serve->vol, oid);
	r = db_iter_first(&it, serve->txn, DB_TARGETS, k.b, k.len, NULL, 0);
	while (r == 1) {
		unit.id = be64_get(it.key + 12);
		skip = 0;
		r = write_unit(serve, w, &unit, true, &skip);
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int write_inode(struct serve *serve, struct writer *w, uint64_t oid)
{
	struct tree_delta_entry entry = { .type = TREE_DELTA_INODE, .oid = oid };
	struct tree_unit unit = { .id = oid };
	uint64_t skip = 0;
	int r;

	r = write_entry(w, &entry);
	if (r == 0)
		r = write_unit(serve, w, &unit, true, &skip);
	return r < 0 ? r : write_links(serve, w, oid);
}

int engine_serve_inodes(struct serve *serve, const uint8_t *oids, size_t len, uint8_t *buf,
	size_t cap, size_t *ret_len)
{
	struct writer w = { buf, cap, 0 };
	size_t pos, mark = 0;
	int r = 0;

	if (len == 0 || len % 8 != 0)
		return -EBADMSG;
	for (pos = 0; r == 0 && pos < len; pos += 8) {
		uint64_t oid = le64_get(oids + pos);

		if (oid == 0)
			return -EBADMSG;
		mark = w.len;
		r = write_inode(serve, &w, oid);
	}
	/* The asker's next step asks again for what did not fit. */
	if (r == -ENOBUFS && mark > 0) {
		w.len = mark;
		r = 0;
	}
	*ret_len = w.len;
	return r;
}
