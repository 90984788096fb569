/*
 * The known peers and the sessions with them.
 *
 * The table is what stored said (sync_config). Sessions are made on demand: peers_wait() calls
 * done() with a link as soon as there is one, dialling when nobody did. Nobody dials twice at once;
 * a failed attempt fails all who wait; afterwards attempts are refused (with the same reason) for a
 * time that doubles from 1 s to 60 s, except for is_urgent ones, behind which a person waits.
 *
 * When both sides dial at the same moment there are two sessions. Both nodes then prefer the same
 * one (dialled by the node with the smaller identity key; when the two sessions are not of one
 * moment, the newer), start nothing new on the other one, and close it when nothing runs on it any
 * more. A new session makes the older one prove that it is alive.
 *
 * A peer that is taken out of the table loses its sessions at once.
 *
 * struct link is a session with what this process does over it. Whoever works over one holds a
 * reference (link_ref); link->is_dead tells that the session is gone.
 */
#ifndef BAZIL_SYNCD_PEERS_H
#define BAZIL_SYNCD_PEERS_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct handshake_result;
struct link;
struct peer;
struct serve;
struct serve_objects;
struct session;
struct sync_config_reply;
struct syncd;

/* why: one line for people, without a full stop; the address and reason when it was dialled. */
typedef void peer_ready_fn(void *arg, int err, struct link *link, const char *why);

/* The caller's; zero it before the first use. Waiting when peer is not NULL. */
struct peer_wait {
	struct peer_wait *next;
	struct peer *peer;
	peer_ready_fn *done;
	void *arg;
	bool is_urgent;
};

struct link {
	struct link *next;
	unsigned int refs;
	struct syncd *syncd;
	/* NULL once dead */
	struct peer *peer;
	struct session *session;
	uint8_t key[32];
	bool is_dead, is_initiator;
	ev_tstamp since;
	/* serve.c: calls being answered, open pulls of the peer, its calls for objects (the first
	 * ones are being sent, the others wait for their turn), and when it last had a turn */
	size_t num_calls, num_serves;
	struct serve *serves;
	struct serve_objects *first_objects, **last_objects;
	size_t num_objects;
	bool is_sending;
	uint64_t turn, last_serve;
};

struct storage {
	uint8_t volume[16], peer[32];
};

struct peers {
	struct syncd *syncd;
	struct peer *first;
	/* taken out, but a step of theirs is still under way */
	struct peer *gone;
	struct storage *storages;
	size_t num_storages;
	/* sync_config was answered at least once */
	bool is_known;
};

void peers_init(struct peers *peers, struct syncd *d);
void peers_release(struct peers *peers);

/* Replaces the table. -ENOMEM: it is as before. */
int peers_set(struct peers *peers, const struct sync_config_reply *config);

/* NULL: unknown. text: 64 hex digits or a nickname. */
struct peer *peers_find_key(const struct peers *peers, const uint8_t key[32]);
struct peer *peers_find(const struct peers *peers, const char *text);

/* For messages: the nickname, or the first 16 digits of the key. */
const char *peer_name(const struct peer *peer, char ret[65]);
const uint8_t *peer_key(const struct peer *peer);

/* There was a session a moment ago: it is more likely being restarted than away. */
bool peer_is_recent(const struct peer *peer);

/* done() may come before this returns. */
void peers_wait(
	struct peer *peer, struct peer_wait *wait, bool is_urgent, peer_ready_fn *done, void *arg);
void peers_wait_cancel(struct peer_wait *wait);

/* A handshake of a connection that came in succeeded. */
void peers_accepted(struct peers *peers, struct handshake_result *result);

/* The dialer is back: those who wait for it go on. */
void peers_redial(struct peers *peers);

size_t peers_num_sessions(const struct peers *peers);

/* The sessions of all peers, one after the other; previous NULL: the first one. NULL at the end. */
struct link *peers_next_link(const struct peers *peers, const struct link *previous);

struct link *link_ref(struct link *link);
void link_unref(struct link *link);

#endif
