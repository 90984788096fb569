/*
 * The contents of a regular file: what is stored (inline bytes, a few chunks, or a manifest tree)
 * under what was written since (dirty extents). Offsets and lengths are bytes.
 *
 * Stored bytes count below dirty.base_limit only: cutting a file and growing it again reads as
 * zeros without touching the manifest.
 *
 * The first change takes a head in the dirty log (contents_touch) and makes room; then nothing
 * fails. Reading answers -EAGAIN when something is not in this store (chunks_missing says what).
 */
#ifndef BAZIL_MOUNTD_CONTENTS_H
#define BAZIL_MOUNTD_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mountd/dirty.h"

struct cas_tree;
struct sealed_attr;
struct inode;
struct mountd;

struct contents {
	struct mountd *m;
	struct cas_tree *tree; /* of what is stored; NULL: not opened, or inline */
	struct dirty_file file;
	/* The last cut of a stream fell inside an extent, which is still there: its bytes before
	 * cut_at are stored unless it is newer than cut_seq. */
	uint64_t cut_at, cut_seq;
	uint64_t read_end;  /* how far a sequential reader is */
	uint64_t ahead_end; /* up to where chunks are opened for him */
};

/* Makes inode->contents. */
int contents_open(struct mountd *m, struct inode *inode);
void contents_free(struct mountd *m, struct inode *inode);
/* What is stored was replaced: the tree is opened anew when it is needed. */
void contents_reset(struct inode *inode);
/* The tree of what is stored, opened. */
int contents_tree(struct inode *inode, struct cas_tree **ret_tree);

/* At most up to the end of the file; *ret_len says how much. */
int contents_read(struct inode *inode, uint64_t offset, uint8_t *buf, size_t len, size_t *ret_len);
/* Whether there is data at offset (below the size), and up to where that holds. */
int contents_kind(struct inode *inode, uint64_t offset, bool *ret_is_data, uint64_t *ret_end);

/* Takes a head if there is none, makes room for slots. now: ns. -ENOSPC. */
int contents_touch(struct mountd *m, struct inode *inode, uint32_t slots);
void contents_write(struct mountd *m, struct inode *inode, uint64_t offset, const void *data,
	size_t len, int64_t now);
void contents_zero(
	struct mountd *m, struct inode *inode, uint64_t offset, uint64_t len, int64_t now);
void contents_resize(struct mountd *m, struct inode *inode, uint64_t size, int64_t now);
/* Writes the head (size, times) to the log. After any change of inode->dirty. */
void contents_head(struct mountd *m, struct inode *inode);
/*
 * What creates a file mostly sets its owner, mode and times too: the attributes of a file that is
 * dirty anyway wait in its head, and become one record with its body. false: they cannot, publish
 * them (it is clean; or a pull came since it became dirty, which its old view would not replace).
 */
bool contents_hold_attr(struct mountd *m, struct inode *inode, const struct sealed_attr *attr);
/* They were published, by whatever needed to. */
void contents_attr_stored(struct mountd *m, struct inode *inode);

#endif
