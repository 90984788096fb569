#include "keyd/keyd.h"

#include "ipc/work.gen.h"
#include "keyd/secret.h"
#include "worker/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int keyd_init(struct keyd *keyd, struct ev_loop *loop)
{
	*keyd = (struct keyd){ .loop = loop, .file = { .dir = -1 } };
	/* Finds out where randomness comes from, which may open a file. */
	if (sodium_init() < 0)
		return -ENOSYS;
	return keyring_new(&keyd->ring);
}

void keyd_release(struct keyd *keyd)
{
	while (keyd->secrets)
		secret_cancel(keyd->secrets);
	while (keyd->clients)
		client_free(keyd->clients);
	keyring_free(keyd->ring);
	keyd->ring = NULL;
}

static int open_keyring(struct keyd *keyd, int dir)
{
	bool is_old;
	int r = keyfile_open(&keyd->file, dir, keyd->ring, &is_old);

	if (r < 0 || !is_old)
		return r;
	log_warn("keyd: keys/keyring is missing or damaged: opened keys/keyring.old in its place, "
		 "generation %" PRIu64 "; the last change of the sharing keys may be lost: check "
		 "`bazil sharing list`",
		keyd->file.generation);
	/* Two good generations again; when that fails the next change tries once more. */
	r = keyfile_replace(&keyd->file, keyd->ring);
	if (r < 0)
		log_error_errno(r, "keyd: keys/keyring could not be written anew");
	return keyd->file.is_uncertain ? r : 0;
}

static int create_keyring(struct keyd *keyd, int dir)
{
	int r = keyring_generate(keyd->ring);

	return r < 0 ? r : keyfile_create(&keyd->file, dir, keyd->ring);
}

int keyd_begin(struct keyd *keyd, int dir, bool create, const char **ret_text)
{
	struct client *next;
	int r;

	if (keyd->is_open) {
		*ret_text = "the keyring is open already";
		return -EALREADY;
	}
	if (!keyring_is_locked(keyd->ring))
		log_warn("keyd: keys cannot be locked into memory and may be written to swap: "
			 "raise RLIMIT_MEMLOCK");
	r = create ? create_keyring(keyd, dir) : open_keyring(keyd, dir);
	if (r < 0) {
		*ret_text = keyfile_advice(r);
		return r;
	}
	keyd->is_open = true;
	for (struct client *c = keyd->clients; c; c = next) {
		next = c->next;
		client_open(c);
	}
	return 0;
}

int keyd_edge(struct keyd *keyd, const struct work_edge *edge, int fd)
{
	return client_new(keyd, edge, fd);
}

size_t keyd_counters(struct keyd *keyd, struct work_counter *ret, size_t max)
{
	static char names[WORK_STATUS_REPLY_COUNTERS_MAX][WORK_COUNTER_NAME_MAX + 1];
	size_t n = 0;

	if (max > WORK_STATUS_REPLY_COUNTERS_MAX)
		max = WORK_STATUS_REPLY_COUNTERS_MAX;
	for (int op = 0; op < KEYD_NUM_OPS && n < max; op++)
		ret[n++] = (struct work_counter){ keyd_op_name(op), keyd->counts[op] };
	/* Then each client's, while there is room: who asks how much. */
	for (const struct client *c = keyd->clients; c; c = c->next) {
		for (int op = 0; op < KEYD_NUM_OPS && n < max; op++) {
			if (c->counts[op] == 0)
				continue;
			snprintf(names[n], sizeof(names[n]), "%s.%" PRIu64 ".%s",
				client_kind_name(c->kind), c->id, keyd_op_name(op));
			ret[n] = (struct work_counter){ names[n], c->counts[op] };
			n++;
		}
	}
	return n;
}
