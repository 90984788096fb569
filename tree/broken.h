/*
 * Ways to get the model wrong, which the simulation must notice: a test that cannot fail proves
 * nothing. Only the simulation compiles these in (TREE_BREAKABLE); in the library BROKEN() is the
 * constant false.
 */
#ifndef BAZIL_TREE_BROKEN_H
#define BAZIL_TREE_BROKEN_H

enum tree_broken {
	BROKEN_NOTHING,
	BROKEN_NO_CLOSURE,
	BROKEN_OLD_STAMP,    /* closure re-creates under the old stamp */
	BROKEN_LATEST_ONLY,  /* the other side's writer wins instead of a conflict */
	BROKEN_NO_FREEZE,    /* serving leaves the epoch open */
	BROKEN_NO_JOIN,	     /* a pull leaves the knowledge as it was */
	BROKEN_NO_CYCLE,     /* the view believes every parent */
	BROKEN_NO_LABELS,    /* what a pull deletes is not logged with its label */
	BROKEN_NO_HORIZON,   /* a cut log is taken for a complete one */
	BROKEN_SAME_REPLICA, /* a restored store goes on under its old number */
	BROKEN_HALF_INODE,   /* closure brings back less than the whole inode */
	BROKEN_COUNT,
};

#ifdef TREE_BREAKABLE
extern enum tree_broken tree_broken;
#define BROKEN(what) (tree_broken == (what))
#else
#define BROKEN(what) 0
#endif

#endif
