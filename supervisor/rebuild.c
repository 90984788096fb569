#include "supervisor/rebuild.h"

#include <errno.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "supervisor/supervisor.h"

struct ctl_server {
	struct supervisor supervisor;
};

static struct rebuild *rebuild_of(const struct child *c)
{
	return c->role->id == ROLE_STORED ? &c->supervisor->rebuild : NULL;
}

static void fail(struct rebuild *b, int err, const char *why)
{
	for (unsigned i = 0; i < b->num_calls; i++)
		ipc_call_fail(b->calls[i], err, "%s", why);
	b->num_calls = 0;
}

bool rebuild_take(struct child *c)
{
	struct rebuild *b = rebuild_of(c);
	const bool ret = b && b->is_wanted;

	if (b)
		b->is_wanted = false;
	return ret;
}

void rebuild_progress(struct child *c, uint64_t done, uint64_t total)
{
	struct rebuild *b = rebuild_of(c);

	for (unsigned i = 0; b && i < b->num_calls; i++)
		ipc_call_progress(b->calls[i], done, total, "");
}

void rebuild_done(struct child *c, int err, const char *why)
{
	struct rebuild *b = rebuild_of(c);

	if (!b)
		return;
	if (err) {
		fail(b, err, why);
		return;
	}
	for (unsigned i = 0; i < b->num_calls; i++)
		ctl_store_rebuild_reply(b->calls[i], &(struct ctl_store_rebuild_reply){ 0 });
	b->num_calls = 0;
}

void rebuild_died(struct child *c)
{
	struct rebuild *b = rebuild_of(c);

	if (b && b->num_calls > 0 && ++b->deaths >= REBUILD_DEATHS)
		fail(b, -EIO,
			"store: stored died again and again: see the server's log; the index is "
			"made anew as soon as stored lives");
}

void on_ctl_store_rebuild(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_store_rebuild *req)
{
	struct supervisor *s = &self->supervisor;
	struct rebuild *b = &s->rebuild;

	if (b->num_calls == REBUILD_CALLS_MAX) {
		ipc_call_fail(call, -EBUSY, "store: too many wait for this already");
		return;
	}
	b->calls[b->num_calls++] = call;
	if (b->num_calls > 1)
		return;
	b->deaths = 0;
	b->is_wanted = true;
	child_renew(&s->children[ROLE_STORED]);
}
