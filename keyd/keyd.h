/*
 * The state of keyd, the process that holds all secrets (R1).
 *
 * It holds the keyring (keyd/keyring.h) and answers a few counted operations on it, over edges that
 * the supervisor hands it. What may be asked over an edge is fixed when it is made (keyd/client.h);
 * nothing that a client says later widens it. A client that sends what its schema does not allow
 * loses its channel; the others and the keyring go on.
 *
 * keyd_init -> keyd_edge and keyd_begin in any order -> serves from the loop -> keyd_release. Edges
 * that come before keyd_begin wait unopened: what their clients ask meanwhile lies in the sockets.
 */
#ifndef BAZIL_KEYD_KEYD_H
#define BAZIL_KEYD_KEYD_H

#include "keyd/client.h"
#include "keyd/keyfile.h"
#include "keyd/keyring.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ev_loop;
struct secret;
struct work_counter;
struct work_edge;

struct keyd {
	struct ev_loop *loop;
	struct keyring *ring;
	struct keyfile file;
	/* keyd_begin has succeeded. */
	bool is_open;
	struct client *clients;
	/* Secrets that are being read for ctl_sharing_add. */
	struct secret *secrets;
	/* Of all clients, also those that are gone. */
	uint64_t counts[KEYD_NUM_OPS];
};

/* Before the sandbox. -ENOMEM, -ENOSYS: libsodium does not start. */
int keyd_init(struct keyd *keyd, struct ev_loop *loop);
void keyd_release(struct keyd *keyd);

/* Makes or opens the keyring in dir, which is borrowed. ret_text, on failure: for people, static.
 */
int keyd_begin(struct keyd *keyd, int dir, bool create, const char **ret_text);

/*
 * A client. Takes fd in any case. -EPERM: that role may not have such an edge; -EINVAL: its rights
 * make no sense; -EMFILE: too many.
 */
int keyd_edge(struct keyd *keyd, const struct work_edge *edge, int fd);

/* At most max counters, with names in storage that is valid until the next call. */
size_t keyd_counters(struct keyd *keyd, struct work_counter *ret, size_t max);

#endif
