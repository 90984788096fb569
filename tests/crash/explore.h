/*
 * The crash explorer: a random workload; at every operation that its disk saw several states that a
 * crash may leave; each is opened and compared with what the store held between two operations.
 *
 * Checked in each: it opens; it holds one of the states from the last promise on; every object that
 * a record refers to is there, and every object that is there has its id. In some: a crash during
 * the recovery and another one; going on, and opening again; an index made anew from the arenas.
 *
 * A state is told by the seed of its workload and its number in it, and is the same every time.
 */
#ifndef BAZIL_TESTS_CRASH_EXPLORE_H
#define BAZIL_TESTS_CRASH_EXPLORE_H

#include "tests/crash/simdisk.h"

struct explore {
	uint64_t seed;	    /* of the workload */
	unsigned num;	    /* operations of the workload */
	unsigned each;	    /* states at each operation of the log */
	long only;	    /* check this state alone; -1: all */
	uint64_t max;	    /* end after so many states; 0: none */
	bool stop_at_first; /* violation */
	bool is_quiet;
	enum sim_lie lie;
	/* Results. */
	uint64_t states, recrashes, violations, freed;
	uint64_t compacted, moved; /* arenas, and objects out of them */
	uint64_t removed, based;   /* arenas; bytes of bases */
	char first[300];	   /* violation */
};

void explore(struct explore *x);

#endif
