/*
 * What is behind the reads of stored/engine.h; for the files stored/read*.c: read.c has names and
 * inodes, read_dir.c pages of directories, read_xattr.c those of extended attributes, read_past.c
 * what the tree was at an instant.
 */
#ifndef BAZIL_STORED_READ_STATE_H
#define BAZIL_STORED_READ_STATE_H

#include "stored/page.h"
#include "stored/rows.h"
#include "stored/volume.h"

/* All elements of a link and, of the inode that it points to, its records and its node. -ENOENT:
 * it is not shown in this directory, or not under this tag (NULL: any); the page is as it was after
 * any error. Uses engine->old and new. */
int read_link(struct engine *engine, struct volume *vol, uint64_t parent, uint64_t lid,
	const uint8_t *tag, struct engine_page *page);

/* ---- as of an instant; at 0: now */

/* Calls fn for every link that had this prefix (an inode's, or a name's) in a table then. */
typedef int read_link_fn(void *arg, uint64_t lid);
int read_links(struct engine *engine, enum db_table live, enum db_table past,
	const struct row_key *prefix, uint64_t at, read_link_fn *fn, void *arg);
/* The numbers of a directory are of the links that say that they are in it: of those that fell out
 * of a cycle that is not so, and here they are put right. Uses engine->new. */
int read_fallen(struct engine *engine, struct volume *vol, uint64_t at, struct engine_node *node);
/* Body and attr of an inode at page->at, and its node. -ENOENT. Uses engine->new. */
int read_inode_at(
	struct engine *engine, struct volume *vol, uint64_t oid, struct engine_page *page);
/* The next extended attribute that was there behind tag, into reg, and tag is moved on to it; 1, or
 * 0 at the end. */
int read_next_xattr(struct engine *engine, const struct volume *vol, uint64_t oid, uint64_t at,
	uint8_t tag[TREE_TAG_SIZE], struct reg *reg);

#endif
