#include "stored/versions.h"

#include "stored/history.h"
#include "stored/page.h"

#include <errno.h>
#include <string.h>

/* ---- versions of a register */

/* -ENOBUFS: no room. */
static int add(struct engine *engine, struct engine_page *page, struct versions *v,
	const struct reg *reg, uint64_t since, uint64_t until)
{
	size_t before = page->len;
	int r;

	if (v->num == v->max)
		return -ENOBUFS;
	r = page_register(engine, page, reg);
	if (r == 0)
		v->list[v->num++] =
			(struct version){ since, until, (uint32_t)(page->len - before) };
	return r;
}

static int of_register(struct engine *engine, struct volume *vol, const struct tree_key *key,
	uint64_t after, struct engine_page *page, struct versions *v)
{
	struct reg *reg = &engine->old;
	struct row_key live, start;
	struct db_iter it;
	int r;

	row_record(&live, vol->number, key);
	history_row(&start, HISTORY_REGISTER, &live, after + 1);
	r = db_iter_first(&it, txn(engine), DB_HIST, live.b, live.len, start.b, start.len);
	while (r == 1 && it.key_len == start.len) {
		r = reg_parse(reg, it.value, it.value_len);
		if (r == 0 && reg->since > after)
			r = add(engine, page, v, reg, reg->since,
				be64_get(it.key + it.key_len - 8));
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r >= 0)
		r = reg_load(reg, txn(engine), vol->number, key);
	if (r == 0 && reg->num > 0 && reg->since > after)
		r = add(engine, page, v, reg, reg->since, 0);
	return r;
}

/* ---- versions of a name: the links that stood under it */

#define NAMES_MAX 64

struct named {
	uint64_t since, until, lid;
};

/* The first ones that began later than after, in the order of their beginnings. */
struct names {
	struct named list[NAMES_MAX];
	size_t num;
	uint64_t after;
	bool is_cut;
};

static void names_add(struct names *n, struct named one)
{
	size_t at = n->num;

	if (one.since <= n->after)
		return;
	while (at > 0 && n->list[at - 1].since > one.since)
		at--;
	if (n->num == NAMES_MAX) {
		n->is_cut = true;
		if (at == n->num)
			return;
		n->num--;
	}
	memmove(n->list + at + 1, n->list + at, (n->num - at) * sizeof(one));
	n->list[at] = one;
	n->num++;
}

static int names_find(
	struct db_txn *t, enum db_table table, const struct row_key *prefix, struct names *n)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, t, table, prefix->b, prefix->len, NULL, 0);
	while (r == 1) {
		struct named one = { .lid = be64_get(it.key + it.key_len - 8) };

		if (it.value_len < 8) {
			r = -EUCLEAN;
			break;
		}
		one.since = le64_get(it.value);
		if (table == DB_HNAMES)
			one.until = be64_get(it.key + it.key_len - 16);
		names_add(n, one);
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int of_name(struct engine *engine, struct volume *vol, const uint8_t *tag, uint64_t parent,
	uint64_t after, struct engine_page *page, struct versions *v)
{
	struct tree_key key = { .kind = TREE_LINK };
	struct names names = { .after = after };
	struct reg *reg = &engine->old;
	struct row_key k;
	size_t i;
	int r;

	row_name(&k, vol->number, parent, tag, 0);
	k.len -= 8;
	r = names_find(txn(engine), DB_HNAMES, &k, &names);
	if (r == 0)
		r = names_find(txn(engine), DB_NAMES, &k, &names);
	for (i = 0; r == 0 && i < names.num; i++) {
		const struct named *one = &names.list[i];

		key.id = one->lid;
		r = history_load(reg, txn(engine), vol, &key, one->until > 0 ? one->until - 1 : 0);
		/* Not the winner under this name: nobody saw it there. */
		if (r < 0 || reg->num == 0 || reg->e[reg_winner(reg)].e.parent != parent ||
			memcmp(reg->e[reg_winner(reg)].e.tag, tag, TREE_TAG_SIZE) != 0)
			continue;
		r = add(engine, page, v, reg, one->since, one->until);
	}
	return r == 0 && names.is_cut ? -ENOBUFS : r;
}

int engine_versions(struct engine *engine, struct volume *vol, const struct tree_key *key,
	uint64_t parent, uint64_t after, struct engine_page *page, struct versions *versions)
{
	int r;

	page->len = versions->num = 0;
	versions->end = true;
	if (after == UINT64_MAX)
		return 0;
	if (key->kind == TREE_LINK && key->id == 0)
		r = of_name(engine, vol, key->tag, parent, after, page, versions);
	else
		r = of_register(engine, vol, key, after, page, versions);
	versions->end = r != -ENOBUFS;
	return r == -ENOBUFS && versions->num > 0 ? 0 : r;
}

/* ---- differences */

/* A page of differences, from the skip-th entry of a row of `times` on. */
struct diff {
	uint32_t vol;
	uint32_t skip;
	struct tree_key *ret;
	size_t max, num;
};

/* 1: the page is full, and skip says how far it came in this row. */
static int diff_row(struct diff *d, const uint8_t *value, size_t value_len)
{
	struct history_cursor c = { value, value + value_len };
	enum history_entry type;
	const uint8_t *bytes;
	struct row_key row;
	size_t len;
	int r;

	for (uint32_t n = 0; (r = history_next(&c, d->vol, &type, &row, &bytes, &len)) == 1; n++) {
		uint8_t packed[TREE_KEY_SIZE] = { 0 };

		if (n < d->skip || type != HISTORY_REGISTER)
			continue;
		if (d->num == d->max) {
			d->skip = n;
			return 1;
		}
		memcpy(packed, bytes + 1, len - 1);
		if (tree_key_unpack(packed, &d->ret[d->num]) < 0)
			return -EUCLEAN;
		d->num++;
	}
	d->skip = 0;
	return r;
}

int engine_diff(struct engine *engine, struct volume *vol, uint64_t from, uint64_t to,
	uint8_t cursor[DIFF_CURSOR_SIZE], struct tree_key *ret, size_t max, size_t *ret_num,
	bool *ret_end)
{
	struct diff d = { .vol = vol->number, .ret = ret, .max = max };
	uint64_t time = be64_get(cursor);
	struct row_key k, start;
	struct db_iter it;
	int r;

	*ret_num = 0;
	*ret_end = true;
	r = from == 0 ? 0 : history_check(vol, from);
	if (r == 0)
		r = history_check(vol, to);
	if (r < 0 || from == UINT64_MAX)
		return r;
	d.skip = (uint32_t)cursor[12] << 8 | cursor[13];
	row_start(&k, vol->number);
	row_times(&start, vol->number, time ? time : from + 1, be32_get(cursor + 8));
	r = db_iter_first(&it, txn(engine), DB_TIMES, k.b, k.len, start.b, start.len);
	while (r == 1 && (to == 0 || be64_get(it.key + 4) <= to)) {
		r = diff_row(&d, it.value, it.value_len);
		if (r == 1) {
			memcpy(cursor, it.key + 4, 12);
			cursor[12] = (uint8_t)(d.skip >> 8);
			cursor[13] = (uint8_t)d.skip;
			*ret_end = false;
			break;
		}
		if (r == 0)
			r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_num = d.num;
	return r < 0 ? r : 0;
}
