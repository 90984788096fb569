#include "supervisor/watchdog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/work.gen.h"
#include "supervisor/mounts.h"
#include "supervisor/remains.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"

double watchdog_patience(void)
{
	const char *text = getenv("BAZIL_WATCHDOG");
	const double seconds = text ? strtod(text, NULL) : 0;

	return seconds >= 1 ? seconds : WATCHDOG_SECONDS;
}

static void answered(void *arg, int err, const struct work_ping_reply *reply)
{
	((struct child *)arg)->asked = 0;
}

/* Who waits for this one is not to blame. Its next life gives them their time anew. */
static bool is_unwell(const struct child *neighbour, struct child *c)
{
	const struct supervisor *s = c->supervisor;

	if (neighbour->state == CHILD_RUNNING && neighbour->started > c->asked)
		c->asked = ev_now(s->loop);
	return neighbour->state != CHILD_RUNNING ||
	       (neighbour->asked > 0 && ev_now(s->loop) - neighbour->asked > s->patience / 3);
}

static bool is_excused(struct child *c)
{
	struct supervisor *s = c->supervisor;

	if (remains_state(c->pid) == 'D')
		return true;
	return c->mount &&
	       (is_unwell(&s->children[ROLE_STORED], c) || is_unwell(&s->children[ROLE_KEYD], c));
}

static bool is_late(const struct child *c)
{
	return ev_now(c->supervisor->loop) - c->asked > c->supervisor->patience;
}

static void on_tick(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct child *c = w->data;
	char why[60];

	if (c->state != CHILD_RUNNING || !c->work)
		return;
	if (c->asked == 0) {
		if (work_ping(c->work, &(struct work_ping){ 0 }, answered, c) == 0)
			c->asked = ev_now(loop);
		return;
	}
	if (!is_late(c) || is_excused(c) || !is_late(c))
		return;
	snprintf(why, sizeof(why), "did not answer for %.0f s", c->supervisor->patience);
	log_error("%s %s: it is replaced", c->role->name, why);
	c->hangs++;
	child_kill(c, why);
}

void watchdog_init(struct child *c)
{
	ev_init(&c->ping, on_tick);
	c->ping.data = c;
}

void watchdog_start(struct child *c)
{
	c->asked = 0;
	c->ping.repeat = c->supervisor->patience / 6;
	ev_timer_again(c->supervisor->loop, &c->ping);
}

void watchdog_stop(struct child *c)
{
	ev_timer_stop(c->supervisor->loop, &c->ping);
	c->asked = 0;
}
