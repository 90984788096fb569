/*
 * Garbage collection: whatever happens, what is referred to can be read, and what is not goes.
 */
#include "rig.h"

#include "stored/arena.h"
#include "stored/damage.h"
#include "stored/engine_state.h"
#include "stored/gc.h"
#include "stored/prune.h"
#include "stored/settings.h"
#include "stored/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define OBJECTS_MAX 4000
#define FILES_MAX   400
#define REFS_MAX    5
#define FAR_FILES   400

/* What the store should hold, by our own bookkeeping. */
struct object {
	uint8_t id[32], tag[32];
	size_t num_refs, refs[REFS_MAX];
	size_t len;
	uint64_t seed;
	bool is_manifest;
	bool is_needed;
};

struct file {
	uint64_t oid, lid;
	size_t num_refs, refs[REFS_MAX];
	bool is_there, is_aside, is_pending;
};

struct model {
	struct rig rig;
	struct object objects[OBJECTS_MAX];
	size_t num_objects;
	struct file files[FILES_MAX];
	size_t num_files;
	uint64_t seed;
	uint64_t compacted, moved, regained;
};

static struct entry entry;
static uint8_t buf[1 << 20];
static struct model *m;

static size_t below(size_t n)
{
	return (size_t)(rig_random(&m->seed) % n);
}

/* ---- objects */

static void fill(uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rig_random(&seed) >> 32);
}

/* The bytes of an object, as they were. */
static size_t object_bytes(const struct object *o)
{
	size_t clear = 16 + 32 * o->num_refs;

	fill(buf, o->len, o->seed | 1);
	if (!o->is_manifest)
		return o->len;
	memcpy(buf, "BZO1\2\1\2\0", 8);
	memset(buf + 8, 0, 8);
	buf[8] = (uint8_t)o->num_refs;
	for (size_t i = 0; i < o->num_refs; i++)
		memcpy(buf + 16 + 32 * i, m->objects[o->refs[i]].id, 32);
	return clear + 24 + 256 + 16;
}

static int object_put(struct object *o)
{
	size_t len = object_bytes(o);

	return engine_put_object(m->rig.engine, o->tag, buf, len, o->id);
}

static size_t object_new(bool is_manifest, const size_t *refs, size_t num_refs)
{
	struct object *o = &m->objects[m->num_objects];

	assert_true(m->num_objects < OBJECTS_MAX);
	memset(o, 0, sizeof(*o));
	o->is_manifest = is_manifest;
	o->seed = rig_random(&m->seed);
	o->len = is_manifest ? 1000 : 100 + below(20000);
	o->num_refs = num_refs;
	for (size_t i = 0; i < num_refs; i++)
		o->refs[i] = refs[i];
	if (!is_manifest)
		fill(o->tag, 32, o->seed + 2);
	assert_int_equal(object_put(o), 0);
	return m->num_objects++;
}

/* An object as a writer gets it: one that is here, or a new one. A dead one is put again. */
static size_t object_any(void)
{
	struct object *o;
	uint8_t id[32];
	size_t i;

	if (m->num_objects == 0 || below(3) > 0)
		return object_new(false, NULL, 0);
	i = below(m->num_objects);
	o = &m->objects[i];
	if (o->is_manifest)
		return object_new(false, NULL, 0);
	if (below(2) == 0 && engine_have(m->rig.engine, o->tag, id) == 0)
		assert_memory_equal(id, o->id, 32);
	else
		assert_int_equal(object_put(o), 0);
	return i;
}

static void object_check(const struct object *o)
{
	static uint8_t got[1 << 20];
	struct place place;
	size_t len = object_bytes(o);
	int r = engine_locate(m->rig.engine, o->id, &place);

	if (r == 0) {
		assert_int_equal(place.len, len);
		r = engine_read_object(m->rig.engine, o->id, place, got);
	}
	if (r < 0)
		fail_msg("an object that is needed: %s", strerror(-r));
	assert_memory_equal(got, buf, len);
}

/* ---- files */

static void put_refs(uint64_t oid, const struct file *file)
{
	uint8_t refs[REFS_MAX * 32];
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_BODY } } };
	static const uint8_t sealed[100];

	for (size_t i = 0; i < file->num_refs; i++)
		memcpy(refs + 32 * i, m->objects[file->refs[i]].id, 32);
	memcpy(rec.e.vtag, &oid, 8);
	memcpy(rec.e.vtag + 8, refs, 8);
	rec.refs = refs;
	rec.num_refs = (uint8_t)file->num_refs;
	rec.sealed = sealed;
	/* Far ones too. */
	rec.sealed_len = sizeof(sealed);
	entry_put(&entry, &rec);
}

static void file_write(struct file *file)
{
	char name[24];

	file->oid = rig_id(&m->rig);
	file->lid = rig_id(&m->rig);
	snprintf(name, sizeof(name), "f%llu", (unsigned long long)file->oid);
	entry_start(&entry, 0);
	put_attr(&entry, file->oid, false, file->oid);
	put_refs(file->oid, file);
	put_link(&entry, file->lid, TREE_ROOT, name, file->oid, false);
	assert_int_equal(rig_apply(&m->rig, &entry), 0);
	file->is_there = true;
	file->is_pending = false;
}

/* Chunks, or a tree of manifests of two levels; the record may come a while later. */
static void file_new(void)
{
	struct file *file = &m->files[m->num_files];
	size_t kids[REFS_MAX], chunks[REFS_MAX];

	if (m->num_files == FILES_MAX)
		return;
	memset(file, 0, sizeof(*file));
	file->num_refs = 1;
	if (below(2) == 0) {
		file->num_refs = 1 + below(REFS_MAX - 1);
		for (size_t i = 0; i < file->num_refs; i++)
			file->refs[i] = object_any();
	} else {
		size_t num = 1 + below(REFS_MAX - 1);

		for (size_t i = 0; i < num; i++) {
			size_t n = 1 + below(REFS_MAX - 1);

			for (size_t j = 0; j < n; j++)
				chunks[j] = object_any();
			kids[i] = object_new(true, chunks, n);
		}
		file->refs[0] = object_new(true, kids, num);
	}
	m->num_files++;
	file->is_pending = true;
	if (below(3) > 0)
		file_write(file);
}

static void write_pending(void)
{
	for (size_t i = 0; i < m->num_files; i++)
		if (m->files[i].is_pending)
			file_write(&m->files[i]);
}

static struct file *some_file(void)
{
	struct file *file = m->num_files ? &m->files[below(m->num_files)] : NULL;

	return file && file->is_there ? file : NULL;
}

static void file_unlink(void)
{
	struct file *file = some_file();
	bool drop = below(3) > 0;

	if (!file || file->is_aside)
		return;
	rig_unlink(&m->rig, file->lid, file->oid, drop);
	file->is_aside = !drop;
	file->is_there = !drop;
}

static void file_forget(void)
{
	struct file *file = some_file();

	if (!file || !file->is_aside)
		return;
	entry_start(&entry, 0);
	entry_remove(&entry, TREE_ATTR, file->oid, NULL);
	assert_int_equal(rig_apply(&m->rig, &entry), 0);
	file->is_there = false;
}

/* A reflink, and maybe the original goes: the references wander to another key. */
static void file_clone(void)
{
	struct file *from = some_file(), *file = &m->files[m->num_files];

	if (!from || from->is_aside || m->num_files == FILES_MAX)
		return;
	*file = *from;
	m->num_files++;
	file_write(file);
	if (below(2) == 0) {
		rig_unlink(&m->rig, from->lid, from->oid, true);
		from->is_there = false;
	}
}

static void body_write(struct file *file)
{
	entry_start(&entry, 0);
	put_refs(file->oid, file);
	assert_int_equal(rig_apply(&m->rig, &entry), 0);
}

/* The contents of a later file come into an earlier one, and the later goes: the references wander
 * to where a mark has been. */
static void file_steal(void)
{
	struct file *a = some_file(), *b = some_file(), *c;

	if (!a || !b || a->is_aside || b->is_aside || a == b)
		return;
	if (a->oid > b->oid) {
		c = a;
		a = b;
		b = c;
	}
	a->num_refs = b->num_refs;
	memcpy(a->refs, b->refs, sizeof(a->refs));
	body_write(a);
	rig_unlink(&m->rig, b->lid, b->oid, true);
	b->is_there = false;
}

/* A new top over what is below the old one: nobody asked whether that is here. */
static void file_edit(void)
{
	struct file *file = some_file();
	struct object *top = file ? &m->objects[file->refs[0]] : NULL;

	if (!file || file->is_aside || !top->is_manifest)
		return;
	file->refs[0] = object_new(true, top->refs, top->num_refs);
	body_write(file);
}

/* ---- checking */

static void need(size_t i)
{
	struct object *o = &m->objects[i];

	if (o->is_needed)
		return;
	o->is_needed = true;
	for (size_t n = 0; n < o->num_refs; n++)
		need(o->refs[n]);
}

static size_t check(void)
{
	size_t num = 0;

	for (size_t i = 0; i < m->num_objects; i++)
		m->objects[i].is_needed = false;
	for (size_t i = 0; i < m->num_files; i++)
		if (m->files[i].is_there || m->files[i].is_pending)
			for (size_t n = 0; n < m->files[i].num_refs; n++)
				need(m->files[i].refs[n]);
	assert_int_equal(engine_flush(m->rig.engine), 0);
	for (size_t i = 0; i < m->num_objects; i++) {
		if (!m->objects[i].is_needed)
			continue;
		object_check(&m->objects[i]);
		num++;
	}
	return num;
}

static void collect_end(void)
{
	const struct gc_report *report = gc_report(m->rig.engine);

	m->compacted += report->compacted;
	m->moved += report->moved.objects;
	m->regained += report->regained;
	gc_end(m->rig.engine);
}

static void collect(const struct gc_options *options)
{
	int r;

	assert_int_equal(gc_begin(m->rig.engine, options), 0);
	while ((r = gc_step(m->rig.engine)) > 0)
		;
	assert_int_equal(r, 0);
	collect_end();
}

static const struct gc_options now_options = { .is_final = true, .roll = 1 };

/* Nothing of the past is asked for any more. */
static void forget(void)
{
	const struct retention_policy nothing = { 0 };
	bool more;

	assert_int_equal(prune_policy_set(m->rig.engine, m->rig.vol, &nothing), 0);
	for (int i = 0; i < 2; i++) {
		prune_want(m->rig.vol);
		do
			assert_int_equal(prune_tick(m->rig.engine, &more), 0);
		while (more);
	}
}

/* Two generations without a grace time: after them nothing is left that is not needed. */
static void collect_all(void)
{
	struct engine_stat stat;
	size_t needed;

	write_pending();
	forget();
	collect(&now_options);
	collect(&now_options);
	needed = check();
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, needed);
}

static void setup_model(void)
{
	m = calloc(1, sizeof(*m));
	assert_non_null(m);
	m->seed = rig_seed();
	m->rig.options.arena_size = 256u << 10;
	rig_new(&m->rig);
}

static void free_model(void)
{
	rig_free(&m->rig);
	free(m);
	m = NULL;
}

static void reopen(bool rebuild)
{
	if (m->rig.engine)
		rig_kill(&m->rig);
	m->rig.options.rebuild = rebuild;
	rig_open(&m->rig);
}

/* ---- tests */

/* A file of 256 chunks that are all far. */
static void far_file_write(void)
{
	struct tree_record rec = { .e = { .key = { .kind = TREE_BODY } }, .num_refs = 1 };
	static const uint8_t sealed[100];
	static uint8_t node[16 + 32 * 256 + 24 + 256 + 16];
	uint8_t id[32];
	char name[24];

	fill(node, sizeof(node), rig_random(&m->seed) | 1);
	memcpy(node, "BZO1\2\1\2\0\0\1\0\0\0\0\0\0", 16);
	assert_int_equal(engine_put_object(m->rig.engine, NULL, node, sizeof(node), id), 0);
	rec.e.key.id = rig_id(&m->rig);
	rec.refs = id;
	rec.sealed = sealed;
	rec.sealed_len = sizeof(sealed);
	snprintf(name, sizeof(name), "far%llu", (unsigned long long)rec.e.key.id);
	entry_start(&entry, 0);
	put_attr(&entry, rec.e.key.id, false, rec.e.key.id);
	entry_put(&entry, &rec);
	put_link(&entry, rig_id(&m->rig), TREE_ROOT, name, rec.e.key.id, false);
	assert_int_equal(rig_apply(&m->rig, &entry), 0);
}

/* So many of them that in the table there is one for nearly each of those that are here. */
static void gc__what_is_far_does_not_hide_what_is_here(void **state)
{
	struct gc_options options = {
		.is_final = true, .roll = 1, .is_single = true, .bucket = 32
	};
	struct engine_stat stat;

	setup_model();
	for (int i = 0; i < FAR_FILES; i++)
		far_file_write();
	for (int i = 0; i < 150; i++)
		file_new();
	write_pending();
	for (int i = 0; i < 3; i++) {
		collect(&options);
		assert_true(check() > 300);
	}
	for (int i = 0; i < 300; i++)
		file_unlink();
	write_pending();
	forget();
	/* What is taken for one of them stays, but it is another each time. */
	for (int i = 0; i < 50; i++) {
		collect(&options);
		assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
		if (stat.objects == check() + FAR_FILES)
			break;
	}
	assert_int_equal(stat.objects, check() + FAR_FILES);
	free_model();
}

static void gc__history_keeps_what_it_refers_to(void **state)
{
	const uint8_t tag[16] = { 1 };
	struct engine_stat stat;
	uint64_t time;

	setup_model();
	for (int i = 0; i < 40; i++)
		file_new();
	write_pending();
	for (size_t i = 0; i < m->num_files; i++)
		while (m->files[i].is_there && !m->files[i].is_aside)
			file_unlink();
	/* All of it was there a moment ago. */
	for (size_t i = 0; i < m->num_files; i++)
		m->files[i].is_there = true;
	collect(&now_options);
	collect(&now_options);
	assert_true(check() > 40);
	reopen(true);
	collect(&now_options);
	assert_true(check() > 40);
	for (size_t i = 0; i < m->num_files; i++)
		m->files[i].is_there = m->files[i].is_aside;
	assert_int_equal(
		snapshot_create(m->rig.engine, m->rig.vol, tag, (const uint8_t *)"n", 1, &time), 0);
	forget();
	collect(&now_options);
	collect(&now_options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, check());
	free_model();
}

static uint64_t losses(void)
{
	struct gc_known known;

	assert_int_equal(gc_known(m->rig.engine, &known), 0);
	return known.losses;
}

/* What retention drops, and a volume that goes, are as good a reason to collect as what is written;
 * collecting is none. */
static void gc__it_is_known_when_there_may_be_garbage(void **state)
{
	uint64_t before;

	setup_model();
	for (int i = 0; i < 10; i++)
		file_new();
	before = losses();
	write_pending();
	for (int i = 0; i < 100; i++)
		file_unlink();
	assert_true(losses() > before);
	before = losses();
	collect(&now_options);
	collect(&now_options);
	assert_int_equal(losses(), before);
	forget();
	assert_true(losses() > before);
	before = losses();
	prune_want(m->rig.vol);
	forget();
	assert_int_equal(losses(), before);
	assert_int_equal(settings_volume_remove(m->rig.engine, m->rig.vol->name), 0);
	assert_true(losses() > before);
	free_model();
}

static uint64_t sum_of_ages(const struct gc_report *report)
{
	uint64_t sum = 0;

	for (int i = 0; i < GC_AGES; i++)
		sum += report->ages[i].objects;
	return sum;
}

/* Ten files are in a snapshot, ten more were there a moment ago, and three are. */
static void gc__a_dry_run_tells_until_when(void **state)
{
	const struct gc_options options = { .is_dry = true, .is_final = true, .rows = 7 };
	const struct retention_policy policy = { .keep_all = 3 * 86400 };
	const uint64_t days = UINT64_C(3) * 86400 * 1000000000;
	const uint8_t tag[16] = { 1 };
	const struct gc_report *report;
	uint64_t start, end, live;
	int r;

	setup_model();
	assert_int_equal(prune_policy_set(m->rig.engine, m->rig.vol, &policy), 0);
	for (int i = 0; i < 23; i++) {
		file_new();
		write_pending();
		if (i == 9)
			assert_int_equal(snapshot_create(m->rig.engine, m->rig.vol, tag,
						 (const uint8_t *)"n", 1, &start),
				0);
	}
	start = store_io_file.now(NULL);
	for (size_t i = 0; i < 20; i++) {
		rig_unlink(&m->rig, m->files[i].lid, m->files[i].oid, true);
		m->files[i].is_there = false;
	}
	end = store_io_file.now(NULL);
	assert_int_equal(gc_begin(m->rig.engine, &options), 0);
	while ((r = gc_step(m->rig.engine)) > 0)
		;
	assert_int_equal(r, 0);
	report = gc_report(m->rig.engine);
	live = check();
	assert_int_equal(report->live.objects, live);
	for (int i = 0; i < 10; i++)
		m->files[i].is_there = true;
	assert_int_equal(report->ages[GC_WHY_SNAPSHOT - GC_WHY_DAY].objects, check() - live);
	for (int i = 10; i < 20; i++)
		m->files[i].is_there = true;
	assert_int_equal(report->history.objects, check() - live);
	assert_int_equal(sum_of_ages(report), report->history.objects);
	assert_int_equal(report->ages[GC_WHY_WEEK - GC_WHY_DAY].objects +
				 report->ages[GC_WHY_SNAPSHOT - GC_WHY_DAY].objects,
		report->history.objects);
	assert_in_range(report->ages_from, start + days, end + days + 1000);
	assert_in_range(report->ages_until, report->ages_from, end + days + 1000);
	gc_end(m->rig.engine);
	free_model();
}

static void gc__what_is_not_referred_to_goes(void **state)
{
	struct engine_stat stat;
	uint64_t before;

	setup_model();
	for (int i = 0; i < 40; i++)
		file_new();
	write_pending();
	collect_all();
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	before = stat.objects;
	assert_true(before > 40);
	for (int i = 0; i < 1000; i++) {
		file_unlink();
		file_forget();
	}
	collect_all();
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_true(stat.objects < before);
	/* The same after the log was read anew. */
	reopen(true);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, check());
	assert_int_equal(stat.damaged, 0);
	free_model();
}

static uint64_t blocks_of(void)
{
	uint64_t sum = 0;
	char name[32], path[96];
	struct stat st;

	for (unsigned i = 1; i < 1000; i++) {
		snprintf(name, sizeof(name), "arena.%08u", i);
		rig_path(&m->rig, name, path);
		if (stat(path, &st) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	}
	return sum;
}

static void gc__room_comes_back(void **state)
{
	struct file *file;
	uint64_t full;

	setup_model();
	m->rig.options.arena_size = 4u << 20;
	reopen(false);
	file = &m->files[m->num_files++];
	for (int i = 0; i < 300; i++) {
		size_t chunk = object_new(false, NULL, 0);

		file->refs[0] = chunk;
		file->num_refs = 1;
	}
	file_write(file);
	assert_int_equal(engine_sync(m->rig.engine), 0);
	full = blocks_of();
	collect_all();
	assert_true(full > 2000000);
	assert_true(blocks_of() < full / 2);
	free_model();
}

static void verify_damage(void *arg, uint32_t arena, uint64_t from, uint64_t to, bool is_tail)
{
	fail_msg("arena %u: %llu to %llu", arena, (unsigned long long)from, (unsigned long long)to);
}

static int verify_frame(void *arg, const struct frame_view *frame)
{
	*(size_t *)arg += frame->type == FRAME_GAP;
	return 0;
}

/* All frames are one behind another, from every frame on; returns how many gaps there are. */
static size_t verify_arenas(const struct place *from)
{
	struct place at = from ? *from : (struct place){ 0 };
	size_t gaps = 0;
	uint64_t bytes;
	int r;

	do
		r = arenas_verify(
			&m->rig.engine->arenas, &at, 1, &bytes, verify_frame, verify_damage, &gaps);
	while (r == 1);
	assert_int_equal(r, 0);
	return gaps;
}

static void verify_footers(void)
{
	struct arenas *a = &m->rig.engine->arenas;
	struct sealed_arena sealed;

	assert_int_equal(engine_tick(m->rig.engine), 0);
	for (size_t i = 0; i + 1 < a->num; i++) {
		assert_int_equal(arenas_open_sealed(a, a->list[i].number, &sealed), 0);
		assert_int_equal(sealed_arena_verify(&sealed), 0);
		sealed_arena_close(&sealed);
	}
}

/* Objects side by side: changes between them keep their blocks. Their records come later. */
static void burst(size_t num)
{
	while (num-- > 0 && m->num_files < FILES_MAX && m->num_objects < OBJECTS_MAX) {
		struct file *file = &m->files[m->num_files++];

		memset(file, 0, sizeof(*file));
		file->refs[0] = object_new(false, NULL, 0);
		file->num_refs = 1;
		file->is_pending = true;
	}
}

/* Many small files, of which every second goes. */
static void splinter(void)
{
	m->rig.options.arena_size = 1u << 20;
	reopen(false);
	burst(FILES_MAX);
	write_pending();
	assert_int_equal(engine_checkpoint(m->rig.engine), 0);
}

static void unlink_half(void)
{
	for (size_t i = 0; i < m->num_files; i++)
		if (m->files[i].is_there && below(2)) {
			rig_unlink(&m->rig, m->files[i].lid, m->files[i].oid, true);
			m->files[i].is_there = false;
		}
}

static void gc__splinters_come_back(void **state)
{
	uint64_t changes, full, bytes;
	struct gc_options dry = now_options;
	struct engine_stat stat;
	struct place at = { 0 };

	setup_model();
	splinter();
	full = blocks_of();
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	changes = full - stat.object_bytes;
	/* A scrub is on its way somewhere in the middle. */
	assert_int_equal(arenas_verify(&m->rig.engine->arenas, &at, 1500000, &bytes, verify_frame,
				 verify_damage, &bytes),
		1);
	unlink_half();
	forget();
	collect(&(struct gc_options){ .roll = 1 });
	for (int i = 0; i < 10; i++)
		assert_int_equal(engine_tick(m->rig.engine), 0);
	dry.is_dry = true;
	collect(&dry);
	assert_true(m->compacted > 0 && m->moved > 0 && m->regained > 0);
	assert_true(blocks_of() + 4096 >= full);
	m->compacted = m->moved = m->regained = 0;
	collect(&now_options);
	print_message("%llu arenas, %llu objects moved, %llu bytes\n",
		(unsigned long long)m->compacted, (unsigned long long)m->moved,
		(unsigned long long)m->regained);
	assert_true(m->compacted > 1 && m->moved > 100);
	check();
	/* What is needed, what tells of it, and little else. */
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	print_message("%llu bytes of %llu for %llu\n", (unsigned long long)blocks_of(),
		(unsigned long long)full, (unsigned long long)stat.object_bytes);
	assert_true(blocks_of() < stat.object_bytes * 21 / 20 + 2 * changes);
	assert_true(verify_arenas(NULL) > 0);
	verify_arenas(&at);
	verify_footers();
	for (int i = 0; i < 2; i++) {
		reopen(i == 0);
		check();
		assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
		assert_int_equal(stat.damaged, 0);
	}
	/* And once more, where there are gaps already. */
	m->moved = 0;
	unlink_half();
	collect_all();
	verify_arenas(NULL);
	verify_footers();
	reopen(true);
	check();
	/* What named the objects that have no frames any more goes; then nothing is left to be
	 * done. */
	for (int i = 0; i < 3; i++)
		collect(&now_options);
	m->compacted = 0;
	collect(&now_options);
	collect(&now_options);
	assert_int_equal(m->compacted, 0);
	free_model();
}

/* Writes over the bytes at a place. */
static void rot(struct place place)
{
	char path[96], name[32];
	FILE *f;

	snprintf(name, sizeof(name), "arena.%08u", place.arena);
	rig_path(&m->rig, name, path);
	f = fopen(path, "r+");
	assert_non_null(f);
	fseek(f, (long)place.offset, SEEK_SET);
	fputs("rotten", f);
	fclose(f);
}

/* What cannot be read stays where it is, and compacting goes on. */
static void gc__a_damaged_object_is_not_moved(void **state)
{
	struct place before, after, at;
	struct object *o;

	setup_model();
	splinter();
	unlink_half();
	forget();
	o = NULL;
	for (size_t i = 0; !o; i++)
		if (m->files[i].is_there)
			o = &m->objects[m->files[i].refs[0]];
	assert_int_equal(engine_locate(m->rig.engine, o->id, &before), 0);
	at = before;
	at.offset += 20;
	rot(at);
	collect(&now_options);
	collect(&now_options);
	assert_true(m->compacted > 0 && m->moved > 0);
	assert_int_equal(engine_locate(m->rig.engine, o->id, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	free_model();
}

static uint64_t in_a_while(void *ctx)
{
	return store_io_file.now(NULL) + UINT64_C(91) * 86400 * 1000000000;
}

static int cannot_punch(void *ctx, int fd, int mode, uint64_t offset, uint64_t len)
{
	return mode & FALLOC_FL_PUNCH_HOLE ? -EOPNOTSUPP : 0;
}

/* Copies would only take more. */
static void gc__nothing_is_moved_where_nothing_can_be_punched(void **state)
{
	struct store_io io = store_io_file;

	io.fallocate = cannot_punch;
	setup_model();
	m->rig.options.io = &io;
	splinter();
	unlink_half();
	collect_all();
	assert_int_equal(m->compacted, 0);
	check();
	free_model();
}

static void gc__two_generations_and_grace(void **state)
{
	struct gc_options options = { .is_final = true, .roll = 1, .grace_s = 3600 };
	struct engine_stat stat;
	const struct gc_report *report;
	uint8_t id[32];
	int r;

	setup_model();
	object_new(false, NULL, 0);
	/* Noted once, and twice, but too short ago. */
	collect(&options);
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 1);
	/* A writer is told that it is here: it starts anew. */
	assert_int_equal(engine_have(m->rig.engine, m->objects[0].tag, id), 0);
	options.grace_s = 0;
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 1);
	/* A dry one says so and does nothing. */
	options.is_dry = true;
	assert_int_equal(gc_begin(m->rig.engine, &options), 0);
	while ((r = gc_step(m->rig.engine)) > 0)
		;
	assert_int_equal(r, 0);
	report = gc_report(m->rig.engine);
	assert_int_equal(report->freed.objects, 1);
	assert_int_equal(report->all.objects, 1);
	gc_end(m->rig.engine);
	options.is_dry = false;
	/* One that may only note frees nothing. */
	options.is_final = false;
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 1);
	options.is_final = true;
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 0);
	assert_int_equal(engine_have(m->rig.engine, m->objects[0].tag, id), -ENOENT);
	free_model();
}

/* Tags of what has gone say nothing, and go too. */
static void gc__tags_go_with_their_objects(void **state)
{
	struct store_io io = store_io_file;
	uint8_t id[32];

	/* Nothing is compacted. */
	io.fallocate = cannot_punch;
	setup_model();
	m->rig.options.io = &io;
	reopen(false);
	for (int i = 0; i < 10; i++)
		object_new(false, NULL, 0);
	collect(&now_options);
	assert_int_equal(db_rows(txn(m->rig.engine), DB_TAGS), 10);
	collect(&now_options);
	assert_int_equal(db_rows(txn(m->rig.engine), DB_TAGS), 0);
	/* A rebuild meets them again. */
	reopen(true);
	assert_int_equal(db_rows(txn(m->rig.engine), DB_TAGS), 10);
	assert_int_equal(engine_have(m->rig.engine, m->objects[3].tag, id), -ENOENT);
	assert_int_equal(object_put(&m->objects[3]), 0);
	collect(&now_options);
	assert_int_equal(db_rows(txn(m->rig.engine), DB_TAGS), 1);
	assert_int_equal(engine_have(m->rig.engine, m->objects[3].tag, id), 0);
	assert_memory_equal(id, m->objects[3].id, 32);
	free_model();
}

/* Whoever was told that it is here writes a record that needs it, whatever became of the
 * transaction meanwhile. */
static void gc__a_promise_outlives_a_rollback(void **state)
{
	struct engine_stat stat;
	uint8_t id[32];

	for (int how = 0; how < 2; how++) {
		setup_model();
		object_new(false, NULL, 0);
		collect(&now_options);
		assert_int_equal(engine_checkpoint(m->rig.engine), 0);
		if (how == 0)
			assert_int_equal(engine_have(m->rig.engine, m->objects[0].tag, id), 0);
		else
			assert_int_equal(object_put(&m->objects[0]), 0);
		assert_int_equal(engine_rollback(m->rig.engine), 0);
		assert_int_equal(engine_rollback(m->rig.engine), 0);
		collect(&now_options);
		object_check(&m->objects[0]);
		collect(&now_options);
		assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
		assert_int_equal(stat.objects, 0);
		free_model();
	}
}

static void gc__the_arena_appended_to_stays(void **state)
{
	struct gc_options options = { .is_final = true };
	struct engine_stat stat;

	setup_model();
	object_new(false, NULL, 0);
	collect(&options);
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 1);
	free_model();
}

/* While a collection runs everything goes on; writers hand in late what they were promised. */
static void gc__beside_writers(void **state)
{
	uint64_t compacted = 0;
	bool is_single;
	int r;

	for (int round = 0; round < 15; round++) {
		setup_model();
		is_single = round % 2;
		for (int i = 0; i < 20; i++)
			file_new();
		burst(100);
		write_pending();
		unlink_half();
		forget();
		for (int collection = 0; collection < 12; collection++) {
			struct gc_options options = { .is_final = true,
				.roll = below(2),
				.is_single = is_single,
				.rows = (uint32_t)(3 + below(20)),
				.bucket = below(3) ? (uint32_t)(2 + below(30)) : 0 };

			write_pending();
			assert_int_equal(gc_begin(m->rig.engine, &options), 0);
			do {
				switch (below(10)) {
				case 0:
				case 1:
					file_new();
					break;
				case 2:
					file_unlink();
					break;
				case 3:
					file_clone();
					break;
				case 4:
					file_forget();
					break;
				case 5:
					file_steal();
					break;
				case 6:
					file_edit();
					break;
				case 7:
					assert_int_equal(engine_flush(m->rig.engine), 0);
					break;
				default:
					break;
				}
				r = gc_step(m->rig.engine);
			} while (r > 0);
			assert_int_equal(r, 0);
			compacted += gc_report(m->rig.engine)->compacted;
			gc_end(m->rig.engine);
			check();
		}
		collect_all();
		reopen(below(2));
		check();
		collect_all();
		free_model();
	}
	assert_true(compacted > 0);
}

/* Killed after any step, with what was not synced lost or not, it begins anew. */
static void gc__killed_anywhere(void **state)
{
	struct engine_stat stat;

	setup_model();
	for (int i = 0; i < 30; i++)
		file_new();
	for (int round = 0; round < 80; round++) {
		struct gc_options options = now_options;
		size_t steps = below(500);

		options.rows = 50;
		options.bucket = 16;
		for (int i = 0; i < 3; i++) {
			file_new();
			file_unlink();
			file_forget();
		}
		if (round % 10 == 0)
			burst(30);
		write_pending();
		if (round % 10 == 1) {
			unlink_half();
			forget();
		}
		assert_int_equal(engine_flush(m->rig.engine), 0);
		assert_int_equal(gc_begin(m->rig.engine, &options), 0);
		while (steps-- > 0 && gc_step(m->rig.engine) > 0)
			;
		collect_end();
		reopen(below(4) == 0);
		check();
		assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
		assert_int_equal(stat.damaged, 0);
	}
	assert_true(m->compacted > 0 && m->moved > 0);
	collect_all();
	reopen(true);
	check();
	free_model();
}

static void gc__damaged_manifest_stops_it(void **state)
{
	struct gc_options options = now_options;
	struct file *file;
	struct place place;
	struct engine_stat stat;
	size_t chunk, top;
	int r;

	setup_model();
	chunk = object_new(false, NULL, 0);
	top = object_new(true, &chunk, 1);
	object_new(false, NULL, 0);
	file = &m->files[m->num_files++];
	file->refs[0] = top;
	file->num_refs = 1;
	file_write(file);
	assert_int_equal(engine_checkpoint(m->rig.engine), 0);
	assert_int_equal(engine_locate(m->rig.engine, m->objects[top].id, &place), 0);
	place.offset += 20;
	rot(place);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(gc_begin(m->rig.engine, &options), 0);
		while ((r = gc_step(m->rig.engine)) > 0)
			;
		assert_int_equal(r, -EBADMSG);
		assert_memory_equal(gc_report(m->rig.engine)->damaged, m->objects[top].id, 32);
		gc_end(m->rig.engine);
	}
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 3);
	free_model();
}

/* Its children are wanted when it is healed, though nobody here can tell which they are. */
static void gc__a_manifest_known_to_be_damaged_stops_it(void **state)
{
	struct gc_options options = now_options;
	struct place place;
	size_t chunk, top;
	int r;

	setup_model();
	chunk = object_new(false, NULL, 0);
	top = object_new(true, &chunk, 1);
	m->files[m->num_files].refs[0] = top;
	m->files[m->num_files].num_refs = 1;
	file_write(&m->files[m->num_files++]);
	assert_int_equal(engine_checkpoint(m->rig.engine), 0);
	assert_int_equal(engine_locate(m->rig.engine, m->objects[top].id, &place), 0);
	place.offset += 20;
	rot(place);
	assert_int_equal(damage_check(m->rig.engine, m->objects[top].id), -EBADMSG);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(gc_begin(m->rig.engine, &options), 0);
		while ((r = gc_step(m->rig.engine)) > 0)
			;
		gc_end(m->rig.engine);
	}
	assert_int_equal(object_put(&m->objects[top]), 0);
	object_check(&m->objects[chunk]);
	assert_int_equal(r, -EBADMSG);
	free_model();
}

/* It refers to nothing; nor may notes of an older program stop anything. */
static void gc__a_damaged_chunk_stops_nothing(void **state)
{
	uint8_t key[3 + 32] = "bad", old[24] = { 1 };
	struct damage list[3];
	struct place place;
	size_t chunk, top;

	setup_model();
	chunk = object_new(false, NULL, 0);
	top = object_new(true, &chunk, 1);
	m->files[m->num_files].refs[0] = top;
	m->files[m->num_files].num_refs = 1;
	file_write(&m->files[m->num_files++]);
	assert_int_equal(engine_checkpoint(m->rig.engine), 0);
	assert_int_equal(engine_locate(m->rig.engine, m->objects[chunk].id, &place), 0);
	rot(place);
	assert_int_equal(damage_check(m->rig.engine, m->objects[chunk].id), -EBADMSG);
	assert_int_equal(
		db_put(txn(m->rig.engine), DB_META, key, sizeof(key), old, sizeof(old)), 0);
	assert_int_equal(damage_list(m->rig.engine, NULL, list, 3), 2);
	collect(&now_options);
	collect(&now_options);
	object_check(&m->objects[top]);
	free_model();
}

/* Changes that a rebuild cannot read may have referred to anything. */
static void gc__nothing_is_freed_when_changes_were_lost(void **state)
{
	struct store_io io = store_io_file;
	struct gc_options options = now_options;
	struct engine_stat stat;
	struct place place;

	setup_model();
	m->rig.options.io = &io;
	m->num_files = 1;
	m->files[0].refs[0] = object_new(false, NULL, 0);
	m->files[0].num_refs = 1;
	file_write(&m->files[0]);
	assert_int_equal(engine_locate(m->rig.engine, m->objects[0].id, &place), 0);
	assert_int_equal(engine_checkpoint(m->rig.engine), 0);
	/* A record behind the object. */
	place.offset += place.len + 200;
	rot(place);
	burst(1);
	write_pending();
	assert_int_equal(engine_checkpoint(m->rig.engine), 0);
	reopen(true);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.damaged, 1);
	/* As long as the index lives. */
	for (int i = 0; i < 2; i++) {
		collect(&options);
		options.is_single = true;
		collect(&options);
		object_check(&m->objects[0]);
		rig_close(&m->rig);
		m->rig.options.rebuild = false;
		rig_open(&m->rig);
	}
	io.now = in_a_while;
	collect(&options);
	m->files[0].is_there = false;
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, check());
	free_model();
}

static void gc__old_manifest_keeps_what_is_older(void **state)
{
	struct engine_stat stat;
	struct file *file;
	uint8_t old[8 + 24 + 256 + 16];

	setup_model();
	object_new(false, NULL, 0);
	fill(old, sizeof(old), 77);
	memcpy(old, "BZO1\1\1\2\0", 8);
	assert_int_equal(engine_put_object(m->rig.engine, NULL, old, sizeof(old),
				 m->objects[m->num_objects].id),
		0);
	file = &m->files[m->num_files++];
	file->refs[0] = m->num_objects++;
	file->num_refs = 1;
	file_write(file);
	object_new(false, NULL, 0);
	collect(&now_options);
	collect(&now_options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 2);
	free_model();
}

static void gc__malformed_manifest_is_not_taken(void **state)
{
	uint8_t bad[8 + 24 + 256 + 16] = "BZO1\2\1\2", id[32];

	setup_model();
	bad[8] = 200; /* ids that are not there */
	assert_int_equal(engine_put_object(m->rig.engine, NULL, bad, sizeof(bad), id), -EBADMSG);
	free_model();
}

/* A peer that has pulled and may pull again keeps what died since. */
static void gc__peers_keep_what_they_may_ask_for(void **state)
{
	static const char hex[] =
		"aa000000000000000000000000000000000000000000000000000000000000bb";
	uint8_t peer[32] = { 0xaa, [31] = 0xbb }, known[TREE_KNOWLEDGE_SIZE];
	struct gc_options options = now_options;
	struct tree_knowledge none = { 0 };
	struct engine_stat stat;
	struct gc_known was;
	int len, r;

	setup_model();
	assert_int_equal(settings_peer_add(m->rig.engine, hex, "peer"), 0);
	assert_int_equal(settings_peer_volume(m->rig.engine, "peer", "v", true), 0);
	len = tree_knowledge_encode(&none, known, sizeof(known));
	assert_true(len > 0);
	assert_int_equal(
		gc_peer_served(m->rig.engine, m->rig.vol, peer, known, (size_t)len, false), 0);
	object_new(false, NULL, 0);
	collect(&options);
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 1);
	options.is_dry = true;
	assert_int_equal(gc_begin(m->rig.engine, &options), 0);
	while ((r = gc_step(m->rig.engine)) > 0)
		;
	assert_int_equal(r, 0);
	assert_int_equal(gc_report(m->rig.engine)->peers.objects, 1);
	assert_int_equal(gc_known(m->rig.engine, &was), 0);
	assert_int_equal(was.noted, 1);
	assert_int_equal(gc_report(m->rig.engine)->num_holders, 1);
	assert_memory_equal(gc_report(m->rig.engine)->holders[0], peer, 32);
	gc_end(m->rig.engine);
	options.is_dry = false;
	/* It comes again and is told that there is nothing new. */
	assert_int_equal(
		gc_peer_served(m->rig.engine, m->rig.vol, peer, known, (size_t)len, true), 0);
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 0);
	/* Nothing of it is left to do; what is known of the peer is no garbage. */
	assert_int_equal(gc_known(m->rig.engine, &was), 0);
	assert_int_equal(was.noted, 0);
	/* Or may not come any more. */
	assert_int_equal(
		gc_peer_served(m->rig.engine, m->rig.vol, peer, known, (size_t)len, false), 0);
	object_new(false, NULL, 0);
	collect(&options);
	assert_int_equal(settings_peer_volume(m->rig.engine, "peer", "v", false), 0);
	collect(&options);
	assert_int_equal(engine_stat(m->rig.engine, &stat), 0);
	assert_int_equal(stat.objects, 0);
	free_model();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gc__what_is_not_referred_to_goes),
		cmocka_unit_test(gc__what_is_far_does_not_hide_what_is_here),
		cmocka_unit_test(gc__it_is_known_when_there_may_be_garbage),
		cmocka_unit_test(gc__a_dry_run_tells_until_when),
		cmocka_unit_test(gc__history_keeps_what_it_refers_to),
		cmocka_unit_test(gc__room_comes_back),
		cmocka_unit_test(gc__splinters_come_back),
		cmocka_unit_test(gc__a_damaged_object_is_not_moved),
		cmocka_unit_test(gc__nothing_is_moved_where_nothing_can_be_punched),
		cmocka_unit_test(gc__two_generations_and_grace),
		cmocka_unit_test(gc__tags_go_with_their_objects),
		cmocka_unit_test(gc__a_promise_outlives_a_rollback),
		cmocka_unit_test(gc__the_arena_appended_to_stays),
		cmocka_unit_test(gc__beside_writers),
		cmocka_unit_test(gc__killed_anywhere),
		cmocka_unit_test(gc__damaged_manifest_stops_it),
		cmocka_unit_test(gc__a_manifest_known_to_be_damaged_stops_it),
		cmocka_unit_test(gc__a_damaged_chunk_stops_nothing),
		cmocka_unit_test(gc__nothing_is_freed_when_changes_were_lost),
		cmocka_unit_test(gc__old_manifest_keeps_what_is_older),
		cmocka_unit_test(gc__malformed_manifest_is_not_taken),
		cmocka_unit_test(gc__peers_keep_what_they_may_ask_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
