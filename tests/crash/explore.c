#include "tests/crash/explore.h"

#include "tests/crash/crash.h"
#include "tests/crash/world.h"
#include "tests/unit/stored/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
	struct explore *x;
	struct world world;
	struct simdisk disk; /* where states are opened */
	struct sim_image image, second;
	struct engine_options options;
	uint64_t number;
	size_t at, first, last;
	bool is_verbose;
};

static sigjmp_buf trap;

static void on_signal(int sig)
{
	siglongjmp(trap, sig);
}

__attribute__((format(printf, 2, 3))) static void violation(struct check *c, const char *fmt, ...)
{
	char text[200], all[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(all, sizeof(all), "seed %llu state %llu (operation %zu of %zu): %s",
		(unsigned long long)c->x->seed, (unsigned long long)c->number, c->at,
		c->world.disk.log.num, text);
	if (c->x->violations++ == 0)
		snprintf(c->x->first, sizeof(c->x->first), "%s", all);
	if (!c->x->is_quiet)
		printf("%s\n  reproduce: explorer --seed %llu --state %llu\n", all,
			(unsigned long long)c->x->seed, (unsigned long long)c->number);
}

static void check_log(void *arg, int level, const char *text)
{
	struct check *c = arg;

	if (c->is_verbose)
		printf("  <%d> %s\n", level, text);
}

/* Opens what is on the disk. The digest is one of those allowed, or it is told. */
static long open_one(struct check *c, const char *when, struct engine **ret)
{
	uint64_t digest;
	long found;
	int r;

	c->options.dir_fd = c->disk.dir_fd;
	c->options.path = c->disk.path;
	c->options.io = &c->disk.io;
	c->options.log = check_log;
	c->options.log_arg = c;
	r = engine_open(ret, &c->options);
	if (r < 0) {
		violation(c, "%s: does not open: %s: %s", when, strerror(-r), engine_error(NULL));
		return -1;
	}
	r = state_digest(*ret, &c->world, &digest);
	if (r < 0) {
		violation(c, "%s: cannot be read: %s", when, strerror(-r));
		engine_abandon(*ret);
		return -1;
	}
	found = world_find(&c->world, digest, c->first, c->last);
	if (found >= 0)
		return found;
	found = world_find(&c->world, digest, 0, c->world.num_states - 1);
	violation(c, "%s: holds %s %ld, allowed are %zu to %zu", when,
		found < 0 ? "no state that ever was:" : "state", found, c->first, c->last);
	engine_abandon(*ret);
	return -1;
}

/* New work on what was recovered, and all of it once more from the disk. */
static void go_on(struct check *c, struct engine *engine)
{
	struct rig rig = { .engine = engine, .options = c->options };
	static struct entry entry;
	uint64_t before, after, first = 0, seed = c->number;

	rig.vol = engine_volume_named(engine, "v");
	rig.position = engine_taken(rig.vol, 7);
	/* Frames that are likely to be as long as those that were lost. */
	for (unsigned i = sim_random(&seed) % 3; i > 0 && c->world.file; i--) {
		entry_start(&entry, 99);
		put_body(&entry, c->world.file, seed, 100 * (sim_random(&seed) % 4));
		if (rig_apply(&rig, &entry) < 0)
			break;
	}
	if (c->number % 3 > 0 && (engine_oids(engine, rig.vol, 2, &first) < 0 ||
					 first < world_oids(&c->world, c->at))) {
		violation(c, "a number was given out twice");
		engine_abandon(engine);
		return;
	}
	if (c->number % 3 > 0)
		rig_file(&rig, TREE_ROOT, "after", NULL);
	sim_must(state_digest(engine, &c->world, &before) == 0);
	if (engine_sync(engine) < 0)
		violation(c, "sync fails after the recovery");
	engine_abandon(engine);
	engine_changes_release(&rig.changes);
	if (c->number % 2)
		c->options.rebuild = true;
	if (engine_open(&engine, &c->options) < 0) {
		violation(c, "does not open after going on: %s", engine_error(NULL));
		c->options.rebuild = false;
		return;
	}
	if (state_digest(engine, &c->world, &after) < 0 || after != before)
		violation(c, "going on: another state after %s",
			c->options.rebuild ? "a rebuild" : "a kill");
	c->options.rebuild = false;
	engine_abandon(engine);
}

/* The recovery itself is interrupted. image: what it began with. */
static void crash_again(struct check *c, uint64_t seed)
{
	struct sim_log log = c->disk.log;
	struct crash crash;
	size_t at, stop;

	if (log.num == 0)
		return;
	/* The log is taken over: loading the next image clears that of the disk. */
	memset(&c->disk.log, 0, sizeof(c->disk.log));
	crash_start(&crash, &c->image, &log);
	stop = sim_random(&seed) % log.num;
	for (at = 0; at < log.num; at++) {
		struct engine *engine;

		crash_step(&crash);
		if (at != stop && at + 1 != log.num)
			continue;
		crash_image(&crash, (unsigned)(sim_random(&seed) % 8), seed, &c->second);
		sim_load(&c->disk, &c->second);
		c->x->recrashes++;
		if (open_one(c, "crashed again", &engine) >= 0)
			engine_abandon(engine);
	}
	crash_end(&crash);
	for (at = 0; at < log.num; at++)
		free(log.ops[at].data);
	free(log.ops);
}

static void check_state(struct check *c, const struct crash *crash, unsigned index)
{
	uint64_t seed = c->x->seed * 1000003 + c->number, coin;
	struct engine *engine;
	long found;
	int sig;

	coin = sim_random(&seed);
	crash_image(crash, index, seed, &c->image);
	sim_load(&c->disk, &c->image);
	c->x->states++;
	sig = sigsetjmp(trap, 1);
	if (sig != 0) {
		violation(c, "signal %d", sig);
		return;
	}
	c->disk.is_recording = coin % 8 == 0;
	found = open_one(c, "after the crash", &engine);
	c->disk.is_recording = false;
	if (found < 0)
		return;
	if (coin % 8 == 1) {
		go_on(c, engine);
		return;
	}
	engine_abandon(engine);
	if (coin % 8 == 0)
		crash_again(c, seed);
}

static void trap_signals(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGABRT, &action, NULL);
}

void explore(struct explore *x)
{
	static struct check c;
	struct crash crash;
	unsigned i;

	memset(&c, 0, sizeof(c));
	c.x = x;
	c.is_verbose = x->only >= 0 && !x->is_quiet;
	world_new(&c.world, x->seed, x->num, x->lie);
	x->compacted = c.world.compacted;
	x->moved = c.world.moved;
	x->removed = c.world.removed;
	x->based = c.world.based;
	c.options = c.world.options;
	sim_must(sim_new(&c.disk, x->seed + 1) == 0);
	trap_signals(on_signal);
	crash_start(&crash, &c.world.start, &c.world.disk.log);
	for (c.at = 0; c.at < c.world.disk.log.num; c.at++) {
		crash_step(&crash);
		world_allowed(&c.world, c.at, &c.first, &c.last);
		for (i = 0; i < x->each; i++, c.number++) {
			if (x->only >= 0 && c.number != (uint64_t)x->only)
				continue;
			if ((x->stop_at_first && x->violations) || (x->max && x->states >= x->max))
				goto end;
			check_state(&c, &crash, i);
		}
	}
end:
	x->freed = c.world.freed;
	trap_signals(SIG_DFL);
	crash_end(&crash);
	sim_image_release(&c.image);
	sim_image_release(&c.second);
	sim_free(&c.disk);
	world_free(&c.world);
}
