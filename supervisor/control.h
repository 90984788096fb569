/*
 * ctl.sock: what bazil(1) asks for (ipc/control.msg). Who connects must be us (or root), by the uid
 * that the kernel vouches for. Each request goes, undecoded, to the worker that serves it; while
 * that one is being restarted the request waits for up to 10 seconds.
 */
#ifndef BAZIL_SUPERVISOR_CONTROL_H
#define BAZIL_SUPERVISOR_CONTROL_H

#include <stdbool.h>

struct child;
struct supervisor;

/* Binds and listens; a socket left by a killed supervisor is replaced (the lock is held). One that
 * was kept (keep.h) goes on. */
int control_listen(struct supervisor *s);

/* A client that is there already: the other end of our fd 3 (--once). Takes fd. */
int control_adopt(struct supervisor *s, int fd);

/* No new clients; those who are there stay until control_release(). */
void control_unlisten(struct supervisor *s);

/* Clients who come later wait, or do not any more. */
void control_accept(struct supervisor *s, bool accept);
/* What is queued for those who are there is sent. */
void control_flush(struct supervisor *s);

/* child runs: sends it what waits. */
void control_release_held(struct child *c);
/* child will not run: answers what waits. */
void control_fail_held(struct child *c);

/* Answers every ctl_stop, sends all that is queued, closes all clients. */
void control_release(struct supervisor *s);

#endif
