/*
 * When garbage is collected (stored/gc.h does it): in slices of the loop, beside everything else,
 * for `bazil gc` and by itself.
 *
 * Before a collection that may free, every mountd is asked to store what it holds: so no record is
 * on its way that refers to what nothing else does. One that does not answer in time only makes
 * this collection note instead of freeing. `bazil gc --now` makes two collections with that
 * question in between, and no grace time.
 *
 * By itself: every COLLECT_EVERY when something that may refer to objects has changed or gone,
 * whoever did it: a writer, a sync, retention; the first time COLLECT_FIRST after the start, unless
 * the last was a shorter while ago. Sooner when the grace time of what was noted is over; and
 * COLLECT_SOON after one that wrote a base, if much of the log goes with one more (stored/base.h),
 * but not twice in a row. While somebody is served the slices are small.
 */
#ifndef BAZIL_STORED_COLLECT_H
#define BAZIL_STORED_COLLECT_H

#include "stored/gc.h"
#include "stored/stored.h"

#define COLLECT_FIRST 600. /* seconds */
#define COLLECT_EVERY (6 * 3600.)
#define COLLECT_SOON  60.
#define COLLECT_ROLL  (16u << 20) /* a smaller arena is not ended for its garbage */

enum collect_state {
	COLLECT_IDLE,
	COLLECT_NOTING,	  /* the first of two */
	COLLECT_FLUSHING, /* waiting for mountds */
	COLLECT_FINAL,
};

struct collect {
	struct stored *stored;
	enum collect_state state;
	struct ev_timer slice, late, due;
	struct ipc_call *call; /* NULL: by itself */
	bool is_dry, is_now, is_late;
	bool has_run;	 /* since the start, to its end */
	bool is_again;	 /* for one more base; the next, or the one that runs */
	uint64_t losses; /* of struct gc_known when that one, and this one, began */
	uint64_t losses_now;
	struct {
		uint64_t runs, freed_objects, freed_bytes, punched;
	} counters;
};

int collect_new(struct stored *stored);
void collect_free(struct stored *stored);
/* A mountd has stored what it had when this token was sent, or (NULL) one is gone. */
void collect_flushed(struct stored *stored, struct store_server *mount, uint64_t token);

#endif
