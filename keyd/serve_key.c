/*
 * What mountd may ask: keys of the one volume, by the one sharing key, that its edge is bound to.
 * Neither is in a request, so there is nothing to forge.
 */
#include "cas/object.h"
#include "ipc/call.h"
#include "ipc/key.gen.h"
#include "keyd/keyd.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static int refuse(struct client *client, struct ipc_call *call, int err)
{
	client_count(client, KEYD_OP_REFUSED, 1);
	if (err == -ENOKEY)
		return ipc_call_fail(call, err,
			"sharing key %s is not here: add it with `bazil sharing add %s <SECRET`",
			client->sharing, client->sharing);
	return ipc_call_fail(call, err, NULL);
}

void on_key_volume(struct key_server *self, struct ipc_call *call, const struct key_volume *req)
{
	struct client *client = &self->client;
	struct key_volume_reply reply = { 0 };
	struct cas_volume_keys keys;
	int r = keyring_volume_keys(client->keyd->ring, client->sharing, client->volume, &keys);

	if (r < 0) {
		refuse(client, call, r);
		return;
	}
	memcpy(reply.chunker, keys.chunker, sizeof(reply.chunker));
	memcpy(reply.seal, keys.seal, sizeof(reply.seal));
	memcpy(reply.siv, keys.siv, sizeof(reply.siv));
	memcpy(reply.name, keys.name, sizeof(reply.name));
	memcpy(reply.value, keys.value, sizeof(reply.value));
	client_count(client, KEYD_OP_VOLUME_KEYS, 1);
	key_volume_reply(call, &reply);
	sodium_memzero(&keys, sizeof(keys));
	sodium_memzero(&reply, sizeof(reply));
}

_Static_assert(sizeof(struct cas_hash) == 32, "hashes of a message are read as such");

void on_key_chunks(struct key_server *self, struct ipc_call *call, const struct key_chunks *req)
{
	struct client *client = &self->client;
	uint8_t keys[KEY_CHUNKS_HASHES_MAX][CAS_KEY_SIZE],
		tags[KEY_CHUNKS_HASHES_MAX][CAS_KEY_SIZE];
	size_t num = req->num_hashes;
	int r;

	/* Only chunks are convergent: manifests are sealed by the volume's keys. */
	if (req->type != CAS_TYPE_CHUNK) {
		refuse(client, call, -EINVAL);
		return;
	}
	r = keyring_chunk_keys(client->keyd->ring, client->sharing, req->type,
		(const struct cas_hash *)req->hashes, num, keys, tags);
	if (r < 0) {
		refuse(client, call, r);
		return;
	}
	client_count(client, KEYD_OP_CHUNK_BATCHES, 1);
	client_count(client, KEYD_OP_CHUNK_KEYS, num);
	key_chunks_reply(
		call, &(struct key_chunks_reply){
			      .keys = keys, .num_keys = num, .tags = tags, .num_tags = num });
	sodium_memzero(keys, num * CAS_KEY_SIZE);
	sodium_memzero(tags, num * CAS_KEY_SIZE);
}
