/*
 * Giving the blocks of freed objects back: what is to be punched is noted when they are freed, and
 * punched when a checkpoint has made that durable.
 */
#include "stored/broken.h"
#include "stored/gc_state.h"
#include "stored/rows.h"
#include "stored/sealer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PUNCH_STEP 128

static void hole_key(uint8_t key[13], uint32_t arena, uint64_t offset)
{
	key[0] = 'h';
	be32_put(key + 1, arena);
	be64_put(key + 5, offset);
}

bool gc_holds_block(uint64_t frame, uint32_t len)
{
	return gc_blocks(frame + GC_TO_SEALED, frame + FRAME_HEAD_SIZE + len) > 0;
}

int gc_note_freed(struct engine *engine, const struct frame_freed *freed)
{
	uint8_t key[33] = { 'd' }, len[4];
	int r;

	if (freed->len < FRAME_OBJECT_HEAD)
		return -EBADMSG;
	/* One that was only moved keeps its note. */
	memcpy(key + 1, freed->id, 32);
	r = db_has(txn(engine), DB_OBJECTS, freed->id, 32) ? 0
							   : db_delete(txn(engine), DB_GC, key, 33);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!gc_holds_block(freed->offset, freed->len))
		return 0;
	hole_key(key, freed->arena, freed->offset);
	le32_put(len, freed->len);
	return db_put(txn(engine), DB_GC, key, 13, len, sizeof(len));
}

/* ---- punching */

struct hole {
	uint8_t key[13];
	struct place place; /* of the sealed bytes */
	uint32_t len;	    /* of the payload */
};

/* From the last one punched on. */
static int holes_read(
	struct engine *engine, const struct gc *gc, struct hole *holes, size_t *ret_num)
{
	struct db_iter it;
	size_t num = 0;
	int r;

	r = db_iter_first(&it, txn(engine), DB_GC, "h", 1, gc->at, gc->at_len);
	while (r == 1 && num < PUNCH_STEP) {
		struct hole *hole = &holes[num];

		if (it.key_len != sizeof(hole->key) || it.value_len != 4 ||
			le32_get(it.value) < FRAME_OBJECT_HEAD) {
			r = -EUCLEAN;
			break;
		}
		memcpy(hole->key, it.key, sizeof(hole->key));
		hole->len = le32_get(it.value);
		hole->place.arena = be32_get(it.key + 1);
		hole->place.offset = be64_get(it.key + 5) + GC_TO_SEALED;
		hole->place.len = hole->len - FRAME_OBJECT_HEAD;
		num++;
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	*ret_num = num;
	return r < 0 ? r : 0;
}

int gc_punch_range(
	struct engine *engine, uint32_t arena, uint64_t from, uint64_t to, uint64_t *ret_bytes)
{
	int fd = arenas_fd(&engine->arenas, arena), r;

	uint64_t bytes = gc_blocks(from, to);

	*ret_bytes = 0;
	if (bytes == 0 || fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	from = (from + GC_BLOCK - 1) / GC_BLOCK * GC_BLOCK;
	do
		r = engine->io->fallocate(engine->io->ctx, fd,
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, bytes);
	while (r == -EINTR);
	if (r == 0)
		*ret_bytes = bytes;
	/* A file system that cannot do it. */
	return r == -EOPNOTSUPP || r == -ENOSYS ? 0 : r;
}

static int punch(struct engine *engine, struct gc *gc, const struct hole *hole)
{
	uint64_t bytes, from = hole->place.offset;
	int r;

	r = gc_punch_range(engine, hole->place.arena, from, from + hole->place.len, &bytes);
	if (r < 0)
		return r;
	/* What was moved counts for compacting. */
	if (gc->phase == GC_PUNCH) {
		gc->report.punched += bytes;
		gc->report.unpunched += frame_size(hole->len) - bytes;
	}
	engine->ops++;
	gc->at_len = sizeof(hole->key);
	memcpy(gc->at, hole->key, sizeof(hole->key));
	return db_delete(txn(engine), DB_GC, hole->key, sizeof(hole->key));
}

int gc_punch_step(struct engine *engine, struct gc *gc)
{
	struct hole holes[PUNCH_STEP];
	size_t num = 0;
	int r;

	/* Nothing is punched that a crash could bring back. */
	if (gc->at_len == 0) {
		gc->ticket = engine_commit_ticket(engine);
		gc->at[0] = 'h';
		gc->at_len = 1;
	}
	r = BROKEN(BROKEN_PUNCH_FIRST) ? 0 : gc_wait(engine, gc);
	if (r == 0)
		r = holes_read(engine, gc, holes, &num);
	if (r != 0)
		return r;
	sealer_run(engine);
	for (size_t i = 0; r == 0 && i < num; i++) {
		/* Whoever seals it reads it. */
		if (sealer_is_due(engine, holes[i].place.arena))
			return 1;
		r = punch(engine, gc, &holes[i]);
	}
	if (r < 0)
		return r;
	if (num == 0) {
		bool may_compact = gc->phase == GC_PUNCH && gc->options.is_final;

		gc->phase = may_compact ? GC_BASE : GC_DONE;
		gc->at_len = 0;
	}
	return 1;
}
