/*
 * The state of a supervisor, shared by the files of this folder.
 *
 * The supervisor starts the workers of topology.c, connects them by socketpairs, restarts what
 * dies, holds what must outlive a mountd (mounts.h), and relays requests of bazil(1) to the worker
 * that serves them (control.h). It touches no file data and decodes nothing but its own channels.
 *
 * One thread, one event loop. Callbacks come from the loop; main.c, create.c and shutdown.c are
 * written in a line and run the loop by supervisor_wait() until something is so.
 */
#ifndef BAZIL_SUPERVISOR_SUPERVISOR_H
#define BAZIL_SUPERVISOR_SUPERVISOR_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/auto_mounts.h"
#include "supervisor/child.h"
#include "supervisor/datadir.h"
#include "supervisor/rebuild.h"
#include "supervisor/topology.h"

struct client;
struct edge;
struct mount;
struct ipc_call;
struct remains;

struct supervisor {
	struct ev_loop *loop;
	struct datadir dir;
	char libexec[4096]; /* where the workers' programs are */

	struct child children[NUM_ROLES]; /* mountds are in their mounts */
	struct edge *edges;		  /* edges.h */
	struct mount *mounts;		  /* mounts.h */
	struct auto_mounts auto_mounts;
	struct client *clients;	 /* control.h */
	struct remains *remains; /* remains.h */
	uint64_t num_edges_made, num_mounts_made;

	int listener; /* for peers; -1: none */
	unsigned port;
	struct ev_io ctl_accept;
	int ctl_listener;
	struct ev_signal sigterm, sigint, sighup, sigusr2;
	struct ev_timer watchdog; /* systemd's, of us */
	double patience;	  /* watchdog.h: ours, of the workers */

	bool create;			 /* work_begin makes new stores */
	uint64_t arena_size;		 /* of a new store; 0: the default */
	struct rebuild rebuild;		 /* rebuild.h */
	unsigned peers_awaited;		 /* peers_refresh() under way */
	bool once;			 /* serves one client without a network or mounts */
	bool starting;			 /* the first start: who cannot begin now ends the server */
	bool failed;			 /* and said why: supervisor_last_error() */
	bool stopping;			 /* nothing new is begun */
	char **argv;			 /* of main() */
	bool upgrade_wanted, upgrading;	 /* upgrade.h */
	struct ipc_call *stop_calls[16]; /* to be answered when all is stopped */
	unsigned num_stop_calls;
};

/*
 * Runs the loop until is_so(arg) or the time is over or the start failed. Not from a callback.
 * Returns whether it is so.
 */
bool supervisor_wait(struct supervisor *s, bool (*is_so)(void *arg), void *arg, double seconds);

/* One line "bazil: ..." for a person; with --once it is kept for the client, who prints it. */
__attribute__((format(printf, 1, 2))) int supervisor_error(const char *fmt, ...);
const char *supervisor_last_error(void);

/* As supervisor_error(), and the first start is given up. Later it only says so. */
__attribute__((format(printf, 2, 3))) void supervisor_fail(
	struct supervisor *s, const char *fmt, ...);

#endif
