/*
 * `bazil store rebuild-index`: stored is begun anew and told to forget its index. Everybody who
 * needs it waits, as after its death; how far it is comes as the progress of work_begin.
 *
 * Once it has begun, what stored keeps about it outlives any death: it is tried again until it is
 * done, but whoever asked hears of it after REBUILD_DEATHS.
 */
#ifndef BAZIL_SUPERVISOR_REBUILD_H
#define BAZIL_SUPERVISOR_REBUILD_H

#include <stdbool.h>
#include <stdint.h>

struct child;
struct ipc_call;

#define REBUILD_CALLS_MAX 8
#define REBUILD_DEATHS	  3

struct rebuild {
	struct ipc_call *calls[REBUILD_CALLS_MAX]; /* to be answered at its end */
	unsigned num_calls;
	unsigned deaths;
	bool is_wanted; /* the next work_begin says it */
};

/* Whether this work_begin is to say it; asks once. */
bool rebuild_take(struct child *c);
void rebuild_progress(struct child *c, uint64_t done, uint64_t total);
/* work_begin was answered. why: for people, when err is not 0. */
void rebuild_done(struct child *c, int err, const char *why);
void rebuild_died(struct child *c);

#endif
