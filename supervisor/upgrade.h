/*
 * The newly installed programs take over, under live mounts: all workers end in order, then the
 * supervisor becomes the new program by execve(2), with the descriptors of keep.h. Who reads or
 * writes in a mount, or asks for something by ctl.sock, waits for a moment.
 *
 * Asked for by SIGUSR2 (`bazil server upgrade`, `systemctl --user reload bazil`), not by a message:
 * the new bazil(1) and the old server may not speak the same schema. And it happens by itself when
 * a worker that was restarted turns out to be of another build, and so is our own program on disk.
 */
#ifndef BAZIL_SUPERVISOR_UPGRADE_H
#define BAZIL_SUPERVISOR_UPGRADE_H

#include <stdbool.h>

struct child;
struct supervisor;

/* Wanted as soon as the loop is back in main.c. */
void upgrade_want(struct supervisor *s);

/*
 * From main.c, not from a callback. Returns only when it could not be done, with a reason logged
 * and everything running as before; or when s->stopping.
 */
void upgrade(struct supervisor *s);

/* A worker of another build said hello: explained in ret, and if it can be helped, helped. */
void upgrade_mismatch(
	struct supervisor *s, const struct child *c, const char *build, char ret[200]);

#endif
