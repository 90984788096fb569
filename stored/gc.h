/*
 * Garbage collection: objects that nothing refers to give their room back.
 *
 * One collection marks everything that is reached from the roots, then looks at every object that
 * was not reached. Roots are the elements of all registers, those set aside for open files too, and
 * history. Manifests name their children in clear (cas/object.h), so no key is needed.
 *
 * Two generations and a grace time: an object that is not reached for the first time is only noted
 * (table `gc`); it is freed by a later collection that does not reach it either, when the grace
 * time has passed. Anybody who is told meanwhile that the object is here, or puts it again, takes
 * it out of the notes: that is the promise that a writer relies on until its record arrives. During
 * a collection the same takes effect at once (the write barrier), as do the references of all
 * records that are written and of all manifests that are put. The arena that is appended to is
 * never touched. While a peer that has pulled from here, and still may, has not pulled since an
 * object was noted, the object stays, but no longer than GC_PEERS_DAYS.
 *
 * What damage took away may have referred to anything. So nothing is freed, only noted, while an
 * arena is set aside, and for GC_LOST_DAYS after a replay of the log, or a rebuild, met damage:
 * that is the time to put back what a backup or a peer has.
 *
 * Freeing: a FRAME_FREED names the objects, the index forgets them in the same transaction, a
 * checkpoint makes both durable; only then holes are punched, and what is punched is noted before.
 * A crash anywhere repeats at most the punching, or begins the collection anew.
 *
 * All tables are gone through in the order of their keys, and committed often: so a page of the
 * index is written about once, however many objects go, and no step takes long. Dedup tags, which
 * lie in another order than ids, are left behind and go when all objects have.
 *
 * Compacting (stored/gc_compact.c), when it may free: of what is punched so, the heads and the
 * parts of blocks stay, most of the room of small objects. Where that is worth it, runs of dead
 * frames of a sealed arena become gaps (stored/gap.h) which are punched whole, and if not much but
 * a lot of splinters is left of an arena, its live objects are first put at the end of the log. An
 * arena in which nothing is left is removed. It wants the room for the copies; on a full disk it is
 * left out.
 *
 * Changes are dead when two bases have what they came to (stored/base.h). A base is written before
 * compacting, when there are more of them than it takes.
 *
 * Calling order: gc_begin; gc_step until it returns 0, with anything else of the engine in between;
 * gc_end. Nothing of a collection but its notes survives the process. Before a collection with
 * is_final the caller must see to it that every writer has handed in the records for which it asked
 * before (store_flush), or freeing without a grace time could take what such a record refers to.
 *
 * A manifest of version 1 hides its references: everything written before it stays.
 *
 * Errors of gc_step: -EBADMSG, a manifest that something refers to is damaged, or was found so
 * before (stored/damage.h): nothing was freed after that, gc_report has its id; -ENOSPC, -ENOMEM,
 * -ERESTART: try again later; -EIO as in stored/engine.h.
 */
#ifndef BAZIL_STORED_GC_H
#define BAZIL_STORED_GC_H

#include "stored/engine.h"
#include "stored/gc_table.h"

#define GC_PEERS_DAYS	 90
#define GC_LOST_DAYS	 90
#define GC_HOLDERS_MAX	 16
#define GC_GRACE_SECONDS 3600
#define GC_AGES		 (GC_WHY_SNAPSHOT - GC_WHY_DAY + 1) /* of enum gc_why, from GC_WHY_DAY on */

struct gc_options {
	bool is_dry;	  /* looks and writes nothing */
	bool is_final;	  /* may free; otherwise objects are only noted */
	uint64_t roll;	  /* begin a new arena if the last has at least this many bytes; 0: never */
	uint64_t grace_s; /* seconds between the two generations */
	bool is_single;	  /* frees what was never noted before: shows that a mark alone is right */
	uint32_t rows;	  /* of the index looked at in one step; 0: 1000, at most */
	uint32_t bucket;  /* objects numbered together (stored/gc_table.h); 0: as many as is best */
};

struct gc_count {
	uint64_t objects;
	uint64_t bytes; /* of the sealed objects */
};

struct gc_report {
	struct gc_count all;	 /* looked at */
	struct gc_count live;	 /* reached from what is there now */
	struct gc_count history; /* reached from history alone */
	struct gc_count freed;	 /* given up (dry: would be) */
	struct gc_count noted;	 /* not reached for the first time, or too short ago */
	struct gc_count peers;	 /* kept for peers that have not pulled since */
	struct gc_count tail;	 /* not reached, but in the arena that is appended to */
	struct gc_count old;	 /* not reached, but older than a manifest of version 1 */
	uint64_t punched;	 /* bytes given back to the file system */
	uint64_t unpunched;	 /* bytes freed that lie in blocks with something else */
	uint64_t compacted;	 /* arenas; dry: that would be */
	struct gc_count moved;	 /* copied out of them */
	uint64_t regained;	 /* bytes given back by it, besides those punched */
	uint32_t removed;	 /* arenas in which nothing was left, besides those */
	uint64_t changes;	 /* bytes of the log, in sealed arenas: frames of changes, */
	uint64_t bases;		 /* and of bases (stored/base.h) */
	uint64_t written;	 /* bytes of the base that was written, */
	uint64_t awaiting;    /* and of changes that go with one more, when it would be written */
	uint32_t num_holders; /* peers for which something is kept, at most GC_HOLDERS_MAX told */
	uint8_t holders[GC_HOLDERS_MAX][32];
	/* Nothing is freed before, since changes are missing; ns since 1970, 0: none are,
	 * UINT64_MAX: as long as there is an arena set aside. */
	uint64_t lost_until;
	uint64_t grace_until; /* ns since 1970: when the first of the noted may go; 0: none */
	uint64_t peers_until; /* the same of what is kept for peers, should they never come */
	/* Of a dry run: what only history has by when retention lets go of it; and when of the
	 * first and the last, but for snapshots, 0: there is none. If nobody changes the policy.
	 * The first may stay longer, as what several of the past have goes with the last of them.
	 */
	struct gc_count ages[GC_AGES];
	uint64_t ages_from, ages_until;
	uint8_t damaged[32];   /* with -EBADMSG */
	uint64_t done, expect; /* steps, for a progress bar */
};

int gc_begin(struct engine *engine, const struct gc_options *options);
/* A few milliseconds of work. 1: there is more; 2: the same, but the index has to catch up first;
 * 0: the collection is complete. */
int gc_step(struct engine *engine);
/* NULL: none runs. */
const struct gc_report *gc_report(const struct engine *engine);
void gc_end(struct engine *engine);

/* Bytes noted as garbage by earlier collections; when the last one ended, ns since 1970. */
struct gc_known {
	uint64_t last;
	uint64_t freed_objects, freed_bytes; /* ever, by this index */
	uint64_t noted;			     /* objects, and steps of freeing that are left */
	/* Higher than it was: something that may refer to objects has changed or gone since. Of
	 * this opening. */
	uint64_t losses;
};
int gc_known(struct engine *engine, struct gc_known *ret);

/*
 * A peer showed what it knows of a volume and is served; now_complete: it knows everything that
 * this store does. Knowledge that includes what was served last tells that the last pull arrived.
 */
int gc_peer_served(struct engine *engine, const struct volume *vol, const uint8_t peer[32],
	const uint8_t *asked, size_t len, bool now_complete);

#endif
