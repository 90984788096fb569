/*
 * The cache of inodes: what their records say, opened. A bounded LRU: everything in it can be
 * loaded again from stored, but for what is pinned:
 *   - an inode with unstored bytes or times (head != DIRTY_NO_HEAD);
 *   - an inode without a link that the kernel still holds (an unlinked open file);
 *   - one with `pins`: a request is parked on it.
 *
 * How often the kernel looked an inode up is counted apart (16 bytes each), as the kernel knows
 * many more inodes than are cached here. The counts die with mountd. They decide one thing only:
 * when an unlinked file is really gone; without a count it goes when the volume is mounted anew.
 *
 * Times are nanoseconds since the epoch. Single-threaded.
 */
#ifndef BAZIL_MOUNTD_INODE_H
#define BAZIL_MOUNTD_INODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mountd/dirty.h"
#include "mountd/sealed.h"

struct contents;
struct dir;
struct state;

struct inode {
	struct inode *hash_next;
	struct inode *newer, *older; /* in the LRU */
	uint64_t oid;
	uint32_t pins;
	uint32_t nlink; /* links that name it; directories: 0 or 1 */
	uint32_t subdirs;
	uint32_t num_xattrs;
	uint32_t strays; /* directories shown in the root though their links say here (tree/view.h)
			  */
	bool has_no_default_acl; /* looked for and not found; false: not known */
	uint64_t entries;
	struct sealed_attr attr;   /* symlink target: owned */
	struct sealed_body body;   /* as stored; inline bytes: owned */
	bool has_body;		   /* a body record was ever stored */
	uint64_t parent;	   /* of a directory, when known; else 0 */
	struct contents *contents; /* of a regular file in use */
	struct dir *dir;	   /* of a directory in use */
	bool is_listed;		   /* the kernel was given its listing with attributes, to keep */
	bool is_searched;	   /* files of it were read after that */
	/* What the body will be, when head is taken. */
	uint32_t head;
	struct dirty_head dirty;
	double dirty_since;
	bool goes_alone; /* no group could store it (mountd/group.h) */
	bool is_copied;	 /* a group that is on its way has its bytes as they are */
	bool is_far;	 /* it could not be stored without nodes that are in another store */
	bool is_near;	 /* it was found not to be so, since it was loaded */
	struct inode *dirty_next, *dirty_prev; /* all with a head, oldest change first */
	bool is_stale;	     /* a pull may have changed it or its end: looked at anew before use */
	bool has_siblings;   /* its body register has several values (mountd/sibling.h) */
	uint64_t sibling_of; /* a conflict sibling: the real inode; read-only */
	uint32_t sibling_rank;
};

struct lookups;

struct inodes {
	struct inode **table;
	size_t size, num, max; /* size: a power of two */
	struct inode newest;   /* ring: newest.older is the most recent */
	struct inode dirty;    /* ring of inodes with a head */
	size_t num_dirty;
	struct lookups *lookups;
	struct state *state; /* counts the nodes of history, mountd/at.h */
	bool counts_lost;    /* an earlier mountd of this mount had counts that we do not know */
	void *ctx;
	void (*release)(void *ctx, struct inode *inode); /* frees contents and dir */
};

int inodes_init(
	struct inodes *inodes, size_t max, void (*release)(void *, struct inode *), void *ctx);
void inodes_release(struct inodes *inodes);

/* NULL when it is not cached. Marks it as used. */
struct inode *inode_find(struct inodes *inodes, uint64_t oid);
/* As inode_find, but not as a use: for walks along the LRU. */
struct inode *inode_find_quietly(struct inodes *inodes, uint64_t oid);
/* A fresh one, zeroed but for the oid; must not exist. May evict others that are not pinned. */
struct inode *inode_add(struct inodes *inodes, uint64_t oid);
/* Forgets it at once; the caller knows that nothing of it is needed. */
void inode_drop(struct inodes *inodes, struct inode *inode);
/* Puts it under another number for a while. */
void inode_rename(struct inodes *inodes, struct inode *inode, uint64_t oid);
/* Evicts the least recently used beyond the bound. Not while a handler holds pointers. */
void inodes_trim(struct inodes *inodes);

void inode_mark_dirty(struct inodes *inodes, struct inode *inode, double now);
/* It could not be stored now: as if it were changed now, behind all others, whose turn it is. */
void inode_stay_dirty(struct inodes *inodes, struct inode *inode, double now);
void inode_mark_clean(struct inodes *inodes, struct inode *inode);

bool inode_is_dir(const struct inode *inode);
bool inode_is_file(const struct inode *inode);
uint64_t inode_size(const struct inode *inode);
int64_t inode_mtime(const struct inode *inode);
int64_t inode_ctime(const struct inode *inode);
/* attr is newer than the attr record; the head says so too. */
bool inode_holds_attr(const struct inode *inode);

/* The kernel's references. lookup_forget returns what is left. */
void lookup_count(struct inodes *inodes, uint64_t oid, uint32_t num);
uint64_t lookup_forget(struct inodes *inodes, uint64_t oid, uint64_t num);
uint64_t lookup_held(const struct inodes *inodes, uint64_t oid);

#endif
