/*
 * The requests about the past: of a mountd about its volume, and of people.
 */
#include "ipc/ctl.gen.h"
#include "ipc/store.gen.h"
#include "stored/stored.h"

#include <errno.h>

void on_store_snapshot_create(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_create *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_snapshot_list(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_list *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_snapshot_remove(
	struct store_server *self, struct ipc_call *call, const struct store_snapshot_remove *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_versions(
	struct store_server *self, struct ipc_call *call, const struct store_versions *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_diff(struct store_server *self, struct ipc_call *call, const struct store_diff *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_store_span(struct store_server *self, struct ipc_call *call, const struct store_span *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, NULL);
}

void on_ctl_volume_retention(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_volume_retention *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, "not supported by this build");
}

void on_ctl_sync_list(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sync_list *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, "not supported by this build");
}

void on_ctl_sync_undo(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sync_undo *req)
{
	ipc_call_fail(call, -EOPNOTSUPP, "not supported by this build");
}
