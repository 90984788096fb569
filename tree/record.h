/*
 * A record: one element of a replicated register, in the one packed format that is used in the
 * shared-memory ring, the arena log, the LMDB value and on the wire.
 *
 * All metadata is registers. A register is named by its key (kind, id, tag) and holds a small set
 * of elements, normally one; two or more elements with different values are a conflict. Each
 * element has the stamp (replica, epoch) of the write that made it. Within a register stamps are
 * unique.
 *
 *   link   id = lid   (parent directory, tag of the name) -> target inode: file names, hard
 *                     links. A directory has exactly one link register, whose lid is the
 *                     directory's oid; no other lid may equal its target.
 *   body   id = oid   size, content, mtime as one value
 *   attr   id = oid   type, mode, owner, times; an inode exists where its attr register is not
 *                     empty
 *   xattr  id = oid   one register for each extended attribute, told apart by its name's tag
 *
 * oid and lid are (replica << 32 | counter), never 0; the root directory is TREE_ROOT and has no
 * link.
 *
 * Format, little-endian, no padding but the one shown:
 *    0 u8  version = 1     1 u8 kind      2 u8 flags     3 u8 num_refs (<= 4, body only)
 *    4 u32 sealed_len      8 u64 id      16 u64 epoch   24 u32 replica   28 u32 zero
 *   32 u64 lamport        40 u64 parent  48 u64 target  56 u8 tag[16]    72 u8 vtag[16]
 *   88 refs[num_refs][32], then sealed[sealed_len]; nothing behind it.
 *
 * tag is a keyed tag of the name under its parent (link) or of the attribute's name (xattr), else
 * zero; vtag a keyed tag of the value: equal vtags in one register are the same value and no
 * conflict. The blind processes compare tags and can do no more with them.
 *
 * Parsing is strict (-EBADMSG for anything that tree_record_emit would not write, -EPROTONOSUPPORT
 * for another version) and gives views into the caller's bytes, which must outlive the record.
 */
#ifndef BAZIL_TREE_RECORD_H
#define BAZIL_TREE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREE_RECORD_VERSION   1
#define TREE_RECORD_HEAD      88
#define TREE_TAG_SIZE	      16
#define TREE_REF_SIZE	      32
#define TREE_REFS_MAX	      4
#define TREE_SEALED_MAX	      (16u << 10)		 /* bytes, link, body and attr */
#define TREE_XATTR_SEALED_MAX ((64u << 10) + (1u << 10)) /* 64 KiB of value, its name, the seal */
#define TREE_RECORD_MAX	      (TREE_RECORD_HEAD + TREE_REFS_MAX * TREE_REF_SIZE + TREE_XATTR_SEALED_MAX)
#define TREE_LAMPORT_MAX      (UINT64_MAX >> 2) /* more would let one bad peer exhaust the counter */
#define TREE_ROOT	      UINT64_C(1)

enum tree_kind {
	TREE_LINK = 1,
	TREE_BODY = 2,
	TREE_ATTR = 3,
	TREE_XATTR = 4,
};

enum tree_flags {
	TREE_DIRECTORY = 1, /* link or attr of a directory */
	TREE_INLINE = 2,    /* body: the sealed part holds the file's bytes */
};

/* Who wrote, and in which of its epochs. Both are at least 1. */
struct tree_stamp {
	uint64_t epoch;
	uint32_t replica;
};

struct tree_key {
	uint64_t id;
	uint8_t tag[TREE_TAG_SIZE]; /* zero unless kind is TREE_XATTR */
	uint8_t kind;		    /* enum tree_kind */
};

/*
 * A unit is what a peer lists, and what the log of deletions names: a link register, or everything
 * of an inode (its attr, body and all xattr registers) as one.
 */
struct tree_unit {
	uint64_t id;
	bool is_link;
};

/* The clear part of a record: all that the merge and the view look at. */
struct tree_element {
	struct tree_key key;
	uint8_t flags; /* enum tree_flags */
	struct tree_stamp stamp;
	uint64_t lamport;
	uint64_t parent;	    /* link: oid, else 0 */
	uint64_t target;	    /* link: oid, else 0 */
	uint8_t tag[TREE_TAG_SIZE]; /* as in the record; for a link the tag of its name */
	uint8_t vtag[TREE_TAG_SIZE];
};

struct tree_record {
	struct tree_element e;
	uint8_t num_refs;
	uint32_t sealed_len;
	const uint8_t *refs; /* num_refs * TREE_REF_SIZE bytes */
	const uint8_t *sealed;
};

/* New replica numbers are 2 to this: inode numbers and the cookies of readdir, which are link ids,
 * are positive as off_t then; lseek on a directory refuses others. */
#define TREE_REPLICA_MAX 0x7fffffffu

static inline uint64_t tree_oid(uint32_t replica, uint32_t counter)
{
	return (uint64_t)replica << 32 | counter;
}

/* Reads exactly len bytes. On success *ret holds views into data. */
int tree_record_parse(const uint8_t *data, size_t len, struct tree_record *ret);

/* 0 or -EBADMSG: whether the fields are ones that may be written. parse and emit call it. */
int tree_record_check(const struct tree_record *rec);

/* Bytes that tree_record_emit writes. */
size_t tree_record_size(const struct tree_record *rec);

/* Writes the record into buf; returns its size, -ENOBUFS if cap is too small, or -EBADMSG. */
int tree_record_emit(const struct tree_record *rec, uint8_t *buf, size_t cap);

/* Rewrites stamp and lamport inside a valid packed record: how a record is stamped without copying
 * it apart, and without its key, since neither is part of what the seal authenticates. */
void tree_record_restamp(uint8_t *data, struct tree_stamp stamp, uint64_t lamport);

/*
 * The additional data that the sealed part is bound to: volume id | version | kind | id | (xattr:
 * tag). Not the stamp, which stored renews in a merge, and not parent, target or a link's tag: they
 * are inside the sealed plaintext as well and mountd compares them after opening. Returns the
 * length written.
 */
#define TREE_AAD_MAX (16 + 1 + 1 + 8 + TREE_TAG_SIZE)
size_t tree_record_aad(
	const uint8_t volume[16], const struct tree_element *e, uint8_t ret_aad[TREE_AAD_MAX]);

/*
 * A key as bytes whose memcmp order keeps the registers of a unit together: u8 (0 link, 1 inode) |
 * u64 big-endian id | u8 kind | tag[16]. The first TREE_UNIT_SIZE bytes are the unit.
 */
#define TREE_UNIT_SIZE 9
#define TREE_KEY_SIZE  (TREE_UNIT_SIZE + 1 + TREE_TAG_SIZE)
void tree_key_pack(const struct tree_key *key, uint8_t ret_packed[TREE_KEY_SIZE]);
int tree_key_unpack(const uint8_t packed[TREE_KEY_SIZE], struct tree_key *ret); /* 0 or -EBADMSG */
void tree_unit_pack(const struct tree_unit *unit, uint8_t ret_packed[TREE_UNIT_SIZE]);
int tree_unit_unpack(
	const uint8_t packed[TREE_UNIT_SIZE], struct tree_unit *ret); /* 0 or -EBADMSG */

/* Orders as the packed form does: <0, 0, >0. */
int tree_key_compare(const struct tree_key *a, const struct tree_key *b);
int tree_unit_compare(const struct tree_unit *a, const struct tree_unit *b);
struct tree_unit tree_key_unit(const struct tree_key *key);

int tree_stamp_compare(struct tree_stamp a, struct tree_stamp b); /* by replica, then epoch */

/* The total order of the elements of a register: (lamport, replica, epoch, vtag). The greatest
 * wins. */
int tree_element_compare(const struct tree_element *a, const struct tree_element *b);

#endif
