/*
 * Ways to lose data, which the crash explorer must notice: a test that cannot fail proves nothing.
 * Only tests/crash compiles these in (STORE_BREAKABLE); in the program BROKEN() is the constant
 * false.
 */
#ifndef BAZIL_STORED_BROKEN_H
#define BAZIL_STORED_BROKEN_H

enum store_broken {
	BROKEN_NOTHING,
	BROKEN_NO_SYNC,	    /* no fdatasync of an arena */
	BROKEN_ACK_FIRST,   /* a sync says done before anything is written */
	BROKEN_INDEX_FIRST, /* the index commits before the log is durable */
	BROKEN_ROLL,	    /* a new arena is begun before the last one is durable */
	BROKEN_NO_DIR_SYNC, /* a new arena's name is not made durable */
	BROKEN_TORN_IS_OK,  /* what follows a torn frame is believed */
	BROKEN_NO_CRC,	    /* a frame's payload is not checked */
	BROKEN_NOT_BOUND,   /* a frame is valid at any place */
	BROKEN_HALF_PULL,   /* changes of a pull count without its commit */
	BROKEN_POSITION,    /* a checkpoint says more than it has */
	BROKEN_NO_ROW_SUM,  /* rows of the index are not checked (tests/crash/test_rot.c) */
	BROKEN_NUMBERS,	    /* inode numbers are given out before they are reserved */
	BROKEN_NO_MARKER,   /* a failed fdatasync is forgotten when the process ends */
	BROKEN_HORIZON,	    /* the log of deletions is cut without a word in the log */
	BROKEN_TWO_COMMITS, /* the index says what it covers before it has it */
	BROKEN_PUNCH_FIRST, /* holes are punched before it is durable that nobody needs them */
	BROKEN_BASE_FIRST,  /* changes go before it is durable that a base has them */
	BROKEN_BASE_HALF,   /* a base that is not complete is believed */
	BROKEN_BASE_CUT,    /* changes go that no base has */
	BROKEN_COUNT,
};

#ifdef STORE_BREAKABLE
extern enum store_broken store_broken;
#define BROKEN(what) (store_broken == (what))
#else
#define BROKEN(what) 0
#endif

#endif
