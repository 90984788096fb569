/*
 * One worker process from start to end, and again: what `watch` means here.
 *
 *   STOPPED -> child_start() -> STARTING -> work_ready, checked from outside (verify.h), edges
 * handed over -> BEGINNING -> work_begin answered -> RUNNING -> died -> BACKING_OFF -> STARTING ...
 *   any -> child_stop() -> STOPPING -> STOPPED
 *
 * Its death is seen by a pidfd, or by remains.h, its hanging by watchdog.h. It is restarted at once
 * the first time, then after 10, 50, 250 ms and every second; the count is forgotten when it lived
 * for 10 s. Its edges are made anew (edges.h), and requests for it wait meanwhile (control.h).
 */
#ifndef BAZIL_SUPERVISOR_CHILD_H
#define BAZIL_SUPERVISOR_CHILD_H

#include <ev.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/topology.h"

struct held;
struct ipc_chan;
struct mount;
struct supervisor;

enum child_state {
	CHILD_STOPPED,
	CHILD_STARTING,
	CHILD_BEGINNING,
	CHILD_RUNNING,
	CHILD_BACKING_OFF,
	CHILD_STOPPING,
};

struct child {
	struct supervisor *supervisor;
	const struct role *role;
	struct mount *mount; /* of a mountd */
	enum child_state state;
	pid_t pid;
	int pidfd;
	struct ev_io exited, log;
	struct ev_timer timer; /* of the state: too slow, back-off, or kill */
	struct ev_timer ping;
	struct ev_timer remains;
	struct ipc_chan *work;
	struct ipc_chan *ctl; /* we are the client */
	int ctl_fd;	      /* its end of that, until it is handed over */
	struct held *held;    /* requests for it, control.h */
	unsigned restarts, failures, hangs;
	uint64_t begun, to_begin; /* how far work_begin is; 0: it did not say */
	double told;		  /* when the log was last told */
	double asked;		  /* watchdog.h: when, what is not answered yet; 0 */
	bool is_other_build;
	bool is_fault;	 /* this death is not a mere SIGKILL from outside */
	unsigned faults; /* such deaths, one after the other */
	bool is_renewed; /* it is stopping to be started again */
	double started;	 /* ev_now() */
	uint32_t layers, landlock_abi;
	char missing[400];
	char last_death[100];
	char last_line[200]; /* of its log */
	char line[512];	     /* being received */
	size_t line_len;
};

void child_init(
	struct child *c, struct supervisor *s, const struct role *role, struct mount *mount);

/* Starts it; failures are deaths, and are retried. */
void child_start(struct child *c);

/* Asks it to finish and kills it after 10 seconds; STOPPED comes from the loop, or at once. */
void child_stop(struct child *c);

/* Asks it to finish, or kills it, and starts it again: that is no death. */
void child_renew(struct child *c);

/* SIGKILL now. Its death is dealt with from the loop. why: for the status. */
void child_kill(struct child *c, const char *why);

/* Closes what is left. Only when STOPPED. */
void child_release(struct child *c);

/* It has said work_ready and been checked: it may be given descriptors. */
bool child_is_ready(const struct child *c);

/* It is dead though its pidfd does not say so (remains.h): its next life begins without its end. */
void child_abandon(struct child *c);

/* Looks at the process itself: its death may not have been dealt with yet. */
bool child_is_alive(const struct child *c);

/* child_log.c: what it writes on its log pipe. */
void child_log_read(struct child *c);
void child_on_log(struct ev_loop *loop, struct ev_io *w, int events);

/* child_begin.c: its channels, and its way from work_ready to running. */
int child_open_channels(struct child *c, int *ret_work_fd);

/* Of its state, see on_timer() in child.c; negative: none. */
void child_set_timer(struct child *c, double seconds);

/* child_run.c: its process, and why that ended. work_fd and log_fd stay the caller's. */
int child_run(struct child *c, int work_fd, int log_fd);
void child_describe(const struct child *c, const siginfo_t *info, char how[100]);

const char *child_state_name(const struct child *c);

#endif
