#include "syncd/objects.h"

#include "cas/id.h"
#include "cas/suite.h"
#include "ipc/chan.h"
#include "ipc/ring.h"
#include "ipc/sync.gen.h"
#include "stored/intake.h"
#include "syncd/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(SESSION_OBJECT_MAX <= INTAKE_OBJECT_MAX, "what a session takes, stored takes");

/* An object that waits for room in ring_in. */
struct object_put {
	struct object_put *next;
	uint8_t *data;
	size_t len;
	objects_put_fn *done;
	void *arg;
};

int objects_init(struct objects *o)
{
	*o = (struct objects){ .suite = cas_suite_new() };
	o->last_put = &o->first_put;
	o->last_taken = &o->first_taken;
	return o->suite ? 0 : -ENOMEM;
}

void objects_release(struct objects *o)
{
	objects_detach(o);
	cas_suite_free(o->suite);
	o->suite = NULL;
}

bool objects_are(struct objects *o, const uint8_t id[32], const uint8_t *data, size_t len)
{
	struct cas_id is;

	cas_id_of(o->suite, data, len, &is);
	return memcmp(is.b, id, sizeof(is.b)) == 0;
}

/* ---- to stored ---- */

/* False: no room now. */
static bool publish(struct objects *o, const struct object_put *put, struct ipc_chan *sync)
{
	uint32_t len = (uint32_t)(INTAKE_TAG_SIZE + put->len);
	uint8_t *p = ipc_ring_reserve(o->ring_in, len);

	if (!p)
		return false;
	memset(p, 0, INTAKE_TAG_SIZE);
	memcpy(p + INTAKE_TAG_SIZE, put->data, put->len);
	ipc_ring_publish(o->ring_in, INTAKE_OBJECT, len);
	if (sync && ipc_ring_must_kick(o->ring_in))
		sync_kick(sync, &(struct sync_kick){ 0 });
	return true;
}

static void put_free(struct object_put *put, int err, uint64_t position)
{
	put->done(put->arg, err, position);
	free(put->data);
	free(put);
}

static void run_puts(struct objects *o, struct ipc_chan *sync)
{
	while (o->ring_in && o->first_put) {
		struct object_put *put = o->first_put;
		if (!publish(o, put, sync)) {
			/* stored tells (sync_room) when it has taken something; it may just have.
			 */
			ipc_ring_sleep_begin(o->ring_in);
			if (!publish(o, put, sync))
				return;
		}
		ipc_ring_sleep_end(o->ring_in);
		o->first_put = put->next;
		if (!o->first_put)
			o->last_put = &o->first_put;
		put_free(put, 0, ipc_ring_head(o->ring_in));
	}
}

void objects_put(struct objects *o, struct ipc_chan *sync, uint8_t *data, size_t len,
	objects_put_fn *done, void *arg)
{
	struct object_put *put = o->ring_in ? calloc(1, sizeof(*put)) : NULL;

	if (!put) {
		free(data);
		done(arg, o->ring_in ? -ENOMEM : -ECONNRESET, 0);
		return;
	}
	put->data = data;
	put->len = len;
	put->done = done;
	put->arg = arg;
	*o->last_put = put;
	o->last_put = &put->next;
	run_puts(o, sync);
}

/* ---- from stored ---- */

/* Copies what stored put into the ring. -EBADMSG: it is not to be understood. */
static int take_one(struct objects *o, const uint8_t *data, uint32_t type, uint32_t len)
{
	struct object *object;

	if (type != INTAKE_OBJECT || len <= INTAKE_TAG_SIZE ||
		len - INTAKE_TAG_SIZE > SESSION_OBJECT_MAX)
		return -EBADMSG;
	object = calloc(1, sizeof(*object));
	if (!object)
		return -ENOMEM;
	object->len = len - INTAKE_TAG_SIZE;
	object->data = malloc(object->len);
	if (!object->data) {
		free(object);
		return -ENOMEM;
	}
	memcpy(object->data, data + INTAKE_TAG_SIZE, object->len);
	*o->last_taken = object;
	o->last_taken = &object->next;
	return 0;
}

/* Looks at the first entry: 1 taken, 0 none. */
static int take_next(struct objects *o, struct ipc_chan *sync)
{
	const void *data;
	uint64_t end;
	uint32_t type, len;
	int r = ipc_ring_peek(o->ring_out, &end, &type, &data, &len);

	if (r <= 0)
		return r;
	r = take_one(o, data, type, len);
	if (r < 0)
		return r;
	ipc_ring_release(o->ring_out, end);
	if (sync && ipc_ring_must_kick(o->ring_out))
		sync_kick(sync, &(struct sync_kick){ 0 });
	return 1;
}

static int run_takes(struct objects *o, struct ipc_chan *sync)
{
	int r;

	ipc_ring_sleep_end(o->ring_out);
	do {
		while ((r = take_next(o, sync)) > 0)
			;
		if (r < 0)
			return r;
		/* Something may have come just before stored could know that we sleep. */
		ipc_ring_sleep_begin(o->ring_out);
		r = take_next(o, sync);
	} while (r > 0);
	return r;
}

int objects_run(struct objects *o, struct ipc_chan *sync)
{
	run_puts(o, sync);
	return o->ring_out ? run_takes(o, sync) : 0;
}

struct object *objects_take(struct objects *o)
{
	struct object *object = o->first_taken;

	if (!object)
		return NULL;
	o->first_taken = object->next;
	if (!o->first_taken)
		o->last_taken = &o->first_taken;
	return object;
}

/* ---- edges ---- */

int objects_attach(struct objects *o, int ring_in, int ring_out)
{
	int r = ipc_ring_map(&o->ring_in, ring_in, IPC_RING_PRODUCER);

	if (r == 0) {
		r = ipc_ring_map(&o->ring_out, ring_out, IPC_RING_CONSUMER);
	} else {
		o->ring_in = NULL;
	}
	close(ring_in);
	close(ring_out);
	if (r < 0) {
		objects_detach(o);
		return r;
	}
	/* What lies there was for calls that died with the stored before. */
	ipc_ring_release(o->ring_out, ipc_ring_head(o->ring_out));
	return objects_run(o, NULL);
}

void objects_detach(struct objects *o)
{
	struct object *object;
	struct object_put *put = o->first_put, *next;

	if (o->ring_in)
		ipc_ring_unmap(o->ring_in);
	if (o->ring_out)
		ipc_ring_unmap(o->ring_out);
	o->ring_in = o->ring_out = NULL;
	while ((object = objects_take(o))) {
		free(object->data);
		free(object);
	}
	o->first_put = NULL;
	o->last_put = &o->first_put;
	for (; put; put = next) {
		next = put->next;
		put_free(put, -ECONNRESET, 0);
	}
}
