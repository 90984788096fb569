/*
 * bazil-supervisor: starts the workers, connects them, restarts what dies, relays what bazil(1)
 * asks.
 *
 *   --data-dir=PATH --create [--arena-size=BYTES]  makes a data directory, then ends
 *   --data-dir=PATH --run [--port=N]   the server, in the foreground
 *   --data-dir=PATH --once             serves the client on fd 3, with the workers that it needs
 *
 * bazil(1) execs it. It cannot take a sandbox of its own: it makes those of the others, and
 * no_new_privs would pass to the mounter and keep fusermount3 from mounting.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/control.h"
#include "supervisor/edges.h"
#include "supervisor/keep.h"
#include "supervisor/listener.h"
#include "supervisor/mounts.h"
#include "supervisor/notify.h"
#include "supervisor/shutdown.h"
#include "supervisor/stale.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"
#include "supervisor/watchdog.h"
#include "worker/log.h"

#define CLIENT_FD 3

struct options {
	const char *data_dir;
	enum { MODE_NONE, MODE_CREATE, MODE_RUN, MODE_ONCE } mode;
	unsigned port;
	uint64_t arena_size;
};

static char last_error[LOG_TEXT_MAX + 1];
static bool is_asked; /* somebody waits for the error on the socket, and prints it */

__attribute__((format(printf, 1, 0))) static void tell(const char *fmt, va_list ap)
{
	vsnprintf(last_error, sizeof(last_error), fmt, ap);
	if (!is_asked)
		log_error("%s", last_error);
}

const char *supervisor_last_error(void)
{
	return last_error;
}

int supervisor_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell(fmt, ap);
	va_end(ap);
	return -1;
}

void supervisor_fail(struct supervisor *s, const char *fmt, ...)
{
	va_list ap;

	/* The first reason is the one; what follows from it would only hide it. */
	if (s->failed)
		return;
	va_start(ap, fmt);
	tell(fmt, ap);
	va_end(ap);
	if (s->starting)
		s->failed = true;
}

static void wake(struct ev_loop *loop, struct ev_timer *timer, int events)
{
}

bool supervisor_wait(struct supervisor *s, bool (*is_so)(void *arg), void *arg, double seconds)
{
	const double end = ev_time() + seconds;
	const bool was_stopping = s->stopping;
	struct ev_timer timer;

	/* Again and again at the end: the loop's clock may be a hair before ours. */
	ev_now_update(s->loop);
	ev_timer_init(&timer, wake, seconds, 0.01);
	ev_timer_start(s->loop, &timer);
	while (!is_so(arg) && !(s->starting && s->failed) && s->stopping == was_stopping &&
		ev_time() < end)
		ev_run(s->loop, EVRUN_ONCE);
	ev_timer_stop(s->loop, &timer);
	return is_so(arg);
}

static bool all_running(void *arg)
{
	struct supervisor *s = arg;

	for (int i = 0; i < NUM_ROLES; i++)
		if (s->children[i].state != CHILD_RUNNING)
			return false;
	return true;
}

static bool is_running(void *arg)
{
	return ((struct child *)arg)->state == CHILD_RUNNING;
}

static void on_signal(struct ev_loop *loop, struct ev_signal *w, int events)
{
	((struct supervisor *)w->data)->stopping = true;
	ev_break(loop, EVBREAK_ALL);
}

static void on_upgrade(struct ev_loop *loop, struct ev_signal *w, int events)
{
	upgrade_want(w->data);
}

static void watch_signal(struct supervisor *s, struct ev_signal *w, int number,
	void (*fn)(struct ev_loop *loop, struct ev_signal *w, int events))
{
	ev_signal_init(w, fn, number);
	w->data = s;
	ev_signal_start(s->loop, w);
}

/* Where the workers are: beside us (as built, and as installed), else where they are installed. */
static void find_programs(char ret[4096])
{
	ssize_t n = readlink("/proc/self/exe", ret, 4000);
	char program[4096 + 16];

	if (n > 0) {
		ret[n] = '\0';
		*strrchr(ret, '/') = '\0';
		snprintf(program, sizeof(program), "%s/bazil-keyd", ret);
		if (access(program, F_OK) == 0)
			return;
	}
	snprintf(ret, 4096, "%s", BAZIL_LIBEXECDIR);
}

static void supervisor_init(struct supervisor *s)
{
	*s = (struct supervisor){ .listener = -1, .ctl_listener = -1, .starting = true };
	s->dir.fd = s->dir.lock = -1;
	s->patience = watchdog_patience();
	/* Not the default loop: that one would reap our children. */
	s->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
	if (!s->loop)
		fatal("event loop: %s", strerror(errno));
	find_programs(s->libexec);
	for (int i = 0; i < NUM_ROLES; i++)
		child_init(&s->children[i], s, &topology_roles[i], NULL);
	watch_signal(s, &s->sigterm, SIGTERM, on_signal);
	watch_signal(s, &s->sigint, SIGINT, on_signal);
	watch_signal(s, &s->sighup, SIGHUP, on_signal);
	watch_signal(s, &s->sigusr2, SIGUSR2, on_upgrade);
}

static int run_server(struct supervisor *s)
{
	/* Before anything is started: the whole topology. */
	edges_make(s);
	child_start(&s->children[ROLE_MOUNTER]);
	child_start(&s->children[ROLE_KEYD]);
	child_start(&s->children[ROLE_STORED]);
	child_start(&s->children[ROLE_DIALER]);
	child_start(&s->children[ROLE_SYNCD]);

	supervisor_wait(s, is_running, &s->children[ROLE_MOUNTER], 60.);
	if (!s->failed && !s->stopping)
		stale_detach(s);
	/* A store that recovers a lot takes its time; only a failure ends the wait. */
	supervisor_wait(s, all_running, s, 1e6);
	if (s->failed)
		return 1;
	if (s->stopping)
		return 0;
	s->starting = false;
	printf("bazil: Listening on [::]:%u\n", s->port);
	fflush(stdout);
	notify("READY=1");
	notify_start_watchdog(s);
	mounts_resume(s);
	auto_mounts_begin(s);
	while (!s->stopping) {
		if (s->upgrade_wanted)
			upgrade(s);
		else
			ev_run(s->loop, 0);
	}
	notify("STOPPING=1");
	return 0;
}

static int run(struct supervisor *s, const struct options *o)
{
	bool upgraded;
	int r;

	keep_take(s);
	upgraded = s->ctl_listener >= 0;
	/* Another one's --once may have got in between. */
	r = datadir_open(&s->dir, o->data_dir, upgraded);
	if (r < 0)
		return 1;
	if (s->listener >= 0)
		r = listener_port(s->listener, &s->port);
	else
		r = listener_open(o->port, &s->listener, &s->port);
	if (r < 0) {
		supervisor_error("server: port %u: %s: choose another one with -port=N",
			o->port ? o->port : LISTENER_PORT,
			r == -EADDRINUSE ? "already in use" : strerror(-r));
		return 1;
	}
	datadir_write_lock(&s->dir, s->mounts);
	r = control_listen(s);
	if (r < 0) {
		supervisor_error("data directory: %s: ctl.sock: %s", s->dir.path, strerror(-r));
		return 1;
	}
	r = run_server(s);
	shutdown_all(s);
	auto_mounts_release(s);
	close(s->listener);
	return r;
}

static int create(struct supervisor *s, const struct options *o)
{
	bool done;

	if (datadir_create(&s->dir, o->data_dir) < 0)
		return 1;
	s->create = true;
	s->arena_size = o->arena_size;
	child_start(&s->children[ROLE_KEYD]);
	child_start(&s->children[ROLE_STORED]);
	done = supervisor_wait(s, is_running, &s->children[ROLE_KEYD], 120.) &&
	       supervisor_wait(s, is_running, &s->children[ROLE_STORED], 120.);
	if (!done && !s->failed)
		supervisor_error("create: %s: given up", s->dir.path);
	shutdown_all(s);
	if (!done)
		datadir_undo(&s->dir);
	return done ? 0 : 1;
}

/* Whoever asks waits on the socket: what fails is the answer to the request, whenever that comes.
 */
static int once(struct supervisor *s, const struct options *o)
{
	s->once = is_asked = true;
	if (control_adopt(s, CLIENT_FD) < 0)
		return 1;
	s->failed = datadir_open(&s->dir, o->data_dir, true) < 0;
	if (!s->failed)
		datadir_write_lock(&s->dir, NULL);
	while (!s->stopping) {
		ev_run(s->loop, EVRUN_ONCE);
		for (int i = 0; s->failed && i < NUM_ROLES; i++)
			control_fail_held(&s->children[i]);
	}
	shutdown_all(s);
	return 0;
}

static int usage(void)
{
	supervisor_error("bazil-supervisor is started by bazil(1): see `bazil help`");
	return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = { { "data-dir", required_argument, NULL, 'd' },
		{ "create", no_argument, NULL, 'c' }, { "run", no_argument, NULL, 'r' },
		{ "once", no_argument, NULL, 'o' }, { "port", required_argument, NULL, 'p' },
		{ "arena-size", required_argument, NULL, 'a' }, { NULL, 0, NULL, 0 } };
	int c;

	*o = (struct options){ .mode = MODE_NONE };
	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (c == 'd')
			o->data_dir = optarg;
		else if (c == 'c')
			o->mode = MODE_CREATE;
		else if (c == 'r')
			o->mode = MODE_RUN;
		else if (c == 'o')
			o->mode = MODE_ONCE;
		else if (c == 'p')
			o->port = strtoul(optarg, NULL, 10);
		else if (c == 'a')
			o->arena_size = strtoull(optarg, NULL, 10);
		else
			return -EINVAL;
	}
	if (!o->data_dir || o->data_dir[0] != '/' || o->mode == MODE_NONE || optind < argc ||
		o->port > 65535)
		return -EINVAL;
	return 0;
}

/* What its children get unasked must not be more than they need, and no secret lies in a core. */
static void protect(void)
{
	const struct rlimit none = { 0, 0 };

#ifndef BAZIL_SANITIZED
	prctl(PR_SET_DUMPABLE, 0);
#endif
	setrlimit(RLIMIT_CORE, &none);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
}

int main(int argc, char **argv)
{
	struct supervisor s;
	struct options o;
	int r = 2;

	protect();
	if (parse(argc, argv, &o) < 0)
		return usage();
	/* Our working directory may not keep a file system busy, least of all our own mounts. */
	if (chdir("/") < 0)
		fatal("/: %s", strerror(errno));
	supervisor_init(&s);
	s.argv = argv;
	switch (o.mode) {
	case MODE_CREATE:
		r = create(&s, &o);
		break;
	case MODE_RUN:
		r = run(&s, &o);
		break;
	case MODE_ONCE:
		r = once(&s, &o);
		break;
	case MODE_NONE:
		break;
	}
	datadir_close(&s.dir);
	return r;
}
