/*
 * Dedup tags of chunks that came from a peer. stored has none for them: who sends an object may not
 * say by which tag it is found, as whoever writes that content next would be given it unseen. When
 * such a chunk is read, its bytes are verified (cas_chunk_verify; that it could be opened is not
 * enough), and stored is told the tag: then a copy of the file is stored without compressing
 * anything.
 *
 * What is not told, as nobody read it or too much was read at once, is compressed once when it is
 * written.
 */
#ifndef BAZIL_MOUNTD_TAGS_H
#define BAZIL_MOUNTD_TAGS_H

#include <stdbool.h>

struct cas_hash;
struct cas_id;
struct mountd;
struct tags;

/* -ENOMEM. */
int tags_new(struct tags **ret);

/* This chunk is not here. */
void tags_missed(struct tags *tags, const struct cas_id *id);
/* It was not, and nobody has verified it since. Now and then it is another one: that costs a hash.
 */
bool tags_wants(const struct tags *tags, const struct cas_id *id);
/* Whether its bytes are h's. */
void tags_verified(struct tags *tags, const struct cas_id *id, const struct cas_hash *h, bool is_h);
/* Tells stored of all, if there are any: before it is asked what it has, and now and then. Asks
 * keyd for the tags, and leaves it for another time while that is away. */
void tags_tell(struct mountd *m);

#endif
