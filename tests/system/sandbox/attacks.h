/*
 * What a worker that was taken over would try. Each attack does one forbidden thing, completely:
 * what it reads or changes is a canary of bazil-attack, so that outside it can be seen whether it
 * was done.
 */
#ifndef BAZIL_TESTS_SYSTEM_SANDBOX_ATTACKS_H
#define BAZIL_TESTS_SYSTEM_SANDBOX_ATTACKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Things outside of the sandbox that an attack may be after. */
struct canaries {
	char dir[64];	   /* a directory with a file `secret` in it */
	uint16_t tcp, udp; /* ports on 127.0.0.1 that somebody listens on */
	pid_t victim;	   /* a process of the same user */
	uint64_t word;	   /* address of a word in it */
	char host[65];	   /* what the host is called already */
	char abstract[32]; /* name of an abstract unix socket that listens; dir/socket is a
			      listening one too */
};

struct attack {
	const char *name;
	/* Returns 0 when it was done, else -errno. It runs in a process of its own. */
	int (*run)(const struct canaries *c);
	/* enum sandbox_profile bits of roles whose work it is. */
	unsigned allowed;
	/* How many layers stop it at least, each by itself: the system call filter and another one.
	 */
	unsigned depth;
};

extern const struct attack attacks[];
extern const size_t num_attacks;

#endif
