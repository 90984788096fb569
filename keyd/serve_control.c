/*
 * What people ask, by way of bazil(1) and the supervisor. A change is on disk before its reply, and
 * undone in memory when it could not be written.
 */
#include "ipc/call.h"
#include "ipc/ctl.gen.h"
#include "keyd/keyd.h"
#include "keyd/secret.h"
#include "worker/log.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void on_ctl_pubkey(struct ctl_server *self, struct ipc_call *call, const struct ctl_pubkey *req)
{
	struct ctl_pubkey_reply reply = { 0 };

	memcpy(reply.identity, keyring_identity(self->client.keyd->ring), sizeof(reply.identity));
	client_count(&self->client, KEYD_OP_PUBKEY, 1);
	ctl_pubkey_reply(call, &reply);
}

void on_ctl_sharing_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sharing_list *req)
{
	const struct keyring *ring = self->client.keyd->ring;
	struct ctl_sharing keys[KEYRING_SHARING_MAX];
	size_t num = keyring_num_sharing(ring);

	for (size_t i = 0; i < num; i++) {
		keys[i].name = keyring_sharing_name(ring, i);
		memcpy(keys[i].keyid, keyring_sharing_keyid(ring, i), sizeof(keys[i].keyid));
	}
	client_count(&self->client, KEYD_OP_SHARING_LIST, 1);
	ctl_sharing_list_reply(
		call, &(struct ctl_sharing_list_reply){ .keys = keys, .num_keys = num });
}

/* Texts for the person who asked; name has been checked before it is shown. */
static int fail_change(struct ipc_call *call, int err, const char *what, const char *name)
{
	switch (-err) {
	case EINVAL:
		return ipc_call_fail(call, err,
			"%s: a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -", what);
	case EEXIST:
		return ipc_call_fail(call, err,
			"%s: %s: there is a sharing key of that name: see `bazil sharing list`, "
			"choose another name",
			what, name);
	case ENOTUNIQ:
		return ipc_call_fail(call, err,
			"%s: %s: this key is here under another name: see `bazil sharing list`",
			what, name);
	case ENOKEY:
		return ipc_call_fail(call, err,
			"%s: %s: no such sharing key: see `bazil sharing list`", what, name);
	case EPERM:
		return ipc_call_fail(
			call, err, "%s: %s: this node's own sharing key stays", what, name);
	case EBUSY:
		return ipc_call_fail(call, err,
			"%s: %s: a mounted volume uses it: unmount the volume first", what, name);
	default:
		return ipc_call_fail(call, err, "%s: %s: %s", what, name, keyfile_advice(err));
	}
}

/* The ring as it was, to undo a change that could not be written. */
static uint8_t *remember(struct keyd *keyd)
{
	uint8_t *packed = sodium_malloc(KEYRING_PACKED_SIZE);

	if (packed)
		keyring_pack(keyd->ring, packed);
	return packed;
}

/* Makes the change durable, or undoes it; wipes before. */
static int commit(struct keyd *keyd, uint8_t *before)
{
	int r = keyfile_replace(&keyd->file, keyd->ring);

	if (r < 0 && keyring_unpack(keyd->ring, before, KEYRING_PACKED_SIZE) < 0)
		BUG();
	sodium_free(before);
	return r;
}

/* After the answer: what is on disk is known only to the disk. */
static void stop_when_uncertain(const struct keyd *keyd)
{
	if (keyd->file.is_uncertain)
		fatal("keyd: the keyring could not be made durable: starting again from what is "
		      "on disk");
}

static int add(struct keyd *keyd, const char *name, const uint8_t bytes[KEYRING_SECRET_SIZE],
	struct ctl_sharing_add_reply *reply)
{
	uint8_t *before = remember(keyd);
	int r;

	if (!before)
		return -ENOMEM;
	r = keyring_add(keyd->ring, name, bytes, reply->keyid);
	if (r < 0) {
		sodium_free(before);
		return r == -ENOSPC ? -EXFULL : r;
	}
	return commit(keyd, before);
}

static int fail_secret(struct ipc_call *call, int err, size_t len)
{
	switch (-err) {
	case EMSGSIZE:
		if (len > KEYRING_SECRET_SIZE)
			return ipc_call_fail(call, -EINVAL,
				"sharing add: the secret has more than 32 bytes: it must have "
				"exactly 32, and no newline after them");
		return ipc_call_fail(call, -EINVAL,
			"sharing add: the secret has %zu bytes: it must have exactly 32", len);
	case ETIMEDOUT:
		return ipc_call_fail(call, err,
			"sharing add: the secret did not come within 10 seconds: nothing was "
			"changed");
	case EREMOTE:
		return ipc_call_fail(call, err,
			"sharing add: the secret is in a FUSE file system, which keyd does not "
			"read from: use `cat FILE | bazil sharing add NAME`");
	case EINVAL:
		return ipc_call_fail(
			call, err, "sharing add: the secret must come from a file or a pipe");
	default:
		return ipc_call_fail(call, err, "sharing add: reading the secret failed");
	}
}

static void secret_come(struct keyd *keyd, struct ipc_call *call, const char *name, int err,
	const uint8_t bytes[KEYRING_SECRET_SIZE], size_t len)
{
	struct ctl_sharing_add_reply reply = { 0 };

	if (err < 0) {
		keyd->counts[KEYD_OP_REFUSED]++;
		fail_secret(call, err, len);
		return;
	}
	err = add(keyd, name, bytes, &reply);
	if (err == -EXFULL) {
		keyd->counts[KEYD_OP_REFUSED]++;
		ipc_call_fail(call, -ENOSPC,
			"sharing add: %s: there are 64 sharing keys, which is all that fit: remove "
			"one with `bazil sharing remove NAME`",
			name);
		return;
	}
	if (err < 0) {
		keyd->counts[KEYD_OP_REFUSED]++;
		fail_change(call, err, "sharing add", name);
		stop_when_uncertain(keyd);
		return;
	}
	keyd->counts[KEYD_OP_SHARING_ADD]++;
	log_info("keyd: a sharing key was added");
	ctl_sharing_add_reply(call, &reply);
}

void on_ctl_sharing_add(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sharing_add *req)
{
	int r = 0;

	/* Before the secret is read: a name that cannot be is no reason to wait for it. */
	if (!keyring_name_is_valid(req->name))
		r = -EINVAL;
	if (r < 0) {
		client_count(&self->client, KEYD_OP_REFUSED, 1);
		fail_change(call, r, "sharing add", req->name);
		return;
	}
	if (req->secret < 0) {
		client_count(&self->client, KEYD_OP_REFUSED, 1);
		ipc_call_fail(call, -EINVAL, "sharing add: no secret came with the request");
		return;
	}
	r = secret_read(self->client.keyd, IPC_TAKE_FD(req->secret), call, req->name, secret_come);
	if (r < 0) {
		client_count(&self->client, KEYD_OP_REFUSED, 1);
		ipc_call_fail(call, r, "sharing add: too many at once: try again");
	}
}

static int remove_key(struct keyd *keyd, const char *name)
{
	uint8_t *before;
	int r;

	if (!keyring_name_is_valid(name))
		return -EINVAL;
	if (client_any_uses(keyd, name))
		return -EBUSY;
	before = remember(keyd);
	if (!before)
		return -ENOMEM;
	r = keyring_remove(keyd->ring, name);
	if (r < 0) {
		sodium_free(before);
		return r;
	}
	return commit(keyd, before);
}

void on_ctl_sharing_remove(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sharing_remove *req)
{
	struct keyd *keyd = self->client.keyd;
	int r = remove_key(keyd, req->name);

	if (r < 0) {
		client_count(&self->client, KEYD_OP_REFUSED, 1);
		fail_change(call, r, "sharing remove", req->name);
		stop_when_uncertain(keyd);
		return;
	}
	client_count(&self->client, KEYD_OP_SHARING_REMOVE, 1);
	log_info("keyd: a sharing key was removed");
	ctl_sharing_remove_reply(call, &(struct ctl_sharing_remove_reply){ 0 });
}
