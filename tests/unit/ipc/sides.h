/* Both sides of the channel `test` in one process, with one loop, and what they were told. */
#ifndef BAZIL_TESTS_UNIT_IPC_SIDES_H
#define BAZIL_TESTS_UNIT_IPC_SIDES_H

#include "ipc/test.gen.h"

#include <ev.h>

struct test_client {
	struct ipc_chan *chan;
	unsigned num_shouts;
	uint64_t last_shout;
	bool was_closed;
	int closed_err;
	char closed_text[200];
};

struct test_server {
	struct ipc_chan *chan;
	unsigned num_told;
	uint64_t last_told;
	struct ipc_call *deferred;
	unsigned num_dead;
	bool close_in_handler;
	bool shout_first;
	bool was_closed;
	int closed_err;
};

struct sides {
	struct ev_loop *loop;
	struct test_client client;
	struct test_server server;
};

void sides_init(struct sides *s);
void sides_release(struct sides *s);
/* Runs the loop until nothing happens any more. */
void sides_run(struct sides *s);
void client_closed(void *self, struct ipc_chan *chan, int err);
void server_closed(void *self, struct ipc_chan *chan, int err);
unsigned count_fds(void);

#endif
