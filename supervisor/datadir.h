/*
 * The data directory: found, made, locked. Whoever holds the lock is the only server of it; the
 * lock file holds his pid, and below it the mount points that he has, so that the next one can tidy
 * up after a sudden death.
 *
 * Functions say themselves what is wrong (one line on stderr) and return 0 or -errno.
 */
#ifndef BAZIL_SUPERVISOR_DATADIR_H
#define BAZIL_SUPERVISOR_DATADIR_H

#include <stdbool.h>

struct mount;

struct datadir {
	char path[4096]; /* absolute, without symbolic links */
	int fd;
	int lock;
	double opened; /* when it was locked, as ev_time() */
	char *stale;   /* paths of mounts of the last server, each ended by NUL, all by another */
	unsigned num_made; /* directories that datadir_create() made, from the last one up */
};

/* Opens and locks one that exists. wait: for another --once to finish, up to 10 seconds. */
int datadir_open(struct datadir *d, const char *path, bool wait);

/* Makes it, with its parents, and locks it. -EEXIST when there is one already. */
int datadir_create(struct datadir *d, const char *path);

/* Removes everything that datadir_create(), and what was begun after it, made. */
void datadir_undo(struct datadir *d);

/* Our pid and mounts, into the lock file. */
void datadir_write_lock(struct datadir *d, const struct mount *mounts);

/* An orderly end: the lock file is emptied and let go. */
void datadir_close(struct datadir *d);

#endif
