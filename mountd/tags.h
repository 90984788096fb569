/*
 * Dedup tags of chunks that came from a peer. stored has none for them: who sends an object may not
 * say by which tag it is found, as whoever writes that content next would be given it unseen. When
 * such a chunk is read, its bytes are hashed here, and stored is told the tag: then a copy of the
 * file is stored without compressing anything.
 *
 * That it could be opened is not enough. h is the word of who wrote the manifest (cas/object.h),
 * and who knows h and has the sharing key can seal anything under it.
 *
 * What is not told, as nobody read it or too much was read at once, is compressed once when it is
 * written.
 */
#ifndef BAZIL_MOUNTD_TAGS_H
#define BAZIL_MOUNTD_TAGS_H

#include <stdbool.h>
#include <stddef.h>

struct cas_hash;
struct cas_id;
struct cas_suite;
struct mountd;
struct tags;

/* -ENOMEM. */
int tags_new(struct tags **ret);
void tags_free(struct tags *tags);

/* This chunk was far, and these are its bytes. Will it be told? Not if they are not h's. Never
 * waits. */
bool tags_add(struct tags *tags, struct cas_suite *suite, const struct cas_id *id,
	const struct cas_hash *h, const void *plain, size_t len);
/* Tells stored of all, if there are any: before it is asked what it has, and now and then. Asks
 * keyd for the tags, and leaves it for another time while that is away. */
void tags_tell(struct mountd *m);

#endif
