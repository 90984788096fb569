/*
 * The intake ring: what mountd writes to stored, and in what form objects travel between syncd and
 * stored. A ring (ipc/ring.h) carries entries of a type and a length; this file says what is in
 * them.
 *
 *   mountd -> stored   (edge "store", ring_in)    INTAKE_OBJECT and INTAKE_BATCH
 *   syncd -> stored    (edge "sync", ring_in)     INTAKE_OBJECT with a zero tag
 *   stored -> syncd    (edge "sync", ring_out)    INTAKE_OBJECT with a zero tag
 *
 * Calling order of the producer: reserve, write the whole entry, publish; then, if
 * ipc_ring_must_kick says so, send the edge's kick. Entries are applied strictly in their order. A
 * batch that refers to an object comes behind that object. From the moment of its publishing an
 * entry survives the death of both processes (not power loss: that is what store_sync is for).
 *
 * INTAKE_OBJECT   u8 tag[32] | sealed bytes
 *   tag: the keyed tag under which store_have finds it; zero: none. stored computes the id (SHA-256
 *   of the sealed bytes) itself and keeps the object once.
 *
 * INTAKE_BATCH    struct intake_batch | num_ops times { struct intake_op | bytes | zeros to 8 }
 *   An atomic group of changes to the volume of the edge. Little-endian, every op starts on a
 *   multiple of 8 within the entry.
 *   INTAKE_PUT      bytes: a packed record (tree/record.h). stored stamps it: replica, epoch and
 * lamport are 1 in the ring. The put replaces the elements of its register that the writer has
 * seen: those written here, and those that came with pull number `view` or an earlier one. Later
 * ones stay beside it, so that nothing unseen is overwritten. INTAKE_REMOVE   bytes: a packed
 * register key (tree_key_pack). Removes the elements that the writer has seen, in the same sense. A
 * key that is not there is no error. One batch holds at most one op for a register.
 *
 * What a batch should hold (the rules of tree/merge.h for local writers, as mountd sees them):
 *   create    PUT attr, PUT body (files), PUT link. A directory's link id is its own number, a
 * file's links have numbers of their own, out of the same ranges (store_oids). rename    PUT link
 * with the same link id, and REMOVE of the link that it replaces, if any. unlink    REMOVE link.
 * When it was the last link stored sets the inode's records aside, invisible for peers: store_inode
 * still finds them, PUTs to them still work, until mountd REMOVEs the attr (at the last forget, or
 * for what store_orphans lists after a restart). REMOVE of link and attr in one batch drops the
 * file at once: do so when nobody has it open. rmdir as unlink: REMOVE link and REMOVE attr. If a
 * pull put something into the directory that mountd has not seen, both are ignored, the directory
 * stays, and store_changed says so. REMOVE attr of an inode without a link drops its body and
 * xattrs as well. REMOVE attr of an inode that still has a link is ignored (a pull gave it one). A
 * PUT into an inode or below a directory that a pull removed brings the inode back as it was.
 *
 * unique: the FUSE request that the batch answers, 0 for none. stored only keeps it in its log.
 *
 * A malformed entry (unknown type, wrong length, record that does not parse, ids that this store
 * never gave out) is a broken mountd: stored closes the edge and takes nothing more from it.
 *
 * The ring's user area (256 bytes) is struct intake_area. stored sets `error` when the disk is
 * (nearly) full: while it is not 0 mountd answers that errno to every call that would make the
 * store grow, before it publishes. What was published already is still taken, and so are batches
 * that remove. stored clears it when there is room again.
 */
#ifndef BAZIL_STORED_INTAKE_H
#define BAZIL_STORED_INTAKE_H

#include <stdatomic.h>
#include <stdint.h>

enum intake_type {
	INTAKE_OBJECT = 1,
	INTAKE_BATCH = 2,
};

enum intake_op_type {
	INTAKE_PUT = 1,
	INTAKE_REMOVE = 2,
};

#define INTAKE_VERSION	  1
#define INTAKE_TAG_SIZE	  32
#define INTAKE_OBJECT_MAX (512u << 10) /* sealed bytes of one object */
#define INTAKE_BATCH_MAX  (1u << 20)   /* bytes of a batch entry */
#define INTAKE_OPS_MAX	  4096

struct intake_batch {
	uint8_t version; /* INTAKE_VERSION */
	uint8_t zero[3];
	uint32_t num_ops; /* 1 .. INTAKE_OPS_MAX */
	uint64_t unique;
	uint64_t view; /* pulls that the writer has seen; store_attach and store_changed give it */
};

struct intake_op {
	uint8_t type; /* enum intake_op_type */
	uint8_t zero[3];
	uint32_t len; /* of the bytes behind, without their padding */
};

_Static_assert(sizeof(struct intake_batch) == 24 && sizeof(struct intake_op) == 8, "entry format");

struct intake_area {
	_Atomic uint32_t error; /* stored writes: 0 or a positive errno */
	uint32_t zero;
	_Atomic uint64_t applied; /* stored writes: everything before this position is applied */
	uint8_t producer[240];	  /* mountd's own, stored never looks */
};

_Static_assert(sizeof(struct intake_area) == 256, "user area of the ring");

#define INTAKE_PAD(len) (((uint64_t)(len) + 7) & ~(uint64_t)7)

#endif
