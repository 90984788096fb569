#include "supervisor/auto_mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/ctl.gen.h"
#include "supervisor/mounts.h"
#include "supervisor/supervisor.h"
#include "worker/log.h"

#define AGAIN_SECONDS 15.

/* ---- the copy */

static void entry_free(struct auto_mount *entry)
{
	if (entry)
		free(entry->path);
	free(entry);
}

static struct auto_mount *entry_new(const char *volume, const char *path, uint32_t flags)
{
	struct auto_mount *entry = calloc(1, sizeof(*entry));

	if (!entry || !(entry->path = strdup(path))) {
		entry_free(entry);
		return NULL;
	}
	snprintf(entry->volume, sizeof(entry->volume), "%s", volume);
	entry->flags = flags;
	return entry;
}

/* A volume is mounted in one place. */
static void forget(struct supervisor *s, const char *volume)
{
	struct auto_mount **at = &s->auto_mounts.first, *entry;

	while (*at && strcmp((*at)->volume, volume) != 0)
		at = &(*at)->next;
	entry = *at;
	if (entry)
		*at = entry->next;
	entry_free(entry);
}

static void keep(struct supervisor *s, struct auto_mount *entry)
{
	forget(s, entry->volume);
	entry->next = s->auto_mounts.first;
	s->auto_mounts.first = entry;
}

struct auto_mount *auto_mounts_find(struct supervisor *s, const char *target)
{
	const bool is_path = strchr(target, '/') != NULL;
	struct auto_mount *entry = s->auto_mounts.first;

	while (entry && strcmp(is_path ? entry->path : entry->volume, target) != 0)
		entry = entry->next;
	return entry;
}

void auto_mounts_release(struct supervisor *s)
{
	ev_timer_stop(s->loop, &s->auto_mounts.again);
	while (s->auto_mounts.first)
		forget(s, s->auto_mounts.first->volume);
}

/* ---- changing what stored keeps */

struct change {
	struct supervisor *supervisor;
	struct ipc_call *call;
	struct auto_mount *entry;
	bool is_removal;
};

static const char *reason(struct supervisor *s, int err)
{
	struct ipc_chan *stored = s->children[ROLE_STORED].ctl;

	return stored && *ipc_chan_error(stored) ? ipc_chan_error(stored) : strerror(-err);
}

static void changed(void *arg, int err, const struct ctl_auto_set_reply *reply)
{
	struct change *change = arg;
	struct supervisor *s = change->supervisor;
	struct auto_mount *entry = change->entry;

	if (err && change->is_removal)
		ipc_call_fail(change->call, err,
			"%s: it is unmounted, but will be mounted again at the next start: %s",
			entry->path, reason(s, err));
	else if (err)
		ipc_call_fail(change->call, err,
			"%s: it is mounted, but will not be at the next start: %s", entry->path,
			reason(s, err));
	else if (change->is_removal)
		ctl_volume_unmount_reply(change->call, &(struct ctl_volume_unmount_reply){ 0 });
	else
		ctl_volume_mount_reply(change->call, &(struct ctl_volume_mount_reply){ 0 });
	if (!err && change->is_removal)
		forget(s, entry->volume);
	if (!err && !change->is_removal)
		keep(s, entry);
	else
		entry_free(entry);
	free(change);
}

static void change(struct supervisor *s, struct ipc_call *call, const char *volume,
	const char *path, uint32_t flags, bool is_removal)
{
	struct ipc_chan *stored = s->children[ROLE_STORED].ctl;
	const struct ctl_auto_set msg = {
		.volume = volume, .path = is_removal ? "" : path, .flags = flags
	};
	struct change *change = calloc(1, sizeof(*change));

	if (!change || !(change->entry = entry_new(volume, path, flags))) {
		free(change);
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	change->supervisor = s;
	change->call = call;
	change->is_removal = is_removal;
	change->entry->was_up = true;
	if (!stored || ctl_auto_set(stored, &msg, changed, change) < 0)
		changed(change, -EAGAIN, NULL);
}

void auto_mounts_add(struct supervisor *s, struct ipc_call *call, const char *volume,
	const char *path, uint32_t flags)
{
	change(s, call, volume, path, flags, false);
}

void auto_mounts_remove(struct supervisor *s, struct ipc_call *call, const char *path)
{
	const struct auto_mount *entry = auto_mounts_find(s, path);

	if (entry)
		change(s, call, entry->volume, path, entry->flags, true);
	else
		ctl_volume_unmount_reply(call, &(struct ctl_volume_unmount_reply){ 0 });
}

/* ---- mounting */

void auto_mounts_came_up(struct supervisor *s, const char *path)
{
	struct auto_mount *entry = auto_mounts_find(s, path);

	if (!entry)
		return;
	entry->was_up = true;
	entry->failure[0] = '\0';
}

/* It is told once, not every time that it is tried. */
void auto_mounts_failed(struct supervisor *s, const char *path, const char *why)
{
	struct auto_mount *entry = auto_mounts_find(s, path);

	if (!entry || strncmp(entry->failure, why, sizeof(entry->failure) - 1) == 0)
		return;
	snprintf(entry->failure, sizeof(entry->failure), "%s", why);
	log_warn("a volume that is mounted at every start could not be: see `bazil server status`");
}

static void again(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct supervisor *s = timer->data;
	bool is_waiting = false;

	for (struct auto_mount *entry = s->auto_mounts.first; entry; entry = entry->next) {
		if (entry->was_up || s->stopping)
			continue;
		is_waiting = true;
		if (!mounts_at(s, entry->path))
			mount_start(s, NULL, entry->volume, entry->path, entry->flags, 0);
	}
	if (!is_waiting)
		ev_timer_stop(loop, timer);
}

static void listed(void *arg, int err, const struct ctl_auto_list_reply *reply)
{
	struct supervisor *s = arg;
	struct ev_timer *timer = &s->auto_mounts.again;

	for (size_t i = 0; !err && i < reply->num_mounts; i++) {
		const struct ctl_auto *m = &reply->mounts[i];
		struct auto_mount *entry = entry_new(m->volume, m->path, m->flags);

		if (!entry)
			continue;
		/* Those that the last server left us are up: they are not tried. */
		entry->was_up = mounts_at(s, entry->path) != NULL;
		keep(s, entry);
	}
	if (err)
		log_error_errno(err, "what is mounted at every start is not known");
	ev_timer_init(timer, again, 0., AGAIN_SECONDS);
	timer->data = s;
	if (!s->stopping)
		ev_timer_start(s->loop, timer);
}

void auto_mounts_begin(struct supervisor *s)
{
	struct ipc_chan *stored = s->children[ROLE_STORED].ctl;

	if (!stored || ctl_auto_list(stored, &(struct ctl_auto_list){ 0 }, listed, s) < 0)
		listed(s, -EAGAIN, NULL);
}
