/*
 * Connections that come in (syncd_listen of syncd/syncd.h). Each gets a handshake
 * (syncd/handshake.h), which also has the limits; those that are too many are closed at once.
 */
#ifndef BAZIL_SYNCD_LISTEN_H
#define BAZIL_SYNCD_LISTEN_H

struct syncd;

void listen_init(struct syncd *d);
void listen_release(struct syncd *d);

#endif
