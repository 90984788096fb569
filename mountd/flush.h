/*
 * Storing what was written: dirty extents are cut into chunks, sealed, put into the manifest, and
 * the body record is published. After that the slots of the dirty log are free again.
 *
 * When: a file has FLUSH_STREAM_BYTES unstored (up to its last content-defined cut, while the
 * writer goes on: mountd/stream.h); the log is full; the change is FLUSH_AGE_S old; fsync; a rename
 * over another file; unmount. Small new files go together (mountd/group.h), but for those that
 * somebody waits for, and from the time on that a quarter of the log is taken.
 *
 * Order, for a death anywhere: chunks, nodes, body (and attr) are in the ring in this order; then
 * the head says that the stored bytes count; then the slots are freed. Until then the slots still
 * say the same.
 *
 * Flushing never reads far bytes. A file of which only a part was written may need nodes of its
 * manifest that are in another store: -EAGAIN, and the inode stays dirty. They are fetched
 * meanwhile (parked.h), and so the file is stored as soon as a peer that has them can be reached;
 * what fsync says meanwhile is there too. Such files get half of the log; more is refused by
 * EHOSTUNREACH.
 */
#ifndef BAZIL_MOUNTD_FLUSH_H
#define BAZIL_MOUNTD_FLUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/id.h"

struct cas_tree;
struct inode;
struct mountd;
struct sealed_attr;
struct sealed_body;

#define FLUSH_STREAM_BYTES (8u << 20)
#define FLUSH_AGE_S	   2.0

/* all: to the last byte, the inode is clean afterwards. Else what is worth it. */
int flush_inode(struct mountd *m, struct inode *inode, bool all);
/* All of it, and that is what the kernel's request asks for (mountd/state.h). view: of the versions
 * that this is to take the place of. */
int flush_answer(struct mountd *m, struct inode *inode, uint64_t view);
/* Attributes of a file that changed: held with what else is dirty of it, or published. */
int flush_set_attr(struct mountd *m, struct inode *inode, const struct sealed_attr *attr);
/* Publishes what is held of them: before something that an old head must not undo after a death. */
int flush_attr(struct mountd *m, struct inode *inode);
/* The same if they are held since before a pull: to whom publishes attributes next, what that pull
 * brought is seen and would be replaced. */
int flush_old_attr(struct mountd *m, struct inode *inode);
/* Every dirty inode; goes on after an error and returns the first, -EAGAIN only if there is no
 * other. until: how long far nodes may be waited for (ev_time()), 0: not at all. */
int flush_all(struct mountd *m, double until);
/* Dirty files, those that need far nodes, and forgetting all that is dirty; the number of files. */
size_t flush_unstored(const struct mountd *m);
size_t flush_far(const struct mountd *m);
size_t flush_give_up(struct mountd *m);
/* At least so many slots and one head are free afterwards. -ENOSPC when that cannot be. */
int flush_make_room(struct mountd *m, uint32_t slots);
/* Makes [off_in, off_in + len) of one file a part of another by sharing its chunks. -EOPNOTSUPP:
 * one of them is too small for that. */
int flush_clone(struct mountd *m, struct inode *in, uint64_t off_in, struct inode *out,
	uint64_t off_out, uint64_t len);
/* Begins to store small files together while requests are answered, if there are old ones, or the
 * log is filling. Cheap when a group is on its way. */
void flush_ahead(struct mountd *m);
/* Those that are old enough, for as long as a kernel request may wait. */
void flush_start_timer(struct mountd *m);
/* Forgets unstored bytes of an inode that is gone. */
void flush_forget(struct mountd *m, struct inode *inode);

/* A part of the dirty extents that was stored. */
struct flush_part {
	uint64_t from, upto; /* offsets */
	uint64_t seq;	     /* nothing newer */
};

/* For the parts of a flush. How a record says the contents of the tree (its nodes are published).
 */
int flush_describe(struct cas_tree *tree, struct sealed_body *body);
/* Publishes the body, with the times and attributes of the dirty head; then it is the inode's. part
 * NULL: it is clean now, else this much is. */
int flush_publish(struct mountd *m, struct inode *inode, struct sealed_body *body,
	const struct flush_part *part);
/* Seals a manifest node and publishes it. */
int flush_node(struct mountd *m, const uint8_t *node, size_t len, struct cas_id *ret_id);

#endif
