#include "keyd/client.h"

#include "ipc/ctl.gen.h"
#include "ipc/ident.gen.h"
#include "ipc/key.gen.h"
#include "ipc/work.gen.h"
#include "keyd/keyd.h"
#include "worker/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kind {
	const char *channel;
	const char *role;
	const struct ipc_service *service;
};

static const struct kind kinds[] = {
	[CLIENT_KEY] = { "key", "mountd", &key_server_service },
	[CLIENT_IDENT] = { "ident", "syncd", &ident_server_service },
	[CLIENT_CTL] = { "ctl", "supervisor", &ctl_server_keyd_service },
};
#define NUM_KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *keyd_op_name(enum keyd_op op)
{
	switch (op) {
	case KEYD_OP_VOLUME_KEYS:
		return "volume_keys";
	case KEYD_OP_CHUNK_BATCHES:
		return "chunk_batches";
	case KEYD_OP_CHUNK_KEYS:
		return "chunk_keys";
	case KEYD_OP_PUBLIC:
		return "public_keys";
	case KEYD_OP_DH:
		return "handshakes";
	case KEYD_OP_PUBKEY:
		return "pubkeys";
	case KEYD_OP_SHARING_ADD:
		return "sharing_adds";
	case KEYD_OP_SHARING_LIST:
		return "sharing_lists";
	case KEYD_OP_SHARING_REMOVE:
		return "sharing_removes";
	case KEYD_OP_REFUSED:
		return "refused";
	case KEYD_OP_MALFORMED:
		return "malformed";
	}
	return "?";
}

const char *client_kind_name(enum client_kind kind)
{
	return kinds[kind].channel;
}

/* -EPERM unless this role may hold this channel. */
static int find_kind(const struct work_edge *edge, enum client_kind *ret)
{
	for (size_t i = 0; i < NUM_KINDS; i++) {
		if (strcmp(edge->kind, kinds[i].channel) == 0 &&
			strcmp(edge->role, kinds[i].role) == 0) {
			*ret = (enum client_kind)i;
			return 0;
		}
	}
	return -EPERM;
}

static int check_rights(enum client_kind kind, const struct work_edge *edge)
{
	bool has_volume = !sodium_is_zero(edge->volume, CAS_VOLUME_SIZE);

	if (kind == CLIENT_KEY)
		return has_volume && keyring_name_is_valid(edge->sharing) ? 0 : -EINVAL;
	/* Rights that mean nothing here were meant for another edge. */
	return !has_volume && edge->sharing[0] == '\0' ? 0 : -EINVAL;
}

/* The edge of the same place, whose other end is dead or about to be; and how many there are. */
static struct client *find(struct keyd *keyd, enum client_kind kind, uint64_t id, size_t *ret_num)
{
	struct client *found = NULL;

	*ret_num = 0;
	for (struct client *c = keyd->clients; c; c = c->next) {
		if (c->kind == kind && c->id == id)
			found = c;
		++*ret_num;
	}
	return found;
}

int client_new(struct keyd *keyd, const struct work_edge *edge, int fd)
{
	struct client *client = NULL, *old;
	enum client_kind kind;
	size_t num;
	int r;

	r = find_kind(edge, &kind);
	if (r == 0)
		r = check_rights(kind, edge);
	if (r == 0 && fd < 0)
		r = -EINVAL;
	if (r < 0)
		goto refuse;
	old = find(keyd, kind, edge->id, &num);
	r = -EMFILE;
	if (!old && num >= CLIENT_MAX)
		goto refuse;
	r = -ENOMEM;
	client = calloc(1, sizeof(*client));
	if (!client)
		goto refuse;
	if (old)
		client_free(old);
	*client = (struct client){
		.next = keyd->clients, .keyd = keyd, .kind = kind, .id = edge->id, .fd = fd
	};
	memcpy(client->volume, edge->volume, sizeof(client->volume));
	/* check_rights bounded it. */
	memcpy(client->sharing, edge->sharing, strlen(edge->sharing));
	keyd->clients = client;
	if (keyd->is_open)
		client_open(client);
	return 0;
refuse:
	if (fd >= 0)
		close(fd);
	keyd->counts[KEYD_OP_REFUSED]++;
	return r;
}

static void closed(void *self, struct ipc_chan *chan, int err)
{
	struct client *client = self;

	if (err) {
		/* Malformed from somebody less trusted: he is out, everybody else goes on. */
		log_error("keyd: edge %s %" PRIu64 " closed: %s", kinds[client->kind].channel,
			client->id, ipc_chan_error(chan));
		client_count(client, KEYD_OP_MALFORMED, 1);
	}
	client_free(client);
}

void client_open(struct client *client)
{
	const struct kind *kind = &kinds[client->kind];
	int fd = client->fd, r;

	client->fd = -1;
	r = ipc_chan_open(&client->chan, client->keyd->loop, fd, kind->service, client, closed);
	if (r < 0) {
		client->chan = NULL;
		log_error_errno(r, "keyd: edge %s %" PRIu64, kind->channel, client->id);
		client_free(client);
	}
}

void client_free(struct client *client)
{
	struct client **p = &client->keyd->clients;

	while (*p != client)
		p = &(*p)->next;
	*p = client->next;
	if (client->fd >= 0)
		close(client->fd);
	ipc_chan_close(client->chan);
	free(client);
}

void client_count(struct client *client, enum keyd_op op, uint64_t n)
{
	client->counts[op] += n;
	client->keyd->counts[op] += n;
}

bool client_any_uses(const struct keyd *keyd, const char *sharing)
{
	for (const struct client *c = keyd->clients; c; c = c->next) {
		if (c->kind == CLIENT_KEY && strcmp(c->sharing, sharing) == 0)
			return true;
	}
	return false;
}
