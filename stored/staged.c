#include "stored/staged.h"

#include "cas/sha256.h"
#include "ipc/ring.h"
#include "stored/intake.h"

#include <stdlib.h>
#include <string.h>

/* The objects from there on; *ret_bytes of entries. What is no object, or malformed, ends them. */
static void look(struct staged *staged, struct ipc_ring *ring, uint64_t from, uint64_t upto,
	size_t *ret_bytes)
{
	uint64_t at = from, end;
	const void *data;
	uint32_t type, len;

	*ret_bytes = 0;
	while (staged->num < STAGED_MAX && at < upto &&
		ipc_ring_peek_at(ring, at, &end, &type, &data, &len) == 1 &&
		type == INTAKE_OBJECT && len > INTAKE_TAG_SIZE &&
		len - INTAKE_TAG_SIZE <= INTAKE_OBJECT_MAX) {
		staged->list[staged->num++] =
			(struct staged_object){ .at = at, .source = data, .len = len };
		*ret_bytes += len;
		at = end;
	}
}

static int make_room(struct staged *staged, size_t bytes)
{
	uint8_t *buf;

	if (bytes <= staged->cap)
		return 0;
	buf = realloc(staged->buf, bytes);
	if (!buf)
		return -1;
	staged->buf = buf;
	staged->cap = bytes;
	return 0;
}

void staged_fill(struct staged *staged, struct ipc_ring *ring, uint64_t from, uint64_t upto)
{
	struct cas_sha256 jobs[STAGED_MAX];
	size_t bytes, done = 0;

	staged->num = 0;
	if (!cas_sha256_has_lanes())
		return;
	look(staged, ring, from, upto, &bytes);
	if (staged->num < CAS_SHA256_FEW || make_room(staged, bytes) < 0) {
		staged->num = 0;
		return;
	}
	for (size_t i = 0; i < staged->num; i++) {
		struct staged_object *object = &staged->list[i];

		object->entry = staged->buf + done;
		memcpy(object->entry, object->source, object->len);
		done += object->len;
		jobs[i] = (struct cas_sha256){ object->entry + INTAKE_TAG_SIZE,
			object->len - INTAKE_TAG_SIZE, object->id };
	}
	if (!cas_sha256_many(jobs, staged->num))
		staged->num = 0;
}

const struct staged_object *staged_find(const struct staged *staged, uint64_t at)
{
	for (size_t i = 0; i < staged->num; i++)
		if (staged->list[i].at == at)
			return &staged->list[i];
	return NULL;
}

void staged_drop(struct staged *staged)
{
	staged->num = 0;
}
