/*
 * Between generated code and the channel: a service says how one side of a channel is to be served,
 * and the ipc_send_*() functions are what the generated senders call. Nobody else calls these.
 */
#ifndef BAZIL_IPC_SERVICE_H
#define BAZIL_IPC_SERVICE_H

#include "ipc/reader.h"
#include "ipc/writer.h"

#include <stdbool.h>
#include <stdint.h>

struct ipc_call;
struct ipc_chan;

/* A typed callback on its way through code that does not know its type; cast back before the call.
 */
typedef void ipc_any_fn(void);

typedef int ipc_encode_fn(const void *msg, struct ipc_writer *w);
typedef int ipc_decode_fn(struct ipc_reader *r, void *msg);

/*
 * A request of ours is over: decodes the reply from r and calls done(arg, 0, reply), or done(arg,
 * err, NULL) when err < 0 (r is NULL then). Returns -EBADMSG when the reply cannot be decoded: the
 * channel is closed.
 */
typedef int ipc_replied_fn(ipc_any_fn *done, void *arg, int err, struct ipc_reader *r);

struct ipc_service {
	const char *name;
	uint32_t version;
	/* Maps instead of arrays: sides of different versions understand each other. */
	bool keyed;
	/* Keys travel over it: every copy of a message in this process is overwritten after use. */
	bool secret;
	const uint8_t *digest;
	const char *(*type_name)(uint16_t type);
	/* Decode and call on_...(). NULL: this side gets none. -EBADMSG, or -ENOSYS: no such type.
	 */
	int (*request)(void *self, struct ipc_call *call, uint16_t type, struct ipc_reader *r);
	int (*notice)(void *self, uint16_t type, struct ipc_reader *r);
	/* Decodes and forgets a request: is it well-formed? For requests that are relayed
	 * undecoded. */
	int (*check)(uint16_t type, struct ipc_reader *r);
};

/* timeout_ms 0: no deadline. Returns 0 and calls done exactly once later, or -errno and never. */
int ipc_send_request(struct ipc_chan *chan, uint16_t type, ipc_encode_fn *encode, const void *msg,
	unsigned timeout_ms, ipc_replied_fn *replied, ipc_any_fn *done, void *arg);

/* Blocks. On success ret is decoded and owns its storage; otherwise it is untouched. */
int ipc_send_wait(struct ipc_chan *chan, uint16_t type, ipc_encode_fn *encode, const void *msg,
	int timeout_ms, ipc_decode_fn *decode, void *ret);

int ipc_send_notice(struct ipc_chan *chan, uint16_t type, ipc_encode_fn *encode, const void *msg);

/* Answers and ends the call, also when it fails (a reply that does not fit is answered by an
 * error). */
int ipc_send_reply(struct ipc_call *call, uint16_t type, ipc_encode_fn *encode, const void *msg);

#endif
