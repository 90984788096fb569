/*
 * A secret on its way from a descriptor into the keyring, for ctl_sharing_add: what the user gave
 * to bazil(1) as standard input, which nobody but keyd reads (R1).
 *
 * Exactly 32 bytes up to the end of the file are wanted. A pipe or a socket may take its time: it
 * is read from the loop, for SECRET_SECONDS at most and SECRET_MAX of them at once, while keyd
 * serves on. A file is read at once; one in a FUSE file system is refused, since that may be our
 * own mount, waiting for us.
 *
 * secret_read calls done exactly once, at once or from the loop, unless secret_cancel (or
 * keyd_release) comes before. The bytes are in locked memory and wiped after done.
 */
#ifndef BAZIL_KEYD_SECRET_H
#define BAZIL_KEYD_SECRET_H

#include "keyd/keyring.h"

#include <stddef.h>

#define SECRET_MAX     8
#define SECRET_SECONDS 10.0

struct ipc_call;
struct keyd;
struct secret;

/*
 * err -EMSGSIZE: len is not 32 (33: more than 32); -ETIMEDOUT; -EREMOTE: in a FUSE file system;
 * -EINVAL: nothing that can be read; else why reading failed. bytes are valid when err is 0.
 */
typedef void secret_done_fn(struct keyd *keyd, struct ipc_call *call, const char *name, int err,
	const uint8_t bytes[KEYRING_SECRET_SIZE], size_t len);

/* Takes fd. call and a copy of name go to done. -EBUSY: too many; -ENOMEM; done is not called then.
 */
int secret_read(
	struct keyd *keyd, int fd, struct ipc_call *call, const char *name, secret_done_fn *done);

/* Fails its call and forgets it. */
void secret_cancel(struct secret *secret);

#endif
