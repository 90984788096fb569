/*
 * Handing records and objects to stored through the intake ring (stored/intake.h).
 *
 *	batch_begin(m, &batch);
 *	batch_put_attr(&batch, oid, &attr); batch_put_link(&batch, &link); ...
 *	r = batch_publish(&batch, m->view, oid);
 *
 * When batch_publish returned 0 the change is made: it survives this process and stored's. It is
 * durable after store_sync. A batch is all or nothing. -ENOSPC (or what stored says) before
 * anything was published, when the disk is full and the batch puts something.
 *
 * One batch is open at a time; a full ring is waited for.
 */
#ifndef BAZIL_MOUNTD_PUBLISH_H
#define BAZIL_MOUNTD_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/id.h"
#include "mountd/sealed.h"

struct mountd;

struct batch {
	struct mountd *m;
	uint8_t *buf;
	size_t len;
	uint32_t num_ops;
	bool grows;
};

void batch_begin(struct mountd *m, struct batch *batch);
void batch_put_link(struct batch *batch, const struct sealed_link *link);
void batch_put_attr(struct batch *batch, uint64_t oid, const struct sealed_attr *attr);
void batch_put_body(struct batch *batch, uint64_t oid, const struct sealed_body *body);
void batch_put_xattr(struct batch *batch, uint64_t oid, const char *name, size_t name_len,
	const void *value, size_t len);
void batch_remove(
	struct batch *batch, enum tree_kind kind, uint64_t id, const uint8_t tag[TREE_TAG_SIZE]);
/* There is room for one more record of any kind. */
bool batch_has_room(const struct batch *batch);
/* view: pulls that were seen when the decision was made. answer: the inode that the kernel's
 * request is answered with, 0 for none (mountd/state.h). */
int batch_publish(struct batch *batch, uint64_t view, uint64_t answer);
/*
 * A change that is not what the request asks for, or that no request waits for: what was written
 * before, an inode that nobody holds any more. It leaves the intent as it is: a new mountd may do
 * such a change (a forget, an fsync that is sent again) before the kernel sends the request whose
 * answer the intent holds.
 */
int batch_publish_aside(struct batch *batch, uint64_t view);

/* 0, or why nothing that grows may be published now. */
int publish_error(const struct mountd *m);
/* Room in the ring for a sealed object of len bytes: seal right into it, then publish it. */
int publish_object_begin(struct mountd *m, size_t len, uint8_t **ret_sealed);
void publish_object_end(struct mountd *m, const uint8_t tag[32], size_t len);
/* Everything published so far lies before this position. */
uint64_t publish_position(const struct mountd *m);
/* Tells stored that there is something, if it sleeps. */
void publish_kick(struct mountd *m);

#endif
