/*
 * store_fetch: far objects. Each fetch waits until all its objects are here; an object that is
 * asked for already is not asked for twice.
 */
#include "ipc/fetch.gen.h"
#include "ipc/store.gen.h"
#include "stored/stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS                                                                                   \
	1000 /* syncd keeps the deadline itself and answers; this is for when it does not */

struct fetch {
	struct fetch *next;
	struct stored *stored;
	struct ipc_call *call;
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

static void fetch_answer(struct fetch *fetch, int err)
{
	struct fetch **link = &fetch->stored->fetches;

	while (*link != fetch)
		link = &(*link)->next;
	*link = fetch->next;
	if (err < 0)
		ipc_call_fail(fetch->call, err, NULL);
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

/* Whoever still waits for something that this request was to bring gets no more. */
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
	for (fetch = stored->fetches; fetch; fetch = next) {
		next = fetch->next;
		for (i = 0; i < asked->num; i++) {
			if (!fetch_has(fetch, asked->ids[i]))
				continue;
			fetch_answer(fetch, err == -ECONNRESET ? -EHOSTUNREACH
					    : err < 0	       ? err
							       : -ENODATA);
			break;
		}
	}
	free(asked);
}

void on_store_fetch(struct store_server *self, struct ipc_call *call, const struct store_fetch *req)
{
	struct stored *stored = self->stored;
	struct fetch_objects ask = { .deadline_ms = req->deadline_ms };
	struct asked *asked;
	struct fetch *fetch;
	struct place place;
	size_t i;
	int r;

	stored->counters.fetches++;
	intake_run(self);
	fetch = calloc(1, sizeof(*fetch));
	asked = calloc(1, sizeof(*asked));
	if (!fetch || !asked) {
		free(fetch);
		free(asked);
		ipc_call_fail(call, -ENOMEM, NULL);
		return;
	}
	fetch->stored = asked->stored = stored;
	fetch->call = call;
	for (i = 0; i < req->num_ids; i++) {
		if (engine_locate(stored->engine, req->ids[i], &place) == 0 ||
			fetch_has(fetch, req->ids[i]))
			continue;
		if (!fetch_wants(stored, req->ids[i]))
			memcpy(asked->ids[asked->num++], req->ids[i], 32);
		memcpy(fetch->ids[fetch->num++], req->ids[i], 32);
	}
	fetch->next = stored->fetches;
	stored->fetches = fetch;
	if (fetch->num == 0 || asked->num == 0) {
		free(asked);
		if (fetch->num == 0)
			fetch_answer(fetch, 0);
		return;
	}
	if (!stored->fetch || !stored->sync) {
		free(asked);
		fetch_answer(fetch, -EHOSTUNREACH);
		return;
	}
	memcpy(ask.volume, self->volume, sizeof(ask.volume));
	ask.ids = asked->ids;
	ask.num_ids = asked->num;
	r = fetch_objects_timeout(
		stored->fetch->chan, &ask, req->deadline_ms + GRACE_MS, asked_done, asked);
	if (r < 0) {
		free(asked);
		fetch_answer(fetch, -EHOSTUNREACH);
	}
}

void fetch_close(struct stored *stored)
{
	struct fetch_client *fetch = stored->fetch;

	if (!fetch)
		return;
	stored->fetch = NULL;
	/* Every request on its way ends in asked_done, which answers those who wait. */
	ipc_chan_close(fetch->chan);
	free(fetch);
}
