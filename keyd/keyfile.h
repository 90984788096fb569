/*
 * The keyring's files, in keyd's directory (DIR/keys, reached by a descriptor alone):
 *
 *	keyring      sealed keyring, keyd/sealed.h
 *	keyring.old  the one before it
 *	unlock       "BZU1" | version 1 | zero[3] | 32 random bytes: opens keyring; mode 0600
 *	*.tmp        being written; left over by a crash, removed at the next opening
 *
 * With the key beside it the sealing protects copies of `keyring` that travel alone (backups,
 *peers); whoever reads the whole directory reads all. Keeping `unlock` elsewhere, or a passphrase
 *in its place, is what the slots are for.
 *
 * keyfile_create for a new node, keyfile_open for an old one, keyfile_replace after each change of
 *the ring, which is durable when that returns 0. Power may fail at any instant: there is always a
 *whole keyring under one of the two names, and `unlock` is durable before the first keyring is.
 *
 * keyring.old is taken only when keyring is missing or damaged (torn, rotten), never because it
 *would not open: a wrong `unlock`, an unknown version or a file altered on purpose is an error.
 *What was changed last may then be missing: ret_is_old says so, and the caller must tell. The first
 *replace after that keeps the damaged file as keyring.damaged and leaves keyring.old alone.
 *
 * Errors: -ENOENT no keyring here, -EEXIST there is one (create), -EBADMSG both generations
 *damaged, -EILSEQ altered, -EKEYREJECTED `unlock` is for another keyring, -ENOKEY no `unlock` or it
 *is malformed, -EPERM others may read `unlock`, -EPROTONOSUPPORT written by a newer build, else
 *what the system said (-ENOSPC, -EROFS...). keyfile_advice puts them into words.
 */
#ifndef BAZIL_KEYD_KEYFILE_H
#define BAZIL_KEYD_KEYFILE_H

#include "keyd/keyring.h"
#include "keyd/sealed.h"

#include <stdbool.h>
#include <stdint.h>

struct keyfile {
	/* Borrowed. */
	int dir;
	/* Counts the writings of the keyring. */
	uint64_t generation;
	struct sealed_slots slots;
	/* `keyring` was missing or damaged when we opened keyring.old in its place. */
	bool is_current_lost;
	/*
	 * A write failed so late that either generation may be on disk. Nothing may be believed of
	 * the memory any more: the process must end and open again.
	 */
	bool is_uncertain;
};

/* ring has been generated; it is written. Leftovers of a create that was cut short do not matter.
 */
int keyfile_create(struct keyfile *file, int dir, struct keyring *ring);

int keyfile_open(struct keyfile *file, int dir, struct keyring *ring, bool *ret_is_old);

/* On failure the files are as before (but see is_uncertain); the caller undoes his change in ring.
 */
int keyfile_replace(struct keyfile *file, struct keyring *ring);

/* What is wrong and what to do, for people; one line without a newline. */
const char *keyfile_advice(int err);

#endif
