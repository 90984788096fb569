/*
 * `bazil volume sync`: a pull of a volume from a peer, in stages.
 *
 *   pull_connect    a session with the peer (syncd/peers.h)
 *   pull_begin      stored gives the volume's id and what we know; the peer says what it knows.
 *                   Nothing new there: done, after one round trip.
 *   pull_pages      the peer's changes, page by page; the next is on its way while stored stages
 * the last pull_merge      stored merges; registers that it needs from the peer are fetched, as
 * often as it asks pull_commit     stored has committed all at once, durably
 *
 * Nothing of a pull is visible before its commit, so whatever goes wrong leaves the volume as it
 * was. When the session or stored died the whole pull is begun again by itself, once. A stage that
 * makes no progress for limits->stage seconds ends it.
 */
#ifndef BAZIL_SYNCD_PULL_H
#define BAZIL_SYNCD_PULL_H

struct ipc_call;
struct syncd;

/* stored is back: pulls that wait for it go on. */
void pulls_resume(struct syncd *d);

/* At the end of the process: ends all, answering. */
void pulls_release(struct syncd *d);

/* Answers a call whose peer could not be reached; name: as in the command. */
void peer_unreachable(struct ipc_call *call, const char *name, int err, const char *why);
void peer_unknown(struct ipc_call *call, const char *name);

#endif
