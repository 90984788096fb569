/*
 * What systemd is told (sd_notify(3)), if it started us: datagrams to $NOTIFY_SOCKET. Nobody
 * listening is no error. With FileDescriptorStoreMax= in the unit it also keeps descriptors for us
 * while we are dead: notify_store() hands it a copy under a name, the next life gets them as
 * $LISTEN_FDS (keep.h).
 */
#ifndef BAZIL_SUPERVISOR_NOTIFY_H
#define BAZIL_SUPERVISOR_NOTIFY_H

struct supervisor;

/* E.g. "READY=1". */
void notify(const char *state);

/* name: no colons, at most 64 bytes. fd stays the caller's. */
void notify_store(const char *name, int fd);
void notify_forget(const char *name);

/* Says in time that our loop turns, when the unit has WatchdogSec=. */
void notify_start_watchdog(struct supervisor *s);

#endif
