#include "supervisor/remains.h"

#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/child.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"
#include "worker/scope.h"

/* A process with much memory takes some of this to end; its pidfd then says how it died. */
#define LOOK_SECONDS 0.4

struct remains {
	struct remains *next;
	struct supervisor *supervisor;
	struct ev_io exited;
};

/* "PID (comm) STATE ...", and comm may contain anything. */
char remains_state(pid_t pid)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[64], line[512];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return '?';
	end = strrchr(line, ')');
	return end && end[1] == ' ' ? end[2] : '?';
}

static void on_look(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct child *c = w->data;

	if (!child_is_alive(c) || remains_state(c->pid) != 'Z')
		return;
	/* Had the first thread ended alone, the others would still run. */
	child_kill(c, NULL);
	child_abandon(c);
}

void remains_init(struct child *c)
{
	ev_timer_init(&c->remains, on_look, LOOK_SECONDS, LOOK_SECONDS);
	c->remains.data = c;
}

void remains_watch(struct child *c)
{
	ev_timer_again(c->supervisor->loop, &c->remains);
}

void remains_stop(struct child *c)
{
	ev_timer_stop(c->supervisor->loop, &c->remains);
}

static void drop(struct remains *r)
{
	ev_io_stop(r->supervisor->loop, &r->exited);
	close(r->exited.fd);
	free(r);
}

static void on_exited(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct remains *r = w->data, **p = &r->supervisor->remains;
	siginfo_t info;

	waitid(P_PIDFD, (id_t)w->fd, &info, WEXITED | WNOHANG);
	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	drop(r);
}

void remains_keep(struct supervisor *s, int pidfd)
{
	struct remains *r = calloc(1, sizeof(*r));

	if (!r)
		fatal("out of memory");
	r->supervisor = s;
	r->next = s->remains;
	s->remains = r;
	ev_io_init(&r->exited, on_exited, pidfd, EV_READ);
	r->exited.data = r;
	ev_io_start(s->loop, &r->exited);
}

void remains_release(struct supervisor *s)
{
	struct remains *r;

	while ((r = s->remains)) {
		s->remains = r->next;
		drop(r);
	}
}
