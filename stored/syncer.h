/*
 * Makes the log durable beside serving: one thread, one fdatasync at a time. It covers what was
 * written before it began; what is asked for meanwhile is covered by the next, together.
 */
#ifndef BAZIL_STORED_SYNCER_H
#define BAZIL_STORED_SYNCER_H

struct engine;

/* Begins an fdatasync if there is something that is not durable and none is under way; without
 * threads it is done when this returns. 0 or -EIO. */
int syncer_start(struct engine *engine);
/* Takes note of one that ended. 0 or -EIO. */
int syncer_poll(struct engine *engine);
/* Waits for the one under way and ends the thread. */
void syncer_stop(struct engine *engine);

#endif
