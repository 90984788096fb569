#include "stored/history.h"
#include "stored/read_state.h"

#include <errno.h>
#include <string.h>

/* 1: there is a row of this table behind `after` (a key's tag); the tag of the first. */
static int tag_behind(struct db_txn *t, enum db_table table, uint32_t vol, uint64_t oid,
	const uint8_t *after, uint8_t ret_tag[TREE_TAG_SIZE])
{
	struct tree_key key = { .id = oid, .kind = TREE_XATTR };
	struct row_key k, start;
	struct db_iter it;
	int r;

	memcpy(key.tag, after, TREE_TAG_SIZE);
	row_record(&start, vol, &key);
	k = start;
	k.len -= TREE_TAG_SIZE;
	/* Behind every row of that tag. */
	row_u64(&start, UINT64_MAX);
	row_u64(&start, UINT64_MAX);
	r = db_iter_first(&it, t, table, k.b, k.len, start.b, start.len);
	if (r == 1)
		memcpy(ret_tag, it.key + k.len, TREE_TAG_SIZE);
	db_iter_close(&it);
	return r;
}

int read_next_xattr(struct engine *engine, const struct volume *vol, uint64_t oid, uint64_t at,
	uint8_t tag[TREE_TAG_SIZE], struct reg *reg)
{
	struct tree_key key = { .id = oid, .kind = TREE_XATTR };
	uint8_t past[TREE_TAG_SIZE];
	int live, r;

	do {
		live = tag_behind(txn(engine), DB_RECORDS, vol->number, oid, tag, key.tag);
		r = live < 0 ? live : tag_behind(txn(engine), DB_HIST, vol->number, oid, tag, past);
		if (r < 0 || (live == 0 && r == 0))
			return r;
		if (r == 1 && (live == 0 || memcmp(past, key.tag, TREE_TAG_SIZE) < 0))
			memcpy(key.tag, past, TREE_TAG_SIZE);
		memcpy(tag, key.tag, TREE_TAG_SIZE);
		r = history_load(reg, txn(engine), vol, &key, at);
	} while (r == 0 && reg->num == 0);
	return r < 0 ? r : 1;
}

static int xattrs_at(struct engine *engine, struct volume *vol, uint64_t oid,
	const uint8_t after[TREE_TAG_SIZE], struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_ATTR };
	struct reg *reg = &engine->old;
	uint8_t tag[TREE_TAG_SIZE];
	bool any = false;
	int r;

	r = history_load(reg, txn(engine), vol, &key, page->at);
	if (r == 0 && reg->num == 0)
		return -ENOENT;
	memcpy(tag, after, sizeof(tag));
	while (r == 0) {
		r = read_next_xattr(engine, vol, oid, page->at, tag, reg);
		if (r <= 0)
			break;
		r = page_register(engine, page, reg);
		any |= r == 0;
	}
	page->end = r == 0;
	return r == -ENOBUFS && any ? 0 : r;
}

int engine_xattrs(struct engine *engine, struct volume *vol, uint64_t oid,
	const uint8_t after[TREE_TAG_SIZE], struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_ATTR };
	struct reg *reg = &engine->old;
	uint32_t space = vol->number;
	struct row_key k, start;
	struct db_iter it;
	bool any = false;
	int r;

	page->len = page->num_nodes = 0;
	page->end = false;
	r = history_check(vol, page->at);
	if (r < 0 || page->at)
		return r < 0 ? r : xattrs_at(engine, vol, oid, after, page);
	row_record(&k, space, &key);
	if (!db_has(txn(engine), DB_RECORDS, k.b, k.len)) {
		space |= ROWS_ASIDE;
		row_record(&k, space, &key);
		if (!db_has(txn(engine), DB_RECORDS, k.b, k.len))
			return -ENOENT;
	}
	key.kind = TREE_XATTR;
	memcpy(key.tag, after, TREE_TAG_SIZE);
	row_record(&start, space, &key);
	k = start;
	k.len -= TREE_TAG_SIZE;
	r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, start.b, start.len);
	while (r == 1) {
		if (it.key_len == start.len && memcmp(it.key, start.b, start.len) == 0) {
			r = db_iter_next(&it);
			continue;
		}
		r = reg_parse(reg, it.value, it.value_len);
		if (r == 0)
			r = page_register(engine, page, reg);
		if (r < 0)
			break;
		any = true;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	page->end = r == 0;
	return r == -ENOBUFS && any ? 0 : r;
}
