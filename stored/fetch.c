/*
 * store_fetch: far objects. Each fetch waits until all its objects are here; an object that is
 * asked for already is not asked for twice. A syncd that dies only delays: what it was to bring is
 * parked and asked of its successor, until the deadline. An object that is asked for although it is
 * here is one that its reader could not open: it is verified, and fetched anew when it is damaged.
 */
#include "ipc/fetch.gen.h"
#include "ipc/store.gen.h"
#include "stored/damage.h"
#include "stored/stored.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS                                                                                   \
	1000 /* syncd keeps the deadline itself and answers; this is for when it does not */

struct fetch {
	struct fetch *next;
	struct stored *stored;
	struct ipc_call *call; /* NULL: nobody is told but done */
	fetch_done_fn *done;
	struct ev_timer deadline;
	double ends;	/* loop time */
	bool is_parked; /* nobody is asked at the moment */
	uint8_t volume[16];
	size_t num;
	uint8_t ids[STORE_FETCH_IDS_MAX][32];
};

/* What one request to syncd asked for. */
struct asked {
	struct stored *stored;
	size_t num;
	uint8_t ids[STORE_FETCH_IDS_MAX][32];
};

static bool fetch_has(const struct fetch *fetch, const uint8_t id[32])
{
	size_t i;

	for (i = 0; i < fetch->num; i++)
		if (memcmp(fetch->ids[i], id, 32) == 0)
			return true;
	return false;
}

bool fetch_wants(const struct stored *stored, const uint8_t id[32])
{
	const struct fetch *fetch;

	for (fetch = stored->fetches; fetch; fetch = fetch->next)
		if (fetch_has(fetch, id))
			return true;
	return false;
}

/* What is damaged here is no far object whose peer is away: it cannot be read, and that is said. */
static int fetch_error(const struct fetch *fetch, int err)
{
	size_t i;

	for (i = 0; err < 0 && i < fetch->num; i++)
		if (damage_is_noted(fetch->stored->engine, fetch->ids[i]))
			return -EIO;
	return err;
}

static void fetch_answer(struct fetch *fetch, int err)
{
	struct fetch **link = &fetch->stored->fetches;

	while (*link != fetch)
		link = &(*link)->next;
	*link = fetch->next;
	ev_timer_stop(fetch->stored->loop, &fetch->deadline);
	if (!fetch->call)
		fetch->done(fetch->stored, err);
	else if (err < 0)
		ipc_call_fail(fetch->call, fetch_error(fetch, err), NULL);
	else
		store_fetch_reply(fetch->call, &(struct store_fetch_reply){ 0 });
	free(fetch);
}

void fetch_arrived(struct stored *stored)
{
	struct fetch *fetch, *next;
	struct place place;
	size_t i;

	for (fetch = stored->fetches; fetch; fetch = next) {
		next = fetch->next;
		for (i = 0; i < fetch->num;) {
			if (engine_locate(stored->engine, fetch->ids[i], &place) == 0)
				memmove(fetch->ids[i], fetch->ids[--fetch->num], 32);
			else
				i++;
		}
		if (fetch->num == 0)
			fetch_answer(fetch, 0);
	}
}

static void asked_done(void *arg, int err, const struct fetch_objects_reply *reply)
{
	struct asked *asked = arg;
	struct stored *stored = asked->stored;
	struct fetch *fetch, *next;
	size_t i;

	if (stored->engine) {
		intake_sync(stored);
		fetch_arrived(stored);
	}
	/* Whoever still waits for something that this request was to bring gets no more from it. */
	for (fetch = stored->fetches; fetch; fetch = next) {
		next = fetch->next;
		for (i = 0; i < asked->num && !fetch_has(fetch, asked->ids[i]); i++)
			;
		if (i == asked->num)
			continue;
		if (err == -ECONNRESET)
			fetch->is_parked = true;
		else
			fetch_answer(fetch, err < 0 ? err : -ENODATA);
	}
	free(asked);
}

/* Sends what is in `asked`, which is asked_done's then. False: nobody is there to be asked. */
static bool ask(
	struct stored *stored, struct asked *asked, const uint8_t volume[16], double seconds)
{
	struct fetch_objects req = {
		.ids = asked->ids, .num_ids = asked->num, .deadline_ms = (uint32_t)(seconds * 1000)
	};

	/* Objects arrive by the other edge. */
	if (!stored->fetch || !stored->sync)
		return false;
	memcpy(req.volume, volume, sizeof(req.volume));
	return fetch_objects_timeout(stored->fetch->chan, &req, req.deadline_ms + GRACE_MS,
		       asked_done, asked) == 0;
}

void fetch_resume(struct stored *stored)
{
	struct fetch *fetch;

	for (fetch = stored->fetches; fetch; fetch = fetch->next) {
		struct asked *asked = fetch->is_parked ? calloc(1, sizeof(*asked)) : NULL;
		double left = fetch->ends - ev_now(stored->loop);

		if (!asked)
			continue;
		asked->stored = stored;
		asked->num = fetch->num;
		memcpy(asked->ids, fetch->ids, sizeof(fetch->ids));
		fetch->is_parked = !ask(stored, asked, fetch->volume, left > 0 ? left : 0.001);
		if (fetch->is_parked)
			free(asked);
	}
}

static void on_deadline(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct fetch *fetch = timer->data;

	fetch_answer(fetch, fetch->is_parked ? -EHOSTUNREACH : -ETIMEDOUT);
}

static bool is_here(struct stored *stored, const uint8_t id[32])
{
	struct place place;

	return engine_locate(stored->engine, id, &place) == 0 &&
	       damage_check(stored->engine, id) != -EBADMSG;
}

/* Begins to bring what is not here; `fetch` is answered in the end, perhaps at once. */
static int fetch_begin(struct fetch *fetch, const uint8_t (*ids)[32], size_t num, double seconds)
{
	struct stored *stored = fetch->stored;
	struct asked *asked = calloc(1, sizeof(*asked));
	size_t i;

	if (!asked)
		return -ENOMEM;
	asked->stored = stored;
	for (i = 0; i < num; i++) {
		if (fetch_has(fetch, ids[i]) || is_here(stored, ids[i]))
			continue;
		if (!fetch_wants(stored, ids[i]))
			memcpy(asked->ids[asked->num++], ids[i], 32);
		memcpy(fetch->ids[fetch->num++], ids[i], 32);
	}
	fetch->ends = ev_now(stored->loop) + seconds;
	/* After the answer that syncd owes us, so that its reason is the one that is told. */
	ev_timer_init(&fetch->deadline, on_deadline, seconds + 2 * GRACE_MS / 1000., 0.);
	fetch->deadline.data = fetch;
	ev_timer_start(stored->loop, &fetch->deadline);
	fetch->next = stored->fetches;
	stored->fetches = fetch;
	if (fetch->num > 0 && asked->num > 0)
		fetch->is_parked = !ask(stored, asked, fetch->volume, seconds);
	if (asked->num == 0 || fetch->is_parked)
		free(asked);
	if (fetch->num == 0)
		fetch_answer(fetch, 0);
	return 0;
}

void on_store_fetch(struct store_server *self, struct ipc_call *call, const struct store_fetch *req)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int r = -ENOMEM;

	self->stored->counters.fetches++;
	intake_run(self);
	if (fetch) {
		fetch->stored = self->stored;
		fetch->call = call;
		memcpy(fetch->volume, self->volume, sizeof(fetch->volume));
		r = fetch_begin(fetch, (const uint8_t(*)[32])req->ids, req->num_ids,
			req->deadline_ms / 1000.);
	}
	if (r < 0) {
		free(fetch);
		ipc_call_fail(call, r, NULL);
	}
}

int fetch_bring(struct stored *stored, const uint8_t volume[16], const uint8_t (*ids)[32],
	size_t num, double seconds, fetch_done_fn *done)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int r;

	if (!fetch)
		return -ENOMEM;
	fetch->stored = stored;
	fetch->done = done;
	memcpy(fetch->volume, volume, sizeof(fetch->volume));
	r = fetch_begin(fetch, ids, num, seconds);
	if (r < 0)
		free(fetch);
	return r;
}

void fetch_close(struct stored *stored)
{
	struct fetch_client *fetch = stored->fetch;

	if (!fetch)
		return;
	stored->fetch = NULL;
	/* Every request on its way ends in asked_done, which parks those who wait. */
	ipc_chan_close(fetch->chan);
	free(fetch);
}
