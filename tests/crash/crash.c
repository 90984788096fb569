#include "tests/crash/crash.h"

#include <stdlib.h>
#include <string.h>

void crash_start(struct crash *crash, const struct sim_image *image, const struct sim_log *log)
{
	memset(crash, 0, sizeof(*crash));
	crash->log = log;
	sim_image_copy(&crash->base, image);
}

void crash_end(struct crash *crash)
{
	sim_image_release(&crash->base);
	free(crash->pending);
}

static bool is_of_name(const struct sim_op *op)
{
	return op->type == SIM_CREATE || op->type == SIM_RENAME || op->type == SIM_UNLINK;
}

static void apply_whole(struct sim_image *image, const struct sim_op *op)
{
	struct sim_data *data = &image->files[op->file];

	if (op->type == SIM_WRITE)
		sim_data_write(data, op->offset, op->data, op->len);
	else if (op->type == SIM_TRUNCATE)
		sim_data_resize(data, op->offset);
	else if (op->type == SIM_EXTEND && op->offset > data->size)
		sim_data_resize(data, op->offset);
	else if (is_of_name(op))
		sim_image_apply(image, op);
}

static bool overlaps(const struct sim_op *a, const struct sim_op *b)
{
	if (a->type != SIM_WRITE || a->file != b->file)
		return false;
	return a->offset < b->offset + b->len && b->offset < a->offset + a->len;
}

/* Marked clean without being written: nothing brings them to the disk any more. */
static void lose(struct crash *crash, const struct sim_op *by)
{
	size_t kept = 0;

	for (size_t i = 0; i < crash->num_pending; i++) {
		const struct sim_op *op = &crash->log->ops[crash->pending[i]];

		if (op->type != SIM_WRITE || op->file != by->file)
			crash->pending[kept++] = crash->pending[i];
	}
	crash->num_pending = kept;
}

/* What `by` makes durable among the pending ones goes into the base. */
static void settle(struct crash *crash, const struct sim_op *by)
{
	size_t kept = 0;

	for (size_t i = 0; i < crash->num_pending; i++) {
		const struct sim_op *op = &crash->log->ops[crash->pending[i]];
		bool is_settled;

		if (by->type == SIM_SYNC_DIR)
			is_settled = is_of_name(op);
		else if (by->type == SIM_SYNC)
			is_settled = !is_of_name(op) && op->file == by->file;
		else
			is_settled = overlaps(op, by);
		if (is_settled)
			apply_whole(&crash->base, op);
		else
			crash->pending[kept++] = crash->pending[i];
	}
	crash->num_pending = kept;
}

static void finish(struct crash *crash, const struct sim_op *op)
{
	if (op->type == SIM_SYNC || op->type == SIM_SYNC_DIR) {
		settle(crash, op);
	} else if (op->type == SIM_SYNC_FAILED) {
		lose(crash, op);
	} else if (op->is_durable) {
		settle(crash, op);
		apply_whole(&crash->base, op);
		/* It is pending no more. */
		for (size_t i = 0; i < crash->num_pending; i++)
			if (&crash->log->ops[crash->pending[i]] == op)
				crash->pending[i] = crash->pending[--crash->num_pending];
	}
}

void crash_step(struct crash *crash)
{
	const struct sim_op *op = &crash->log->ops[crash->next];

	if (crash->next > 0)
		finish(crash, op - 1);
	if (op->type == SIM_CREATE && op->file >= crash->base.num_files) {
		for (uint32_t i = crash->base.num_files; i <= op->file; i++)
			crash->base.files[i].size = 0;
		crash->base.num_files = op->file + 1;
	}
	if (op->type != SIM_SYNC && op->type != SIM_SYNC_FAILED && op->type != SIM_SYNC_DIR) {
		if (crash->num_pending == crash->cap_pending) {
			crash->cap_pending = crash->cap_pending ? crash->cap_pending * 2 : 64;
			crash->pending = realloc(
				crash->pending, crash->cap_pending * sizeof(*crash->pending));
			sim_must(crash->pending);
		}
		crash->pending[crash->num_pending++] = crash->next;
	}
	crash->next++;
}

/* ---- one image */

enum policy {
	LOSE_ALL,
	KEEP_ALL,
	KEEP_FIRST, /* in order up to one, which is torn */
	KEEP_SOME,  /* each sector by a coin of its own, or as of any moment */
	LOSE_ONE,   /* a single sector */
	KEEP_ONE,   /* a single operation */
	LOSE_OP,    /* a single operation */
	NUM_POLICIES,
};

struct choice {
	enum policy policy;
	size_t sector; /* 512 or 4096 */
	size_t op;     /* index into pending that the policy is about */
	uint64_t at;   /* a sector of it, counted from 0 */
	uint64_t salt;
	unsigned keep; /* of 8: how many sectors are kept by KEEP_SOME */
	bool has_old;  /* lost new blocks show what the disk held before */
};

static uint64_t mix(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t state = a ^ b * UINT64_C(0xd6e8feb86659fd93) ^ c * UINT64_C(0xa5a5a5a5a5a5a5a7);

	return sim_random(&state);
}

/* Pending operations before this one reached the sector. */
static size_t horizon(
	const struct crash *crash, const struct choice *c, uint32_t file, uint64_t sector)
{
	uint64_t coin = mix(c->salt, file, sector);

	if (coin % 8 < c->keep)
		return SIZE_MAX;
	if (coin % 16 < 12)
		return 0;
	return (size_t)(coin >> 8) % (crash->num_pending + 1);
}

static bool reached(const struct crash *crash, const struct choice *c, size_t i,
	const struct sim_op *op, uint64_t sector)
{
	uint64_t at = sector - op->offset / c->sector;

	switch (c->policy) {
	case LOSE_ALL:
		return false;
	case KEEP_ALL:
		return true;
	case KEEP_FIRST:
		return i < c->op || (i == c->op && at < c->at);
	case KEEP_SOME:
		return i < horizon(crash, c, op->file, sector);
	case LOSE_ONE:
		return i != c->op || at != c->at;
	case KEEP_ONE:
		return i == c->op;
	case LOSE_OP:
		return i != c->op;
	case NUM_POLICIES:
		break;
	}
	return true;
}

/* The bytes of a write sector by sector; the size is left as it is. */
static void apply_sectors(const struct crash *crash, const struct choice *c, size_t i,
	const struct sim_op *op, struct sim_data *data)
{
	uint64_t from = op->offset, end = op->offset + op->len;

	while (from < end) {
		uint64_t sector = from / c->sector, to = (sector + 1) * c->sector;

		if (to > end)
			to = end;
		if (reached(crash, c, i, op, sector)) {
			if (op->data)
				memcpy(data->data + from, op->data + (from - op->offset),
					to - from);
			else
				memset(data->data + from, 0, to - from);
		}
		from = to;
	}
}

/* Whether an operation as a whole, a name or a size, came through. */
static bool came_through(
	const struct crash *crash, const struct choice *c, size_t i, const struct sim_op *op)
{
	switch (c->policy) {
	case LOSE_ALL:
		return false;
	case KEEP_FIRST:
		return i <= c->op;
	case KEEP_SOME:
		return mix(c->salt, 77 + i, op->type) % 8 < c->keep;
	case KEEP_ONE:
		return i == c->op;
	case LOSE_OP:
		return i != c->op;
	case KEEP_ALL:
	case LOSE_ONE:
	case NUM_POLICIES:
		break;
	}
	return true;
}

static void choose(const struct crash *crash, unsigned index, uint64_t seed, struct choice *c)
{
	uint64_t state = seed;

	memset(c, 0, sizeof(*c));
	c->sector = 512;
	c->policy = index == 0 ? LOSE_ALL : KEEP_ALL;
	if (index < CRASH_PLAIN)
		return;
	c->salt = sim_random(&state);
	c->sector = sim_random(&state) % 2 ? 512 : 4096;
	c->policy = KEEP_FIRST + sim_random(&state) % (NUM_POLICIES - KEEP_FIRST);
	c->keep = 1 + sim_random(&state) % 7;
	c->has_old = sim_random(&state) % 4 == 0;
	if (crash->num_pending > 0) {
		const struct sim_op *op;

		c->op = sim_random(&state) % crash->num_pending;
		op = &crash->log->ops[crash->pending[c->op]];
		c->at = sim_random(&state) % (op->len / c->sector + 2);
	}
}

/* A lost block of a file that grew: zeros, or what another file left on the disk there. */
static void fill_old(const struct choice *c, struct sim_data *data, size_t from)
{
	for (size_t at = from; at < data->size; at++)
		data->data[at] = from > 512 ? data->data[64 + (at - from) % (from - 64)]
					    : (uint8_t)mix(c->salt, at, 3);
}

static size_t size_after(const struct sim_op *op, size_t size)
{
	if (op->type == SIM_TRUNCATE)
		return op->offset;
	if (op->type == SIM_EXTEND)
		return op->offset > size ? op->offset : size;
	if (op->type == SIM_WRITE && op->data && op->offset + op->len > size)
		return op->offset + op->len;
	return size;
}

void crash_image(const struct crash *crash, unsigned index, uint64_t seed, struct sim_image *ret)
{
	size_t most[SIM_FILES_MAX], final[SIM_FILES_MAX], i;
	struct choice c;

	choose(crash, index, seed, &c);
	sim_image_copy(ret, &crash->base);
	for (i = 0; i < ret->num_files; i++)
		most[i] = final[i] = ret->files[i].size;
	for (i = 0; i < crash->num_pending; i++) {
		const struct sim_op *op = &crash->log->ops[crash->pending[i]];

		if (is_of_name(op)) {
			if (came_through(crash, &c, i, op))
				sim_image_apply(ret, op);
			continue;
		}
		if (came_through(crash, &c, i, op))
			final[op->file] = size_after(op, final[op->file]);
		if (op->type == SIM_WRITE && op->offset + op->len > most[op->file])
			most[op->file] = op->offset + op->len;
		if (op->offset > most[op->file] && op->type == SIM_EXTEND)
			most[op->file] = op->offset;
	}
	for (i = 0; i < ret->num_files; i++) {
		size_t was = ret->files[i].size;

		if (most[i] == was)
			continue;
		sim_data_resize(&ret->files[i], most[i]);
		if (c.has_old)
			fill_old(&c, &ret->files[i], was);
	}
	for (i = 0; i < crash->num_pending; i++) {
		const struct sim_op *op = &crash->log->ops[crash->pending[i]];

		if (op->type == SIM_WRITE)
			apply_sectors(crash, &c, i, op, &ret->files[op->file]);
		else if (op->type == SIM_TRUNCATE && op->offset < ret->files[op->file].size &&
			 came_through(crash, &c, i, op))
			memset(ret->files[op->file].data + op->offset, 0,
				ret->files[op->file].size - op->offset);
	}
	for (i = 0; i < ret->num_files; i++)
		if (final[i] != ret->files[i].size)
			sim_data_resize(&ret->files[i], final[i]);
}
