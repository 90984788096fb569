/*
 * Storing many small new files together. Each alone would wait for its keys, and be too little for
 * the helpers (sealers.h): of a tree that is copied in, most of the time went there. A group is
 * cut, hashed on all processors, given all its keys in one answer and told in another what stored
 * has, compressed and sealed on all processors, and then published file by file: chunks, then body,
 * as flush.h says for a death anywhere.
 *
 * A group is bounded by GROUP_BYTES: so long a request may wait for it.
 *
 * No file fails for another: what a group could not store stays dirty and goes alone the next time,
 * the old way (flush_inode), which says what is wrong with it.
 */
#ifndef BAZIL_MOUNTD_GROUP_H
#define BAZIL_MOUNTD_GROUP_H

#include <stdbool.h>

struct group;
struct inode;
struct mountd;

#define GROUP_BYTES    (1u << 20)
#define GROUP_FILE_MAX (256u << 10)

int group_new(struct group **ret, struct mountd *m);
void group_free(struct group *group);

/* It is dirty, nothing stored of it counts, its bytes are all here, and are too many for its record
 * and few enough to share a group. */
bool group_takes(const struct inode *inode);
/* Stores first, that group_takes, and others behind it that are dirty since then or longer. After
 * that each of them is clean, or group_takes it no more. Waits for keyd and stored. */
void group_store(struct group *group, struct inode *first, double since);

#endif
