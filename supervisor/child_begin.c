#include "supervisor/child.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/work.gen.h"
#include "supervisor/control.h"
#include "supervisor/edges.h"
#include "supervisor/mounts.h"
#include "supervisor/peers.h"
#include "supervisor/rebuild.h"
#include "supervisor/remains.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "supervisor/verify.h"
#include "supervisor/watchdog.h"
#include "worker/log.h"
#include "worker/scope.h"

#define CLOSED_SECONDS 10.0
#define TELL_SECONDS   10.0
/* Another worker of a killed supervisor may still be finishing and hold its directory. */
#define BUSY_SECONDS   15.0

/* The generated handlers' views of us: both ends' self is the child. */
struct work_client {
	struct child child;
};
struct ctl_client {
	struct child child;
};

/* From ready to running. */

static void now_running(struct child *c)
{
	struct supervisor *s = c->supervisor;

	child_set_timer(c, -1);
	c->state = CHILD_RUNNING;
	watchdog_start(c);
	if (c->role->id == ROLE_STORED || c->role->id == ROLE_DIALER)
		peers_refresh(s);
	if (c->role->id == ROLE_SYNCD)
		peers_listen(s);
	if (c->mount)
		mount_child_running(c->mount);
	control_release_held(c);
}

static void begin_done(void *arg, int err, const struct work_begin_reply *reply)
{
	struct child *c = arg;
	struct supervisor *s = c->supervisor;
	const char *why;

	if (c->state != CHILD_BEGINNING)
		return;
	if (!err) {
		now_running(c);
		rebuild_done(c, 0, NULL);
		return;
	}
	if (err == -ECONNRESET)
		return; /* its death says more */
	why = *ipc_chan_error(c->work) ? ipc_chan_error(c->work) : strerror(-err);
	rebuild_done(c, err, why);
	if (s->starting && !(err == -EBUSY && ev_now(s->loop) - s->dir.opened < BUSY_SECONDS))
		supervisor_fail(s, "%s", why);
	else
		log_error("%s: %s", c->role->name, why);
	child_kill(c, why);
}

/* Of work_begin: nothing else takes that long. */
static void on_progress(void *arg, uint64_t serial, uint64_t done, uint64_t total, const char *text)
{
	struct child *c = arg;
	const double now = ev_now(c->supervisor->loop);

	c->begun = done;
	c->to_begin = total;
	if (c->told == 0 || c->told < c->started)
		c->told = now;
	if (now - c->told >= TELL_SECONDS && total > 0) {
		c->told = now;
		log_info("%s: %u %% of what it reads before it can serve", c->role->name,
			(unsigned)(done * 100 / total));
	}
	rebuild_progress(c, done, total);
}

static void begin(struct child *c)
{
	struct supervisor *s = c->supervisor;
	struct work_edge ctl = { .kind = "ctl",
		.fd = c->ctl_fd,
		.ring_in = -1,
		.ring_out = -1,
		.role = "supervisor",
		.sharing = "" };
	const struct work_begin msg = {
		.create = s->create, .arena_size = s->arena_size, .rebuild = rebuild_take(c)
	};

	c->state = CHILD_BEGINNING;
	/* What is begun may take its time: a store that recovers. Only its death ends it. */
	child_set_timer(c, -1);
	if (c->ctl_fd >= 0) {
		work_edge(c->work, &ctl, NULL, NULL);
		close(TAKE_FD(c->ctl_fd));
	}
	edges_hand(s, c);
	if (work_begin(c->work, &msg, begin_done, c) < 0)
		child_kill(c, "work_begin could not be sent");
}

/* Nothing that it says can be believed to mean what we think: it ends, and not to come back soon.
 */
static void other_build(struct child *c, const char *build)
{
	char why[200];

	c->is_other_build = true;
	upgrade_mismatch(c->supervisor, c, build, why);
	if (c->supervisor->starting)
		supervisor_fail(c->supervisor, "%s", why);
	else
		log_error("%s", why);
	if (c->mount && c->mount->call) {
		mount_set_failure(c->mount, why);
		c->mount->is_over = true;
	}
	child_kill(c, "it is of another build than the server");
}

void on_work_ready(struct work_client *self, const struct work_ready *msg)
{
	struct child *c = &self->child;
	char why[100];

	if (c->state != CHILD_STARTING)
		return;
	if (strcmp(msg->build, BAZIL_BUILD) != 0) {
		other_build(c, msg->build);
		return;
	}
	c->layers |= msg->layers;
	c->landlock_abi = msg->landlock_abi;
	snprintf(c->missing + strlen(c->missing), sizeof(c->missing) - strlen(c->missing), "%s%s",
		*c->missing && *msg->missing ? "; " : "", msg->missing);
	if (strcmp(msg->role, c->role->name) != 0)
		snprintf(why, sizeof(why), "it says that it is %s", msg->role);
	else if (verify(c->pid, c->pidfd, c->layers, why, sizeof(why)) == 0) {
		begin(c);
		return;
	}
	log_error("%s is not what it should be: %s", c->role->name, why);
	child_kill(c, why);
}

void on_work_unmounted(struct work_client *self, const struct work_unmounted *msg)
{
	if (self->child.mount)
		mount_child_unmounted(self->child.mount);
}

void on_ctl_peers_changed(struct ctl_client *self, const struct ctl_peers_changed *msg)
{
	peers_refresh(self->child.supervisor);
}

static void work_closed(void *self, struct ipc_chan *chan, int err)
{
	struct child *c = self;

	if (err)
		log_error("%s: work channel: %s", c->role->name, ipc_chan_error(chan));
	ipc_chan_close(chan);
	c->work = NULL;
	/* Without it the worker cannot be steered. Most often it is dead already. */
	if (err == -EPROTO)
		other_build(c, "");
	else if (err)
		child_kill(c, "it spoke nonsense to the supervisor");
	else
		child_set_timer(c, CLOSED_SECONDS);
	remains_watch(c);
}

static void ctl_closed(void *self, struct ipc_chan *chan, int err)
{
	struct child *c = self;

	if (err)
		log_error("%s: ctl channel: %s", c->role->name, ipc_chan_error(chan));
	ipc_chan_close(chan);
	c->ctl = NULL;
	if (err)
		child_kill(c, "it spoke nonsense to the supervisor");
}

/* Channels first: the worker may speak as soon as it runs. */
int child_open_channels(struct child *c, int *ret_work_fd)
{
	struct ev_loop *loop = c->supervisor->loop;
	int fds[2], r = ipc_pair(fds);

	if (r < 0)
		return r;
	*ret_work_fd = fds[1];
	r = ipc_chan_open(&c->work, loop, fds[0], &work_client_service, c, work_closed);
	if (r == 0)
		ipc_chan_on_progress(c->work, on_progress, c);
	if (r < 0 || !c->role->serves_ctl)
		return r;
	r = ipc_pair(fds);
	if (r < 0)
		return r;
	c->ctl_fd = fds[1];
	return ipc_chan_open(&c->ctl, loop, fds[0], &ctl_client_service, c, ctl_closed);
}
