/*
 * Seals full arenas (stored/sealed_arena.h), one after another, in a thread if there may be
 * threads: serving goes on. What a crash, a full disk or an error leaves unsealed works as well and
 * is sealed later; the arenas of an old store too.
 */
#ifndef BAZIL_STORED_SEALER_H
#define BAZIL_STORED_SEALER_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

/* Notes what is done, begins the next. */
void sealer_run(struct engine *engine);
/* Whether this arena is being sealed, or will be soon. */
bool sealer_is_due(const struct engine *engine, uint32_t number);
/* Ends the thread, its work half done if need be. */
void sealer_stop(struct engine *engine);

#endif
