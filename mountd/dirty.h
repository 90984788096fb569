/*
 * The dirty log: written and not yet stored bytes, in a memfd that the supervisor holds too, so
 * that they outlive mountd. It has the crash semantics of a page cache: survives the process, not
 * power loss. The only place besides the kernel and mountd's own memory where plaintext lies.
 *
 *   header page | heads | slot headers | slots of 4 KiB
 *
 * A head is what an inode's body will say once it is stored: size, times, and how much of the
 * stored contents still counts; and the attributes of a file, where they changed since its attr
 * record was stored (holds_attr). A slot is a piece of a file inside one 4 KiB block of it, at its
 * own place in the slot, or (zero) a range of whole blocks that reads as zeros. Where slots of one
 * inode overlap the greater seq counts; this happens only when mountd was killed between two steps.
 *
 * Everything is self-describing: dirty_recover reads it back with no help from the dead process.
 * It believes nothing: an impossible slot is freed. A log of version 1, whose heads have no
 * attributes, is served as it is until its mount ends.
 *
 * struct dirty_file is the sorted index of one inode's slots: disjoint extents in order. The caller
 * makes sure of room first (dirty_room); then no call fails. Single-threaded.
 */
#ifndef BAZIL_MOUNTD_DIRTY_H
#define BAZIL_MOUNTD_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define DIRTY_BLOCK   4096u
#define DIRTY_NO_HEAD UINT32_MAX

struct dirty_log;

struct dirty_head {
	uint64_t oid;
	uint64_t size;
	uint64_t base_limit;  /* stored bytes at and beyond this offset no longer count */
	uint64_t view;	      /* pulls seen when the first change was made (stored/intake.h) */
	int64_t mtime, ctime; /* ns */
	int64_t atime;	      /* from here on: if holds_attr */
	uint32_t mode, uid, gid;
	uint32_t holds_attr;
};

struct dirty_extent {
	uint64_t offset, len;
	uint64_t seq;
	uint32_t slot;
	bool is_zero;
};

struct dirty_file {
	struct dirty_extent *extents;
	size_t num, cap;
	uint64_t bytes; /* in data extents */
};

/* Maps the memfd, formats it when it is all zero. Does not keep fd. -EBADMSG, -EPROTONOSUPPORT. */
int dirty_log_open(struct dirty_log **ret, int fd);
void dirty_log_close(struct dirty_log *log);

uint32_t dirty_log_free_slots(const struct dirty_log *log);
uint32_t dirty_log_num_slots(const struct dirty_log *log);
uint32_t dirty_log_free_heads(const struct dirty_log *log);
/* A quarter of the slots or heads is taken. */
bool dirty_log_is_filling(const struct dirty_log *log);
/* Whether a head may have holds_attr. */
bool dirty_log_takes_attrs(const struct dirty_log *log);

/* Slots that a write of len bytes takes at most. */
uint32_t dirty_slots_for(uint64_t len);

/* Sets the head (*index DIRTY_NO_HEAD: takes a new one). -ENOSPC: none is free. */
int dirty_head_set(struct dirty_log *log, uint32_t *index, const struct dirty_head *head);
void dirty_head_drop(struct dirty_log *log, uint32_t *index);

void dirty_write(struct dirty_log *log, struct dirty_file *file, uint64_t oid, uint64_t offset,
	const void *data, size_t len);
/* Makes [offset, offset + len) read as zeros and remembers that it needs no space. */
void dirty_zero(struct dirty_log *log, struct dirty_file *file, uint64_t oid, uint64_t offset,
	uint64_t len);
/* Forgets everything at and beyond size. */
void dirty_truncate(struct dirty_log *log, struct dirty_file *file, uint64_t size);
/* Index of the first extent that ends after offset; file->num when none does. */
size_t dirty_find(const struct dirty_file *file, uint64_t offset);
/* The bytes of a data extent. */
const uint8_t *dirty_data(const struct dirty_log *log, const struct dirty_extent *extent);
/* Frees the extents that lie inside [offset, offset + len) and are not newer than seq. */
void dirty_release(struct dirty_log *log, struct dirty_file *file, uint64_t offset, uint64_t len,
	uint64_t seq);
void dirty_clear(struct dirty_log *log, struct dirty_file *file);
/* The seq of the newest change. */
uint64_t dirty_log_seq(const struct dirty_log *log);

/*
 * What the last mountd left: each head once, then each slot in order of (oid, offset, seq).
 * on_slot returns false when the inode is unknown: the slot is freed. Where slots overlap, on_slot
 * is given them in order of seq for the same oid and block; dirty_adopt puts one into a file's
 * index.
 */
struct dirty_recovery {
	void *ctx;
	bool (*on_head)(void *ctx, uint32_t index, const struct dirty_head *head);
	struct dirty_file *(*on_file)(void *ctx, uint64_t oid); /* NULL: forget its slots */
};
int dirty_recover(struct dirty_log *log, const struct dirty_recovery *recovery);

#endif
