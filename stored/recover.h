/*
 * Recovery: the index as of its last commit, then the log behind that.
 */
#ifndef BAZIL_STORED_RECOVER_H
#define BAZIL_STORED_RECOVER_H

struct engine;
struct store_io;

/* Opens the index and brings it up to the log; one that is missing, damaged or ahead of the log is
 * made anew from all arenas, as is one that ended the process again and again. */
int recover_index(struct engine *engine);
/* Opening came to its end, so the index is not one that kills the process. */
void recover_done(struct engine *engine);
/* A replay met damage, so that changes or objects may be missing from here on: counted, and told to
 * the collector (stored/gc.h). */
void recover_note_lost(struct engine *engine);
/* Changes may have been lost: so are those of volumes (stored/settings.h). */
void recover_note_lost_changes(struct engine *engine);
/* Commits what a replay has changed; a failure that may have left less on the disk than there seems
 * to be is noted for the next opening (stored/failed.h). */
int recover_commit(struct engine *engine);
/* Forgets what is not committed and applies the log behind the last commit again. */
int recover_replay(struct engine *engine);
/* Closes the index, opens what is at its name now, and applies the log behind its last commit; the
 * collector's rows, which are not in the log, go along. Nothing may be unflushed. */
int recover_reopen(struct engine *engine);

/*
 * The index is made anew at the next opening, durable: the file `rebuild`.
 */
int recover_distrust(struct engine *engine);
/* The same by the directory alone, for a process that ends. */
int recover_distrust_dir(const struct store_io *io, int dir_fd);
/*
 * For a handler of SIGBUS and SIGSEGV: async-signal-safe. The file `faults` counts them since the
 * last clean end; after some the index goes.
 */
void recover_note_fault(int dir_fd);

#endif
