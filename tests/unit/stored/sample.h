/*
 * A small store with something of everything that its format has, for tests of what an older
 * program wrote: tests/data/store-vN is what make_store left behind when N was the present one.
 */
#ifndef BAZIL_TESTS_UNIT_STORED_SAMPLE_H
#define BAZIL_TESTS_UNIT_STORED_SAMPLE_H

#include "rig.h"

#define SAMPLE_OBJECTS 60

/* What the tree is, as rig_digest says with stamps. */
struct sample {
	uint64_t now;
	uint64_t at, then; /* ns; at this instant, which has a snapshot. 0: there is none */
};

/*
 * Makes it, and kills it: SAMPLE_OBJECTS files in four directories, each with an object, so small
 * arenas that several are sealed, a peer, a snapshot with files that are gone since, a record with
 * a far part, dead objects that are compacted away, two bases and the changes that went for them,
 * and a tail behind the last checkpoint. Object i has 500 + 300 i bytes, byte k being k / 64 * 7 +
 * i, and the tag i + 1 in all 32 bytes.
 */
void sample_make(struct rig *rig, struct sample *ret);
/* That the open store is that one, and undamaged. */
void sample_check(struct rig *rig, const struct sample *sample);

#endif
