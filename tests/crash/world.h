/*
 * A random workload on a simulated disk, and what the store held after each of its operations.
 *
 * Calling order: world_new with a seed runs the whole workload; then world_allowed tells between
 * which states a crash at an operation of the log may leave the store, and state_digest what an
 * opened store holds; world_free. The same seed gives the same log, byte for byte.
 */
#ifndef BAZIL_TESTS_CRASH_WORLD_H
#define BAZIL_TESTS_CRASH_WORLD_H

#include "stored/engine.h"
#include "tests/crash/simdisk.h"

#define WORLD_OBJECTS_MAX 256

struct world_state {
	uint64_t digest;
	size_t begun; /* operations of the log before the one that led to it began */
};

/* From this place of the log on a state is promised, and that no number below oids is given out. */
struct world_ack {
	size_t at, state;
	uint64_t oids;
};

struct world {
	struct simdisk disk;
	struct sim_image start; /* what was there before the log */
	struct engine_options options;
	struct world_state *states;
	size_t num_states, cap_states;
	struct world_ack *acks;
	size_t num_acks, cap_acks;
	uint8_t objects[WORLD_OBJECTS_MAX][32];
	size_t num_objects;
	uint64_t file; /* one that was made */
	bool is_collecting;
	uint64_t freed;		   /* objects that collections gave up */
	uint64_t compacted, moved; /* arenas, and objects out of them */
	uint64_t removed, based;   /* arenas; bytes of bases */
};

/* num: operations. pulls: a second store is pulled from and served to. */
void world_new(struct world *world, uint64_t seed, unsigned num, enum sim_lie lie);
void world_free(struct world *world);

/* A crash during operation `at` of the log leaves one of the states first..last. */
void world_allowed(const struct world *world, size_t at, size_t *ret_first, size_t *ret_last);
uint64_t world_oids(const struct world *world, size_t at);
/* The last state in first..last with this digest; -1: none. */
long world_find(const struct world *world, uint64_t digest, size_t first, size_t last);

/* The values of all records that were ever seen by state_digest; once it is closed, the number of
 * those seen that never were. NULL: nobody asks. */
struct state_set {
	uint64_t *values;
	size_t num, cap;
	bool is_closed;
	size_t strangers;
};
extern struct state_set *state_set;

/* Everything that can be read. -EBADMSG: an object does not verify, -EUCLEAN: it makes no sense. */
int state_digest(struct engine *engine, const struct world *world, uint64_t *ret);

#endif
