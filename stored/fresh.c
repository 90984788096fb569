#include "stored/fresh.h"

#include "cas/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FANOUT	  64
#define BLOCK_MIN (32u << 10)
#define BLOCK_MAX (1u << 20)

/* With children, rows[i] is the least key that children[i] may have; that of the first one does not
 * matter. starts: of the keys, so that most rows need not be looked at. */
struct fresh_node {
	struct fresh_node *next; /* of a leaf: the leaf behind it */
	uint16_t num;
	bool is_leaf;
	uint64_t starts[FANOUT];
	struct fresh_row *rows[FANOUT];
	struct fresh_node *children[]; /* FANOUT, if it is no leaf */
};

struct table {
	struct fresh_node *root;
	const struct fresh_row *newest;
	size_t num_live;
	const struct fresh_row *counted; /* this one and the older ones: so many are below, too */
	size_t num_below;
};

struct block {
	struct block *next;
	size_t size, used;
	_Alignas(8) uint8_t data[];
};

struct fresh {
	struct block *blocks;
	size_t bytes;
	size_t num_gone;
	unsigned num_tables;
	struct table tables[];
};

struct key {
	uint64_t start;
	const uint8_t *data;
	size_t len;
};

int fresh_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	int r = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return r ? r : (a_len > b_len) - (a_len < b_len);
}

static struct key key_of(const void *data, size_t len)
{
	uint8_t start[8] = { 0 };

	if (len >= 8)
		return (struct key){ be64_get(data), data, len };
	if (len > 0)
		memcpy(start, data, len);
	return (struct key){ be64_get(start), data, len };
}

/* ---- memory */

struct fresh *fresh_new(unsigned num_tables)
{
	struct fresh *f = calloc(1, sizeof(*f) + num_tables * sizeof(f->tables[0]));

	if (f)
		f->num_tables = num_tables;
	return f;
}

void fresh_free(struct fresh *f)
{
	struct block *block, *next;

	if (!f)
		return;
	for (block = f->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
	free(f);
}

size_t fresh_bytes(const struct fresh *f)
{
	return f->bytes;
}

static int block_add(struct fresh *f, size_t len)
{
	size_t size = f->blocks ? f->blocks->size * 2 : BLOCK_MIN;
	struct block *block;

	if (size > BLOCK_MAX)
		size = BLOCK_MAX;
	if (size < len)
		size = len;
	block = malloc(sizeof(*block) + size);
	if (!block)
		return -ENOMEM;
	block->size = size;
	block->used = 0;
	block->next = f->blocks;
	f->blocks = block;
	f->bytes += sizeof(*block) + size;
	return 0;
}

/* Given back by fresh_free alone. */
static void *take(struct fresh *f, size_t len)
{
	uint8_t *p;

	len = (len + 7) & ~(size_t)7;
	if (!f->blocks || f->blocks->size - f->blocks->used < len)
		if (block_add(f, len) < 0)
			return NULL;
	p = f->blocks->data + f->blocks->used;
	f->blocks->used += len;
	return p;
}

static struct fresh_node *node_new(struct fresh *f, bool is_leaf)
{
	struct fresh_node *node;

	node = take(f, sizeof(*node) + (is_leaf ? 0 : FANOUT * sizeof(node->children[0])));
	if (!node)
		return NULL;
	node->next = NULL;
	node->num = 0;
	node->is_leaf = is_leaf;
	return node;
}

/* With room for a value of len bytes. */
static struct fresh_row *row_new(
	struct fresh *f, struct table *t, const struct key *key, size_t len)
{
	struct fresh_row *row = take(f, sizeof(*row) + key->len + len);

	if (!row)
		return NULL;
	*row = (struct fresh_row){
		.older = t->newest,
		.value = row->key + key->len,
		.cap = (uint32_t)len,
		.key_len = (uint16_t)key->len,
		.is_gone = true,
	};
	memcpy(row->key, key->data, key->len);
	return row;
}

/* ---- finding */

static int compare(const struct fresh_node *node, unsigned i, const struct key *key)
{
	const struct fresh_row *row = node->rows[i];

	if (node->starts[i] != key->start)
		return node->starts[i] < key->start ? -1 : 1;
	return fresh_compare(row->key, row->key_len, key->data, key->len);
}

/* The first one that is not below the key. */
static unsigned place_in(const struct fresh_node *node, const struct key *key, bool *ret_is_equal)
{
	unsigned from = 0, to = node->num;

	*ret_is_equal = false;
	while (from < to) {
		unsigned i = (from + to) / 2;
		int r = compare(node, i, key);

		if (r == 0) {
			*ret_is_equal = true;
			return i;
		}
		if (r < 0)
			from = i + 1;
		else
			to = i;
	}
	return from;
}

static unsigned child_for(const struct fresh_node *node, const struct key *key)
{
	bool is_equal;
	unsigned i = place_in(node, key, &is_equal);

	return is_equal || i == 0 ? i : i - 1;
}

static struct fresh_node *leaf_for(const struct table *t, const struct key *key)
{
	struct fresh_node *node = t->root;

	while (node && !node->is_leaf)
		node = node->children[child_for(node, key)];
	return node;
}

const struct fresh_row *fresh_find(
	const struct fresh *f, unsigned table, const void *data, size_t len)
{
	struct key key = key_of(data, len);
	const struct fresh_node *leaf = leaf_for(&f->tables[table], &key);
	bool is_equal = false;
	unsigned i = leaf ? place_in(leaf, &key, &is_equal) : 0;

	return is_equal ? leaf->rows[i] : NULL;
}

static void at_row(struct fresh_at *at)
{
	while (at->leaf && at->i == at->leaf->num) {
		at->leaf = at->leaf->next;
		at->i = 0;
	}
	at->row = at->leaf ? at->leaf->rows[at->i] : NULL;
}

void fresh_from(
	const struct fresh *f, unsigned table, const void *data, size_t len, struct fresh_at *ret)
{
	struct key key = key_of(data, len);
	bool is_equal;

	ret->leaf = leaf_for(&f->tables[table], &key);
	ret->i = ret->leaf ? place_in(ret->leaf, &key, &is_equal) : 0;
	at_row(ret);
}

void fresh_next(struct fresh_at *at)
{
	at->i++;
	at_row(at);
}

/* ---- changing */

static void make_room(struct fresh_node *node, unsigned i)
{
	unsigned num = node->num - i;

	memmove(node->starts + i + 1, node->starts + i, num * sizeof(node->starts[0]));
	memmove(node->rows + i + 1, node->rows + i, num * sizeof(node->rows[0]));
	if (!node->is_leaf)
		memmove(node->children + i + 1, node->children + i,
			num * sizeof(node->children[0]));
	node->num++;
}

/* Those from `from` on go to the empty node `to`. */
static void move_to(struct fresh_node *node, struct fresh_node *to, unsigned from)
{
	unsigned num = node->num - from;

	memcpy(to->starts, node->starts + from, num * sizeof(to->starts[0]));
	memcpy(to->rows, node->rows + from, num * sizeof(to->rows[0]));
	if (!node->is_leaf)
		memcpy(to->children, node->children + from, num * sizeof(to->children[0]));
	to->num = (uint16_t)num;
	node->num = (uint16_t)from;
}

/* Of children[i], which is full; the parent is not. */
static int split(struct fresh *f, struct fresh_node *parent, unsigned i, const struct key *key)
{
	struct fresh_node *child = parent->children[i], *right = node_new(f, child->is_leaf);
	bool is_behind = compare(child, FANOUT - 1, key) < 0;

	if (!right)
		return -ENOMEM;
	/* Keys that come in their order leave full nodes behind. */
	move_to(child, right, is_behind ? FANOUT - 1 : FANOUT / 2);
	right->next = child->next;
	child->next = right;
	make_room(parent, i + 1);
	parent->starts[i + 1] = right->starts[0];
	parent->rows[i + 1] = right->rows[0];
	parent->children[i + 1] = right;
	return 0;
}

/* A root that is not full. */
static int root_ready(struct fresh *f, struct table *t, const struct key *key)
{
	struct fresh_node *root = t->root;

	if (root && root->num < FANOUT)
		return 0;
	root = node_new(f, !root);
	if (!root)
		return -ENOMEM;
	if (t->root) {
		root->starts[0] = t->root->starts[0];
		root->rows[0] = t->root->rows[0];
		root->children[0] = t->root;
		root->num = 1;
		if (split(f, root, 0, key) < 0)
			return -ENOMEM;
	}
	t->root = root;
	return 0;
}

/* The row of the key; a new one has room for len bytes, and is gone. NULL: no memory. */
static struct fresh_row *row_for(
	struct fresh *f, struct table *t, const struct key *key, size_t len)
{
	struct fresh_node *node;
	struct fresh_row *row;
	bool is_equal;
	unsigned i;

	if (root_ready(f, t, key) < 0)
		return NULL;
	for (node = t->root; !node->is_leaf; node = node->children[i]) {
		i = child_for(node, key);
		if (node->children[i]->num < FANOUT)
			continue;
		if (split(f, node, i, key) < 0)
			return NULL;
		i = child_for(node, key);
	}
	i = place_in(node, key, &is_equal);
	if (is_equal)
		return node->rows[i];
	row = row_new(f, t, key, len);
	if (!row)
		return NULL;
	make_room(node, i);
	node->starts[i] = key->start;
	node->rows[i] = row;
	t->newest = row;
	f->num_gone++;
	return row;
}

int fresh_put(struct fresh *f, unsigned table, const void *data, size_t key_len, const void *value,
	size_t len)
{
	struct table *t = &f->tables[table];
	struct key key = key_of(data, key_len);
	struct fresh_row *row = row_for(f, t, &key, len);
	uint8_t *room;

	if (!row)
		return -ENOMEM;
	room = len > row->cap ? take(f, len) : row->value;
	if (!room)
		return -ENOMEM;
	if (len > 0)
		memmove(room, value, len);
	if (room != row->value)
		row->cap = (uint32_t)len;
	row->value = room;
	row->len = (uint32_t)len;
	t->num_live += row->is_gone;
	f->num_gone -= row->is_gone;
	row->is_gone = false;
	return 0;
}

static void hide(struct fresh *f, struct table *t, struct fresh_row *row)
{
	t->num_live -= !row->is_gone;
	f->num_gone += !row->is_gone;
	row->is_gone = true;
}

/* Its leaf may be empty then. */
static void take_out(struct fresh *f, struct table *t, const struct key *key)
{
	struct fresh_node *leaf = leaf_for(t, key);
	bool is_equal = false;
	unsigned i = leaf ? place_in(leaf, key, &is_equal) : 0, num;

	if (!is_equal)
		return;
	hide(f, t, leaf->rows[i]);
	f->num_gone--;
	num = --leaf->num - i;
	memmove(leaf->starts + i, leaf->starts + i + 1, num * sizeof(leaf->starts[0]));
	memmove(leaf->rows + i, leaf->rows + i + 1, num * sizeof(leaf->rows[0]));
}

int fresh_delete(struct fresh *f, unsigned table, const void *data, size_t len, bool is_below)
{
	struct table *t = &f->tables[table];
	struct key key = key_of(data, len);
	struct fresh_row *row;

	if (!is_below) {
		take_out(f, t, &key);
		return 0;
	}
	row = row_for(f, t, &key, 0);
	if (!row)
		return -ENOMEM;
	hide(f, t, row);
	return 0;
}

size_t fresh_gone(const struct fresh *f)
{
	return f->num_gone;
}

int64_t fresh_count(struct fresh *f, unsigned table,
	bool (*has)(void *arg, const void *key, size_t len), void *arg)
{
	struct table *t = &f->tables[table];
	const struct fresh_row *row;

	for (row = t->newest; row != t->counted; row = row->older)
		t->num_below += has(arg, row->key, row->key_len);
	t->counted = t->newest;
	return (int64_t)t->num_live - (int64_t)t->num_below;
}
