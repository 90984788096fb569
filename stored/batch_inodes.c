#include "stored/batch_state.h"
#include "stored/change.h"
#include "stored/rows.h"

#include <errno.h>
#include <stdlib.h>

#define FEW 16

/* Where the inode's number is in the hash, or would be. */
static uint32_t *place_of(struct batch *b, uint64_t oid)
{
	const size_t mask = b->cap_inodes * 2 - 1;
	size_t i = (size_t)(oid * UINT64_C(0x9e3779b97f4a7c15) >> 32) & mask;

	while (b->places[i] != 0 && b->inodes[b->places[i] - 1].oid != oid)
		i = (i + 1) & mask;
	return &b->places[i];
}

static int inodes_grow(struct batch *b)
{
	const size_t cap = b->cap_inodes ? b->cap_inodes * 2 : FEW;
	struct inode *inodes = realloc(b->inodes, cap * sizeof(*inodes));
	size_t i;

	if (!inodes)
		return -ENOMEM;
	b->inodes = inodes;
	b->cap_inodes = cap;
	if (cap == FEW)
		return 0;
	free(b->places);
	b->places = calloc(cap * 2, sizeof(*b->places));
	if (!b->places)
		return -ENOMEM;
	for (i = 0; i < b->num_inodes; i++)
		*place_of(b, b->inodes[i].oid) = (uint32_t)i + 1;
	return 0;
}

static struct inode *inode_find(struct batch *b, uint64_t oid)
{
	size_t i;

	if (b->places) {
		i = *place_of(b, oid);
		return i > 0 ? &b->inodes[i - 1] : NULL;
	}
	for (i = b->num_inodes; i-- > 0;)
		if (b->inodes[i].oid == oid)
			return &b->inodes[i];
	return NULL;
}

struct inode *batch_inode(struct batch *b, uint64_t oid)
{
	struct inode *inode = inode_find(b, oid);

	if (inode)
		return inode;
	if (b->num_inodes == b->cap_inodes && inodes_grow(b) < 0)
		return NULL;
	b->inodes[b->num_inodes++] = (struct inode){ .oid = oid };
	if (b->places)
		*place_of(b, oid) = (uint32_t)b->num_inodes;
	return &b->inodes[b->num_inodes - 1];
}

int batch_flag(struct batch *b, uint64_t oid, unsigned flags)
{
	struct inode *inode = batch_inode(b, oid);

	if (!inode)
		return -ENOMEM;
	inode->flags |= flags;
	return 0;
}

bool batch_has(struct batch *b, uint64_t oid, enum tree_kind kind, bool aside)
{
	struct tree_key key = { .id = oid, .kind = kind };
	struct row_key k;

	row_record(&k, b->vol->number | (aside ? ROWS_ASIDE : 0), &key);
	return db_has(txn(b->engine), DB_RECORDS, k.b, k.len);
}

int links_count(struct db_txn *t, uint32_t vol, uint64_t oid, uint32_t *ret)
{
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct row_key k;
	struct db_iter it;
	int r;

	row_record(&k, vol, &key);
	*ret = db_has(t, DB_RECORDS, k.b, k.len);
	if (*ret > 0) /* a directory has that one only */
		return 0;
	row_one(&k, vol, oid);
	r = db_iter_first(&it, t, DB_TARGETS, k.b, k.len, NULL, 0);
	while (r == 1) {
		++*ret;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

/* Brings back what was set aside, with the directories above it. */
static int revive(struct batch *b, uint64_t oid, unsigned depth)
{
	struct tree_unit inode = { .id = oid }, link = { .id = oid, .is_link = true };
	struct tree_key key = { .id = oid, .kind = TREE_LINK };
	struct reg *reg = &b->engine->old;
	uint64_t parent = 0;
	int r;

	if (depth > 4096)
		return -ELOOP;
	r = reg_load(reg, txn(b->engine), b->vol->number | ROWS_ASIDE, &key);
	if (r < 0)
		return r;
	if (reg->num > 0)
		parent = reg->e[reg_winner(reg)].e.parent;
	r = change_move(b->engine, b->vol, &inode, false, b->stamp, b->lamport);
	if (r == 0 && parent > 0)
		r = change_move(b->engine, b->vol, &link, false, b->stamp, b->lamport);
	b->changes->all = true;
	if (r < 0 || parent <= TREE_ROOT || batch_has(b, parent, TREE_ATTR, false))
		return r;
	return revive(b, parent, depth + 1);
}

int batch_need_alive(struct batch *b, uint64_t oid, bool is_dir)
{
	struct inode *inode = batch_inode(b, oid);
	int r;

	if (!inode)
		return -ENOMEM;
	if (oid == TREE_ROOT || (inode->flags & INODE_ALIVE))
		return 1;
	if (!batch_has(b, oid, TREE_ATTR, false)) {
		if (!batch_has(b, oid, TREE_ATTR, true) ||
			(is_dir && !batch_has(b, oid, TREE_LINK, true)))
			return 0;
		r = revive(b, oid, 0);
		if (r < 0)
			return r;
	}
	r = batch_flag(b, oid, INODE_ALIVE);
	return r < 0 ? r : 1;
}
