/*
 * Recovery: the index as of its last commit, then the log behind that.
 */
#ifndef BAZIL_STORED_RECOVER_H
#define BAZIL_STORED_RECOVER_H

struct engine;

/* Opens the index and brings it up to the log; one that is missing, damaged or ahead of the log is
 * made anew from all arenas. */
int recover_index(struct engine *engine);
/* Opening came to its end, so the index is not one that kills the process. */
void recover_done(struct engine *engine);
/* Aborts the open transaction and applies the log behind the last commit again. */
int recover_replay(struct engine *engine);

#endif
