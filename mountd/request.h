/*
 * Answering the kernel: the one file that turns -errno into libfuse's replies. Each function
 * answers its request; nobody touches the request afterwards.
 */
#ifndef BAZIL_MOUNTD_REQUEST_H
#define BAZIL_MOUNTD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

struct inode;
struct mountd;

/* How long the kernel may believe us: for ever, as we tell it when a sync changes something. */
#define REQUEST_TIMEOUT 1e7

struct mountd *request_mountd(fuse_req_t req);
/* What a program above a file system understands of r, an -errno. */
int request_errno(int r);
/* r: 0 or -errno. */
void request_done(fuse_req_t req, int r);
/* The inode under a name; counts the kernel's reference. */
void request_entry(fuse_req_t req, struct inode *inode);
/* A new inode that is open at the same time; counts the kernel's reference. */
void request_created(fuse_req_t req, struct inode *inode, struct fuse_file_info *fi);
/* There is no such name, and the kernel may remember that. */
void request_no_entry(fuse_req_t req);
void request_attr(fuse_req_t req, const struct inode *inode);
/* The mode of a file without the set-id bits that a change by this caller takes away. The kernel
 * does not tell which groups somebody is in, besides the first: a set-group-id bit without
 * group-execute, which means nothing, goes also where a further group would have kept it. */
uint32_t request_mode_killed(const struct mountd *m, const struct inode *inode);
void request_fill(const struct mountd *m, const struct inode *inode, struct stat *ret_st);
void request_fill_entry(
	struct mountd *m, const struct inode *inode, struct fuse_entry_param *ret_entry);
/* The request was done by an earlier mountd, which died before it answered: answers it now. */
bool request_was_done(fuse_req_t req);
/* The same without the answer. *ret_oid: the inode that was made, or 0. */
bool request_did(fuse_req_t req, uint64_t *ret_oid);

/* Now, in ns since the epoch, as coarse as a kernel's file times. */
int64_t request_now(void);
int64_t request_ns(const struct timespec *ts);
struct timespec request_timespec(int64_t ns);

#endif
