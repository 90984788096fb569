#include "ipc/store.gen.h"
#include "stored/stored.h"
#include "worker/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void stored_die(int err, const char *doing)
{
	fatal("%s: %s; starting anew from what is on the disk", doing, strerror(-err));
}

int commit_wait(struct store_server *mount, struct ipc_call *call)
{
	if (mount->num_syncs == mount->cap_syncs) {
		size_t cap = mount->cap_syncs ? mount->cap_syncs * 2 : 16;
		struct ipc_call **syncs = realloc(mount->syncs, cap * sizeof(struct ipc_call *));

		if (!syncs)
			return -ENOMEM;
		mount->syncs = syncs;
		mount->cap_syncs = cap;
	}
	mount->syncs[mount->num_syncs++] = call;
	return 0;
}

/* Everybody who waits is answered by one fdatasync. After a failed one nothing can be promised any
 * more, not even what was promised before: the process ends and reads what is really there. */
void commit_run(struct stored *stored)
{
	struct store_server *mount;
	bool any = false;
	size_t i;
	int r;

	for (mount = stored->mounts; mount; mount = mount->next)
		any |= mount->num_syncs > 0;
	if (!any)
		return;
	r = engine_sync(stored->engine);
	if (r < 0 && r != -ENOSPC)
		stored_die(r, "making the store durable");
	stored->counters.fdatasyncs++;
	for (mount = stored->mounts; mount; mount = mount->next) {
		for (i = 0; i < mount->num_syncs; i++) {
			stored->counters.syncs++;
			if (r < 0)
				ipc_call_fail(mount->syncs[i], r, NULL);
			else
				store_sync_reply(mount->syncs[i], &(struct store_sync_reply){ 0 });
		}
		mount->num_syncs = 0;
	}
}

void commit_forget(struct store_server *mount)
{
	size_t i;

	for (i = 0; i < mount->num_syncs; i++)
		ipc_call_fail(mount->syncs[i], -ECONNRESET, NULL);
	mount->num_syncs = 0;
}
