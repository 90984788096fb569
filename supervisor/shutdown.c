#include "supervisor/shutdown.h"

#include "supervisor/control.h"
#include "supervisor/edges.h"
#include "supervisor/mounts.h"
#include "supervisor/remains.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"

#define BUSY_SECONDS  2.0
#define STEP_SECONDS  0.1
/* To store what is dirty, after the mount is gone. */
#define FLUSH_SECONDS 60.0
/* child_stop() kills after 10 seconds; this is for the kernel to let it go. */
#define STOP_SECONDS  15.0

static bool no_mounts(void *arg)
{
	return ((struct supervisor *)arg)->mounts == NULL;
}

static bool is_stopped(void *arg)
{
	return ((struct child *)arg)->state == CHILD_STOPPED;
}

static bool never(void *arg)
{
	return false;
}

/* Asks for each mount that is not on its way already; false when all are. */
static bool leave_all(struct supervisor *s, bool force)
{
	bool asked = false;

	for (struct mount *m = s->mounts; m; m = m->next) {
		if (m->state == MOUNT_LEAVING || m->detaching)
			continue;
		/* One that is on its way up is left when it is up. */
		if (m->state >= MOUNT_STARTING)
			mount_leave(m, force);
		asked = true;
	}
	return asked;
}

static void unmount_all(struct supervisor *s)
{
	const double busy_until = ev_time() + BUSY_SECONDS;

	while (ev_time() < busy_until && leave_all(s, false))
		supervisor_wait(s, no_mounts, s, STEP_SECONDS);
	/* The last answers: busy, or on its way. */
	supervisor_wait(s, never, s, STEP_SECONDS);
	if (leave_all(s, true))
		log_warn("a mount is busy: it is detached, who uses it gets errors from now on");
	if (!supervisor_wait(s, no_mounts, s, FLUSH_SECONDS))
		log_error("a mount could not be stored and unmounted in time");
	for (struct mount *m = s->mounts; m; m = m->next) {
		m->is_over = true;
		child_stop(&m->child);
	}
	supervisor_wait(s, no_mounts, s, STOP_SECONDS);
}

static void stop_role(struct supervisor *s, enum role_id id)
{
	struct child *c = &s->children[id];

	child_stop(c);
	supervisor_wait(s, is_stopped, c, STOP_SECONDS);
	child_release(c);
}

void shutdown_all(struct supervisor *s)
{
	s->stopping = true;
	s->starting = false;
	control_unlisten(s);
	unmount_all(s);
	stop_role(s, ROLE_SYNCD);
	stop_role(s, ROLE_DIALER);
	stop_role(s, ROLE_STORED);
	stop_role(s, ROLE_KEYD);
	stop_role(s, ROLE_MOUNTER);
	remains_release(s);
	edges_release(s);
	control_release(s);
}
