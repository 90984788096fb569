/*
 * One connection being made: the name is resolved, then its addresses are tried one after the
 * other, each for a share of the time, until one answers.
 */
#ifndef BAZIL_DIALER_DIAL_H
#define BAZIL_DIALER_DIAL_H

#include <stdint.h>

struct ev_loop;
struct resolver;

/*
 * err 0: fd is the connected socket, the callee's now, and address the one that answered. Else
 * -errno, fd -1, and text says what was tried and why it failed, for people. Called once, always
 * later.
 */
typedef void dialed_fn(void *arg, int err, int fd, const char *text);

/* address: as in dialer/addresses.h. Returns 0 or -errno, and then done is not called. */
int dial_start(struct ev_loop *loop, struct resolver *resolver, const char *address,
	uint32_t timeout_ms, dialed_fn *done, void *arg);

#endif
