/*
 * A client of keyd: one edge, what may be asked over it, and how often that was done.
 *
 *	channel	role		may ask
 *	key	mountd		volume keys and chunk keys of one volume, by one sharing key
 *	ident	syncd		public keys and the vouch; Diffie-Hellman of the Noise static key
 *	ctl	supervisor	what people ask: the identity; sharing keys: add, list, remove
 *
 * No other pair of channel and role exists. The rights come from the supervisor with the edge and
 * do not change; a new edge of the same channel and id replaces the old one.
 */
#ifndef BAZIL_KEYD_CLIENT_H
#define BAZIL_KEYD_CLIENT_H

#include "cas/kdf.h"
#include "keyd/keyring.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_MAX 128

struct ipc_chan;
struct keyd;
struct work_edge;

enum client_kind {
	CLIENT_KEY,
	CLIENT_IDENT,
	CLIENT_CTL,
};

enum keyd_op {
	KEYD_OP_VOLUME_KEYS,
	KEYD_OP_CHUNK_BATCHES,
	KEYD_OP_CHUNK_KEYS,
	KEYD_OP_PUBLIC,
	KEYD_OP_DH,
	KEYD_OP_PUBKEY,
	KEYD_OP_SHARING_ADD,
	KEYD_OP_SHARING_LIST,
	KEYD_OP_SHARING_REMOVE,
	/* Asked within the schema and turned down. */
	KEYD_OP_REFUSED,
	/* Channels closed because of what came over them. */
	KEYD_OP_MALFORMED,
};
#define KEYD_NUM_OPS 11

/* For `bazil status`, e.g. "chunk_keys". */
const char *keyd_op_name(enum keyd_op op);

struct client {
	struct client *next;
	struct keyd *keyd;
	enum client_kind kind;
	uint64_t id;
	/* -1 once chan is open. */
	int fd;
	struct ipc_chan *chan;
	/* CLIENT_KEY: the only volume and the name of the only sharing key. */
	uint8_t volume[CAS_VOLUME_SIZE];
	char sharing[KEYRING_NAME_MAX + 1];
	uint64_t counts[KEYD_NUM_OPS];
};

/* What the generated dispatch hands to the handlers: which rights a handler relies on is its type.
 */
struct key_server {
	struct client client;
};
struct ident_server {
	struct client client;
};
struct ctl_server {
	struct client client;
};

/* Checks the rights; takes fd in any case. Errors as keyd_edge. */
int client_new(struct keyd *keyd, const struct work_edge *edge, int fd);

/* Begins to serve; a client that cannot be served is logged and gone. */
void client_open(struct client *client);

void client_free(struct client *client);

/* One more of op, here and in the total; n of them. */
void client_count(struct client *client, enum keyd_op op, uint64_t n);

/* Is a mounted volume using this sharing key? */
bool client_any_uses(const struct keyd *keyd, const char *sharing);

/* "key", "ident", "ctl" */
const char *client_kind_name(enum client_kind kind);

#endif
