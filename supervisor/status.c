#include "supervisor/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "ipc/work.gen.h"
#include "supervisor/mounts.h"
#include "supervisor/supervisor.h"
#include "worker/scope.h"

#define TIMEOUT_MS   2000
#define COUNTERS_MAX CTL_STATUS_REPLY_COUNTERS_MAX
#define NAME_MAX_LEN 48

struct counter {
	const char *worker; /* a role's name: static */
	char name[NAME_MAX_LEN + 1];
	uint64_t value;
};

/* One answer being put together. */
struct query {
	struct supervisor *supervisor;
	struct ipc_call *call;
	unsigned awaited;
	size_t num;
	struct counter counters[COUNTERS_MAX];
};

static void count(struct query *q, const char *worker, const char *name, uint64_t value)
{
	struct counter *c = &q->counters[q->num];

	if (q->num == COUNTERS_MAX)
		return;
	q->num++;
	c->worker = worker;
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->value = value;
}

/* One worker that was asked. */
struct asked {
	struct query *query;
	const struct role *role;
};

static void fill_worker(const struct child *c, struct ctl_worker *ret)
{
	const double uptime = ev_now(c->supervisor->loop) - c->started;

	*ret = (struct ctl_worker){
		.role = c->role->name,
		.label = c->mount ? c->mount->volume : "",
		.pid = (uint32_t)c->pid,
		.state = child_state_name(c),
		.restarts = c->restarts,
		.uptime_s = c->pid && uptime > 0 ? (uint64_t)uptime : 0,
		.layers = c->layers,
		.landlock_abi = c->landlock_abi,
		.missing = c->missing,
		.last_death = c->last_death,
	};
}

static uint32_t auto_flag(struct supervisor *s, const struct mount *m)
{
	return m->at == 0 && auto_mounts_find(s, m->path) ? MOUNT_AUTO : 0;
}

static void add_waiting(
	struct supervisor *s, struct ctl_status_reply *reply, struct ctl_mount *mounts)
{
	const struct auto_mount *entry = s->auto_mounts.first;

	for (; entry && reply->num_mounts < 64; entry = entry->next) {
		if (mounts_at(s, entry->path))
			continue;
		mounts[reply->num_mounts++] = (struct ctl_mount){
			.volume = entry->volume,
			.path = entry->path,
			.flags = entry->flags | MOUNT_AUTO,
			.state = entry->was_up ? "down" : "waiting",
			.why = entry->failure,
		};
	}
}

static void answer(struct query *q)
{
	struct supervisor *s = q->supervisor;
	struct ctl_worker workers[64];
	struct ctl_mount mounts[64];
	_cleanup_(freep) struct ctl_counter *counters = calloc(q->num + 1, sizeof(*counters));
	struct ctl_status_reply reply = { .version = BAZIL_VERSION,
		.pid = (uint32_t)getpid(),
		.port = s->port,
		.data_dir = s->dir.path,
		.workers = workers,
		.mounts = mounts,
		.counters = counters };

	for (int i = 0; i < NUM_ROLES; i++)
		fill_worker(&s->children[i], &workers[reply.num_workers++]);
	for (const struct mount *m = s->mounts; m && reply.num_mounts < 56; m = m->next) {
		if (m->state < MOUNT_STARTING)
			continue;
		fill_worker(&m->child, &workers[reply.num_workers++]);
		mounts[reply.num_mounts++] = (struct ctl_mount){
			.volume = m->volume,
			.path = m->path,
			.flags = m->flags | auto_flag(s, m),
			.at = m->at,
			.state = m->child.state == CHILD_RUNNING ? "mounted" : "restarting",
			.why = "",
		};
	}
	add_waiting(s, &reply, mounts);
	for (size_t i = 0; counters && i < q->num; i++)
		counters[reply.num_counters++] = (struct ctl_counter){ q->counters[i].worker,
			q->counters[i].name, q->counters[i].value };
	if (ctl_status_reply(q->call, &reply) < 0) {
		/* The asker is gone. */
	}
	free(q);
}

static void counted(void *arg, int err, const struct work_status_reply *reply)
{
	struct asked *a = arg;
	struct query *q = a->query;

	for (size_t i = 0; !err && i < reply->num_counters; i++)
		count(q, a->role->name, reply->counters[i].name, reply->counters[i].value);
	free(a);
	if (--q->awaited == 0)
		answer(q);
}

static void ask(struct query *q, struct child *c)
{
	struct asked *a;

	if (c->hangs)
		count(q, c->role->name, "hangs", c->hangs);
	if (c->state != CHILD_RUNNING || !c->work)
		return;
	a = malloc(sizeof(*a));
	if (!a)
		return;
	*a = (struct asked){ q, c->role };
	q->awaited++;
	if (work_status_timeout(c->work, &(struct work_status){ 0 }, TIMEOUT_MS, counted, a) < 0) {
		q->awaited--;
		free(a);
	}
}

void status_answer(struct supervisor *s, struct ipc_call *call)
{
	struct query *q = calloc(1, sizeof(*q));

	if (!q) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	q->supervisor = s;
	q->call = call;
	q->awaited = 1; /* ours: answers come from the loop, but a send may fail at once */
	for (int i = 0; i < NUM_ROLES; i++)
		ask(q, &s->children[i]);
	for (struct mount *m = s->mounts; m; m = m->next)
		ask(q, &m->child);
	if (--q->awaited == 0)
		answer(q);
}
