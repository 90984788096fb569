#include "stored/referrers.h"

#include "cas/object.h"
#include "stored/element.h"
#include "stored/engine_state.h"
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
	uint64_t hits; /* bit i: this file refers to ids[i] */
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

static void note(struct search *search)
{
	for (size_t i = 0; i < search->num && i < 64 && search->found < search->max; i++) {
		struct referrer *r = &search->list[search->found];

		if (!(search->hits >> i & 1))
			continue;
		memcpy(r->volume, search->vol->id, sizeof(r->volume));
		memcpy(r->id, search->ids[i], sizeof(r->id));
		r->oid = search->oid;
		search->found++;
	}
}

static int search_row(struct search *search, const struct db_iter *it)
{
	struct reg *reg = &search->engine->old;
	struct tree_record rec;
	int r;

	r = reg_parse(reg, it->value, it->value_len);
	search->hits = 0;
	for (size_t i = 0; r == 0 && i < reg->num; i++) {
		const struct element *e = &reg->e[i];

		if (e->e.key.kind != TREE_BODY ||
			tree_record_parse(e->raw, element_size(e), &rec) < 0)
			continue;
		search->oid = e->e.key.id;
		for (size_t n = 0; n < rec.num_refs; n++)
			look_into(search, rec.refs + n * TREE_REF_SIZE, DEPTH_MAX);
	}
	note(search);
	return r;
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
	*ret_num = search.found;
	return r;
}
