#include "stored/referrers.h"

#include "cas/object.h"
#include "stored/element.h"
#include "stored/engine_state.h"
#include "stored/history.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 8

struct search {
	struct engine *engine;
	const uint8_t (*ids)[32];
	size_t num;
	struct referrer *list;
	size_t max, found;
	const struct volume *vol;
	uint64_t oid;
	uint64_t until;
	uint64_t hits; /* bit i: this file refers to ids[i] */
	uint64_t live; /* and a file of now does */
};

static void look(struct search *search, const uint8_t *id)
{
	for (size_t i = 0; i < search->num && i < 64; i++)
		if (memcmp(search->ids[i], id, 32) == 0)
			search->hits |= UINT64_C(1) << i;
}

static void look_into(struct search *search, const uint8_t *id, int depth)
{
	const uint8_t *refs;
	struct place place;
	size_t num = 0;
	uint8_t *buf;

	look(search, id);
	if (depth == 0 || engine_locate(search->engine, id, &place) < 0 ||
		place.len > CAS_MANIFEST_MAX)
		return;
	buf = malloc(place.len);

	/* What is no manifest, or cannot be read, refers to nothing. */
	if (buf && engine_read_object(search->engine, id, place, buf) == 0 &&
		cas_object_refs(buf, place.len, &refs, &num) == 0)
		for (size_t i = 0; i < num; i++)
			look_into(search, refs + 32 * i, depth - 1);
	free(buf);
}

/* The latest until of a file and object is kept. */
static bool is_known(struct search *search, size_t id)
{
	for (size_t i = 0; search->until > 0 && i < search->found; i++) {
		struct referrer *r = &search->list[i];

		if (r->oid != search->oid || memcmp(r->id, search->ids[id], sizeof(r->id)) != 0 ||
			memcmp(r->volume, search->vol->id, sizeof(r->volume)) != 0)
			continue;
		if (r->until < search->until)
			r->until = search->until;
		return true;
	}
	return false;
}

static void note(struct search *search)
{
	for (size_t i = 0; i < search->num && i < 64; i++) {
		struct referrer *r = &search->list[search->found];

		if (!(search->hits >> i & 1) || is_known(search, i) || search->found == search->max)
			continue;
		memcpy(r->volume, search->vol->id, sizeof(r->volume));
		memcpy(r->id, search->ids[i], sizeof(r->id));
		r->oid = search->oid;
		r->until = search->until;
		search->found++;
	}
}

static int search_register(struct search *search, const struct reg *reg)
{
	struct tree_record rec;

	search->hits = 0;
	for (size_t i = 0; i < reg->num; i++) {
		const struct element *e = &reg->e[i];

		if (e->e.key.kind != TREE_BODY ||
			tree_record_parse(e->raw, element_size(e), &rec) < 0)
			continue;
		search->oid = e->e.key.id;
		for (size_t n = 0; n < rec.num_refs; n++)
			look_into(search, rec.refs + n * TREE_REF_SIZE, DEPTH_MAX);
	}
	if (search->until == 0)
		search->live |= search->hits;
	else
		search->hits &= ~search->live;
	note(search);
	return 0;
}

static int search_row(struct search *search, const struct db_iter *it)
{
	struct reg *reg = &search->engine->old;
	int r = reg_parse(reg, it->value, it->value_len);

	return r < 0 ? r : search_register(search, reg);
}

static int search_past(
	void *arg, uint32_t vol, const struct tree_key *key, uint64_t until, const struct reg *reg)
{
	struct search *search = arg;

	if (key->kind != TREE_BODY)
		return 0;
	search->vol = NULL;
	for (size_t i = 0; i < search->engine->num_volumes; i++)
		if (search->engine->volumes[i]->number == vol)
			search->vol = search->engine->volumes[i];
	search->until = until;
	return search->vol ? search_register(search, reg) : 0;
}

int engine_referrers(struct engine *engine, const uint8_t (*ids)[32], size_t num,
	struct referrer *ret_list, size_t max, size_t *ret_num)
{
	struct search search = {
		.engine = engine, .ids = ids, .num = num, .list = ret_list, .max = max
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < engine->num_volumes; i++) {
		struct row_key k;
		struct db_iter it;

		search.vol = engine->volumes[i];
		row_start(&k, search.vol->number);
		r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, NULL, 0);
		while (r > 0 && search.found < max) {
			r = search_row(&search, &it);
			if (r == 0)
				r = db_iter_next(&it);
		}
		db_iter_close(&it);
		r = r > 0 ? 0 : r;
	}
	if (r == 0 && search.found < max)
		r = history_each(engine, search_past, &search);
	*ret_num = search.found;
	return r;
}
