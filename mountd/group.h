/*
 * Storing many small new files together. Each alone would wait for its keys, and be too little for
 * the helpers (sealers.h): of a tree that is copied in, most of the time went there. A group is a
 * copy of its files; the helpers cut and hash it, it is given all its keys in one answer and told
 * in another what stored has, and the helpers compress and seal the rest, while requests are
 * answered. Then it is published file by file, a few between two requests: chunks, then body, as
 * flush.h says for a death anywhere.
 *
 * There is one group at a time, and GROUP_BYTES bound it: so long a request may wait for it that
 * cannot do without (group_finish). When it is stored the next begins (flush_ahead).
 *
 * A file that changes meanwhile, or is stored otherwise, is a member no more (is_copied of the
 * inode): it stays dirty, or is stored as it is now. No file fails for another: what a group could
 * not store stays dirty and goes alone the next time, the old way (flush_inode), which says what is
 * wrong with it.
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

/* It is dirty, nothing stored of it counts, its bytes are all here, some, and few enough to share a
 * group. */
bool group_takes(const struct inode *inode);

/* None is on its way, and there are enough files for one. */
bool group_is_worth(const struct group *group);
/* Begins with what it takes from this inode on, of those that are dirty since then or longer, if
 * none is on its way. */
void group_start(struct group *group, struct inode *first, double since);
/* Goes on with what the helpers are done with. Cheap when there is nothing. */
void group_poll(struct group *group);
/* Ends the group that is on its way: each member is clean, or group_takes it no more. Waits for
 * keyd and stored. */
void group_finish(struct group *group);

#endif
