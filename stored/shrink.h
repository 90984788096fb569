/*
 * The index file never shrinks by itself. When more than half of it is free pages, a thread writes
 * a compact copy of the last commit beside it (index.new) while serving goes on; then the copy
 * takes its place, and the log since that commit is applied to it: what recovery does. A crash at
 * any step leaves one whole index or the other; a left index.new is written over.
 */
#ifndef BAZIL_STORED_SHRINK_H
#define BAZIL_STORED_SHRINK_H

struct engine;

/* Begins a copy when it is worth it, puts a finished one in place when nobody reads the old one. 0
 * or -EIO: the engine is broken. */
int shrink_run(struct engine *engine);
void shrink_stop(struct engine *engine);

#endif
