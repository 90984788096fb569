/* What syncd may ask: who this node is, and the one step of a handshake that needs a private key.
 */
#include "ipc/call.h"
#include "ipc/ident.gen.h"
#include "keyd/keyd.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void on_ident_public(
	struct ident_server *self, struct ipc_call *call, const struct ident_public *req)
{
	const struct keyring *ring = self->client.keyd->ring;
	struct ident_public_reply reply = { 0 };

	memcpy(reply.identity, keyring_identity(ring), sizeof(reply.identity));
	memcpy(reply.noise_static, keyring_noise_static(ring), sizeof(reply.noise_static));
	memcpy(reply.vouch, keyring_vouch(ring), sizeof(reply.vouch));
	client_count(&self->client, KEYD_OP_PUBLIC, 1);
	ident_public_reply(call, &reply);
}

void on_ident_dh(struct ident_server *self, struct ipc_call *call, const struct ident_dh *req)
{
	struct client *client = &self->client;
	struct ident_dh_reply reply = { 0 };
	int r = keyring_dh(client->keyd->ring, req->peer, reply.shared);

	if (r < 0) {
		client_count(client, KEYD_OP_REFUSED, 1);
		ipc_call_fail(call, r, "the peer's key is a point of low order");
		return;
	}
	client_count(client, KEYD_OP_DH, 1);
	ident_dh_reply(call, &reply);
	sodium_memzero(&reply, sizeof(reply));
}
