#include "supervisor/upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/control.h"
#include "supervisor/keep.h"
#include "supervisor/mounts.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"

#define TRANSIT_SECONDS 30.0
#define MOUNT_SECONDS	65.0
#define STOP_SECONDS	15.0

/* The last ones first that others need. */
static const enum role_id order[] = { ROLE_SYNCD, ROLE_DIALER, ROLE_STORED, ROLE_KEYD,
	ROLE_MOUNTER };
#define NUM_ORDER (sizeof(order) / sizeof(order[0]))

void upgrade_want(struct supervisor *s)
{
	s->upgrade_wanted = true;
	ev_break(s->loop, EVBREAK_ALL);
}

static void own_program(const struct supervisor *s, char ret[4200])
{
	snprintf(ret, 4200, "%s/bazil-supervisor", s->libexec);
}

static bool is_other_program(const struct supervisor *s)
{
	struct stat ours, disk;
	char program[4200];

	own_program(s, program);
	return stat("/proc/self/exe", &ours) == 0 && stat(program, &disk) == 0 &&
	       (ours.st_dev != disk.st_dev || ours.st_ino != disk.st_ino);
}

void upgrade_mismatch(struct supervisor *s, const struct child *c, const char *build, char ret[200])
{
	snprintf(ret, 200,
		"server: bazil-%s is of another build (%.60s) than bazil-supervisor (%s): %s",
		c->role->name, *build ? build : "unknown", BAZIL_BUILD,
		"install all of bazil, then `bazil server upgrade`");
	if (s->starting || !is_other_program(s))
		return;
	log_info("server: another build was installed: it takes over");
	upgrade_want(s);
}

static bool none_in_transit(void *arg)
{
	for (const struct mount *m = ((struct supervisor *)arg)->mounts; m; m = m->next)
		if (m->state != MOUNT_MOUNTED || m->detaching || m->call || m->is_over)
			return false;
	return true;
}

static bool mounts_stopped(void *arg)
{
	for (const struct mount *m = ((struct supervisor *)arg)->mounts; m; m = m->next)
		if (m->child.state != CHILD_STOPPED)
			return false;
	return true;
}

static bool all_stopped(void *arg)
{
	struct supervisor *s = arg;

	for (int i = 0; i < NUM_ROLES; i++)
		if (s->children[i].state != CHILD_STOPPED)
			return false;
	return mounts_stopped(s);
}

static bool is_stopped(void *arg)
{
	return ((struct child *)arg)->state == CHILD_STOPPED;
}

/* mountds first: what is dirty is stored while there is somebody to store it, so that a new build
 * need not understand the old one's memory. */
static void stop_all(struct supervisor *s)
{
	for (struct mount *m = s->mounts; m; m = m->next)
		child_stop(&m->child);
	supervisor_wait(s, mounts_stopped, s, MOUNT_SECONDS);
	for (size_t i = 0; i < NUM_ORDER && !s->stopping; i++) {
		child_stop(&s->children[order[i]]);
		supervisor_wait(s, is_stopped, &s->children[order[i]], STOP_SECONDS);
	}
	if (s->stopping || all_stopped(s))
		return;
	for (int i = 0; i < NUM_ROLES; i++)
		child_kill(&s->children[i], "did not stop in time");
	for (struct mount *m = s->mounts; m; m = m->next)
		child_kill(&m->child, "did not stop in time");
	supervisor_wait(s, all_stopped, s, STOP_SECONDS);
}

/* Everything as before. */
static void go_on(struct supervisor *s)
{
	s->upgrading = false;
	for (size_t i = NUM_ORDER; i-- > 0;)
		child_start(&s->children[order[i]]);
	for (struct mount *m = s->mounts; m; m = m->next)
		if (!m->is_over)
			child_start(&m->child);
	control_accept(s, true);
}

static void exec_program(struct supervisor *s)
{
	char program[4200];
	int r;

	own_program(s, program);
	r = keep_over_exec(s);
	if (r == 0) {
		control_flush(s);
		notify("RELOADING=1");
		execv(program, s->argv);
		r = -errno;
	}
	keep_not_over_exec(s);
	log_error_errno(r, "server: %s could not be run: it goes on as it is", program);
	notify("READY=1");
}

void upgrade(struct supervisor *s)
{
	s->upgrade_wanted = false;
	s->upgrading = true;
	log_info("server: upgrading");
	/* Who comes now waits for the new one in the socket's queue. */
	control_accept(s, false);
	if (!supervisor_wait(s, none_in_transit, s, TRANSIT_SECONDS)) {
		if (!s->stopping)
			log_error("server: not upgraded: a mount comes or goes for too long");
		go_on(s);
		return;
	}
	stop_all(s);
	if (!s->stopping && all_stopped(s))
		exec_program(s);
	go_on(s);
}
