/*
 * Who changed a volume from outside waits here until its mountd shows it.
 */
#include "stored/stored.h"
#include "worker/log.h"

#include <string.h>

#define SEEN_SECONDS 10.0 /* a mountd that is stuck holds up nobody for longer */

static void seen_go(struct seen_waiting *w)
{
	struct seen_waiting **link = &w->stored->unseen;

	while (*link != w)
		link = &(*link)->next;
	*link = w->next;
	ev_timer_stop(w->stored->loop, &w->timer);
	w->answer(w);
}

static void on_late(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	log_warn("stored: a mountd did not show a change in time: it will a little later");
	seen_go(timer->data);
}

void seen_tell(struct seen_waiting *w, struct stored *stored, const struct volume *vol,
	uint64_t since, const struct engine_changes *changes)
{
	struct store_server *mount;
	struct volume_info info;

	volume_info(vol, &info);
	mount = stored_mount_of(stored, info.id);
	if (!mount) {
		w->answer(w);
		return;
	}
	w->stored = stored;
	w->view = info.view;
	memcpy(w->volume, info.id, sizeof(w->volume));
	ev_timer_init(&w->timer, on_late, SEEN_SECONDS, 0.);
	w->timer.data = w;
	ev_timer_start(stored->loop, &w->timer);
	w->next = stored->unseen;
	stored->unseen = w;
	mount_tell(mount, since, info.view, changes);
}

void seen_view(struct stored *stored, const uint8_t volume[16], uint64_t view)
{
	struct seen_waiting *w, *next;

	for (w = stored->unseen; w; w = next) {
		next = w->next;
		if (memcmp(w->volume, volume, 16) == 0 && w->view <= view)
			seen_go(w);
	}
}

void seen_close(struct stored *stored, const struct ipc_chan *chan)
{
	struct seen_waiting *w, *next;

	for (w = stored->unseen; w; w = next) {
		next = w->next;
		if (w->chan == chan)
			seen_go(w);
	}
}
