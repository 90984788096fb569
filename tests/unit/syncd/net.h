/*
 * A small network for tests: nodes with the real syncd core, a pretended keyd (with real keys),
 * stored (volumes and objects in memory), dialer and command line, all in one process on one loop;
 * connected by TCP on loopback, through a proxy that misbehaves as told.
 *
 * net_init(), net_node() for each, node_knows() in both directions, then node_sync() and so on,
 * which run the loop until there is an answer. net_release() checks that nothing is left.
 */
#ifndef BAZIL_TESTS_UNIT_SYNCD_NET_H
#define BAZIL_TESTS_UNIT_SYNCD_NET_H

#include "syncd/syncd.h"

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_NODES     6
#define NET_ITEMS_MAX 4096
#define NET_OBJECTS   64

struct net;
struct node;

struct ident_server {
	struct node *node;
};
struct sync_server {
	struct node *node;
};
struct fetch_client {
	struct node *node;
};
struct dial_server {
	struct node *node;
};
struct ctl_client {
	struct node *node;
};

/* What one direction of a proxy does, in bytes or frames from its beginning; -1: nothing. */
struct mischief {
	long cut_at, flip_at, freeze_at;
	long repeat_frame, drop_frame, swap_frame;
	/* bytes per hundredth of a second; 0: no limit */
	size_t speed;
};

/* 0: from the dialler; 1: towards it. Totals of the last connection. */
struct proxy {
	struct net *net;
	int fd, port, target_port;
	struct ev_io io;
	struct mischief dir[2];
	/* only the first connection is disturbed; the next one is not */
	bool once;
	long bytes[2], frames[2], num_connections;
	struct proxy_conn *conns;
};

struct stored_object {
	uint8_t id[32];
	uint8_t *data;
	size_t len;
};

struct known {
	struct node *node;
	/* where it is dialled; 0: no address */
	int port;
	bool may_pull, may_store;
};

struct node {
	struct net *net;
	struct syncd d;
	uint8_t identity[32], identity_secret[64], static_public[32], static_secret[32];
	char hex[65], nickname[16];

	/* hands one end of an edge over, and closes it here */
	void (*give)(struct node *n, const char *kind, int fd, int ring_in, int ring_out);
	void *process;

	struct ident_server keyd;
	struct sync_server stored;
	struct fetch_client fetcher;
	struct dial_server dialer;
	struct ctl_client cli;
	struct ipc_chan *keyd_chan, *stored_chan, *fetch_chan, *dial_chan, *ctl_chan;
	int ring_in_fd, ring_out_fd;
	struct ipc_ring *ring_in, *ring_out;
	int port;

	struct known known[NET_NODES];
	size_t num_known;
	struct node *storages[NET_NODES];
	size_t num_storages;

	/* the volume "vol": numbers of items, each of which stands for a record */
	uint32_t items[NET_ITEMS_MAX];
	size_t num_items;
	/* how often stored says that it needs registers before it commits */
	int num_needs;
	size_t page_size;
	/* a pull being staged */
	bool is_pulling;
	uint64_t pull, num_pulls, num_commits, num_aborts;
	uint8_t *staged;
	size_t staged_len;
	int needs_left;
	/* pulls being served */
	uint64_t next_serve;
	size_t num_serves;
	size_t serve_from[8];
	uint64_t serve_ids[8];

	struct stored_object objects[NET_OBJECTS];
	size_t num_objects;
	/* stored of this node sends these bytes instead, or stops answering */
	bool sends_wrong_objects, is_silent;
	/* calls that it did not answer */
	struct ipc_call *unanswered[32];
	size_t num_unanswered;
	/* ids that came in through the ring */
	uint8_t arrived[NET_OBJECTS * 4][32];
	size_t num_arrived;
};

struct net {
	struct ev_loop *loop;
	struct syncd_limits limits;
	struct node *nodes[NET_NODES];
	size_t num_nodes;
	struct proxy *proxies[4];
	size_t num_proxies;
	uint64_t random;
};

struct outcome {
	bool is_done;
	int err;
	char text[1200];
	uint64_t num_records, num_changed, num_conflicts;
	uint8_t id[16];
	uint32_t lens[64];
	size_t num_lens, num_progress;
};

void net_init(struct net *net);
void net_release(struct net *net);
uint32_t net_random(struct net *net);

struct node *net_node(struct net *net, const char *nickname);

/* A node whose syncd is another process: set give(), then node_start(). */
struct node *net_node_without_syncd(struct net *net, const char *nickname);
void node_start(struct node *n);
int listen_anywhere(int *ret_port);
/* a knows b and dials it at port (0: cannot). */
void node_knows(struct node *a, struct node *b, int port);
void node_forgets(struct node *a, struct node *b);
/* Tells syncd that its settings changed. */
void node_changed(struct node *a);
struct known *node_known(struct node *a, struct node *b);

/* Processes that die and come back. */
void node_kill_stored(struct node *a);
void node_start_stored(struct node *a);
void node_kill_keyd(struct node *a);
void node_start_keyd(struct node *a);
void node_start_dialer(struct node *a);

void node_write(struct node *a, size_t num_items);
bool node_has_all(const struct node *a, const struct node *b);
void node_store(struct node *a, size_t len, uint8_t ret_id[32]);
bool node_got(const struct node *a, const uint8_t id[32]);

/* Begin; then net_wait(). */
void node_sync_begin(struct node *a, const char *peer, struct outcome *out);
void node_fetch_begin(struct node *a, uint8_t (*ids)[32], size_t num_ids, uint32_t deadline_ms,
	struct outcome *out);
/* Runs the loop until it is done; false after so many seconds. */
bool net_wait(struct net *net, const bool *is_done, double seconds);
void net_run(struct net *net, double seconds);

/* Whole: fail the test when there is no answer at all. */
void node_sync(struct node *a, const char *peer, struct outcome *out);
void node_connect(struct node *a, const char *peer, const char *volume, struct outcome *out);
void node_fetch(struct node *a, uint8_t (*ids)[32], size_t num_ids, uint32_t deadline_ms,
	struct outcome *out);

/* A proxy in front of a port. */
struct proxy *net_proxy(struct net *net, int target_port);
/* Ends what is connected; counts from zero again. */
void proxy_reset(struct proxy *p);

/* A plain connection to a port. */
int net_connect(int port);

#endif
