/*
 * The state of the process that talks to the network, and what holds its parts together.
 *
 *   listen.c     accepts connections          handshake.c  who is it? (Noise, with keyd)
 *   peers.c      known peers, sessions with them, dialling
 *   session.c    an encrypted conversation    wire.c, fragment.c, intro.c   its formats
 *   serve.c      what peers ask of us         pull.c, connect.c  `volume sync`, `volume connect`
 *   fetch.c      far objects for stored       objects.c    the rings to and from stored
 *   edges.c      channels with the other processes of this node
 *
 * Single-threaded on one libev loop; nothing here blocks. Calling order: syncd_init(); syncd_edge()
 * for each channel, in any order and again when the process at its other end was replaced;
 * syncd_listen(); the loop; syncd_release(). It does not know who started it (main.c), so that a
 * test runs several nodes in one process.
 *
 * A peer's bytes end at session.c (decrypted) and the `peer` schema (decoded). Nothing is believed:
 * stored checks permissions, records and object ids itself. Log lines name no peer, volume or file.
 */
#ifndef BAZIL_SYNCD_SYNCD_H
#define BAZIL_SYNCD_SYNCD_H

#include "syncd/objects.h"
#include "syncd/peers.h"
#include "syncd/session.h"

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connect;
struct fetch;
struct handshake;
struct ipc_chan;
struct pull;

/* Times in seconds. */
struct syncd_limits {
	struct session_limits session;
	/* from the connection to the session */
	double handshake;
	/* a connection that is refused, for whatever reason, is closed this long after its last
	 * message */
	double refusal;
	size_t max_handshakes, max_handshakes_per_address;
	/* dialling, including the peer's welcome */
	double dial;
	/* a stage of a pull without progress; the merge within stored */
	double stage, merge;
	/* for another process of this node to come back; before a pull is begun again */
	double restart, again;
	/* a peer that was there is expected back: a process that was killed is, a computer is not
	 */
	double recent;
};

extern const struct syncd_limits syncd_default_limits;

enum syncd_counter {
	SYNCD_SESSIONS,
	SYNCD_HANDSHAKES_OK,
	SYNCD_HANDSHAKES_REFUSED,
	SYNCD_CONNECTIONS_REFUSED,
	SYNCD_PULLS,
	SYNCD_PULLS_FAILED,
	SYNCD_OBJECTS_IN,
	SYNCD_OBJECTS_OUT,
	SYNCD_OBJECTS_WRONG,
	SYNCD_NUM_COUNTERS,
};

/* Receivers of notices and requests; see the generated headers. */
struct sync_client {
	struct syncd *syncd;
};

struct fetch_server {
	struct syncd *syncd;
};

struct ctl_server {
	struct syncd *syncd;
};

struct syncd {
	struct ev_loop *loop;
	const struct syncd_limits *limits;
	uint64_t counters[SYNCD_NUM_COUNTERS];

	/* edges; NULL while the other process is away */
	struct ipc_chan *ident, *sync, *fetch, *dial, *ctl;
	struct sync_client sync_client;
	/* sync_config is under way, and was changed since */
	bool is_configuring, is_config_old;
	struct fetch_server fetch_server;
	struct ctl_server ctl_server;
	/* counts edges to stored: what was opened over an earlier one is gone */
	uint64_t sync_generation;

	/* from keyd */
	bool has_identity;
	uint8_t identity[32], noise_static[32], vouch[64];

	int listen_fd;
	struct ev_io listen_io;
	struct ev_timer listen_again;
	struct handshake *handshakes;
	size_t num_handshakes;

	struct peers peers;
	struct objects objects;
	struct pull *pulls;
	struct connect *connects;
	struct fetch *fetches;
	struct serve_state {
		uint64_t turn;
		/* sync_objects calls at stored, and bytes of objects on their way to peers */
		size_t num_asked;
		size_t bytes;
	} serve;
};

/* -ENOMEM */
int syncd_init(struct syncd *d, struct ev_loop *loop, const struct syncd_limits *limits);
/* Accepts nobody any more; ends pulls and fetches, answering those who wait. */
void syncd_stop(struct syncd *d);

/* Ends all; runs the loop until everybody has been told. */
void syncd_release(struct syncd *d);

/* Takes the descriptors. kind: "ident", "sync", "fetch", "dial", "ctl". ring_in, ring_out: of
 * "sync", else -1. -EINVAL: unknown kind. */
int syncd_edge(struct syncd *d, const char *kind, int fd, int ring_in, int ring_out);

/* The channel to stored; NULL while there is none. */
struct ipc_chan *syncd_store(const struct syncd *d);

/* Takes a listening socket; replaces the one before. */
int syncd_listen(struct syncd *d, int fd);

const char *syncd_counter_name(enum syncd_counter c);

#endif
