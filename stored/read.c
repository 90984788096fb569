/*
 * What mountd reads: elements of registers, packed one behind another, with the numbers that
 * records do not have. Reads go through the open transaction, so they see what was applied a moment
 * ago.
 */
#include "stored/engine.h"

#include "stored/batch.h"
#include "stored/engine_state.h"
#include "stored/fallen.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mark {
	size_t len, num_nodes;
};

static struct mark page_mark(const struct engine_page *page)
{
	return (struct mark){ page->len, page->num_nodes };
}

static void page_back(struct engine_page *page, struct mark mark)
{
	page->len = mark.len;
	page->num_nodes = mark.num_nodes;
}

/* -ENOBUFS when the page is full. */
static int page_element(struct engine *engine, struct engine_page *page, const struct element *e)
{
	size_t size = element_size(e);
	int r;

	if (size > page->cap - page->len)
		return -ENOBUFS;
	r = element_read(&engine->arenas, e, page->records + page->len);
	if (r < 0)
		return r == -ENOMEM ? r : -EIO;
	page->len += size;
	return 0;
}

static int page_register(struct engine *engine, struct engine_page *page, const struct reg *reg)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < reg->num; i++)
		r = page_element(engine, page, &reg->e[i]);
	return r;
}

/* attr and body elements of an inode, and its node. space: live or set aside. -ENOENT: no attr. */
static int page_inode(struct engine *engine, struct volume *vol, uint32_t space, uint64_t oid,
	struct engine_page *page)
{
	struct tree_unit unit = { .id = oid };
	struct engine_node node = { .oid = oid };
	struct reg *reg = &engine->new;
	const uint8_t *row;
	struct row_key k;
	struct db_iter it;
	bool has_attr = false;
	size_t len;
	int r;

	if (page->num_nodes == page->max_nodes)
		return -ENOBUFS;
	row_start(&k, space);
	row_unit(&k, &unit);
	r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, NULL, 0);
	while (r == 1) {
		uint8_t kind = it.key[4 + TREE_UNIT_SIZE];

		if (kind == TREE_XATTR) {
			node.num_xattrs++;
		} else {
			has_attr |= kind == TREE_ATTR;
			r = reg_parse(reg, it.value, it.value_len);
			if (r == 0)
				r = page_register(engine, page, reg);
			if (r < 0)
				break;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r < 0)
		return r;
	if (!has_attr)
		return -ENOENT;
	if (!(space & ROWS_ASIDE)) {
		r = links_count(txn(engine), vol->number, oid, &node.nlink);
		row_one(&k, vol->number, oid);
		if (r == 0 && db_get(txn(engine), DB_COUNTS, k.b, k.len, &row, &len) == 0 &&
			len == 12) {
			node.entries = le64_get(row);
			node.subdirs = le32_get(row + 8);
		}
	}
	page->nodes[page->num_nodes++] = node;
	return r;
}

/* All elements of a link and, of each inode that they point to, its records. -ENOENT: it is not
 * shown in this directory. is_shown: the caller has found that it is. */
static int page_link(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t lid,
	const uint8_t *tag, struct engine_page *page)
{
	struct tree_key key = { .id = lid, .kind = TREE_LINK };
	struct mark mark = page_mark(page);
	struct reg *reg = &engine->old;
	const struct tree_element *winner;
	uint64_t target;
	int r;

	r = reg_load(reg, txn(engine), vol->number, &key);
	if (r < 0)
		return r;
	if (reg->num == 0)
		return -ENOENT;
	winner = &reg->e[reg_winner(reg)].e;
	if (tag && memcmp(winner->tag, tag, TREE_TAG_SIZE) != 0)
		return -ENOENT;
	if (fallen_has(engine, vol, lid) ? parent != TREE_ROOT : winner->parent != parent)
		return -ENOENT;
	target = winner->target;
	r = page_register(engine, page, reg);
	if (r == 0)
		r = page_inode(engine, vol, vol->number, target, page);
	if (r == -ENOENT) /* not closed, which only a damaged store is */
		r = 0;
	if (r < 0)
		page_back(page, mark);
	return r;
}

int engine_lookup(struct engine *engine, struct volume *vol, uint64_t parent,
	const uint8_t tag[TREE_TAG_SIZE], struct engine_page *page)
{
	struct row_key k;
	struct db_iter it;
	int r;

	page->len = page->num_nodes = 0;
	if (page->at)
		return -EOPNOTSUPP;
	row_name(&k, vol->number, parent, tag, 0);
	k.len -= 8;
	r = db_iter_first(&it, txn(engine), DB_NAMES, k.b, k.len, NULL, 0);
	while (r == 1) {
		r = page_link(engine, vol, parent, be64_get(it.key + it.key_len - 8), tag, page);
		if (r < 0 && r != -ENOENT)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	if (r == -ENOBUFS && page->num_nodes > 0)
		r = 0;
	if (r < 0)
		return r;
	return page->len > 0 ? 0 : -ENOENT;
}

/* The next link id above `after` in a table of vol (parent) lid; UINT64_MAX: none. */
static int next_lid(struct db_iter *it, bool *is_open, struct db_txn *t, enum db_table table,
	const struct row_key *prefix, uint64_t after, uint64_t *ret)
{
	struct row_key start = *prefix;
	int r;

	*ret = UINT64_MAX;
	if (after == UINT64_MAX)
		return 0;
	if (!*is_open) {
		row_u64(&start, after + 1);
		r = db_iter_first(it, t, table, prefix->b, prefix->len, start.b, start.len);
		*is_open = true;
	} else {
		r = db_iter_next(it);
	}
	if (r == 1)
		*ret = be64_get(it->key + it->key_len - 8);
	return r < 0 ? r : 0;
}

int engine_dir(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t after,
	uint32_t max, struct engine_page *page)
{
	struct db_iter dirs, fallen;
	bool dirs_open = false, fallen_open = false;
	uint64_t lid, fell = UINT64_MAX, one;
	struct row_key k, f;
	uint32_t num = 0;
	int r;

	page->len = page->num_nodes = 0;
	if (page->at)
		return -EOPNOTSUPP;
	page->end = false;
	page->next = after;
	row_one(&k, vol->number, parent);
	row_start(&f, vol->number);
	r = next_lid(&dirs, &dirs_open, txn(engine), DB_DIRS, &k, after, &lid);
	/* The root also shows the directories that fell into it, in the same ascending order. */
	if (r == 0 && parent == TREE_ROOT && vol->num_fallen > 0)
		r = next_lid(&fallen, &fallen_open, txn(engine), DB_FALLEN, &f, after, &fell);
	while (r == 0) {
		one = lid < fell ? lid : fell;
		if (one == UINT64_MAX) {
			page->end = true;
			break;
		}
		if (max > 0 && num >= max)
			break;
		r = page_link(engine, vol, parent, one, NULL, page);
		if (r == -ENOBUFS && num > 0) {
			r = 0;
			break;
		}
		if (r == 0)
			num++;
		else if (r != -ENOENT)
			break;
		r = 0;
		page->next = one;
		if (lid == one)
			r = next_lid(&dirs, &dirs_open, txn(engine), DB_DIRS, &k, one, &lid);
		if (r == 0 && fell == one)
			r = next_lid(&fallen, &fallen_open, txn(engine), DB_FALLEN, &f, one, &fell);
	}
	if (dirs_open)
		db_iter_close(&dirs);
	if (fallen_open)
		db_iter_close(&fallen);
	return r;
}

int engine_inode(struct engine *engine, struct volume *vol, uint64_t oid, struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct reg *reg = &engine->old;
	struct row_key k;
	struct db_iter it;
	int r;

	page->len = page->num_nodes = 0;
	if (page->at)
		return -EOPNOTSUPP;
	r = page_inode(engine, vol, vol->number, oid, page);
	if (r == -ENOENT) {
		page->len = page->num_nodes = 0;
		return page_inode(engine, vol, vol->number | ROWS_ASIDE, oid, page);
	}
	if (r == 0)
		r = reg_load(reg, txn(engine), vol->number, &key);
	if (r == 0)
		r = page_register(engine, page, reg);
	if (r < 0 || reg->num > 0)
		return r;
	row_one(&k, vol->number, oid);
	r = db_iter_first(&it, txn(engine), DB_TARGETS, k.b, k.len, NULL, 0);
	while (r == 1) {
		key.id = be64_get(it.key + 12);
		r = reg_load(reg, txn(engine), vol->number, &key);
		if (r == 0)
			r = page_register(engine, page, reg);
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	/* More hard links than a page has room for: some of them will do. */
	return r == -ENOBUFS ? 0 : r;
}

int engine_xattrs(struct engine *engine, struct volume *vol, uint64_t oid,
	const uint8_t after[TREE_TAG_SIZE], struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_ATTR };
	struct reg *reg = &engine->old;
	uint32_t space = vol->number;
	struct row_key k, start;
	struct db_iter it;
	struct mark mark;
	bool any = false;
	int r;

	page->len = page->num_nodes = 0;
	if (page->at)
		return -EOPNOTSUPP;
	page->end = false;
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
		mark = page_mark(page);
		r = reg_parse(reg, it.value, it.value_len);
		if (r == 0)
			r = page_register(engine, page, reg);
		if (r < 0) {
			page_back(page, mark);
			break;
		}
		any = true;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	page->end = r == 0;
	return r == -ENOBUFS && any ? 0 : r;
}

int engine_orphans(struct engine *engine, struct volume *vol, uint64_t after, uint64_t *oids,
	size_t max, size_t *ret_num, bool *ret_end)
{
	struct tree_unit unit = { .id = after };
	struct row_key k, start;
	struct db_iter it;
	uint64_t last = after;
	int r;

	*ret_num = 0;
	*ret_end = false;
	row_start(&k, vol->number | ROWS_ASIDE);
	start = k;
	row_unit(&start, &unit);
	r = db_iter_first(&it, txn(engine), DB_RECORDS, k.b, k.len, start.b, start.len);
	while (r == 1) {
		uint64_t oid = be64_get(it.key + 5);

		if (it.key[4] == 1 && oid > last) {
			if (*ret_num == max)
				break;
			oids[(*ret_num)++] = last = oid;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_end = r == 0;
	return r < 0 ? r : 0;
}
