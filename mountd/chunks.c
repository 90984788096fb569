#include "mountd/chunks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cas/object.h"
#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "mountd/ahead.h"
#include "mountd/mountd.h"
#include "mountd/tags.h"

#define NUM_KNOWN  16384u /* direct-mapped */
#define NUM_PLAIN  1024u
#define NUM_ARENAS 256u /* descriptors; the one that was not used for longest goes */

struct known {
	struct cas_id id;
	uint8_t key[CAS_KEY_SIZE];
	uint64_t offset;
	uint32_t arena, len;
	bool has_key, has_place;
};

struct plain {
	struct cas_id id;
	uint8_t *data;
	uint32_t len;
	uint64_t used;
};

struct arena {
	uint32_t number;
	int fd;
	uint64_t used;
};

struct chunks {
	struct known *known;
	struct plain plain[NUM_PLAIN];
	size_t num_plain, plain_bytes;
	uint64_t clock;
	struct arena arenas[NUM_ARENAS];
	size_t num_arenas;
	struct cas_id missing[64];
	size_t num_missing;
	bool is_damaged; /* what is missing is here, but is not what it should be */
	uint8_t sealed[CAS_OBJECT_MAX];
};

int chunks_new(struct chunks **ret)
{
	struct chunks *chunks = calloc(1, sizeof(*chunks));

	if (chunks == NULL)
		return -ENOMEM;
	chunks->known = calloc(NUM_KNOWN, sizeof(*chunks->known));
	if (chunks->known == NULL) {
		free(chunks);
		return -ENOMEM;
	}
	*ret = chunks;
	return 0;
}

static struct known *known_slot(struct chunks *chunks, const struct cas_id *id)
{
	uint32_t at;

	memcpy(&at, id->b, sizeof(at));
	return &chunks->known[at % NUM_KNOWN];
}

/* The entry of id, taking the slot over from another chunk if need be. */
static struct known *known_take(struct chunks *chunks, const struct cas_id *id)
{
	struct known *known = known_slot(chunks, id);

	if (!cas_id_equal(&known->id, id))
		*known = (struct known){ .id = *id };
	return known;
}

void chunks_learn(struct mountd *m, const struct cas_id *id, const uint8_t key[32])
{
	struct known *known = known_take(m->chunks, id);

	memcpy(known->key, key, sizeof(known->key));
	known->has_key = true;
}

void chunks_forget_places(struct mountd *m)
{
	ahead_drop(m->ahead); /* the helpers read from these descriptors */
	for (size_t i = 0; i < NUM_KNOWN; i++)
		m->chunks->known[i].has_place = false;
	for (size_t i = 0; i < m->chunks->num_arenas; i++)
		close(m->chunks->arenas[i].fd);
	m->chunks->num_arenas = 0;
}

size_t chunks_missing(const struct mountd *m, const struct cas_id **ret_ids)
{
	*ret_ids = m->chunks->missing;
	return m->chunks->num_missing;
}

int chunks_fetch_missing(struct mountd *m, double until)
{
	struct chunks *chunks = m->chunks;
	struct store_fetch_reply reply;
	uint8_t ids[64][CAS_ID_SIZE];
	struct store_fetch req = { .ids = ids, .num_ids = chunks->num_missing };
	double left;
	int r;

	memcpy(ids, chunks->missing, chunks->num_missing * sizeof(ids[0]));
	do {
		left = until - ev_time();
		if (left <= 0)
			return -ETIMEDOUT;
		req.deadline_ms = (uint32_t)(left * 1000) + 1;
		r = store_fetch_wait(edge_store(m), &req, req.deadline_ms + 500, &reply);
	} while (edge_again(m, r));
	if (r == 0)
		store_fetch_reply_release(&reply);
	return r == -ENODATA ? -EIO : r;
}

static void miss(struct chunks *chunks, const struct cas_id *id)
{
	for (size_t i = 0; i < chunks->num_missing; i++)
		if (cas_id_equal(&chunks->missing[i], id))
			return;
	if (chunks->num_missing < 64)
		chunks->missing[chunks->num_missing++] = *id;
}

bool chunks_damaged(const struct mountd *m)
{
	return m->chunks->is_damaged;
}

/* What was read is not the object, or not all of it. stored is asked to look itself, and to bring
 * it from elsewhere, just as if it were not here. */
static int damaged(struct chunks *chunks, const struct cas_id *id, int r)
{
	if (r != -EBADMSG && r != -EILSEQ && r != -EIO)
		return r;
	miss(chunks, id);
	chunks->is_damaged = true;
	return -EAGAIN;
}

static int locate(struct mountd *m, const struct cas_id *ids, size_t num)
{
	uint8_t(*list)[CAS_ID_SIZE] = (uint8_t(*)[CAS_ID_SIZE])(uintptr_t)ids;
	struct store_locate req = { .ids = list, .num_ids = num };
	struct store_locate_reply reply;
	int r;

	do {
		r = store_locate_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	if (reply.num_places != num)
		r = -EBADMSG;
	for (size_t i = 0; r == 0 && i < num; i++) {
		struct known *known = known_take(m->chunks, &ids[i]);

		known->has_place = reply.places[i].arena != 0;
		if (!known->has_place)
			tags_missed(m->tags, &ids[i]);
		known->arena = reply.places[i].arena;
		known->offset = reply.places[i].offset;
		known->len = reply.places[i].len;
	}
	store_locate_reply_release(&reply);
	return r;
}

static int ask_keys(
	struct mountd *m, const struct cas_id *ids, const struct cas_hash *hashes, size_t num)
{
	uint8_t(*list)[32] = (uint8_t(*)[32])(uintptr_t)hashes;
	struct key_chunks req = { .type = CAS_TYPE_CHUNK, .hashes = list, .num_hashes = num };
	struct key_chunks_reply reply;
	int r;

	do {
		r = key_chunks_wait(edge_key(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	if (reply.num_keys != num)
		r = -EBADMSG;
	for (size_t i = 0; r == 0 && i < num; i++)
		chunks_learn(m, &ids[i], reply.keys[i]);
	m->num_chunk_keys += num;
	m->num_key_calls++;
	key_chunks_reply_release(&reply);
	return r;
}

bool chunks_are_unknown(struct mountd *m, const struct cas_extent *extents, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		const struct known *known = known_slot(m->chunks, &extents[i].id);

		if (!cas_extent_is_hole(&extents[i]) &&
			(!cas_id_equal(&known->id, &extents[i].id) || !known->has_place ||
				!known->has_key))
			return true;
	}
	return false;
}

int chunks_prepare(struct mountd *m, const struct cas_extent *extents, size_t num)
{
	struct cas_id places[CHUNKS_BATCH], keys[CHUNKS_BATCH];
	struct cas_hash hashes[CHUNKS_BATCH];
	size_t num_places = 0, num_keys = 0;
	int r = 0;

	for (size_t i = 0; i < num && i < CHUNKS_BATCH; i++) {
		const struct known *known;

		if (cas_extent_is_hole(&extents[i]))
			continue;
		known = known_take(m->chunks, &extents[i].id);
		if (!known->has_place)
			places[num_places++] = extents[i].id;
		if (!known->has_key) {
			keys[num_keys] = extents[i].id;
			hashes[num_keys++] = extents[i].h;
		}
	}
	if (num_places > 0)
		r = locate(m, places, num_places);
	if (r == 0 && num_keys > 0)
		r = ask_keys(m, keys, hashes, num_keys);
	return r;
}

static struct arena *arena_room(struct mountd *m)
{
	struct chunks *chunks = m->chunks;
	struct arena *oldest = &chunks->arenas[0];

	if (chunks->num_arenas < NUM_ARENAS)
		return &chunks->arenas[chunks->num_arenas++];
	for (size_t i = 1; i < NUM_ARENAS; i++)
		if (chunks->arenas[i].used < oldest->used)
			oldest = &chunks->arenas[i];
	ahead_settle(m->ahead); /* a helper may be reading from it */
	close(oldest->fd);
	return oldest;
}

static int arena_fd(struct mountd *m, uint32_t number, int *ret_fd)
{
	struct chunks *chunks = m->chunks;
	struct store_arena_reply reply;
	int r;

	for (size_t i = 0; i < chunks->num_arenas; i++)
		if (chunks->arenas[i].number == number) {
			chunks->arenas[i].used = ++chunks->clock;
			*ret_fd = chunks->arenas[i].fd;
			return 0;
		}
	do {
		r = store_arena_wait(edge_store(m), &(struct store_arena){ .arena = number },
			EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	if (reply.fd < 0) {
		store_arena_reply_release(&reply);
		return -EMFILE;
	}
	*ret_fd = IPC_TAKE_FD(reply.fd);
	*arena_room(m) = (struct arena){ number, *ret_fd, ++chunks->clock };
	store_arena_reply_release(&reply);
	return 0;
}

/* The sealed bytes of an object whose place is known, into chunks->sealed. */
static int read_sealed(struct mountd *m, const struct known *known)
{
	struct chunks *chunks = m->chunks;
	size_t done = 0;
	int fd, r;

	if (known->len > sizeof(chunks->sealed))
		return -EBADMSG;
	r = arena_fd(m, known->arena, &fd);
	if (r < 0)
		return r;
	while (done < known->len) {
		ssize_t n = pread(fd, chunks->sealed + done, known->len - done,
			(off_t)(known->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* What lies there is not the object (any more): ask for its place, and for the file, again. */
static void forget_place(struct mountd *m, struct known *known)
{
	struct chunks *chunks = m->chunks;

	ahead_drop(m->ahead); /* the helpers read from these descriptors */
	known->has_place = false;
	for (size_t i = 0; i < chunks->num_arenas; i++) {
		if (chunks->arenas[i].number != known->arena)
			continue;
		close(chunks->arenas[i].fd);
		chunks->arenas[i] = chunks->arenas[--chunks->num_arenas];
		return;
	}
}

static struct plain *plain_find(struct chunks *chunks, const struct cas_id *id)
{
	for (size_t i = 0; i < chunks->num_plain; i++)
		if (cas_id_equal(&chunks->plain[i].id, id)) {
			chunks->plain[i].used = ++chunks->clock;
			return &chunks->plain[i];
		}
	return NULL;
}

static struct plain *plain_make(struct chunks *chunks, uint32_t len)
{
	struct plain *plain;

	while (chunks->num_plain == NUM_PLAIN ||
		(chunks->num_plain > 0 && chunks->plain_bytes + len > CHUNKS_CACHE_BYTES)) {
		size_t oldest = 0;

		for (size_t i = 1; i < chunks->num_plain; i++)
			if (chunks->plain[i].used < chunks->plain[oldest].used)
				oldest = i;
		chunks->plain_bytes -= chunks->plain[oldest].len;
		free(chunks->plain[oldest].data);
		chunks->plain[oldest] = chunks->plain[--chunks->num_plain];
	}
	plain = &chunks->plain[chunks->num_plain];
	*plain = (struct plain){ .data = malloc(len), .len = len, .used = ++chunks->clock };
	if (plain->data == NULL)
		return NULL;
	chunks->num_plain++;
	chunks->plain_bytes += len;
	return plain;
}

/* Of what was far the bytes are verified, so that stored may be told what they are. */
static int unseal(struct mountd *m, const struct known *known, const struct cas_extent *extent,
	uint8_t *out, size_t out_size, size_t *ret_len)
{
	const uint8_t *sealed = m->chunks->sealed;
	bool is_h;
	int r;

	if (!tags_wants(m->tags, &extent->id))
		return cas_chunk_open(m->suite, sealed, known->len, known->key, &extent->h, out,
			out_size, ret_len);
	r = cas_chunk_verify(m->suite, sealed, known->len, known->key, &extent->h, out, out_size,
		ret_len, &is_h);
	if (r == 0)
		tags_verified(m->tags, &extent->id, &extent->h, is_h);
	return r;
}

static int open_chunk(
	struct mountd *m, const struct cas_extent *extent, uint8_t *out, size_t out_size)
{
	int r = -EAGAIN;

	/* A place may be outdated once: objects move when arenas are compacted. */
	for (int attempt = 0; attempt < 2; attempt++) {
		struct known *known;
		size_t len;

		r = chunks_prepare(m, extent, 1);
		if (r < 0)
			return r;
		known = known_take(m->chunks, &extent->id);
		if (!known->has_place) {
			miss(m->chunks, &extent->id);
			return -EAGAIN;
		}
		r = read_sealed(m, known);
		if (r == 0)
			r = unseal(m, known, extent, out, out_size, &len);
		if (r == 0)
			return len == out_size ? 0 : -EBADMSG;
		forget_place(m, known);
	}
	return damaged(m->chunks, &extent->id, r);
}

/* What a helper opened. */
static void verify(struct mountd *m, const struct cas_extent *extent, const uint8_t *opened)
{
	bool is_h;

	if (!tags_wants(m->tags, &extent->id))
		return;
	is_h = cas_chunk_is(m->suite, &extent->h, opened, extent->chunk_len);
	tags_verified(m->tags, &extent->id, &extent->h, is_h);
}

int chunks_read(
	struct mountd *m, const struct cas_extent *extent, uint64_t skip, uint8_t *out, size_t len)
{
	const uint8_t *opened = ahead_find(m->ahead, &extent->id, extent->chunk_len);
	uint64_t from = extent->chunk_off + skip;
	struct plain *plain;
	int r;

	m->chunks->num_missing = 0;
	m->chunks->is_damaged = false;
	if (opened != NULL) {
		if (from + len > extent->chunk_len)
			return -EBADMSG;
		memcpy(out, opened + from, len);
		verify(m, extent, opened);
		return 0;
	}
	plain = plain_find(m->chunks, &extent->id);
	if (plain == NULL && from == 0 && len == extent->chunk_len)
		return open_chunk(m, extent, out, len);
	if (plain == NULL) {
		plain = plain_make(m->chunks, extent->chunk_len);
		if (plain == NULL)
			return -ENOMEM;
		r = open_chunk(m, extent, plain->data, plain->len);
		if (r < 0) {
			/* plain is the last one: nothing was added while it was opened. */
			m->chunks->plain_bytes -= plain->len;
			free(plain->data);
			m->chunks->num_plain--;
			return r;
		}
		plain->id = extent->id;
	}
	if (from + len > plain->len)
		return -EBADMSG;
	memcpy(out, plain->data + from, len);
	return 0;
}

static bool is_among(const struct ahead_chunk *chunks, size_t num, const struct cas_id *id)
{
	for (size_t i = 0; i < num; i++)
		if (cas_id_equal(&chunks[i].id, id))
			return true;
	return false;
}

void chunks_read_ahead(struct mountd *m, const struct cas_extent *extents, size_t num)
{
	struct ahead_chunk chunks[AHEAD_GROUP];
	size_t num_chunks = 0;

	for (size_t i = 0; i < num && num_chunks < AHEAD_GROUP; i++) {
		const struct cas_extent *extent = &extents[i];
		const struct known *known = known_slot(m->chunks, &extent->id);
		struct ahead_chunk *chunk = &chunks[num_chunks];

		if (cas_extent_is_hole(extent) || !cas_id_equal(&known->id, &extent->id) ||
			!known->has_place || !known->has_key || ahead_has(m->ahead, &extent->id) ||
			is_among(chunks, num_chunks, &extent->id))
			continue;
		*chunk = (struct ahead_chunk){ .id = extent->id,
			.h = extent->h,
			.offset = known->offset,
			.len = known->len,
			.plain_len = extent->chunk_len };
		memcpy(chunk->key, known->key, sizeof(chunk->key));
		if (arena_fd(m, known->arena, &chunk->fd) < 0)
			break;
		num_chunks++;
	}
	if (num_chunks > 0)
		ahead_start(m->ahead, chunks, num_chunks);
}

int chunks_read_node(struct mountd *m, const struct cas_id *id, uint8_t *buf, size_t *ret_len)
{
	int r = -EAGAIN;

	m->chunks->num_missing = 0;
	m->chunks->is_damaged = false;
	for (int attempt = 0; attempt < 2; attempt++) {
		struct known *known = known_take(m->chunks, id);

		if (!known->has_place) {
			r = locate(m, id, 1);
			if (r < 0)
				return r;
		}
		if (!known->has_place) {
			miss(m->chunks, id);
			return -EAGAIN;
		}
		r = read_sealed(m, known);
		if (r == 0)
			r = cas_manifest_open(m->suite, &m->sealer.keys, m->sealer.volume, id,
				m->chunks->sealed, known->len, buf, CAS_NODE_MAX, ret_len);
		if (r == 0)
			return 0;
		forget_place(m, known);
	}
	return damaged(m->chunks, id, r);
}
