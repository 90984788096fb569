#include "mountd/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/ring.h"
#include "ipc/store.gen.h"
#include "mountd/figure_walk.h"
#include "mountd/mountd.h"
#include "stored/intake.h"

void batch_begin(struct mountd *m, struct batch *batch)
{
	*batch = (struct batch){ .m = m, .buf = m->batch_buf, .len = sizeof(struct intake_batch) };
}

static uint8_t *op_begin(struct batch *batch)
{
	return batch->buf + batch->len + sizeof(struct intake_op);
}

static void op_end(struct batch *batch, enum intake_op_type type, size_t len)
{
	struct intake_op op = { .type = (uint8_t)type, .len = (uint32_t)len };
	uint8_t *bytes = op_begin(batch);

	memcpy(batch->buf + batch->len, &op, sizeof(op));
	memset(bytes + len, 0, INTAKE_PAD(len) - len);
	batch->len += sizeof(op) + INTAKE_PAD(len);
	batch->num_ops++;
	if (type == INTAKE_PUT)
		batch->grows = true;
	if (batch->len > INTAKE_BATCH_MAX)
		abort(); /* callers ask batch_has_room() before they add without bound */
}

void batch_put_link(struct batch *batch, const struct sealed_link *link)
{
	op_end(batch, INTAKE_PUT, sealed_put_link(&batch->m->sealer, link, op_begin(batch)));
}

void batch_put_attr(struct batch *batch, uint64_t oid, const struct sealed_attr *attr)
{
	figure_walk_changed(batch->m, oid);
	op_end(batch, INTAKE_PUT, sealed_put_attr(&batch->m->sealer, oid, attr, op_begin(batch)));
}

void batch_put_body(struct batch *batch, uint64_t oid, const struct sealed_body *body)
{
	figure_walk_changed(batch->m, oid);
	op_end(batch, INTAKE_PUT, sealed_put_body(&batch->m->sealer, oid, body, op_begin(batch)));
}

void batch_put_xattr(struct batch *batch, uint64_t oid, const char *name, size_t name_len,
	const void *value, size_t len)
{
	op_end(batch, INTAKE_PUT,
		sealed_put_xattr(
			&batch->m->sealer, oid, name, name_len, value, len, op_begin(batch)));
}

void batch_remove(
	struct batch *batch, enum tree_kind kind, uint64_t id, const uint8_t tag[TREE_TAG_SIZE])
{
	struct tree_key key = { .id = id, .kind = (uint8_t)kind };

	if (tag != NULL)
		memcpy(key.tag, tag, sizeof(key.tag));
	tree_key_pack(&key, op_begin(batch));
	op_end(batch, INTAKE_REMOVE, TREE_KEY_SIZE);
}

bool batch_has_room(const struct batch *batch)
{
	return batch->len + TREE_RECORD_MAX + 64 < INTAKE_BATCH_MAX &&
	       batch->num_ops + 8 < INTAKE_OPS_MAX;
}

static const struct intake_area *area(const struct mountd *m)
{
	return ipc_ring_user(m->ring);
}

int publish_error(const struct mountd *m)
{
	return -(int)atomic_load(&area(m)->error);
}

uint64_t publish_position(const struct mountd *m)
{
	return ipc_ring_head(m->ring);
}

void publish_kick(struct mountd *m)
{
	/* A lost kick to a dead stored is none: it looks at the ring when it attaches. */
	if (ipc_ring_must_kick(m->ring) && m->edges.store != NULL)
		store_kick(m->edges.store, &(struct store_kick){ 0 });
}

/* Waits until len bytes fit. stored may be dead meanwhile: its successor makes room. */
static uint8_t *reserve(struct mountd *m, size_t len)
{
	uint8_t *room;

	while ((room = ipc_ring_reserve(m->ring, (uint32_t)len)) == NULL) {
		publish_kick(m);
		ipc_ring_sleep_begin(m->ring);
		room = ipc_ring_reserve(m->ring, (uint32_t)len);
		if (room == NULL)
			mountd_wait_once(m, 0.1);
		ipc_ring_sleep_end(m->ring);
		if (room != NULL)
			break;
	}
	return room;
}

/* unique: of the request that this answers, 0: of none. */
static int publish(struct batch *batch, uint64_t view, uint64_t unique, uint64_t answer)
{
	struct mountd *m = batch->m;
	struct intake_batch head = { .version = INTAKE_VERSION,
		.num_ops = batch->num_ops,
		.unique = unique & ~(UINT64_C(1) << 63),
		.view = view };
	uint8_t *room;
	int r;

	if (batch->num_ops == 0)
		return 0;
	r = batch->grows ? publish_error(m) : 0;
	if (r < 0)
		return r;
	memcpy(batch->buf, &head, sizeof(head));
	room = reserve(m, batch->len);
	memcpy(room, batch->buf, batch->len);
	/* From the moment the head moves the change is made; what to answer must be known before.
	 */
	if (unique != 0)
		state_intend(&m->state, unique, answer, ipc_ring_head(m->ring) + 1);
	ipc_ring_publish(m->ring, INTAKE_BATCH, (uint32_t)batch->len);
	m->num_batches++;
	publish_kick(m);
	return 0;
}

int batch_publish(struct batch *batch, uint64_t view, uint64_t answer)
{
	return publish(batch, view, batch->m->session.unique, answer);
}

int batch_publish_aside(struct batch *batch, uint64_t view)
{
	return publish(batch, view, 0, 0);
}

int publish_object_begin(struct mountd *m, size_t len, uint8_t **ret_sealed)
{
	int r = publish_error(m);

	if (r < 0)
		return r;
	*ret_sealed = reserve(m, INTAKE_TAG_SIZE + len) + INTAKE_TAG_SIZE;
	return 0;
}

void publish_object_end(struct mountd *m, const uint8_t tag[32], size_t len)
{
	/* The room that publish_object_begin gave: the same until it is published. */
	uint8_t *room = ipc_ring_reserve(m->ring, (uint32_t)(INTAKE_TAG_SIZE + len));

	if (tag != NULL)
		memcpy(room, tag, INTAKE_TAG_SIZE);
	else
		memset(room, 0, INTAKE_TAG_SIZE);
	ipc_ring_publish(m->ring, INTAKE_OBJECT, (uint32_t)(INTAKE_TAG_SIZE + len));
	m->num_objects++;
	publish_kick(m);
}
