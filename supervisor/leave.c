#include "supervisor/mounts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/work.gen.h"
#include "supervisor/auto_mounts.h"
#include "supervisor/keep.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

#define DEATH_SECONDS  30.0
/*
 * After the detach: how long the kernel's connection may live on. It does while a program uses the
 * mount that was detached by force, or while another mount namespace (a container, a sandbox being
 * made) holds a copy.
 */
#define LINGER_SECONDS 2.0
/* mountd has that long to store what was dirty when its mount ended. */
#define FLUSH_SECONDS  120.0
/* One that does not say how it stands is unmounted all the same. */
#define SETTLE_MS      15000

void mount_set_failure(struct mount *m, const char *why)
{
	snprintf(m->failure, sizeof(m->failure), "%s", why);
}

void mount_on_retire(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct mount *m = w->data;

	if (*m->failure)
		auto_mounts_failed(m->supervisor, m->path, m->failure);
	if (m->call && *m->failure)
		ipc_call_fail(TAKE_PTR(m->call), -EIO, "%s: %s", m->volume, m->failure);
	else if (m->call)
		auto_mounts_remove(m->supervisor, TAKE_PTR(m->call), m->path);
	mount_free(m);
}

/* Frees it from the loop: callers are callbacks of its own child. */
static void retire(struct mount *m)
{
	m->is_over = true;
	ev_timer_stop(m->supervisor->loop, &m->timer);
	/* The answer of the mounter is still to come, and comes with our address. */
	if (m->detaching)
		return;
	ev_timer_set(&m->retire, 0., 0.);
	ev_timer_start(m->supervisor->loop, &m->retire);
}

static void tidied(void *arg, int err, const struct work_detach_reply *reply)
{
	struct mount *m = arg;

	m->attached = false;
	retire(m);
}

void mount_child_stopped(struct mount *m)
{
	const struct work_detach msg = { .path = m->path, .lazy = true };

	/* Only mountd ends, its mount waits for the next one. */
	if (m->supervisor->upgrading && !m->is_over)
		return;
	m->is_over = true;
	/* Nobody serves it any more: who waits in a call gets an error now. systemd's copy of the
	 * connection would keep it alive. */
	keep_forget(m);
	if (m->fuse >= 0)
		close(TAKE_FD(m->fuse));
	if (m->attached && m->state != MOUNT_LEAVING && mount_mounter(m->supervisor) &&
		work_detach(mount_mounter(m->supervisor), &msg, tidied, m) == 0)
		return;
	retire(m);
}

void mount_child_unmounted(struct mount *m)
{
	if (m->state != MOUNT_LEAVING)
		log_info("a volume was unmounted from outside");
	m->state = MOUNT_LEAVING;
	m->attached = false;
	m->is_over = true;
}

void mount_on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct mount *m = w->data;

	if (!m->is_over) {
		/* Still used after the detach: mountd stores what it has, then the kernel's
		 * connection is closed and who uses it gets errors. */
		m->is_over = true;
		ev_timer_set(&m->timer, FLUSH_SECONDS, 0.);
		ev_timer_start(loop, &m->timer);
		child_stop(&m->child);
		return;
	}
	log_error("a volume could not store everything in time while it was unmounted");
	mount_set_failure(m, "its last changes could not be stored in time");
	child_kill(&m->child, "did not store everything in time");
}

static void detached(void *arg, int err, const struct work_detach_reply *reply)
{
	struct mount *m = arg;
	struct supervisor *s = m->supervisor;
	struct ipc_chan *chan = s->children[ROLE_MOUNTER].work;

	m->detaching = false;
	if (m->is_over && m->child.state == CHILD_STOPPED) {
		retire(m);
		return;
	}
	if (m->state != MOUNT_LEAVING)
		return;
	/* Somebody else has unmounted it already: as good. */
	if (err && err != -ENOENT) {
		m->state = MOUNT_MOUNTED;
		if (!m->call)
			return;
		if (err == -EBUSY)
			ipc_call_fail(TAKE_PTR(m->call), err,
				"%s: busy: a program works in it or has a file open: end that, or "
				"detach it with -force",
				m->path);
		else
			ipc_call_fail(TAKE_PTR(m->call), err, "%s: %s", m->path,
				chan ? ipc_chan_error(chan) : strerror(-err));
		return;
	}
	m->attached = false;
	ev_timer_stop(s->loop, &m->timer);
	/* A server that took it over and could not start has no mountd for it. */
	if (m->child.state == CHILD_STOPPED) {
		mount_child_stopped(m);
		return;
	}
	ev_timer_set(&m->timer, m->is_over ? FLUSH_SECONDS : LINGER_SECONDS, 0.);
	ev_timer_start(s->loop, &m->timer);
}

void mount_leave(struct mount *m, bool force)
{
	struct supervisor *s = m->supervisor;
	struct ipc_chan *chan = mount_mounter(s);
	const struct work_detach msg = { .path = m->path, .lazy = force };

	if (m->detaching)
		return;
	if (!chan) {
		if (m->call)
			ipc_call_fail(TAKE_PTR(m->call), -EAGAIN,
				"server: the mounter is being restarted: try again");
		return;
	}
	m->state = MOUNT_LEAVING;
	m->detaching = true;
	if (work_detach(chan, &msg, detached, m) < 0)
		detached(m, -EIO, NULL);
}

/* What was written last may be in mountd's memory alone: that is said before. */
static void settled(void *arg, int err, const struct work_settle_reply *reply)
{
	struct mount *m = arg;

	if (!m->call || m->is_over || m->detaching || m->state == MOUNT_LEAVING)
		return;
	if (!err && reply->no_room > 0)
		ipc_call_fail(TAKE_PTR(m->call), -ENOSPC,
			"%s: the disk is full, and %" PRIu64
			" files that were written last are not "
			"stored: make room (delete files, then `bazil "
			"gc -now`), or give them up with -force",
			m->path, reply->no_room);
	else if (!err && reply->far > 0)
		ipc_call_fail(TAKE_PTR(m->call), -EHOSTUNREACH,
			"%s: %" PRIu64 " files that were written last are not stored: other parts "
			"of them are on devices that cannot be reached now: reach one, or give "
			"up what was written with -force",
			m->path, reply->far);
	else
		mount_leave(m, false);
}

static bool settle(struct mount *m)
{
	const struct child *c = &m->child;

	return c->state == CHILD_RUNNING && c->work &&
	       work_settle_timeout(c->work, &(struct work_settle){ 0 }, SETTLE_MS, settled, m) == 0;
}

void mount_stop(struct supervisor *s, struct ipc_call *call, const char *target, bool force)
{
	struct mount *m = mounts_at(s, target);
	const struct auto_mount *waiting = m ? NULL : auto_mounts_find(s, target);

	if (waiting) {
		auto_mounts_remove(s, call, waiting->path);
		return;
	}
	if (!m || m->state < MOUNT_STARTING) {
		ipc_call_fail(call, -ENOENT,
			"%s: nothing of this server is mounted there: `bazil server status` lists "
			"what is",
			target);
		return;
	}
	if (m->call || m->detaching) {
		ipc_call_fail(
			call, -EBUSY, "%s: it is being mounted or unmounted just now", target);
		return;
	}
	m->call = call;
	/* Already detached, waiting for mountd to end: then the caller waits too. */
	if (m->state == MOUNT_LEAVING && !force)
		return;
	if (force || !settle(m))
		mount_leave(m, force);
}

/* Deaths of mountd. */

void mounts_give_up(struct supervisor *s, const char *role)
{
	char why[100];

	snprintf(why, sizeof(why), "%s dies again and again: see the server's log", role);
	for (struct mount *m = s->mounts; m; m = m->next) {
		if (m->is_over || m->state < MOUNT_STARTING)
			continue;
		log_error("%s dies again and again: a mount is taken down", role);
		mount_set_failure(m, why);
		m->is_over = true;
		if (m->child.state == CHILD_STOPPED || m->child.state == CHILD_BACKING_OFF)
			child_stop(&m->child);
		else
			child_kill(&m->child, why);
	}
}

bool mount_child_died(struct mount *m)
{
	struct supervisor *s = m->supervisor;
	const double now = ev_now(s->loop);
	/* Who is killed from outside is not ill: it takes more of that to give up. */
	const size_t num = m->child.is_fault ? MOUNT_FAULT_WEIGHT : 1;

	memmove(m->deaths, m->deaths + num, sizeof(m->deaths) - num * sizeof(m->deaths[0]));
	for (size_t i = 0; i < num; i++)
		m->deaths[MOUNT_DEATHS_MAX - 1 - i] = now;
	if (m->deaths[0] == 0 || now - m->deaths[0] > DEATH_SECONDS)
		return false;
	log_error("mountd died again and again within %.0f seconds: its mount is taken down",
		DEATH_SECONDS);
	mount_set_failure(m, "its mountd died again and again: see the server's log");
	m->child.state = CHILD_STOPPED;
	mount_child_stopped(m);
	return true;
}
