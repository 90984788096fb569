/*
 * What mountd reads: elements of registers, packed one behind another, with the numbers that
 * records do not have. Reads see what was applied a moment ago.
 */
#include "stored/batch.h"
#include "stored/history.h"
#include "stored/read_state.h"

#include <errno.h>
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

static int numbers(struct engine *engine, struct volume *vol, struct engine_node *node)
{
	const uint8_t *row;
	struct row_key k;
	size_t len;
	int r;

	r = links_count(txn(engine), vol->number, node->oid, &node->nlink);
	row_one(&k, vol->number, node->oid);
	if (r == 0 && db_get(txn(engine), DB_COUNTS, k.b, k.len, &row, &len) == 0 && len == 12) {
		node->entries = le64_get(row);
		node->subdirs = le32_get(row + 8);
	}
	return r < 0 ? r : read_fallen(engine, vol, 0, node);
}

/* attr and body elements of an inode, and its node. space: live or set aside. -ENOENT: no attr. */
static int page_inode(struct engine *engine, struct volume *vol, uint32_t space, uint64_t oid,
	struct engine_page *page)
{
	struct tree_unit unit = { .id = oid };
	struct engine_node node = { .oid = oid };
	struct reg *reg = &engine->new;
	struct row_key k;
	struct db_iter it;
	bool has_attr = false;
	int r;

	if (page->num_nodes == page->max_nodes)
		return -ENOBUFS;
	if (page->at)
		return read_inode_at(engine, vol, oid, page);
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
	if (!(space & ROWS_ASIDE))
		r = numbers(engine, vol, &node);
	if (r < 0)
		return r;
	page->nodes[page->num_nodes++] = node;
	return r;
}

int read_link(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t lid,
	const uint8_t *tag, struct engine_page *page)
{
	struct tree_key key = { .id = lid, .kind = TREE_LINK };
	struct mark mark = page_mark(page);
	struct reg *reg = &engine->old;
	const struct tree_element *winner;
	uint64_t target;
	int r;

	r = history_load(reg, txn(engine), vol, &key, page->at);
	if (r < 0)
		return r;
	if (reg->num == 0)
		return -ENOENT;
	winner = &reg->e[reg_winner(reg)].e;
	if (tag && memcmp(winner->tag, tag, TREE_TAG_SIZE) != 0)
		return -ENOENT;
	if (history_fallen(engine, vol, lid, page->at) ? parent != TREE_ROOT
						       : winner->parent != parent)
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

struct lookup {
	struct engine *engine;
	struct volume *vol;
	uint64_t parent;
	const uint8_t *tag;
	struct engine_page *page;
};

static int lookup_link(void *arg, uint64_t lid)
{
	struct lookup *l = arg;
	int r = read_link(l->engine, l->vol, l->parent, lid, l->tag, l->page);

	return r == -ENOENT ? 0 : r;
}

int engine_lookup(struct engine *engine, struct volume *vol, uint64_t parent,
	const uint8_t tag[TREE_TAG_SIZE], struct engine_page *page)
{
	struct lookup l = { engine, vol, parent, tag, page };
	struct row_key k;
	int r;

	page->len = page->num_nodes = 0;
	r = history_check(vol, page->at);
	if (r < 0)
		return r;
	row_name(&k, vol->number, parent, tag, 0);
	k.len -= 8;
	r = read_links(engine, DB_NAMES, DB_HNAMES, &k, page->at, lookup_link, &l);
	if (r == -ENOBUFS && page->num_nodes > 0)
		r = 0;
	if (r < 0)
		return r;
	return page->len > 0 ? 0 : -ENOENT;
}

struct inode_links {
	struct engine *engine;
	struct volume *vol;
	struct engine_page *page;
};

static int inode_link(void *arg, uint64_t lid)
{
	struct tree_key key = { .id = lid, .kind = TREE_LINK };
	struct inode_links *l = arg;
	struct reg *reg = &l->engine->old;
	int r;

	r = history_load(reg, txn(l->engine), l->vol, &key, l->page->at);
	return r < 0 ? r : page_register(l->engine, l->page, reg);
}

int engine_inode(struct engine *engine, struct volume *vol, uint64_t oid, struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct inode_links l = { engine, vol, page };
	struct reg *reg = &engine->old;
	struct row_key k;
	int r;

	page->len = page->num_nodes = 0;
	r = history_check(vol, page->at);
	if (r == 0)
		r = page_inode(engine, vol, vol->number, oid, page);
	if (r == -ENOENT && !page->at) {
		page->len = page->num_nodes = 0;
		return page_inode(engine, vol, vol->number | ROWS_ASIDE, oid, page);
	}
	if (r == 0)
		r = history_load(reg, txn(engine), vol, &key, page->at);
	if (r == 0)
		r = page_register(engine, page, reg);
	if (r < 0 || reg->num > 0)
		return r;
	row_one(&k, vol->number, oid);
	r = read_links(engine, DB_TARGETS, DB_HTARGETS, &k, page->at, inode_link, &l);
	/* More hard links than a page has room for: some of them will do. */
	return r == -ENOBUFS ? 0 : r;
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
