/*
 * `bazil volume connect` (on_ctl_volume_connect): which volume is it that a peer has under a name?
 * One question to the peer. What is made of the answer (ctl_volume_add) is the asker's business.
 */
#ifndef BAZIL_SYNCD_CONNECT_H
#define BAZIL_SYNCD_CONNECT_H

struct syncd;

/* At the end of the process: ends all, answering. */
void connects_release(struct syncd *d);

#endif
