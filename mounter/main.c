/*
 * bazil-mounter: asks fusermount3 for kernel connections and to unmount. It is the one child that
 * has no closed sandbox, because no_new_privs or a namespace of its own would keep the setuid
 * fusermount3 from mounting; so it does nothing else, and hears nobody but the supervisor.
 *
 * It never looks inside a mount: a mount whose mountd is dead or stuck would hang whoever does.
 */
#include <errno.h>
#include <string.h>

#include "mounter/fusermount.h"
#include "mounter/mountpoint.h"
#include "worker/scope.h"
#include "worker/start.h"

/* flags of work_attach, as in ipc/supervisor-worker.msg */
#define MOUNT_READ_ONLY	  1u
#define MOUNT_ALLOW_OTHER 2u

static void attach(void *self, struct ipc_call *call, const struct work_attach *req)
{
	_cleanup_(closep) int fuse = -1;
	char why[FUSERMOUNT_WHY];
	int r;

	if ((req->flags & MOUNT_ALLOW_OTHER) && geteuid() != 0) {
		ipc_call_fail(call, -EPERM,
			"-allow-other: only root may let other users into a mount: leave it out");
		return;
	}
	r = mountpoint_check(req->path, why);
	if (r == 0)
		r = fusermount_mount(req->path, req->volume_name, req->flags & MOUNT_READ_ONLY,
			req->flags & MOUNT_ALLOW_OTHER, &fuse, why);
	if (r < 0) {
		ipc_call_fail(call, r, "%s: %s", req->path, why);
		return;
	}
	work_attach_reply(call, &(struct work_attach_reply){ .fuse = fuse });
}

static void detach(void *self, struct ipc_call *call, const struct work_detach *req)
{
	char why[FUSERMOUNT_WHY];
	int r = fusermount_unmount(req->path, req->lazy, why);

	if (r < 0) {
		ipc_call_fail(call, r, "%s: %s", req->path, why);
		return;
	}
	work_detach_reply(call, &(struct work_detach_reply){ 0 });
}

int main(void)
{
	static const struct worker_role role = { .name = "mounter", .profile = SANDBOX_MOUNTER };
	static const struct worker_ops ops = { .attach = attach, .detach = detach };

	return worker_run(&role, &ops, NULL);
}
