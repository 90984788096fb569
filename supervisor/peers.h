/*
 * What the network workers are told: the dialer the addresses of peers, syncd the socket that peers
 * come in by.
 */
#ifndef BAZIL_SUPERVISOR_PEERS_H
#define BAZIL_SUPERVISOR_PEERS_H

struct supervisor;

/* Asks stored for the peers and tells the dialer, when both run. Until it has heard, requests to
 * syncd wait (supervisor.peers_awaited): who has set a location and syncs then is sent there. */
void peers_refresh(struct supervisor *s);

/* Hands the listener to syncd, when there is one and it runs. */
void peers_listen(struct supervisor *s);

#endif
