/*
 * The sealed parts of records: everything of the metadata that a person could read. This file is
 * the only one that turns names, attributes, contents and xattrs into records and back.
 *
 * Plaintext of each kind, little-endian, times in ns since the epoch:
 *   link   u8 version | u8 type (S_IFMT >> 12) | u16 0 | u32 0 | u64 parent | u64 target | name
 *          (cas_name_put)
 *   attr   u8 version | u8 0 | u16 symlink_len | u32 mode | u32 uid | u32 gid | u64 rdev |
 *          i64 atime | i64 mtime | i64 ctime | i64 btime | symlink target | zeros to a multiple of
 *          64 when there is a target
 *   body   u8 version | u8 form | u8 level | u8 num | u32 filled | u64 size | i64 mtime |
 *          i64 ctime | by form:
 *          0: the bytes of the file, as a zstd frame of `filled` bytes when that is not 0; zeros to
 *             Padme's size
 *          1: num (up to 4) leaf entries of a file of few chunks, in a leaf node (cas/manifest.h)
 *          2: id[32] of the root manifest
 *   xattr  u8 version | u8 0 | u16 0 | u32 value_len | name | value | zeros to Padme's size
 *
 * Versions are 1, of a body 2: version 1 knew no compression, and filled form 1 up to 4 entries,
 * which hid nothing as the references lie in clear. It is read for ever.
 *
 * mtime of a regular file and of a directory is in its body: that of attr counts until there is a
 * body. ctime is the later of both. So writing to a file does not touch its attr, and a chmod here
 * and a write there are no conflict.
 *
 * filled of form 2 is in units of 64 KiB, rounded up.
 *
 * The value tag covers what a person would call the value: of a body the size and contents but not
 * the times and filled, so that the same edit made twice is no conflict. It is made of the bytes
 * that version 1 has, so that it does not depend on the version, nor on what zstd makes of them.
 *
 * Opening checks that parent, target and tag in the clear part are those of the sealed part:
 * -EBADMSG otherwise. -EPROTONOSUPPORT: a version of the future.
 */
#ifndef BAZIL_MOUNTD_SEALED_H
#define BAZIL_MOUNTD_SEALED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cas/kdf.h"
#include "cas/manifest.h"
#include "cas/metaseal.h"
#include "cas/tree.h"
#include "tree/record.h"

#define SEALED_NAME_MAX	   255u
#define SEALED_SYMLINK_MAX 4095u
#define SEALED_INLINE_MAX  4096u /* a file up to this lives in its body record */
#define SEALED_FEW	   4u	 /* chunks of a file without a manifest */
#define SEALED_XATTR_MAX   65536u

struct sealed_link {
	uint64_t lid, parent, target;
	uint8_t type;
	uint16_t name_len;
	char name[SEALED_NAME_MAX + 1];
};

struct sealed_attr {
	uint32_t mode, uid, gid;
	uint64_t rdev;
	int64_t atime, mtime, ctime, btime;
	uint16_t symlink_len;
	char *symlink; /* malloc'ed, NUL behind */
};

enum sealed_form {
	SEALED_INLINE = 0,
	SEALED_CHUNKS = 1,
	SEALED_TREE = 2,
};

struct sealed_body {
	enum sealed_form form;
	uint64_t size;
	int64_t mtime, ctime;
	uint8_t *data; /* SEALED_INLINE: malloc'ed, size bytes; NULL when empty */
	/* Beside data while it is put, if sealed_pack() was called already. Not owned. */
	const uint8_t *packed;
	size_t packed_len;
	uint32_t num_chunks;
	struct cas_extent chunks[SEALED_FEW];
	struct cas_tree_root root;
	/* SEALED_TREE: bytes that are not holes. At most: what was rewritten counts again. */
	uint64_t filled;
};

/* Bytes that are not holes, for st_blocks. */
uint64_t sealed_body_filled(const struct sealed_body *body);

/* One thread's, as its suite is. */
struct sealer {
	struct cas_suite *suite;
	struct cas_volume_keys keys;
	uint8_t volume[CAS_VOLUME_SIZE];
};

/* Contents of an inline body (at most SEALED_INLINE_MAX bytes) compressed into out, which has room
 * for len; the length, or 0 where padding leaves nothing of the gain. With any thread's suite. */
size_t sealed_pack(struct cas_suite *suite, const void *contents, size_t len, uint8_t *out);

/* Each writes a packed record, stamped 1/1 for stored to stamp, and returns its length. buf has
 * room for TREE_RECORD_MAX bytes, SEALED_RECORD_SMALL suffices for all but xattrs. */
#define SEALED_RECORD_SMALL 8192
size_t sealed_put_link(const struct sealer *sealer, const struct sealed_link *link, uint8_t *buf);
size_t sealed_put_attr(
	const struct sealer *sealer, uint64_t oid, const struct sealed_attr *attr, uint8_t *buf);
size_t sealed_put_body(
	const struct sealer *sealer, uint64_t oid, const struct sealed_body *body, uint8_t *buf);
size_t sealed_put_xattr(const struct sealer *sealer, uint64_t oid, const char *name,
	size_t name_len, const void *value, size_t len, uint8_t *buf);

/* ret_attr->symlink and ret_body->data are malloc'ed: the caller frees. */
int sealed_get_link(
	const struct sealer *sealer, const struct tree_record *rec, struct sealed_link *ret_link);
int sealed_get_attr(
	const struct sealer *sealer, const struct tree_record *rec, struct sealed_attr *ret_attr);
int sealed_get_body(
	const struct sealer *sealer, const struct tree_record *rec, struct sealed_body *ret_body);
/* buf: TREE_XATTR_SEALED_MAX bytes; name and value point into it. */
int sealed_get_xattr(const struct sealer *sealer, const struct tree_record *rec, uint8_t *buf,
	const char **ret_name, size_t *ret_name_len, const uint8_t **ret_value, size_t *ret_len);

#endif
