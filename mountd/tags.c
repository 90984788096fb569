#include "mountd/tags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cas/object.h"
#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "mountd/mountd.h"

#define TAGS_MAX    1024 /* more than are read from peers between two turns of the timer */
#define MISSED_BITS (1u << 20)
#define TAGS_BATCH  STORE_TAGS_TAGS_MAX

_Static_assert(TAGS_BATCH <= KEY_CHUNKS_HASHES_MAX, "one question gives the tags of a message");

struct tags {
	uint8_t missed[MISSED_BITS / 8]; /* by the first bits of the id */
	size_t num;
	struct cas_id ids[TAGS_MAX];
	uint8_t hashes[TAGS_MAX][32];
};

int tags_new(struct tags **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret == NULL ? -ENOMEM : 0;
}

static uint32_t bit_of(const struct cas_id *id)
{
	uint32_t bits;

	memcpy(&bits, id->b, sizeof(bits));
	return bits % MISSED_BITS;
}

void tags_missed(struct tags *tags, const struct cas_id *id)
{
	uint32_t bit = bit_of(id);

	tags->missed[bit / 8] |= (uint8_t)(1u << bit % 8);
}

bool tags_wants(const struct tags *tags, const struct cas_id *id)
{
	uint32_t bit = bit_of(id);

	return tags->missed[bit / 8] >> bit % 8 & 1;
}

void tags_verified(struct tags *tags, const struct cas_id *id, const struct cas_hash *h, bool is_h)
{
	uint32_t bit = bit_of(id);

	tags->missed[bit / 8] &= (uint8_t) ~(1u << bit % 8);
	if (!is_h || tags->num == TAGS_MAX)
		return;
	tags->ids[tags->num] = *id;
	memcpy(tags->hashes[tags->num++], h->b, sizeof(h->b));
}

static void tell(struct mountd *m, const struct cas_id *ids, const struct key_chunks_reply *keys)
{
	struct store_tag list[TAGS_BATCH];

	for (size_t i = 0; i < keys->num_tags; i++) {
		memcpy(list[i].tag, keys->tags[i], sizeof(list[i].tag));
		memcpy(list[i].id, ids[i].b, sizeof(list[i].id));
	}
	if (m->edges.store != NULL)
		(void)store_tags(m->edges.store,
			&(struct store_tags){ .tags = list, .num_tags = keys->num_tags });
}

/* The last ones, num of them. False: keyd is away. Nobody waits for it to come back, as reading
 * goes on without. */
static bool ask_and_tell(struct mountd *m, size_t num)
{
	struct tags *tags = m->tags;
	struct key_chunks req = { .type = CAS_TYPE_CHUNK, .num_hashes = num };
	struct key_chunks_reply reply;
	int r;

	if (m->edges.key == NULL)
		return false;
	req.hashes = tags->hashes + tags->num - num;
	r = key_chunks_wait(m->edges.key, &req, EDGE_WAIT_MS, &reply);
	if (edge_again(m, r))
		return false;
	if (r < 0)
		return true;
	if (reply.num_tags == num)
		tell(m, tags->ids + tags->num - num, &reply);
	m->num_chunk_keys += num;
	m->num_key_calls++;
	key_chunks_reply_release(&reply);
	return true;
}

void tags_tell(struct mountd *m)
{
	struct tags *tags = m->tags;

	while (tags->num > 0) {
		size_t num = tags->num < TAGS_BATCH ? tags->num : TAGS_BATCH;

		if (!ask_and_tell(m, num))
			break;
		tags->num -= num;
	}
}
