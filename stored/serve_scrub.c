/*
 * Runs the scrub (stored/scrub.h) beside the service: some MiB at a time, at a bounded rate, with
 * all requests between them; and fetches what is damaged from peers that have it.
 */
#include "ipc/ctl.gen.h"
#include "stored/damage.h"
#include "stored/referrers.h"
#include "stored/scrub.h"
#include "stored/stored.h"
#include "worker/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#define STEP_SECONDS 0.02
#define STEP_MAX     (4u << 20)
#define RATE_DEFAULT 64 /* MiB/s */
#define RATE_MAX     4096
#define HEAL_SECONDS 30.
#define HEAL_EVERY   600. /* what no peer could give is asked for again */
#define SAVE_EVERY   (256u << 20)

struct scrubber {
	struct scrub scrub;
	struct ev_timer step, heal;
	double healed; /* loop time of the last attempt */
	bool is_healing;
	uint64_t saved; /* bytes verified at the last scrub_save */
};

static void save(struct stored *stored)
{
	struct scrubber *s = stored->scrubber;
	int r = scrub_save(stored->engine, &s->scrub);

	if (r < 0)
		log_error_errno(r, "scrub: its progress cannot be kept");
	s->saved = s->scrub.bytes;
}

/* ---- healing */

static void healed(struct stored *stored, int err)
{
	struct scrubber *s = stored->scrubber;
	int r;

	s->is_healing = false;
	r = damage_settle(stored->engine);
	if (r > 0) {
		s->scrub.healed += (uint64_t)r;
		save(stored);
		log_warn("scrub: %d damaged objects were brought back from a peer", r);
	}
}

/* Asks for the damaged objects of one volume; those of others have their turn later. */
static void heal(struct stored *stored)
{
	struct scrubber *s = stored->scrubber;
	struct damage list[FETCH_IDS_MAX];
	struct referrer *users;
	uint8_t ids[FETCH_IDS_MAX][32];
	size_t num_users = 0, num = 0, i;
	uint8_t volume[16];
	int found;

	if (s->is_healing)
		return;
	s->healed = ev_now(stored->loop);
	damage_settle(stored->engine);
	found = damage_list(stored->engine, NULL, list, FETCH_IDS_MAX);
	if (found <= 0)
		return;
	users = calloc(FETCH_IDS_MAX, sizeof(*users));
	if (!users)
		return;
	for (i = 0; i < (size_t)found; i++)
		memcpy(ids[i], list[i].id, 32);
	engine_referrers(stored->engine, (const uint8_t(*)[32])ids, (size_t)found, users,
		FETCH_IDS_MAX, &num_users);
	for (i = 0; i < num_users; i++) {
		if (num == 0)
			memcpy(volume, users[i].volume, sizeof(volume));
		if (num < FETCH_IDS_MAX && memcmp(volume, users[i].volume, sizeof(volume)) == 0)
			memcpy(ids[num++], users[i].id, 32);
	}
	free(users);
	if (num == 0)
		return;
	s->is_healing = true;
	if (fetch_bring(stored, volume, (const uint8_t(*)[32])ids, num, HEAL_SECONDS, healed) < 0)
		s->is_healing = false;
}

static void on_heal(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	heal(timer->data);
}

/* ---- running */

static void on_step(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct stored *stored = timer->data;
	struct scrubber *s = stored->scrubber;
	uint64_t max = STEP_MAX, damaged = s->scrub.damaged;
	int r;

	if (s->scrub.rate > 0 && s->scrub.rate * (uint64_t)(STEP_SECONDS * (1 << 20)) < max)
		max = s->scrub.rate * (uint64_t)(STEP_SECONDS * (1 << 20));
	r = scrub_step(stored->engine, &s->scrub, max);
	if (r < 0 && r != -ENOMEM && r != -ENOSPC) {
		log_error_errno(r, "scrub: stopped");
		s->scrub.is_running = false;
	}
	if (!s->scrub.is_running)
		ev_timer_stop(loop, timer);
	if (!s->scrub.is_running || s->scrub.bytes - s->saved >= SAVE_EVERY)
		save(stored);
	if (s->scrub.damaged > damaged)
		heal(stored);
}

static void run(struct stored *stored)
{
	ev_timer_stop(stored->loop, &stored->scrubber->step);
	ev_timer_set(&stored->scrubber->step, STEP_SECONDS, STEP_SECONDS);
	ev_timer_start(stored->loop, &stored->scrubber->step);
}

void scrubber_begin(struct stored *stored)
{
	struct scrubber *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	stored->scrubber = s;
	ev_timer_init(&s->step, on_step, STEP_SECONDS, STEP_SECONDS);
	ev_timer_init(&s->heal, on_heal, HEAL_EVERY, HEAL_EVERY);
	s->step.data = s->heal.data = stored;
	ev_timer_start(stored->loop, &s->heal);
	if (scrub_load(stored->engine, &s->scrub) == 0 && s->scrub.is_running)
		run(stored);
}

void scrubber_end(struct stored *stored)
{
	struct scrubber *s = stored->scrubber;

	if (!s)
		return;
	ev_timer_stop(stored->loop, &s->step);
	ev_timer_stop(stored->loop, &s->heal);
	save(stored);
	stored->scrubber = NULL;
	free(s);
}

/* ---- what people ask */

static void describe(struct stored *stored, struct ipc_call *call)
{
	struct scrubber *s = stored->scrubber;
	const struct scrub *scrub = &s->scrub;
	struct ctl_damage damages[CTL_SCRUB_REPLY_DAMAGES_MAX];
	struct ctl_scrub_reply reply = {
		.running = scrub->is_running,
		.started = scrub->started,
		.finished = scrub->finished,
		.bytes = scrub->bytes,
		.total = scrub_total(stored->engine),
		.objects = scrub->objects,
		.damaged = scrub->damaged,
		.healed = scrub->healed,
		.lost_bytes = scrub->lost_bytes,
		.rate = scrub->rate,
		.damages = damages,
	};
	struct damage list[FETCH_IDS_MAX];
	struct referrer *users = calloc(CTL_SCRUB_REPLY_DAMAGES_MAX, sizeof(*users));
	uint8_t ids[FETCH_IDS_MAX][32];
	size_t num_users = 0, i;
	int found;

	damage_settle(stored->engine);
	found = damage_list(stored->engine, NULL, list, FETCH_IDS_MAX);
	for (i = 0; found > 0 && i < (size_t)found; i++)
		memcpy(ids[i], list[i].id, 32);
	if (users && found > 0)
		engine_referrers(stored->engine, (const uint8_t(*)[32])ids, (size_t)found, users,
			CTL_SCRUB_REPLY_DAMAGES_MAX, &num_users);
	for (i = 0; i < num_users; i++) {
		struct ctl_damage *d = &damages[reply.num_damages++];
		struct volume *vol = engine_volume(stored->engine, users[i].volume);
		struct volume_info info = { .name = "" };

		if (vol)
			volume_info(vol, &info);
		*d = (struct ctl_damage){
			.volume = info.name, .oid = users[i].oid, .until = users[i].until
		};
		memcpy(d->id, users[i].id, sizeof(d->id));
	}
	reply.unhealed = found > 0 ? (uint32_t)found : 0;
	ctl_scrub_reply(call, &reply);
	free(users);
}

void on_ctl_scrub(struct ctl_server *self, struct ipc_call *call, const struct ctl_scrub *req)
{
	struct stored *stored = self->stored;
	struct scrubber *s = stored->scrubber;
	int r = 0;

	if (req->start) {
		if (!s->scrub.is_running)
			r = scrub_start(stored->engine, &s->scrub, RATE_DEFAULT);
		if (req->rate > 0)
			s->scrub.rate = req->rate < RATE_MAX ? req->rate : 0;
		s->saved = s->scrub.bytes;
		run(stored);
		heal(stored);
	} else if (req->stop) {
		s->scrub.is_running = false;
		ev_timer_stop(stored->loop, &s->step);
		save(stored);
	}
	if (r < 0)
		ipc_call_fail(call, r, "scrub: cannot begin: %s", strerror(-r));
	else
		describe(stored, call);
}
