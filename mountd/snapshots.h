/*
 * The directory .snap in the root of a live mount: reserved, not listed in the root.
 *
 *	.snap/NAME   the tree as it was when `mkdir .snap/NAME` came, until `rmdir .snap/NAME`
 *	.snap/@TIME  the tree at any instant that is still kept (tree/instant.h); not listed
 *
 * What is below is read-only: node ids of history, mountd/at.h; mountd/ops.c refuses changes.
 * mtime of a snapshot is its instant. A snapshot has everything that was written before it. Who may
 * look into .snap is who may look into the root: owner, mode and access list are the root's, and
 *the kernel asks for them each time.
 *
 * Names of snapshots go to stored sealed (u8 version | cas_name_put; additional data: volume |
 * "bazil.snap.v1" | tag), found by a keyed tag.
 */
#ifndef BAZIL_MOUNTD_SNAPSHOTS_H
#define BAZIL_MOUNTD_SNAPSHOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

struct inode;
struct mountd;

#define SNAPSHOTS_NAME ".snap"

/* The directory itself, as the root is now. */
struct inode *snapshots_dir(struct mountd *m);

/* The newest instant that is kept and not later. -ENOENT. */
int snapshots_settle(struct mountd *m, uint64_t time, uint64_t *ret_time);

/* Each answers. */
void snapshots_lookup_dir(fuse_req_t req);
void snapshots_lookup(fuse_req_t req, const char *name);
void snapshots_list(fuse_req_t req, size_t size, off_t off, bool plus);
void snapshots_make(fuse_req_t req, const char *name);
void snapshots_remove(fuse_req_t req, const char *name);

#endif
