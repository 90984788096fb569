/*
 * Far objects for stored (on_fetch_objects): the volume's storages are asked in their order, each
 * for what the ones before did not have, until everything is there or the deadline is over. What
 * arrives is checked against its id and passed on through the ring before the answer.
 *
 * A peer whose session broke a moment ago is asked again for a few seconds before it counts as
 * away: its process may have been replaced, and a file that is being read need not notice.
 *
 * Several fetches run at once; an object that comes for one serves every other that waits for it on
 * the same session. Objects that nobody asked for are dropped.
 */
#ifndef BAZIL_SYNCD_FETCH_H
#define BAZIL_SYNCD_FETCH_H

#include <stddef.h>
#include <stdint.h>

struct link;
struct syncd;

/* An object came over this session; takes data. */
void fetch_arrived(struct link *link, const uint8_t id[32], uint8_t *data, size_t len);

/* At the end of the process: ends all, answering. */
void fetch_release(struct syncd *d);

#endif
