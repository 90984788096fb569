/*
 * Names to addresses without stopping the loop: one thread calls getaddrinfo(3), which blocks for
 * as long as name servers please, and the answer comes back by an ev_async.
 */
#ifndef BAZIL_DIALER_RESOLVE_H
#define BAZIL_DIALER_RESOLVE_H

#include <netdb.h>

struct ev_loop;
struct resolver;

/* err: 0, or an EAI_* code for gai_strerror(3). list belongs to the callee: freeaddrinfo(). */
typedef void resolved_fn(void *arg, int err, struct addrinfo *list);

/* Starts the thread: before the sandbox. Returns 0 or -errno. */
int resolver_start(struct resolver **ret, struct ev_loop *loop);

/* Resolves host and port, then calls fn from the loop, always later and exactly once. 0 or -ENOMEM.
 */
int resolver_ask(
	struct resolver *r, const char *host, const char *port, resolved_fn *fn, void *arg);

#endif
