#include "mountd/ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cas/object.h"
#include "mountd/sealers.h"

/* Chunks reach beyond both ends of what a group is for, and sealed ones are padded. */
#define GROUP_ROOM (AHEAD_BYTES + 3u * CAS_OBJECT_MAX)

_Static_assert(AHEAD_GROUP <= CAS_OPENINGS_AT_ONCE, "hashed together");

struct slot {
	struct ahead_chunk chunk;
	uint8_t *buf, *out; /* in the group's */
	const uint8_t *plain;
	int err;
};

struct group {
	struct slot slots[AHEAD_GROUP];
	size_t num;
	bool is_running;
	uint8_t *bufs, *outs; /* GROUP_ROOM each: sealed bytes; those that were compressed */
	struct seal_work work;
};

struct ahead {
	struct sealers *sealers;
	struct group groups[AHEAD_GROUPS];
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

static void settle(struct ahead *ahead, struct group *group)
{
	if (group->is_running)
		sealers_finish(ahead->sealers, &group->work);
	group->is_running = false;
}

void ahead_settle(struct ahead *ahead)
{
	for (size_t i = 0; i < AHEAD_GROUPS; i++)
		settle(ahead, &ahead->groups[i]);
}

void ahead_drop(struct ahead *ahead)
{
	ahead_settle(ahead);
	for (size_t i = 0; i < AHEAD_GROUPS; i++)
		ahead->groups[i].num = 0;
}

static size_t find_in(const struct group *group, const struct cas_id *id)
{
	size_t i = 0;

	while (i < group->num && !cas_id_equal(&group->slots[i].chunk.id, id))
		i++;
	return i;
}

bool ahead_has(const struct ahead *ahead, const struct cas_id *id)
{
	for (size_t i = 0; i < AHEAD_GROUPS; i++)
		if (find_in(&ahead->groups[i], id) < ahead->groups[i].num)
			return true;
	return false;
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

/* On a helper. */
static void read_and_open(struct cas_suite *suite, void *arg, size_t num)
{
	struct cas_opening openings[AHEAD_GROUP];
	struct slot *slots = arg;

	for (size_t i = 0; i < num; i++) {
		const struct ahead_chunk *chunk = &slots[i].chunk;

		openings[i] = (struct cas_opening){ .buf = slots[i].buf,
			.len = chunk->len,
			.key = chunk->key,
			.h = &chunk->h,
			.out = slots[i].out,
			.out_size = chunk->plain_len,
			.err = read_all(chunk, slots[i].buf) };
	}
	cas_chunks_open(suite, openings, num);
	for (size_t i = 0; i < num; i++) {
		slots[i].plain = openings[i].plain;
		slots[i].err = openings[i].err;
		if (slots[i].err == 0 && openings[i].plain_len != slots[i].chunk.plain_len)
			slots[i].err = -EBADMSG;
	}
}

static bool take_memory(struct group *group)
{
	if (group->bufs == NULL)
		group->bufs = malloc(GROUP_ROOM);
	if (group->outs == NULL)
		group->outs = malloc(GROUP_ROOM);
	return group->bufs != NULL && group->outs != NULL;
}

static void fill(struct group *group, const struct ahead_chunk *chunks, size_t num)
{
	size_t sealed = 0, plain = 0;

	for (size_t i = 0; i < num && group->num < AHEAD_GROUP; i++) {
		const struct ahead_chunk *chunk = &chunks[i];

		if (chunk->len > GROUP_ROOM - sealed || chunk->plain_len > GROUP_ROOM - plain)
			continue;
		group->slots[group->num++] = (struct slot){
			.chunk = *chunk, .buf = group->bufs + sealed, .out = group->outs + plain
		};
		sealed += chunk->len;
		plain += chunk->plain_len;
	}
}

void ahead_start(struct ahead *ahead, const struct ahead_chunk *chunks, size_t num)
{
	struct group *group = &ahead->groups[ahead->next];

	settle(ahead, group);
	group->num = 0;
	if (!take_memory(group))
		return;
	fill(group, chunks, num);
	if (group->num == 0)
		return;
	ahead->next = (ahead->next + 1) % AHEAD_GROUPS;
	group->is_running = true;
	sealers_start_other(ahead->sealers, &group->work, read_and_open, group->slots,
		sizeof(group->slots[0]), group->num, false);
}

const uint8_t *ahead_find(struct ahead *ahead, const struct cas_id *id, uint32_t plain_len)
{
	for (size_t i = 0; i < AHEAD_GROUPS; i++) {
		struct group *group = &ahead->groups[i];
		size_t at = find_in(group, id);

		if (at == group->num)
			continue;
		settle(ahead, group);
		if (group->slots[at].err == 0 && group->slots[at].chunk.plain_len == plain_len)
			return group->slots[at].plain;
	}
	return NULL;
}
