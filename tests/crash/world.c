#include "tests/crash/world.h"

#include "stored/dead.h"
#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/prune.h"
#include "stored/settings.h"
#include "stored/snapshot.h"
#include "stored/undo.h"
#include "tests/unit/stored/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX  128
#define DIRS_MAX   32
/* Of some a block can be punched. */
#define OBJECT_MAX 9000

/* What the workload needs to know to make its next operation. */
struct work {
	struct world *world;
	struct rig rig, other;
	struct simdisk other_disk;
	bool has_other;
	uint64_t seed;
	uint64_t dirs[DIRS_MAX], files[FILES_MAX], lids[FILES_MAX];
	size_t num_dirs, num_files;
	uint64_t orphans[FILES_MAX];
	size_t num_orphans;
	unsigned num_peers;
	bool has_second;
	uint64_t oids;
};

static struct entry entry;

static uint64_t any(struct work *w, uint64_t below)
{
	return sim_random(&w->seed) % below;
}

/* ---- states and promises */

static void promise(struct work *w, size_t state)
{
	struct world *world = w->world;

	if (world->num_acks == world->cap_acks) {
		world->cap_acks = world->cap_acks ? world->cap_acks * 2 : 64;
		world->acks = realloc(world->acks, world->cap_acks * sizeof(*world->acks));
		sim_must(world->acks);
	}
	w->oids = w->rig.last_id > w->oids ? w->rig.last_id : w->oids;
	world->acks[world->num_acks].at = world->disk.log.num;
	world->acks[world->num_acks].oids = w->oids;
	world->acks[world->num_acks++].state = state;
}

/* Everything so far is promised. */
static void ack(struct work *w)
{
	promise(w, w->world->num_states - 1);
}

static void note(struct work *w, size_t begun)
{
	struct world *world = w->world;
	struct world_state state = { .begun = begun };

	sim_must(state_digest(w->rig.engine, world, &state.digest) == 0);
	/* Numbers are promised at once. */
	if (world->num_acks > 0 && w->rig.last_id > w->oids)
		promise(w, world->acks[world->num_acks - 1].state);
	if (world->num_states > 0 && world->states[world->num_states - 1].digest == state.digest)
		return;
	if (world->num_states == world->cap_states) {
		world->cap_states = world->cap_states ? world->cap_states * 2 : 64;
		world->states = realloc(world->states, world->cap_states * sizeof(state));
		sim_must(world->states);
	}
	world->states[world->num_states++] = state;
}

uint64_t world_oids(const struct world *world, size_t at)
{
	uint64_t oids = 0;

	for (size_t i = 0; i < world->num_acks && world->acks[i].at <= at; i++)
		oids = world->acks[i].oids;
	return oids;
}

void world_allowed(const struct world *world, size_t at, size_t *ret_first, size_t *ret_last)
{
	size_t i;

	*ret_first = *ret_last = 0;
	for (i = 0; i < world->num_acks && world->acks[i].at <= at; i++)
		*ret_first = world->acks[i].state;
	for (i = *ret_first; i < world->num_states; i++)
		if (world->states[i].begun <= at)
			*ret_last = i;
}

long world_find(const struct world *world, uint64_t digest, size_t first, size_t last)
{
	for (size_t i = last + 1; i-- > first;)
		if (world->states[i].digest == digest)
			return (long)i;
	return -1;
}

/* ---- operations */

static uint64_t any_dir(struct work *w)
{
	return w->dirs[any(w, w->num_dirs)];
}

static void any_name(struct work *w, char ret[16])
{
	snprintf(ret, 16, "n%u", (unsigned)any(w, 1000));
}

static void apply(struct work *w)
{
	sim_must(rig_apply(&w->rig, &entry) == 0);
}

static void op_create(struct work *w)
{
	char name[16];

	any_name(w, name);
	if (w->num_files == FILES_MAX)
		return;
	w->files[w->num_files] = rig_file(&w->rig, any_dir(w), name, &w->lids[w->num_files]);
	w->world->file = w->files[w->num_files++];
}

static void op_mkdir(struct work *w)
{
	char name[16];

	any_name(w, name);
	if (w->num_dirs < DIRS_MAX)
		w->dirs[w->num_dirs++] = rig_dir(&w->rig, any_dir(w), name);
}

static void forget(struct work *w, size_t i)
{
	w->num_files--;
	w->files[i] = w->files[w->num_files];
	w->lids[i] = w->lids[w->num_files];
}

static void op_unlink(struct work *w, size_t i)
{
	bool is_dropped = any(w, 2);

	rig_unlink(&w->rig, w->lids[i], w->files[i], is_dropped);
	if (!is_dropped && w->num_orphans < FILES_MAX)
		w->orphans[w->num_orphans++] = w->files[i];
	forget(w, i);
}

static uint64_t view_of(const struct work *w)
{
	struct volume_info info;

	volume_info(w->rig.vol, &info);
	return info.view;
}

static void op_rename(struct work *w, size_t i)
{
	size_t over = any(w, w->num_files);
	char name[16];

	any_name(w, name);
	entry_start(&entry, view_of(w));
	put_link(&entry, w->lids[i], any_dir(w), name, w->files[i], false);
	if (over != i && any(w, 2)) {
		entry_remove(&entry, TREE_LINK, w->lids[over], NULL);
		entry_remove(&entry, TREE_ATTR, w->files[over], NULL);
	} else {
		over = i;
	}
	apply(w);
	if (over != i)
		forget(w, over);
}

static void op_write(struct work *w, size_t i)
{
	entry_start(&entry, view_of(w));
	if (any(w, 3) == 0)
		put_xattr(&entry, w->files[i], any(w, 2) ? "user.a" : "user.b", any(w, 1000),
			any(w, 900));
	put_body(&entry, w->files[i], sim_random(&w->seed), any(w, 10) ? 100 * any(w, 4) : 4000);
	apply(w);
}

/* With its tag, or as one of a peer's, which gets it later. */
static void put_object(struct work *w, const uint8_t *data, size_t len, uint8_t ret_id[32])
{
	bool is_far = any(w, 4) == 0;
	uint8_t tag[32];

	memset(tag, (int)w->world->num_objects + 1, sizeof(tag));
	sim_must(engine_put_object(w->rig.engine, is_far ? NULL : tag, data, len, ret_id) == 0);
	if (is_far)
		sim_must(engine_learn_tag(w->rig.engine, tag, ret_id) == 0);
}

/* A file of objects: they come first, in one flush or several, then the record that needs them. */
static void op_objects(struct work *w, size_t i)
{
	struct tree_record rec = { .e = { .key = { .id = w->files[i], .kind = TREE_BODY } } };
	struct world *world = w->world;
	uint8_t refs[TREE_REFS_MAX][TREE_REF_SIZE], data[OBJECT_MAX], sealed[80];
	size_t num = 1 + any(w, TREE_REFS_MAX), k;

	for (k = 0; k < num && world->num_objects < 200; k++) {
		size_t begun = world->disk.log.num;
		size_t len = 1 + any(w, any(w, 4) ? 300 : sizeof(data));
		uint8_t *id = world->objects[world->num_objects];

		memset(data, (int)any(w, 256), len);
		memcpy(data, &begun, len < 8 ? len : 8);
		data[0] = (uint8_t)world->num_objects;
		put_object(w, data, len, id);
		memcpy(refs[k], id, TREE_REF_SIZE);
		/* Equal objects are one. */
		for (size_t n = 0; n < world->num_objects; n++)
			if (memcmp(world->objects[n], refs[k], 32) == 0)
				goto known;
		world->num_objects++;
	known:
		if (any(w, 3) == 0)
			sim_must(engine_flush(w->rig.engine) == 0);
		note(w, begun);
	}
	if (k == 0)
		return;
	memset(sealed, (int)any(w, 256), sizeof(sealed));
	memcpy(rec.e.vtag, refs[0], TREE_TAG_SIZE);
	rec.num_refs = (uint8_t)k;
	rec.refs = refs[0];
	rec.sealed = sealed;
	rec.sealed_len = sizeof(sealed);
	entry_start(&entry, view_of(w));
	entry_put(&entry, &rec);
	apply(w);
}

/* An inode that was unlinked while it was open is closed. */
static void op_forget(struct work *w)
{
	if (w->num_orphans == 0)
		return;
	entry_start(&entry, view_of(w));
	entry_remove(&entry, TREE_ATTR, w->orphans[--w->num_orphans], NULL);
	apply(w);
}

/* Refused ones change nothing and promise nothing. */
static bool op_settings(struct work *w)
{
	struct engine *engine = w->rig.engine;
	char hex[65], nick[16];
	int r = 0;

	snprintf(hex, sizeof(hex), "%064x", 7 + (unsigned)any(w, 3));
	snprintf(nick, sizeof(nick), "peer%u", (unsigned)any(w, 3));
	switch (any(w, 7)) {
	case 0:
		r = settings_peer_add(engine, hex, nick);
		break;
	case 1:
		r = settings_peer_remove(engine, hex);
		break;
	case 2:
		r = settings_peer_volume(engine, hex, "v", any(w, 2));
		break;
	case 3:
		r = settings_peer_location(engine, hex, "127.0.0.1:34211");
		break;
	case 4:
		r = settings_peer_storage(engine, hex, "local", any(w, 2));
		break;
	case 5:
		if (w->has_second)
			r = settings_volume_remove(engine, "second");
		else
			r = settings_volume_add(
				engine, "second", NULL, "default", (const uint8_t *)"keyid678");
		sim_must(r == 0);
		w->has_second = !w->has_second;
		break;
	default:
		r = settings_storage_add(engine, "v",
			"peerkey:"
			"00000000000000000000000000000000"
			"00000000000000000000000000000009",
			"default");
	}
	return r == 0;
}

static void op_reopen(struct work *w)
{
	if (any(w, 2)) {
		rig_close(&w->rig);
	} else {
		sim_must(engine_flush(w->rig.engine) == 0);
		rig_kill(&w->rig);
	}
	rig_open(&w->rig);
}

/* The disk fails once; the process ends, as it must, and the next one sees what is in memory. */
static void op_failed_sync(struct work *w)
{
	struct simdisk *disk = &w->world->disk;
	bool is_index = any(w, 3) == 0;
	int r;

	disk->fail_index = is_index;
	disk->fail_arena = !is_index;
	r = is_index ? engine_checkpoint(w->rig.engine) : engine_sync(w->rig.engine);
	/* There may have been nothing to make durable. */
	sim_must(r == (disk->fail_index || disk->fail_arena ? 0 : -EIO));
	disk->fail_index = disk->fail_arena = false;
	rig_kill(&w->rig);
	rig_open(&w->rig);
}

/* ---- the other store */

static void rig_on(struct rig *rig, struct simdisk *disk)
{
	rig->options.io = &disk->io;
	rig->dir_fd = disk->dir_fd;
	snprintf(rig->path, sizeof(rig->path), "%s", disk->path);
	rig->options.create = true;
	rig_open(rig);
}

static void other_new(struct work *w)
{
	struct volume_info info;
	struct rig *rig = &w->other;

	sim_must(sim_new(&w->other_disk, w->seed ^ 99) == 0);
	rig->options = w->world->options;
	rig_on(rig, &w->other_disk);
	volume_info(w->rig.vol, &info);
	sim_must(settings_volume_add(rig->engine, "v", info.id, "default", info.keyid) == 0);
	rig->vol = engine_volume_named(rig->engine, "v");
	w->has_other = true;
}

/* p <- q, as syncd would. -ENOSPC: p's disk was full. */
static int pull(struct rig *p, struct rig *q)
{
	static uint8_t blob[120000], asked[TREE_KNOWLEDGE_SIZE], need[60000];
	static uint8_t known[2 * TREE_KNOWLEDGE_SIZE];
	static const uint8_t peer[32] = { 5 };
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	struct serve_info info = { .known = known };
	struct serve *serve;
	struct pull *pull;
	uint64_t cursor = 0;
	bool end = false;
	size_t len;
	int r = 0;

	sim_must(engine_pull_begin(p->engine, p->vol, &pull, asked, &len) == 0);
	engine_pull_name(pull, peer);
	sim_must(engine_serve_begin(q->engine, q->vol, asked, len, &serve, &info) == 0);
	if (info.has_nothing) {
		engine_pull_abort(p->engine, pull);
		return 0;
	}
	while (!end) {
		sim_must(engine_serve_page(serve, &cursor, blob, sizeof(blob), &len, &end) == 0);
		r = engine_pull_put(p->engine, pull, blob, len, NULL, 0);
		if (r < 0)
			engine_pull_abort(p->engine, pull);
		if (r < 0)
			break;
	}
	while (r == 0) {
		r = engine_pull_step(p->engine, pull, known, info.known_len, info.is_full, &result);
		if (r < 0 || result.need_len == 0)
			break;
		sim_must(engine_serve_inodes(
				 serve, need, result.need_len, blob, sizeof(blob), &len) == 0);
		r = engine_pull_put(p->engine, pull, blob, len, NULL, 0);
		if (r < 0)
			engine_pull_abort(p->engine, pull);
	}
	engine_serve_end(serve);
	engine_changes_release(&result.changes);
	return r;
}

static void op_pull(struct work *w)
{
	char name[16];
	int r;

	if (!w->has_other)
		other_new(w);
	for (uint64_t i = any(w, 4); i > 0; i--) {
		any_name(w, name);
		rig_file(&w->other, TREE_ROOT, name, NULL);
	}
	/* Sometimes it ends half done, and is done again. */
	if (any(w, 3) == 0) {
		w->world->disk.full_after = 1 + any(w, 4);
		r = pull(&w->rig, &w->other);
		w->world->disk.full_after = 0;
		sim_must(r == 0 || r == -ENOSPC);
	}
	sim_must(pull(&w->rig, &w->other) == 0);
}

/* The last sync, if there is one left. Sometimes it finds no room, did not happen, and is done
 * again.
 */
static bool op_undo(struct work *w)
{
	static struct undo_result result;
	int r = -ENOSPC;

	if (any(w, 3) == 0) {
		w->world->disk.full_after = 1 + any(w, 4);
		r = undo_run(w->rig.engine, w->rig.vol, 0, &result);
		w->world->disk.full_after = 0;
		engine_changes_release(&result.changes);
	}
	if (r == -ENOSPC)
		r = undo_run(w->rig.engine, w->rig.vol, 0, &result);
	engine_changes_release(&result.changes);
	sim_must(r == 0 || r == -ENOENT || r == -ESTALE);
	return r == 0;
}

/* What finds no room did not happen. */
static void op_full(struct work *w, size_t i)
{
	int r;

	w->world->disk.full_after = 1;
	entry_start(&entry, view_of(w));
	put_body(&entry, w->files[i], sim_random(&w->seed), 100 + any(w, 900));
	r = rig_apply(&w->rig, &entry);
	w->world->disk.full_after = 0;
	sim_must(r == 0 || r == -ENOSPC);
}

static void op_serve(struct work *w)
{
	if (!w->has_other)
		other_new(w);
	sim_must(pull(&w->other, &w->rig) == 0);
}

/* Snapshots come and go; what only a removed one held is garbage. */
static bool op_snapshot(struct work *w)
{
	uint8_t tag[16];
	uint64_t time;

	memset(tag, 1 + (int)any(w, 4), sizeof(tag));
	if (snapshot_create(w->rig.engine, w->rig.vol, tag, tag, sizeof(tag), &time) == 0)
		return true;
	return snapshot_remove(w->rig.engine, w->rig.vol, tag) == 0;
}

/* Nothing of the past is asked for any more, but what snapshots hold. */
static void cut_history(struct work *w)
{
	const struct retention_policy nothing = { 0 };
	size_t begun = w->world->disk.log.num;
	bool more;

	sim_must(prune_policy_set(w->rig.engine, w->rig.vol, &nothing) == 0);
	note(w, begun);
	prune_want(w->rig.vol);
	do {
		begun = w->world->disk.log.num;
		sim_must(prune_tick(w->rig.engine, &more) == 0);
		note(w, begun);
	} while (more);
}

/* Many objects side by side, of which few are needed: worth compacting. */
static void litter(struct work *w)
{
	struct tree_record rec = { .e = { .key = { .kind = TREE_BODY } } };
	uint8_t refs[TREE_REFS_MAX][TREE_REF_SIZE], data[OBJECT_MAX], id[32];
	size_t begun = w->world->disk.log.num;
	struct world *world = w->world;

	if (w->num_files == 0)
		return;
	for (uint64_t i = 8 + any(w, world->options.arena_size >> 10); i > 0; i--) {
		size_t len = 500 + any(w, any(w, 8) ? 2500 : OBJECT_MAX - 500);

		memset(data, (int)any(w, 256), len);
		memcpy(data, &w->seed, 8);
		sim_must(engine_put_object(w->rig.engine, NULL, data, len, id) == 0);
		if (any(w, 6) > 0 || rec.num_refs == TREE_REFS_MAX || world->num_objects >= 220)
			continue;
		memcpy(world->objects[world->num_objects++], id, 32);
		memcpy(refs[rec.num_refs++], id, 32);
		note(w, begun);
	}
	if (rec.num_refs == 0)
		return;
	rec.e.key.id = w->files[any(w, w->num_files)];
	memcpy(rec.e.vtag, refs[0], TREE_TAG_SIZE);
	rec.refs = refs[0];
	rec.sealed = data;
	rec.sealed_len = 80;
	entry_start(&entry, view_of(w));
	entry_put(&entry, &rec);
	begun = world->disk.log.num;
	apply(w);
	note(w, begun);
}

/* Changes of one file, so many that there are blocks of them. */
static void wear(struct work *w)
{
	size_t begun;

	if (w->num_files == 0)
		return;
	for (uint64_t i = 10 + any(w, 30); i > 0; i--) {
		begun = w->world->disk.log.num;
		op_write(w, any(w, w->num_files));
		note(w, begun);
	}
}

static void op_gc(struct work *w)
{
	struct gc_options options = { .is_final = true, .is_single = any(w, 2), .bucket = 8 };
	size_t begun;
	int r;

	if (any(w, 3) > 0)
		litter(w);
	if (any(w, 2))
		wear(w);
	options.roll = any(w, 2);
	if (any(w, 3) > 0) {
		cut_history(w);
		options.roll = options.is_single = true;
	}
	options.rows = (uint32_t)(5 + any(w, 100));
	/* With a base more, or by those that there are. */
	w->rig.engine->options.base_percent = any(w, 3) ? 1 : UINT32_MAX;
	sim_must(gc_begin(w->rig.engine, &options) == 0);
	w->world->is_collecting = true;
	do {
		begun = w->world->disk.log.num;
		r = gc_step(w->rig.engine);
		note(w, begun);
	} while (r > 0);
	sim_must(r == 0);
	w->world->is_collecting = false;
	w->world->freed += gc_report(w->rig.engine)->freed.objects;
	w->world->compacted += gc_report(w->rig.engine)->compacted;
	w->world->moved += gc_report(w->rig.engine)->moved.objects;
	w->world->removed += gc_report(w->rig.engine)->removed;
	w->world->based += gc_report(w->rig.engine)->written;
	gc_end(w->rig.engine);
}

/* Whoever pulls after that gets all of it listed. */
static void cut_dead(struct work *w)
{
	bool more;

	w->rig.vol->cut.next_pass = 0;
	do
		sim_must(dead_tick(w->rig.engine, &more) == 0);
	while (more);
}

/* ---- all of it */

/* 1: what it did is durable. */
static bool operate(struct work *w, unsigned what)
{
	size_t i = w->num_files ? any(w, w->num_files) : 0;

	if (w->num_files == 0 && (what < 8 || what == 20))
		what = 8;
	switch (what) {
	case 0:
		op_unlink(w, i);
		return false;
	case 1:
		op_rename(w, i);
		return false;
	case 2:
	case 3:
	case 4:
		op_write(w, i);
		return false;
	case 5:
	case 6:
	case 7:
		op_objects(w, i);
		return false;
	case 8:
	case 9:
	case 10:
		op_create(w);
		return false;
	case 11:
		op_mkdir(w);
		return false;
	case 12:
		op_forget(w);
		return false;
	case 13:
	case 14:
	case 15:
		sim_must(engine_sync(w->rig.engine) == 0);
		return true;
	case 16:
		/* Or it is under way while others go on. */
		if (any(w, 2)) {
			sim_must(engine_commit_soon(w->rig.engine) == 0);
			return false;
		}
		sim_must(engine_checkpoint(w->rig.engine) == 0);
		return true;
	case 17:
		if (any(w, 2))
			cut_dead(w);
		sim_must(engine_tick(w->rig.engine) == 0);
		return false;
	case 18:
		return op_settings(w);
	case 19:
		op_reopen(w);
		return true;
	case 20:
		op_full(w, i);
		return false;
	case 21:
		return op_snapshot(w);
	case 22:
		for (uint64_t n = 1 + any(w, 3); n > 0; n--)
			op_gc(w);
		return false;
	case 23:
		op_pull(w);
		return false;
	case 24:
		op_failed_sync(w);
		return true;
	case 25:
		return op_undo(w);
	default:
		op_serve(w);
		return false;
	}
}

void world_new(struct world *world, uint64_t seed, unsigned num, enum sim_lie lie)
{
	static struct work w;
	size_t begun;

	memset(world, 0, sizeof(*world));
	memset(&w, 0, sizeof(w));
	w.world = world;
	w.seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	sim_must(sim_new(&world->disk, seed) == 0);
	world->options = (struct engine_options){
		.reserve_size = any(&w, 4) ? UINT64_MAX : 8192,
		.map_size = 16u << 20,
		.dead_rows = 1,
		.arena_size = (4u << 10) << any(&w, 5),
		.open_arenas = seed % 3 ? 0 : 2,
		.part_size = any(&w, 2) ? 0 : 80,
		.checkpoint_ops = 5 + any(&w, 40),
		.base_size = 1,
		.base_percent = 1,
	};
	w.rig.options = world->options;
	world->disk.lie = lie;
	rig_on(&w.rig, &world->disk);
	sim_must(settings_volume_add(
			 w.rig.engine, "v", NULL, "default", (const uint8_t *)"keyid678") == 0);
	w.rig.vol = engine_volume_named(w.rig.engine, "v");
	w.dirs[w.num_dirs++] = TREE_ROOT;
	sim_save(&world->disk, &world->start);
	world->disk.is_recording = true;
	note(&w, 0);
	ack(&w);
	while (num-- > 0) {
		bool is_durable;

		begun = world->disk.log.num;
		is_durable = operate(&w, (unsigned)any(&w, 27));
		note(&w, begun);
		if (is_durable)
			ack(&w);
	}
	engine_abandon(w.rig.engine);
	engine_changes_release(&w.rig.changes);
	if (w.has_other) {
		engine_abandon(w.other.engine);
		engine_changes_release(&w.other.changes);
		sim_free(&w.other_disk);
	}
	world->disk.is_recording = false;
}

void world_free(struct world *world)
{
	sim_free(&world->disk);
	sim_image_release(&world->start);
	free(world->states);
	free(world->acks);
	memset(world, 0, sizeof(*world));
}
