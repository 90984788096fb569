/*
 * As of an instant (page->at) each register is one look-up (history_load), and what stood in a
 * directory, had a name or pointed to an inode then is found among the live rows that were there
 * already and the past ones that were there still. A page of a directory, and its numbers of
 * entries, cost the places that the directory has and had, up to what retention keeps; a name stops
 * at the first moment after the instant at which nobody had it.
 */
#include "stored/history.h"
#include "stored/read_state.h"

#include <errno.h>

/* ---- links */

static int live_links(struct engine *engine, enum db_table table, const struct row_key *prefix,
	uint64_t at, read_link_fn *fn, void *arg)
{
	struct db_iter it;
	int r;

	r = db_iter_first(&it, txn(engine), table, prefix->b, prefix->len, NULL, 0);
	while (r == 1) {
		if (at == 0 || (it.value_len >= 8 && le64_get(it.value) <= at))
			r = fn(arg, be64_get(it.key + it.key_len - 8));
		if (r < 0)
			break;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int past_links(struct engine *engine, enum db_table table, const struct row_key *prefix,
	uint64_t at, read_link_fn *fn, void *arg)
{
	struct row_key start = *prefix;
	struct db_iter it;
	int r;

	if (at == UINT64_MAX)
		return 0;
	row_u64(&start, at + 1);
	r = db_iter_first(&it, txn(engine), table, prefix->b, prefix->len, start.b, start.len);
	while (r == 1) {
		if (it.value_len < 8)
			r = -EUCLEAN;
		else if (le64_get(it.value) <= at)
			r = fn(arg, be64_get(it.key + it.key_len - 8));
		if (r < 0)
			break;
		/* Nobody had the name when this ended: all that follows began later. */
		if (it.value_len > 8 && (it.value[8] & HISTORY_NAME_ALONE)) {
			r = 0;
			break;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

int read_links(struct engine *engine, enum db_table live, enum db_table past,
	const struct row_key *prefix, uint64_t at, read_link_fn *fn, void *arg)
{
	int r = live_links(engine, live, prefix, at, fn, arg);

	return r < 0 || at == 0 ? r : past_links(engine, past, prefix, at, fn, arg);
}

/* ---- the numbers of an inode */

static int count_link(void *arg, uint64_t lid)
{
	++*(uint32_t *)arg;
	return 0;
}

static int nlink_at(
	struct engine *engine, const struct volume *vol, uint64_t oid, uint64_t at, uint32_t *ret)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct reg *reg = &engine->new;
	struct row_key k;
	int r;

	*ret = 0;
	r = history_load(reg, txn(engine), vol, &key, at);
	if (r < 0)
		return r;
	if (reg->num > 0) { /* a directory has that one only */
		*ret = 1;
		return 0;
	}
	row_one(&k, vol->number, oid);
	return read_links(engine, DB_TARGETS, DB_HTARGETS, &k, at, count_link, ret);
}

static int count_places(struct db_txn *t, enum db_table table, const struct row_key *prefix,
	uint64_t at, struct engine_node *node)
{
	bool is_past = table == DB_HDIRS;
	struct db_iter it;
	int r;

	r = db_iter_first(&it, t, table, prefix->b, prefix->len, NULL, 0);
	while (r == 1) {
		if (it.value_len != HISTORY_DIR_SIZE) {
			r = -EUCLEAN;
			break;
		}
		if (le64_get(it.value) <= at && (it.value[8] & HISTORY_DIR_SHOWN) &&
			(!is_past || be64_get(it.key + it.key_len - 8) > at)) {
			node->entries++;
			node->subdirs += (it.value[8] & HISTORY_DIR_SUBDIR) != 0;
		}
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

struct fallen_numbers {
	struct engine *engine;
	struct volume *vol;
	uint64_t at;
	struct engine_node *node;
};

static int move_fallen(void *arg, uint64_t oid)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct fallen_numbers *f = arg;
	struct reg *reg = &f->engine->new;
	int r = history_load(reg, txn(f->engine), f->vol, &key, f->at);

	if (r < 0 || reg->num == 0)
		return r;
	if (f->node->oid == TREE_ROOT) {
		f->node->entries++;
		f->node->subdirs++;
	} else if (reg->e[reg_winner(reg)].e.parent == f->node->oid) {
		f->node->entries--;
		f->node->subdirs--;
		f->node->strays++;
	}
	return 0;
}

int read_fallen(struct engine *engine, struct volume *vol, uint64_t at, struct engine_node *node)
{
	struct fallen_numbers f = { engine, vol, at, node };

	node->is_fallen = history_fallen(engine, vol, node->oid, at);
	return history_each_fallen(engine, vol, at, move_fallen, &f);
}

static int numbers_at(struct engine *engine, struct volume *vol, uint64_t at, bool is_dir,
	struct engine_node *node)
{
	struct row_key k;
	int r;

	r = nlink_at(engine, vol, node->oid, at, &node->nlink);
	row_one(&k, vol->number, node->oid);
	if (r == 0 && is_dir)
		r = count_places(txn(engine), DB_DIRS, &k, at, node);
	if (r == 0 && is_dir)
		r = count_places(txn(engine), DB_HDIRS, &k, at, node);
	if (r == 0 && is_dir)
		r = read_fallen(engine, vol, at, node);
	return r;
}

int read_inode_at(struct engine *engine, struct volume *vol, uint64_t oid, struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_BODY };
	struct engine_node node = { .oid = oid };
	uint8_t tag[TREE_TAG_SIZE] = { 0 };
	struct reg *reg = &engine->new;
	bool is_dir;
	int r;

	r = history_load(reg, txn(engine), vol, &key, page->at);
	if (r == 0)
		r = page_register(engine, page, reg);
	key.kind = TREE_ATTR;
	if (r == 0)
		r = history_load(reg, txn(engine), vol, &key, page->at);
	if (r < 0)
		return r;
	if (reg->num == 0)
		return -ENOENT;
	is_dir = reg->e[reg_winner(reg)].e.flags & TREE_DIRECTORY;
	r = page_register(engine, page, reg);
	if (r == 0)
		r = numbers_at(engine, vol, page->at, is_dir, &node);
	while (r == 0) {
		r = read_next_xattr(engine, vol, oid, page->at, tag, reg);
		if (r == 0)
			break;
		node.num_xattrs += r == 1;
		r = r == 1 ? 0 : r;
	}
	if (r == 0)
		page->nodes[page->num_nodes++] = node;
	return r;
}
