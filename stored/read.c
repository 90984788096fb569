/*
 * What mountd reads: elements of registers, packed one behind another, with the numbers that
 * records do not have. Reads see what was applied a moment ago.
 *
 * As of an instant (page->at) each register is one look-up (history_load), and what stood in a
 * directory, had a name or pointed to an inode then is found among the live rows that were there
 * already and the past ones that were there still. A page of a directory, and its numbers of
 * entries, cost the places that the directory has and had, up to what retention keeps; a name stops
 * at the first moment after the instant at which nobody had it.
 */
#include "stored/engine.h"

#include "stored/batch.h"
#include "stored/engine_state.h"
#include "stored/fallen.h"
#include "stored/history.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIR_STEPS 20000 /* rows that one page of a directory of the past may look at */

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

/* ---- the past: links to an inode, places in a directory, extended attributes */

/* Calls fn for every link that had this prefix (an inode's, or a name's) in a table then. */
typedef int link_fn(void *arg, uint64_t lid);

static int live_links(struct engine *engine, enum db_table table, const struct row_key *prefix,
	uint64_t at, link_fn *fn, void *arg)
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
	uint64_t at, link_fn *fn, void *arg)
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

static int links_at(struct engine *engine, enum db_table live, enum db_table past,
	const struct row_key *prefix, uint64_t at, link_fn *fn, void *arg)
{
	int r = live_links(engine, live, prefix, at, fn, arg);

	return r < 0 || at == 0 ? r : past_links(engine, past, prefix, at, fn, arg);
}

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
	return links_at(engine, DB_TARGETS, DB_HTARGETS, &k, at, count_link, ret);
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

/* The numbers of a directory are of the links that say that they are in it: of those that fell out
 * of a cycle that is not so. */
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

/* Uses engine->new. */
static int place_fallen(
	struct engine *engine, struct volume *vol, uint64_t at, struct engine_node *node)
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
		r = place_fallen(engine, vol, at, node);
	return r;
}

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

/* The next extended attribute that was there, into reg; 1, or 0 at the end. Moves tag on. */
static int next_xattr(struct engine *engine, const struct volume *vol, uint64_t oid, uint64_t at,
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

static int page_inode_at(
	struct engine *engine, struct volume *vol, uint64_t oid, struct engine_page *page)
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
		r = next_xattr(engine, vol, oid, page->at, tag, reg);
		if (r == 0)
			break;
		node.num_xattrs += r == 1;
		r = r == 1 ? 0 : r;
	}
	if (r == 0)
		page->nodes[page->num_nodes++] = node;
	return r;
}

/* ---- inodes and links */

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
	if (page->at)
		return page_inode_at(engine, vol, oid, page);
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
		if (r == 0)
			r = place_fallen(engine, vol, 0, &node);
		if (r < 0)
			return r;
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
	int r = page_link(l->engine, l->vol, l->parent, lid, l->tag, l->page);

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
	r = links_at(engine, DB_NAMES, DB_HNAMES, &k, page->at, lookup_link, &l);
	if (r == -ENOBUFS && page->num_nodes > 0)
		r = 0;
	if (r < 0)
		return r;
	return page->len > 0 ? 0 : -ENOENT;
}

/* One of the tables that a directory is merged from: ascending link ids. */
struct stream {
	enum db_table table;
	bool is_past;
	struct row_key prefix;
	struct db_iter it;
	bool is_open, is_skipped;
	uint64_t lid; /* UINT64_MAX: the end */
};

/* To the first link behind `after` that was there at `at`; -EAGAIN: not within *steps rows. */
static int stream_next(
	struct stream *s, struct db_txn *t, uint64_t after, uint64_t at, uint32_t *steps)
{
	struct row_key start = s->prefix;
	uint64_t last = after;
	int r;

	s->lid = UINT64_MAX;
	if (s->is_skipped || after == UINT64_MAX)
		return 0;
	if (!s->is_open) {
		row_u64(&start, after + 1);
		s->is_open = true;
		r = db_iter_first(
			&s->it, t, s->table, s->prefix.b, s->prefix.len, start.b, start.len);
	} else {
		r = db_iter_next(&s->it);
	}
	for (; r == 1; r = db_iter_next(&s->it)) {
		uint64_t lid = be64_get(s->it.key + s->prefix.len);

		if (at == 0 ||
			(s->it.value_len >= 8 && le64_get(s->it.value) <= at &&
				(!s->is_past || be64_get(s->it.key + s->it.key_len - 8) > at))) {
			s->lid = lid;
			return 0;
		}
		/* Between two links only, so that every page comes further. */
		if (*steps == 0 && lid != last && last != after) {
			s->lid = lid;
			return -EAGAIN;
		}
		last = lid;
		*steps -= *steps > 0;
	}
	return r;
}

#define STREAMS 4

static void streams_init(struct stream s[STREAMS], struct engine *engine, struct volume *vol,
	uint64_t parent, uint64_t at)
{
	static const enum db_table tables[STREAMS] = { DB_DIRS, DB_HDIRS, DB_FALLEN, DB_HFALLEN };
	int i;

	for (i = 0; i < STREAMS; i++) {
		s[i] = (struct stream){ .table = tables[i], .is_past = i % 2 };
		s[i].is_skipped = s[i].is_past && at == 0;
		if (i < 2) {
			row_one(&s[i].prefix, vol->number, parent);
			continue;
		}
		/* The root also shows the directories that fell into it. */
		row_start(&s[i].prefix, vol->number);
		if (parent != TREE_ROOT || db_rows(txn(engine), tables[i]) == 0)
			s[i].is_skipped = true;
	}
}

/* The least link of all streams. */
static uint64_t streams_least(const struct stream s[STREAMS])
{
	uint64_t least = UINT64_MAX;
	int i;

	for (i = 0; i < STREAMS; i++)
		if (s[i].lid < least)
			least = s[i].lid;
	return least;
}

/* Each to its next link behind `after`. -EAGAIN: one of them to a place before it. */
static int streams_next(
	struct stream s[STREAMS], struct db_txn *t, uint64_t after, uint64_t at, uint32_t *steps)
{
	bool again = false;
	int i, r = 0;

	for (i = 0; i < STREAMS; i++) {
		/* A link that left and came back has several rows. */
		while (s[i].lid == after && r == 0)
			r = stream_next(&s[i], t, after, at, steps);
		again |= r == -EAGAIN;
		if (r < 0 && r != -EAGAIN)
			return r;
		r = 0;
	}
	return again ? -EAGAIN : 0;
}

int engine_dir(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t after,
	uint32_t max, struct engine_page *page)
{
	uint32_t num = 0, steps = DIR_STEPS;
	struct stream streams[STREAMS];
	uint64_t one;
	int i, r;

	page->len = page->num_nodes = 0;
	page->end = false;
	page->next = after;
	r = history_check(vol, page->at);
	if (r < 0)
		return r;
	page->end = after == UINT64_MAX;
	if (page->end)
		return 0;
	streams_init(streams, engine, vol, parent, page->at);
	for (i = 0; i < STREAMS; i++)
		streams[i].lid = streams[i].is_skipped ? UINT64_MAX : after;
	r = streams_next(streams, txn(engine), after, page->at, &steps);
	while (r == 0) {
		one = streams_least(streams);
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
		page->next = one;
		r = streams_next(streams, txn(engine), one, page->at, &steps);
	}
	if (r == -EAGAIN) {
		/* What was passed over was not there; the least place reached is not shown yet. */
		one = streams_least(streams);
		if (one > page->next + 1)
			page->next = one - 1;
		r = 0;
	}
	for (i = 0; i < STREAMS; i++)
		if (streams[i].is_open)
			db_iter_close(&streams[i].it);
	return r;
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
	r = links_at(engine, DB_TARGETS, DB_HTARGETS, &k, page->at, inode_link, &l);
	/* More hard links than a page has room for: some of them will do. */
	return r == -ENOBUFS ? 0 : r;
}

static int xattrs_at(struct engine *engine, struct volume *vol, uint64_t oid,
	const uint8_t after[TREE_TAG_SIZE], struct engine_page *page)
{
	struct tree_key key = { .id = oid, .kind = TREE_ATTR };
	struct reg *reg = &engine->old;
	uint8_t tag[TREE_TAG_SIZE];
	struct mark mark;
	bool any = false;
	int r;

	r = history_load(reg, txn(engine), vol, &key, page->at);
	if (r == 0 && reg->num == 0)
		return -ENOENT;
	memcpy(tag, after, sizeof(tag));
	while (r == 0) {
		r = next_xattr(engine, vol, oid, page->at, tag, reg);
		if (r <= 0)
			break;
		mark = page_mark(page);
		r = page_register(engine, page, reg);
		if (r < 0)
			page_back(page, mark);
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
	struct mark mark;
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
