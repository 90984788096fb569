/*
 * The extended attributes of an inode, read from stored: mountd keeps none of them. Each call may
 * wait for stored (edges.h). An inode without any (num_xattrs 0) costs no question.
 */
#ifndef BAZIL_MOUNTD_XATTRS_H
#define BAZIL_MOUNTD_XATTRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inode;
struct mountd;

/* One attribute after the other: called with each that opens. Positive: enough. */
typedef int xattrs_fn(
	void *arg, const char *name, size_t name_len, const uint8_t *value, size_t len);

int xattrs_visit(struct mountd *m, const struct inode *inode, xattrs_fn *fn, void *arg);
/* *ret_value: malloc'ed, NULL if there is no such attribute; that is no error. */
int xattrs_find(struct mountd *m, const struct inode *inode, const char *name, uint8_t **ret_value,
	size_t *ret_len);

/* A sound list of access rights as it is now, with the mode put in (acl.h). name: ACL_ACCESS or
 * ACL_DEFAULT. *ret_value: malloc'ed, NULL if there is none. */
int xattrs_find_acl(struct mountd *m, const struct inode *inode, const char *name,
	uint8_t **ret_value, size_t *ret_len);

#endif
