/*
 * A request of the peer that is being answered.
 *
 * A handler on_X(self, call, req) answers it exactly once, by X_reply() or ipc_call_fail(), then or
 * at any later time; the call is gone after that. Until then it stays valid, also when the asker
 * goes away: then the answer goes nowhere and only frees the call. The request itself (req) dies
 * when the handler returns.
 */
#ifndef BAZIL_IPC_CALL_H
#define BAZIL_IPC_CALL_H

#include <stdbool.h>
#include <stdint.h>

struct ipc_call;
struct ipc_chan;
struct ipc_service;

/*
 * Answers by an error: err is -errno (the asker gets the same in done()), the text is for people.
 * fmt may be NULL: the text of the errno. Returns err, so that a handler can end with it.
 */
int ipc_call_fail(struct ipc_call *call, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Tells the asker how far it is; any number of times before the answer. total 0: unknown. */
int ipc_call_progress(struct ipc_call *call, uint64_t done, uint64_t total, const char *text);

/* The channel it came by; NULL once the asker is gone. */
struct ipc_chan *ipc_call_chan(struct ipc_call *call);

/* The number of the request (enum NAME_type). */
uint16_t ipc_call_type(const struct ipc_call *call);

/* The asker is gone: the work may be given up (but the call must still be answered). */
bool ipc_call_dead(const struct ipc_call *call);

/* fn is called once, when the asker goes away before the answer. fn may answer the call. */
typedef void ipc_call_dead_fn(struct ipc_call *call, void *arg);
void ipc_call_on_dead(struct ipc_call *call, ipc_call_dead_fn *fn, void *arg);

/* On a port: the priority of the answer, see ipc/chan.h. It starts as the channel's. */
void ipc_call_set_priority(struct ipc_call *call, int priority);

/*
 * For calls of a channel opened by ipc_chan_open_relay(), which keep their request undecoded:
 *
 * ipc_relay() sends it on, descriptors included, and passes the answer back, progress too. On
 * -errno nothing was sent and the call is still to be answered. When `to` dies the asker gets
 * -ECONNRESET. ipc_call_dispatch() decodes it and calls its handler in service, which answers. On
 * -errno (-ENOSYS: not of that service) the call is still to be answered. ipc_call_peek() gives a
 * reader of the request without its descriptors, for X_decode(); call and request stay as they are.
 */
int ipc_relay(struct ipc_call *call, struct ipc_chan *to);
struct ipc_reader;
int ipc_call_peek(const struct ipc_call *call, struct ipc_reader *ret);
int ipc_call_dispatch(struct ipc_call *call, const struct ipc_service *service, void *self);

#endif
