#include "mountd/inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mountd/at.h"

struct lookup {
	uint64_t oid, count; /* oid 0: free */
};

struct lookups {
	struct lookup *table;
	size_t size, num; /* open addressing; size a power of two */
};

static size_t hash_oid(uint64_t oid)
{
	return (size_t)((oid * UINT64_C(0x9e3779b97f4a7c15)) >> 20);
}

int inodes_init(
	struct inodes *inodes, size_t max, void (*release)(void *, struct inode *), void *ctx)
{
	memset(inodes, 0, sizeof(*inodes));
	inodes->size = 1;
	while (inodes->size < max)
		inodes->size *= 2;
	inodes->max = max;
	inodes->table = calloc(inodes->size, sizeof(*inodes->table));
	inodes->lookups = calloc(1, sizeof(*inodes->lookups));
	if (inodes->table == NULL || inodes->lookups == NULL)
		return -ENOMEM;
	inodes->lookups->size = 4096;
	inodes->lookups->table = calloc(inodes->lookups->size, sizeof(struct lookup));
	if (inodes->lookups->table == NULL)
		return -ENOMEM;
	inodes->newest.older = inodes->newest.newer = &inodes->newest;
	inodes->dirty.dirty_next = inodes->dirty.dirty_prev = &inodes->dirty;
	inodes->release = release;
	inodes->ctx = ctx;
	return 0;
}

void inodes_release(struct inodes *inodes)
{
	while (inodes->newest.older != &inodes->newest && inodes->table != NULL)
		inode_drop(inodes, inodes->newest.older);
	if (inodes->lookups != NULL)
		free(inodes->lookups->table);
	free(inodes->lookups);
	free(inodes->table);
}

static void lru_remove(struct inode *inode)
{
	inode->newer->older = inode->older;
	inode->older->newer = inode->newer;
}

static void lru_push(struct inodes *inodes, struct inode *inode)
{
	inode->newer = &inodes->newest;
	inode->older = inodes->newest.older;
	inode->older->newer = inode;
	inodes->newest.older = inode;
}

struct inode *inode_find_quietly(struct inodes *inodes, uint64_t oid)
{
	struct inode *inode = inodes->table[hash_oid(oid) & (inodes->size - 1)];

	while (inode != NULL && inode->oid != oid)
		inode = inode->hash_next;
	return inode;
}

struct inode *inode_find(struct inodes *inodes, uint64_t oid)
{
	struct inode *inode = inode_find_quietly(inodes, oid);

	if (inode != NULL && inodes->newest.older != inode) {
		lru_remove(inode);
		lru_push(inodes, inode);
	}
	return inode;
}

struct inode *inode_add(struct inodes *inodes, uint64_t oid)
{
	struct inode *inode = calloc(1, sizeof(*inode));
	size_t at = hash_oid(oid) & (inodes->size - 1);

	if (inode == NULL)
		abort();
	inode->oid = oid;
	inode->head = DIRTY_NO_HEAD;
	inode->hash_next = inodes->table[at];
	inodes->table[at] = inode;
	inodes->num++;
	lru_push(inodes, inode);
	return inode;
}

static void table_remove(struct inodes *inodes, struct inode *inode)
{
	struct inode **at = &inodes->table[hash_oid(inode->oid) & (inodes->size - 1)];

	while (*at != inode)
		at = &(*at)->hash_next;
	*at = inode->hash_next;
}

void inode_rename(struct inodes *inodes, struct inode *inode, uint64_t oid)
{
	struct inode **at = &inodes->table[hash_oid(oid) & (inodes->size - 1)];

	table_remove(inodes, inode);
	inode->oid = oid;
	inode->hash_next = *at;
	*at = inode;
}

void inode_drop(struct inodes *inodes, struct inode *inode)
{
	table_remove(inodes, inode);
	lru_remove(inode);
	if (inode->dirty_next != NULL)
		inode_mark_clean(inodes, inode);
	inodes->num--;
	if (inodes->release != NULL)
		inodes->release(inodes->ctx, inode);
	free(inode->attr.symlink);
	free(inode->body.data);
	free(inode);
}

static bool can_drop(const struct inodes *inodes, const struct inode *inode)
{
	if (inode->pins > 0 || inode->head != DIRTY_NO_HEAD)
		return false;
	return inode->nlink > 0 || inode->oid == TREE_ROOT ||
	       (inode->sibling_of == 0 && lookup_held(inodes, inode->oid) == 0);
}

void inodes_trim(struct inodes *inodes)
{
	struct inode *inode = inodes->newest.newer;
	size_t max = inodes->max - inodes->max / 8;

	if (inodes->num <= inodes->max)
		return;
	while (inodes->num > max && inode != &inodes->newest) {
		struct inode *next = inode->newer;

		if (can_drop(inodes, inode))
			inode_drop(inodes, inode);
		inode = next;
	}
}

void inode_mark_dirty(struct inodes *inodes, struct inode *inode, double now)
{
	if (inode->dirty_next != NULL)
		return;
	inode->dirty_since = now;
	inode->dirty_next = &inodes->dirty;
	inode->dirty_prev = inodes->dirty.dirty_prev;
	inode->dirty_prev->dirty_next = inode;
	inodes->dirty.dirty_prev = inode;
	inodes->num_dirty++;
}

void inode_mark_clean(struct inodes *inodes, struct inode *inode)
{
	if (inode->dirty_next == NULL)
		return;
	inode->dirty_next->dirty_prev = inode->dirty_prev;
	inode->dirty_prev->dirty_next = inode->dirty_next;
	inode->dirty_next = inode->dirty_prev = NULL;
	inodes->num_dirty--;
}

void inode_stay_dirty(struct inodes *inodes, struct inode *inode, double now)
{
	inode_mark_clean(inodes, inode);
	inode_mark_dirty(inodes, inode, now);
}

bool inode_is_dir(const struct inode *inode)
{
	return S_ISDIR(inode->attr.mode);
}

bool inode_is_file(const struct inode *inode)
{
	return S_ISREG(inode->attr.mode);
}

uint64_t inode_size(const struct inode *inode)
{
	if (S_ISLNK(inode->attr.mode))
		return inode->attr.symlink_len;
	if (inode->head != DIRTY_NO_HEAD)
		return inode->dirty.size;
	return inode->body.size;
}

int64_t inode_mtime(const struct inode *inode)
{
	if (inode->head != DIRTY_NO_HEAD)
		return inode->dirty.mtime;
	return inode->has_body ? inode->body.mtime : inode->attr.mtime;
}

int64_t inode_ctime(const struct inode *inode)
{
	int64_t ctime = inode->head != DIRTY_NO_HEAD ? inode->dirty.ctime
			: inode->has_body	     ? inode->body.ctime
						     : inode->attr.ctime;

	return ctime > inode->attr.ctime ? ctime : inode->attr.ctime;
}

bool inode_holds_attr(const struct inode *inode)
{
	return inode->head != DIRTY_NO_HEAD && inode->dirty.holds_attr;
}

/* --- the kernel's references --- */

static struct lookup *lookup_slot(const struct lookups *lookups, uint64_t oid)
{
	size_t mask = lookups->size - 1, at = hash_oid(oid) & mask;

	while (lookups->table[at].oid != 0 && lookups->table[at].oid != oid)
		at = (at + 1) & mask;
	return &lookups->table[at];
}

static void lookups_grow(struct lookups *lookups)
{
	struct lookups bigger = { .size = lookups->size * 2, .num = lookups->num };

	bigger.table = calloc(bigger.size, sizeof(*bigger.table));
	if (bigger.table == NULL)
		abort(); /* 16 bytes for each inode that the kernel itself keeps a page-worth of */
	for (size_t i = 0; i < lookups->size; i++)
		if (lookups->table[i].oid != 0)
			*lookup_slot(&bigger, lookups->table[i].oid) = lookups->table[i];
	free(lookups->table);
	*lookups = bigger;
}

/* Open addressing without graves: what follows in the run moves up if it may. */
static void lookup_remove(struct lookups *lookups, struct lookup *slot)
{
	size_t mask = lookups->size - 1, hole = (size_t)(slot - lookups->table);

	for (size_t at = (hole + 1) & mask; lookups->table[at].oid != 0; at = (at + 1) & mask) {
		size_t home = hash_oid(lookups->table[at].oid) & mask;

		if (((at - home) & mask) >= ((at - hole) & mask)) {
			lookups->table[hole] = lookups->table[at];
			hole = at;
		}
	}
	lookups->table[hole].oid = 0;
	lookups->num--;
}

void lookup_count(struct inodes *inodes, uint64_t oid, uint32_t num)
{
	struct lookups *lookups = inodes->lookups;
	struct lookup *slot;

	if (at_is_history(oid)) {
		state_instant_count(inodes->state, at_index(oid), num);
		return;
	}
	if (lookups->num >= lookups->size / 4 * 3)
		lookups_grow(lookups);
	slot = lookup_slot(lookups, oid);
	if (slot->oid == 0) {
		*slot = (struct lookup){ .oid = oid };
		lookups->num++;
	}
	slot->count += num;
}

uint64_t lookup_forget(struct inodes *inodes, uint64_t oid, uint64_t num)
{
	struct lookup *slot;

	if (at_is_history(oid)) {
		state_instant_count(inodes->state, at_index(oid), -(int64_t)num);
		return 1; /* nothing ends with it */
	}
	slot = lookup_slot(inodes->lookups, oid);
	if (slot->oid == 0)
		return 0;
	if (slot->count > num) {
		slot->count -= num;
		return slot->count;
	}
	lookup_remove(inodes->lookups, slot);
	return 0;
}

uint64_t lookup_held(const struct inodes *inodes, uint64_t oid)
{
	const struct lookup *slot = lookup_slot(inodes->lookups, oid);

	return slot->oid == 0 ? 0 : slot->count;
}
