/*
 * Which base a rebuild begins with. The index that knew is lost, so all arenas are asked: sealed
 * ones by their footers, the others frame by frame.
 */
#include "stored/base.h"

#include "cas/bytes.h"
#include "stored/engine_state.h"
#include "stored/meta.h"
#include "stored/recover.h"

#include <errno.h>
#include <string.h>

/* More than are of use, for some may be damaged. */
#define FOUND_MAX 16

/* The newest seen so far are the last. */
struct found {
	struct place list[FOUND_MAX];
	size_t num;
};

static void found_add(struct found *found, struct place payload)
{
	if (found->num == FOUND_MAX)
		memmove(found->list, found->list + 1, (--found->num) * sizeof(*found->list));
	found->list[found->num++] = payload;
}

static int find_in_footer(struct engine *engine, const struct arena *arena, struct found *found)
{
	struct sealed_arena sealed;
	struct sealed_entry entry;
	struct sealed_walk walk;
	int r;

	r = arenas_open_sealed(&engine->arenas, arena->number, &sealed);
	if (r < 0)
		return r;
	r = sealed_walk_begin(&walk, &sealed, false);
	while (r == 0 && (r = sealed_walk_next(&walk, &entry)) == 1) {
		r = 0;
		if (entry.type == FRAME_BASE)
			found_add(found, entry.object.place);
		else if (entry.type == FRAME_END)
			break;
	}
	sealed_walk_end(&walk);
	sealed_arena_close(&sealed);
	return r;
}

static int find_in_frames(
	struct engine *engine, const struct arena *arena, struct scan *scan, struct found *found)
{
	int fd = arenas_fd(&engine->arenas, arena->number), kind;
	struct scan_item item;

	if (fd < 0)
		return fd;
	scan_start(scan, fd, arena->number, arena->id, FRAME_SUPER_SIZE, arena->size, 0);
	while ((kind = scan_next(scan, &item)) > 0)
		if (kind == SCAN_FRAME && item.frame.type == FRAME_BASE)
			found_add(found, item.frame.place);
	return kind;
}

static int find(struct engine *engine, struct found *found)
{
	struct arenas *a = &engine->arenas;
	struct scan scan;
	int r;

	r = scan_init(&scan, engine->io);
	for (size_t i = 0; r == 0 && i < a->num; i++) {
		r = find_in_footer(engine, &a->list[i], found);
		if (r == -ENODATA || r == -EBADMSG)
			r = find_in_frames(engine, &a->list[i], &scan, found);
	}
	if (scan.window)
		scan_release(&scan);
	return r;
}

/* What is known while they are looked at, the newest first. */
struct look {
	bool is_needed; /* changes may have gone, */
	bool has_cut;
	struct place cut; /* those before */
};

/* 0: it is whole; -EBADMSG: it is not; -ENOENT: changes that would have to follow it may be gone.
 */
static int check(struct engine *engine, struct place frame, struct look *look)
{
	struct base_reader reader;
	int r = base_reader_begin(&reader, engine, frame);

	/* Nothing has gone before there were two. */
	look->is_needed |= r < 0 || reader.base.generation != 1;
	if (r == 0 && !look->has_cut) {
		look->has_cut = true;
		look->cut = reader.base.cut;
	}
	if (r == 0 && arenas_is_before(reader.base.at, look->cut))
		r = -ENOENT;
	while (r == 0 && (r = base_reader_check(&reader)) == 1)
		r = 0;
	base_reader_end(&reader);
	return r;
}

/* Again from the start when the map was full: putting a row twice is putting it. */
static int load(struct engine *engine, struct place frame, bool is_partial)
{
	struct base_reader reader;
	int r;

	r = base_reader_begin(&reader, engine, frame);
	while (r == 0 && (r = base_reader_load(&reader, is_partial)) == -EOVERFLOW) {
		db_abort(engine->db);
		r = db_grow(engine->db);
		if (r == 0)
			r = db_begin(engine->db);
	}
	if (r == 0) {
		engine->from = reader.base.at;
		r = meta_save_from(engine);
	}
	if (r == 0)
		engine_log(engine, 5, "store: the index begins with %llu rows of its base %u",
			(unsigned long long)reader.base.num_rows, reader.base.generation);
	base_reader_end(&reader);
	return r;
}

/* None of those that there are is whole, and changes may have gone for them: what is left of the
 * newest that can be read at all. */
static int load_rest(struct engine *engine, const struct found *found)
{
	int r = -EBADMSG;

	recover_note_lost_changes(engine);
	engine_log(engine, 2, "store: no base of the index is whole: files may be missing");
	for (size_t i = found->num; r == -EBADMSG && i-- > 0;)
		r = load(engine, found->list[i], true);
	return r == -EBADMSG ? 0 : r;
}

int base_load(struct engine *engine)
{
	struct found found = { 0 };
	struct look look = { 0 };
	int r;

	r = find(engine, &found);
	if (r < 0)
		return r;
	for (size_t i = found.num; i-- > 0;) {
		r = check(engine, found.list[i], &look);
		if (r == 0)
			return look.is_needed ? load(engine, found.list[i], false) : 0;
		if (r == -ENOENT)
			break;
		if (r != -EBADMSG)
			return r;
		engine_log(engine, 3, "store: arena %u: the base at %llu is damaged",
			found.list[i].arena, (unsigned long long)found.list[i].offset);
	}
	return look.is_needed ? load_rest(engine, &found) : 0;
}
