/*
 * What is behind stored/batch.h and engine_apply; for the files stored/batch*.c: batch.c has the
 * steps of a batch, batch_inodes.c what it knows of the inodes that it touches, batch_entry.c
 * applies an entry of a ring, batch_restore.c a list of any size.
 */
#ifndef BAZIL_STORED_BATCH_STATE_H
#define BAZIL_STORED_BATCH_STATE_H

#include "stored/batch.h"
#include "stored/intake.h"
#include "stored/volume.h"

struct op {
	enum intake_op_type type;
	struct tree_key key;
	uint8_t *data; /* packed record of a put */
	size_t len;
	struct tree_element e; /* of a put */
};

enum inode_flags {
	INODE_ATTR_PUT = 1,
	INODE_ATTR_REMOVE = 2,
	INODE_UNLINKED = 4,
	INODE_LINKED = 8,    /* a link to it was put just now */
	INODE_ALIVE = 16,    /* has an attr among the live registers */
	INODE_LINK_PUT = 32, /* the batch holds a link to it */
};

struct inode {
	uint64_t oid;
	unsigned flags;
};

struct batch {
	struct engine *engine;
	struct volume *vol;
	struct op *ops;
	size_t num_ops;
	struct inode *inodes;
	size_t num_inodes, cap_inodes;
	uint32_t *places; /* of inodes, a hash by oid, of twice cap_inodes; 0: none; NULL: of few */
	uint32_t seen;
	uint32_t arrived; /* of what is put; 0: written by mountd */
	struct tree_stamp stamp;
	uint64_t lamport;
	struct engine_changes *changes;
};

/* In this order, each for all ops. */
enum step {
	STEP_NOTE,
	STEP_INODES,
	STEP_LINKS,
	STEP_REMOVALS,
	STEP_DIRS,
	STEP_NUM,
};

/* A stamp for what the batch writes; then batch_step for each; batch_settle: every inode that a
 * link left, or whose attr was to go; batch_end. */
int batch_begin(struct batch *b);
int batch_step(struct batch *b, enum step step, struct op *op);
int batch_settle(struct batch *b, const struct inode *inode);
int batch_end(struct batch *b);
void batch_release(struct batch *b);

/* ---- inodes */

/* Noted from now on; good until the next is. NULL: no memory. */
struct inode *batch_inode(struct batch *b, uint64_t oid);
int batch_flag(struct batch *b, uint64_t oid, unsigned flags);
bool batch_has(struct batch *b, uint64_t oid, enum tree_kind kind, bool aside);
/* 1: the inode is alive now, 0: it is nowhere. A directory comes back with its own link only: one
 * that was removed here has none any more. */
int batch_need_alive(struct batch *b, uint64_t oid, bool is_dir);

#endif
