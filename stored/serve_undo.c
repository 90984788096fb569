/*
 * `bazil undo`: first the volume's mountd hands in what it holds, so that a file that was written a
 * moment ago counts as changed since; then the sync is undone (stored/undo.h); then mountd shows
 * it.
 */
#include "ipc/ctl.gen.h"
#include "ipc/store.gen.h"
#include "stored/settings.h"
#include "stored/stored.h"
#include "stored/undo.h"
#include "worker/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLUSH_SECONDS 10.0

struct undo_waiting {
	struct seen_waiting seen; /* after it was done */
	struct undo_waiting *next;
	struct ctl_server *ctl;
	struct ev_timer timer;
	uint64_t token; /* of the store_flush */
	uint64_t time;
	uint8_t volume[16];
	struct undo_result result;
};

static void answer(struct seen_waiting *seen)
{
	struct undo_waiting *w = (struct undo_waiting *)seen;
	const struct undo_result *result = &w->result;

	ctl_sync_undo_reply(seen->call, &(struct ctl_sync_undo_reply){ .time = result->time,
						.num_restored = result->num_restored,
						.stayed = result->num_stayed,
						.kept = w->result.kept,
						.num_kept = result->num_kept });
	free(w);
}

static void undo_now(struct undo_waiting *w)
{
	struct stored *stored = w->ctl->stored;
	struct store_server *mount = stored_mount_of(stored, w->volume);
	struct engine_changes changes;
	struct volume_info before = { 0 };
	struct volume *vol;
	int r = -ENOENT;

	if (mount)
		intake_run(mount);
	vol = engine_volume(stored->engine, w->volume);
	if (vol) {
		volume_info(vol, &before);
		r = undo_run(stored->engine, vol, w->time, &w->result);
	}
	if (r == -EIO)
		stored_die(r, "undoing a sync");
	changes = w->result.changes;
	if (r < 0) {
		ipc_call_fail(w->seen.call, r, "%s",
			vol ? engine_error(stored->engine) : "the volume was removed");
		free(w);
	} else if (w->result.num_restored > 0) {
		seen_tell(&w->seen, stored, vol, before.view, &changes);
	} else {
		answer(&w->seen);
	}
	engine_changes_release(&changes);
}

/* ---- waiting for mountd to hand in */

static void waiting_end(struct undo_waiting *w)
{
	struct stored *stored = w->ctl->stored;
	struct undo_waiting **link = &stored->undos;

	while (*link != w)
		link = &(*link)->next;
	*link = w->next;
	ev_timer_stop(stored->loop, &w->timer);
}

static void on_late(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct undo_waiting *w = timer->data;

	log_warn("stored: a mountd did not store what is dirty in time: an undo goes on without");
	waiting_end(w);
	undo_now(w);
}

void undo_flushed(struct stored *stored, const uint8_t volume[16], uint64_t token)
{
	struct undo_waiting *w, *next;

	for (w = stored->undos; w; w = next) {
		next = w->next;
		if (memcmp(w->volume, volume, 16) != 0 || (token > 0 && w->token > token))
			continue;
		waiting_end(w);
		undo_now(w);
	}
}

void undo_close(struct stored *stored, const struct ctl_server *ctl)
{
	struct undo_waiting *w, *next;

	for (w = stored->undos; w; w = next) {
		next = w->next;
		if (w->ctl != ctl)
			continue;
		waiting_end(w);
		ipc_call_fail(w->seen.call, -ECONNRESET, NULL);
		free(w);
	}
}

void on_ctl_sync_undo(
	struct ctl_server *self, struct ipc_call *call, const struct ctl_sync_undo *req)
{
	struct stored *stored = self->stored;
	struct volume *vol = settings_volume(stored->engine, req->volume);
	struct store_server *mount;
	struct undo_waiting *w;
	struct volume_info info;

	if (!vol) {
		ipc_call_fail(call, -ENOENT, "%s", engine_error(stored->engine));
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	volume_info(vol, &info);
	w->seen.chan = self->chan;
	w->seen.call = call;
	w->seen.answer = answer;
	w->ctl = self;
	w->time = req->time;
	w->token = ++stored->flush_token;
	memcpy(w->volume, info.id, sizeof(w->volume));
	mount = stored_mount_of(stored, info.id);
	if (!mount || store_flush(mount->chan, &(struct store_flush){ .token = w->token }) < 0) {
		undo_now(w);
		return;
	}
	ev_timer_init(&w->timer, on_late, FLUSH_SECONDS, 0.);
	w->timer.data = w;
	ev_timer_start(stored->loop, &w->timer);
	w->next = stored->undos;
	stored->undos = w;
}
