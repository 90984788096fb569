/*
 * A worker that lives but does not answer: stopped by somebody, in a loop without end, waiting for
 * a lock that nobody lets go. Each running worker is asked `work_ping` again and again; one that
 * has not answered for s->patience seconds is killed, and its death heals it. That is harmless
 * (R4).
 *
 * Excused for the time being is who waits for the disk (state D in /proc/PID/stat), and a mountd
 * whose stored or keyd is being restarted or does not answer itself: it waits for them.
 */
#ifndef BAZIL_SUPERVISOR_WATCHDOG_H
#define BAZIL_SUPERVISOR_WATCHDOG_H

#define WATCHDOG_SECONDS 60.0

struct child;

void watchdog_init(struct child *c);
void watchdog_start(struct child *c);
void watchdog_stop(struct child *c);

/* $BAZIL_WATCHDOG, seconds, or WATCHDOG_SECONDS. */
double watchdog_patience(void);

#endif
