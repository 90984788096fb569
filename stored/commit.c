#include "ipc/store.gen.h"
#include "stored/recover.h"
#include "stored/stored.h"
#include "worker/log.h"
#include "worker/start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void stored_die(int err, const char *doing)
{
	/* Or the next process would read the same damaged row, and so on. */
	if (err == -EUCLEAN)
		recover_distrust_dir(&store_io_file, WORKER_DIR_FD);
	fatal("%s: %s; starting anew from what is on the disk", doing, strerror(-err));
}

void commit_index(struct stored *stored)
{
	int r = engine_tick(stored->engine);

	if (r < 0 && r != -ENOSPC)
		stored_die(r, "committing the index");
}

int commit_wait(struct store_server *mount, struct ipc_call *call)
{
	if (mount->num_syncs == mount->cap_syncs) {
		size_t cap = mount->cap_syncs ? mount->cap_syncs * 2 : 16;
		struct sync_waiting *syncs = realloc(mount->syncs, cap * sizeof(*syncs));

		if (!syncs)
			return -ENOMEM;
		mount->syncs = syncs;
		mount->cap_syncs = cap;
	}
	mount->syncs[mount->num_syncs++] = (struct sync_waiting){ .call = call };
	return 0;
}

/* Those that came since the last turn get a ticket, one for all. A full disk is their answer. */
static void begin_syncs(struct stored *stored, struct store_server *mount, uint64_t *ticket)
{
	size_t i = mount->num_syncs;
	int r;

	while (i > 0 && mount->syncs[i - 1].ticket == 0)
		i--;
	if (i == mount->num_syncs)
		return;
	if (*ticket == 0) {
		r = engine_sync_start(stored->engine, ticket);
		if (r < 0 && r != -ENOSPC)
			stored_die(r, "making the store durable");
		if (r < 0) {
			for (size_t k = i; k < mount->num_syncs; k++)
				ipc_call_fail(mount->syncs[k].call, r, NULL);
			mount->num_syncs = i;
			*ticket = 0;
			return;
		}
		stored->counters.fdatasyncs++;
	}
	for (; i < mount->num_syncs; i++)
		mount->syncs[i].ticket = *ticket;
}

static void answer_syncs(struct stored *stored, struct store_server *mount)
{
	size_t num = 0;

	while (num < mount->num_syncs &&
		engine_is_durable(stored->engine, mount->syncs[num].ticket)) {
		stored->counters.syncs++;
		store_sync_reply(mount->syncs[num++].call, &(struct store_sync_reply){ 0 });
	}
	if (num == 0)
		return;
	mount->num_syncs -= num;
	memmove(mount->syncs, mount->syncs + num, mount->num_syncs * sizeof(*mount->syncs));
}

/* Everybody who waits is answered by one fdatasync. After a failed one nothing can be promised any
 * more, not even what was promised before: the process ends and reads what is really there. */
void commit_run(struct stored *stored)
{
	struct store_server *mount;
	uint64_t ticket = 0;
	int r;

	for (mount = stored->mounts; mount; mount = mount->next)
		begin_syncs(stored, mount, &ticket);
	r = engine_sync_poll(stored->engine);
	if (r < 0)
		stored_die(r, "making the store durable");
	for (mount = stored->mounts; mount; mount = mount->next)
		answer_syncs(stored, mount);
}

void commit_all(struct stored *stored)
{
	int r;

	commit_run(stored);
	r = engine_sync(stored->engine);
	if (r < 0 && r != -ENOSPC)
		stored_die(r, "making the store durable");
	commit_run(stored);
}

void commit_forget(struct store_server *mount)
{
	size_t i;

	for (i = 0; i < mount->num_syncs; i++)
		ipc_call_fail(mount->syncs[i].call, -ECONNRESET, NULL);
	mount->num_syncs = 0;
}
