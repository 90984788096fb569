#include "mountd/ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cas/object.h"
#include "mountd/sealers.h"

struct slot {
	struct ahead_chunk chunk;
	bool is_used, is_running;
	int err;
	uint8_t *buf; /* CAS_OBJECT_MAX: the sealed bytes, then the plain ones */
	struct seal_work work;
};

struct ahead {
	struct sealers *sealers;
	struct slot slots[AHEAD_SLOTS];
	size_t next;
};

int ahead_new(struct ahead **ret, struct sealers *sealers)
{
	struct ahead *ahead = calloc(1, sizeof(*ahead));

	if (ahead == NULL)
		return -ENOMEM;
	ahead->sealers = sealers;
	*ret = ahead;
	return 0;
}

static void settle(struct ahead *ahead, struct slot *slot)
{
	if (slot->is_running)
		sealers_finish(ahead->sealers, &slot->work);
	slot->is_running = false;
}

void ahead_settle(struct ahead *ahead)
{
	for (size_t i = 0; i < AHEAD_SLOTS; i++)
		settle(ahead, &ahead->slots[i]);
}

void ahead_drop(struct ahead *ahead)
{
	ahead_settle(ahead);
	for (size_t i = 0; i < AHEAD_SLOTS; i++)
		ahead->slots[i].is_used = false;
}

void ahead_free(struct ahead *ahead)
{
	if (ahead == NULL)
		return;
	ahead_drop(ahead);
	for (size_t i = 0; i < AHEAD_SLOTS; i++)
		free(ahead->slots[i].buf);
	free(ahead);
}

static size_t find(const struct ahead *ahead, const struct cas_id *id)
{
	size_t i = 0;

	while (i < AHEAD_SLOTS &&
		!(ahead->slots[i].is_used && cas_id_equal(&ahead->slots[i].chunk.id, id)))
		i++;
	return i;
}

bool ahead_has(const struct ahead *ahead, const struct cas_id *id)
{
	return find(ahead, id) < AHEAD_SLOTS;
}

static int read_all(const struct ahead_chunk *chunk, uint8_t *buf)
{
	size_t done = 0;

	while (done < chunk->len) {
		ssize_t n = pread(
			chunk->fd, buf + done, chunk->len - done, (off_t)(chunk->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* On a helper. cas_chunk_open is done with the sealed bytes before it writes the plain ones. */
static void read_and_open(struct cas_suite *suite, void *arg, size_t num)
{
	struct slot *slot = arg;
	const struct ahead_chunk *chunk = &slot->chunk;
	size_t len = 0;

	slot->err = read_all(chunk, slot->buf);
	if (slot->err == 0)
		slot->err = cas_chunk_open(suite, slot->buf, chunk->len, chunk->key, &chunk->h,
			slot->buf, chunk->plain_len, &len);
	if (slot->err == 0 && len != chunk->plain_len)
		slot->err = -EBADMSG;
}

void ahead_start(struct ahead *ahead, const struct ahead_chunk *chunk)
{
	struct slot *slot = &ahead->slots[ahead->next];

	if (chunk->len > CAS_OBJECT_MAX || chunk->plain_len > CAS_CHUNK_PLAIN_MAX)
		return;
	settle(ahead, slot);
	if (slot->buf == NULL)
		slot->buf = malloc(CAS_OBJECT_MAX);
	slot->is_used = slot->buf != NULL;
	if (!slot->is_used)
		return;
	ahead->next = (ahead->next + 1) % AHEAD_SLOTS;
	slot->chunk = *chunk;
	slot->err = 0;
	slot->is_running = true;
	sealers_start_one(ahead->sealers, &slot->work, read_and_open, slot);
}

const uint8_t *ahead_find(struct ahead *ahead, const struct cas_id *id, uint32_t plain_len)
{
	size_t at = find(ahead, id);
	struct slot *slot = &ahead->slots[at];

	if (at == AHEAD_SLOTS)
		return NULL;
	settle(ahead, slot);
	if (slot->err < 0 || slot->chunk.plain_len != plain_len) {
		slot->is_used = false;
		return NULL;
	}
	return slot->buf;
}
