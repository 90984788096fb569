#include "rig.h"

#include "stored/arena.h"
#include "stored/census.h"
#include "stored/engine_state.h"
#include "stored/object.h"
#include "stored/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- one arena */

struct one {
	char path[64];
	int dir_fd;
	struct arenas arenas;
};

static void put_object(struct arenas *a, uint64_t n, size_t len)
{
	struct digest *digest = digest_new();
	uint8_t *p;

	assert_int_equal(arenas_begin(a), 0);
	p = arenas_add(a, 64 + len);
	memset(p, 0, 64 + len);
	memcpy(p + 64, &n, sizeof(n));
	p[32] = (uint8_t)n;
	assert_int_equal(digest_of(digest, p + 64, len, p), 0);
	assert_int_equal(arenas_end(a, FRAME_OBJECT, NULL), 0);
	digest_free(digest);
}

static void id_of(uint64_t n, size_t len, uint8_t ret[32])
{
	struct digest *digest = digest_new();
	uint8_t *data = calloc(1, len);

	memcpy(data, &n, sizeof(n));
	assert_int_equal(digest_of(digest, data, len, ret), 0);
	free(data);
	digest_free(digest);
}

/* An arena of this many objects and a frame of changes between every ten. */
static void one_new(struct one *one, unsigned num)
{
	uint32_t bad;

	snprintf(one->path, sizeof(one->path), "/tmp/bazil-arena-XXXXXX");
	assert_non_null(mkdtemp(one->path));
	one->dir_fd = open(one->path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(
		arenas_open(&one->arenas, &store_io_file, one->dir_fd, 1u << 30, 0, true, &bad), 0);
	for (unsigned i = 0; i < num; i++) {
		put_object(&one->arenas, i, 100 + i % 50);
		if (i % 10 != 0)
			continue;
		assert_int_equal(arenas_begin(&one->arenas), 0);
		memset(arenas_add(&one->arenas, 72), 7, 72);
		assert_int_equal(arenas_end(&one->arenas, FRAME_PULL_PART, NULL), 0);
	}
	assert_int_equal(arenas_flush(&one->arenas), 0);
}

static void one_seal(struct one *one)
{
	struct arena *arena = &one->arenas.list[0];
	struct sealed_trailer trailer;

	assert_int_equal(sealed_arena_build(&store_io_file, arena->fd, arena->number, arena->id,
				 arena->size, NULL, NULL, &trailer),
		0);
	arena->size = trailer.footer;
	arena->is_sealed = true;
}

static void one_free(struct one *one)
{
	char path[96];

	arenas_release(&one->arenas);
	snprintf(path, sizeof(path), "%s/arena.00000001", one->path);
	unlink(path);
	rmdir(one->path);
	close(one->dir_fd);
}

struct walked {
	uint64_t at;
	unsigned objects, others;
};

static int walked(void *arg, const struct sealed_object *object, uint32_t type, struct place place)
{
	struct walked *w = arg;

	assert_true(place.offset > w->at);
	w->at = place.offset;
	if (object)
		w->objects++;
	else
		w->others++;
	assert_int_equal(object != NULL, type == FRAME_OBJECT);
	return 0;
}

static void check_one(struct one *one, unsigned num)
{
	struct sealed_arena s;
	struct sealed_object object;
	struct walked w = { 0 };
	uint8_t *taken = calloc(1, num + 1);
	struct place place;
	uint8_t id[32];
	uint32_t slot;

	assert_int_equal(arenas_open_sealed(&one->arenas, 1, &s), 0);
	assert_int_equal(s.trailer.num_objects, num);
	assert_int_equal(s.trailer.num_found, num);
	for (unsigned i = 0; i < num; i++) {
		id_of(i, 100 + i % 50, id);
		assert_int_equal(sealed_arena_find(&s, id, &slot, &place), 0);
		assert_int_equal(place.len, 100 + i % 50);
		assert_true(slot < num && !taken[slot]);
		taken[slot] = 1;
		assert_int_equal(sealed_arena_slot(&s, slot, &object), 0);
		assert_memory_equal(object.id, id, 32);
		assert_int_equal(object.tag[0], (uint8_t)i);
		assert_int_equal(object.place.offset, place.offset);
		id[31] ^= 1;
		assert_int_equal(sealed_arena_find(&s, id, &slot, &place), -ENOENT);
	}
	assert_int_equal(sealed_arena_slot(&s, num, &object), -ENOENT);
	assert_int_equal(sealed_arena_walk(&s, walked, &w), 0);
	assert_int_equal(w.objects, num);
	assert_int_equal(w.others, (num + 9) / 10 + 1); /* FRAME_END */
	assert_int_equal(sealed_arena_verify(&s), 0);
	sealed_arena_close(&s);
	free(taken);
}

static void sealed__every_object_is_found_and_no_other(void **state)
{
	static const unsigned nums[] = { 0, 1, 2, 3, 4, 7, 30, 513, 5000 };
	struct one one;

	for (size_t i = 0; i < sizeof(nums) / sizeof(nums[0]); i++) {
		one_new(&one, nums[i]);
		one_seal(&one);
		check_one(&one, nums[i]);
		one_free(&one);
	}
}

static void sealed__an_id_twice_is_the_later_one(void **state)
{
	struct sealed_object object;
	struct sealed_arena s;
	struct place place;
	struct one one;
	uint8_t id[32];
	uint32_t slot;

	one_new(&one, 100);
	put_object(&one.arenas, 5, 105);
	put_object(&one.arenas, 5, 105);
	assert_int_equal(arenas_flush(&one.arenas), 0);
	one_seal(&one);
	assert_int_equal(arenas_open_sealed(&one.arenas, 1, &s), 0);
	assert_int_equal(s.trailer.num_objects, 102);
	assert_int_equal(s.trailer.num_found, 100);
	id_of(5, 105, id);
	assert_int_equal(sealed_arena_find(&s, id, &slot, &place), 0);
	for (uint32_t i = 100; i < 102; i++) {
		assert_int_equal(sealed_arena_slot(&s, i, &object), 0);
		assert_memory_equal(object.id, id, 32);
		assert_true(object.place.offset < place.offset);
	}
	sealed_arena_close(&s);
	one_free(&one);
}

/* A flipped bit anywhere but in sealed bytes and padding is found; in the footer it is never a
 * wrong answer. */
static void sealed__a_flipped_bit_is_found(void **state)
{
	uint64_t seed = rig_seed();
	struct sealed_arena s;
	struct place place;
	struct one one;
	unsigned found = 0;
	uint8_t id[32];
	uint32_t slot;
	int fd, r;

	one_new(&one, 300);
	one_seal(&one);
	fd = one.arenas.list[0].fd;
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	for (int i = 0; i < 3000; i++) {
		uint64_t from = i & 1 ? one.arenas.list[0].size : FRAME_SUPER_SIZE;
		off_t at = (off_t)(from + rig_random(&seed) % ((uint64_t)st.st_size - from));
		uint8_t was, byte;

		assert_int_equal(pread(fd, &was, 1, at), 1);
		byte = was ^ (uint8_t)(1u << rig_random(&seed) % 8);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		r = sealed_arena_open(&s, &store_io_file, fd, 1, one.arenas.list[0].id);
		if (r == 0) {
			uint64_t n = rig_random(&seed) % 300;

			id_of(n, 100 + n % 50, id);
			r = sealed_arena_find(&s, id, &slot, &place);
			if (r == 0)
				assert_int_equal(place.len, 100 + n % 50);
			else
				assert_int_equal(r, -EBADMSG);
			r = sealed_arena_verify(&s);
			sealed_arena_close(&s);
		}
		if (i & 1)
			assert_true(r == -EBADMSG || r == -ENODATA);
		found += r < 0;
		assert_int_equal(pwrite(fd, &was, 1, at), 1);
	}
	assert_true(found > 1500);
	check_one(&one, 300);
	one_free(&one);
}

static void sealed__punched_objects_leave_the_digest_true(void **state)
{
	struct sealed_arena s;
	struct place place;
	struct one one;
	uint8_t id[32], zeros[120] = { 0 };
	uint32_t slot;

	one_new(&one, 300);
	one_seal(&one);
	assert_int_equal(arenas_open_sealed(&one.arenas, 1, &s), 0);
	id_of(20, 120, id);
	assert_int_equal(sealed_arena_find(&s, id, &slot, &place), 0);
	assert_int_equal(pwrite(arenas_fd(&one.arenas, 1), zeros, 120, (off_t)place.offset), 120);
	assert_int_equal(sealed_arena_verify(&s), 0);
	/* More than is allowed: its id. */
	assert_int_equal(
		pwrite(arenas_fd(&one.arenas, 1), zeros, 32, (off_t)place.offset - 64), 32);
	assert_int_equal(sealed_arena_verify(&s), -EBADMSG);
	sealed_arena_close(&s);
	one_free(&one);
}

/* ---- in a store */

#define OBJECTS 90

static uint8_t object[6000], got[6000];

static void object_of(unsigned i)
{
	memset(object, (int)i + 1, sizeof(object));
	memcpy(object, &i, sizeof(i));
}

static void store_fill(struct rig *rig, uint8_t ids[OBJECTS][32])
{
	uint8_t tag[32];
	char name[16];

	rig->options.arena_size = 64 << 10;
	rig_new(rig);
	for (unsigned i = 0; i < OBJECTS; i++) {
		object_of(i);
		memset(tag, (int)i + 1, sizeof(tag));
		assert_int_equal(
			engine_put_object(rig->engine, tag, object, sizeof(object), ids[i]), 0);
		snprintf(name, sizeof(name), "f%u", i);
		rig_file(rig, TREE_ROOT, name, NULL);
	}
	assert_int_equal(engine_checkpoint(rig->engine), 0);
}

static void store_seal(struct rig *rig)
{
	for (size_t i = 0; i < rig->engine->arenas.num; i++)
		assert_int_equal(engine_tick(rig->engine), 0);
	for (size_t i = 0; i + 1 < rig->engine->arenas.num; i++)
		assert_true(rig->engine->arenas.list[i].is_sealed);
}

static void store_reopen(struct rig *rig, bool rebuild)
{
	rig_close(rig);
	rig->options.rebuild = rebuild;
	rig_open(rig);
}

static void check_objects(struct rig *rig, uint8_t ids[OBJECTS][32], bool (*is_gone)(unsigned))
{
	uint8_t tag[32], id[32];
	struct place place;

	for (unsigned i = 0; i < OBJECTS; i++) {
		memset(tag, (int)i + 1, sizeof(tag));
		if (is_gone && is_gone(i)) {
			assert_int_equal(engine_locate(rig->engine, ids[i], &place), -ENOENT);
			assert_int_equal(engine_have(rig->engine, tag, id), -ENOENT);
			continue;
		}
		object_of(i);
		assert_int_equal(engine_locate(rig->engine, ids[i], &place), 0);
		assert_int_equal(engine_read_object(rig->engine, ids[i], place, got), 0);
		assert_memory_equal(got, object, sizeof(object));
		assert_int_equal(engine_have(rig->engine, tag, id), 0);
		assert_memory_equal(id, ids[i], 32);
	}
}

static uint64_t damaged(struct rig *rig)
{
	struct engine_stat stat_now;

	assert_int_equal(engine_stat(rig->engine, &stat_now), 0);
	return stat_now.damaged;
}

/* Counts what is read. */
static uint64_t reads, read_bytes;

static ssize_t counting_pread(void *ctx, int fd, void *data, size_t len, uint64_t offset)
{
	ssize_t n = store_io_file.pread(NULL, fd, data, len, offset);

	reads++;
	read_bytes += n > 0 ? (uint64_t)n : 0;
	return n;
}

static void sealed__a_rebuild_reads_footers_and_gives_the_same(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	struct store_io io = store_io_file;
	uint64_t before, whole;

	io.pread = counting_pread;
	rig.options.io = &io;
	store_fill(&rig, ids);
	before = rig_digest(&rig, true);
	read_bytes = 0;
	store_reopen(&rig, true);
	whole = read_bytes;
	assert_true(rig_digest(&rig, true) == before);
	check_objects(&rig, ids, NULL);
	store_seal(&rig);
	read_bytes = 0;
	store_reopen(&rig, true);
	assert_true(read_bytes < whole / 3);
	assert_true(rig_digest(&rig, true) == before);
	check_objects(&rig, ids, NULL);
	assert_int_equal(damaged(&rig), 0);
	rig_free(&rig);
}

static size_t arenas_open_now(const struct rig *rig)
{
	const struct arenas *a = &rig->engine->arenas;
	size_t num = 0;

	for (size_t i = 0; i < a->num; i++)
		num += a->list[i].fd >= 0;
	assert_int_equal(num, a->num_open);
	return num;
}

static void sealed__more_arenas_than_descriptors(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	uint64_t before;

	rig.options.open_arenas = 3;
	rig.options.threads = true;
	store_fill(&rig, ids);
	assert_true(rig.engine->arenas.num > 5);
	assert_in_range(arenas_open_now(&rig), 1, 4);
	before = rig_digest(&rig, true);
	for (int rebuild = 0; rebuild < 4; rebuild++) {
		store_reopen(&rig, rebuild & 1);
		assert_in_range(arenas_open_now(&rig), 1, 4);
		/* While they are sealed by a thread all can be read. */
		for (int i = 0; i < 20; i++) {
			assert_int_equal(engine_tick(rig.engine), 0);
			check_objects(&rig, ids, NULL);
			assert_in_range(arenas_open_now(&rig), 1, 5);
		}
		assert_true(rig_digest(&rig, true) == before);
	}
	assert_int_equal(damaged(&rig), 0);
	rig_free(&rig);
}

/* Sealing keeps something in memory for each of its frames. */
static void sealed__an_arena_ends_behind_so_many_frames(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };

	rig_new(&rig);
	rig.engine->arenas.frames_max = 20;
	for (unsigned i = 0; i < OBJECTS; i++) {
		uint8_t tag[32];

		object_of(i);
		memset(tag, (int)i + 1, sizeof(tag));
		assert_int_equal(
			engine_put_object(rig.engine, tag, object, sizeof(object), ids[i]), 0);
	}
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	assert_true(rig.engine->arenas.num >= OBJECTS / 20);
	store_seal(&rig);
	for (size_t i = 0; i + 1 < rig.engine->arenas.num; i++) {
		struct sealed_arena sealed;
		uint32_t number = rig.engine->arenas.list[i].number;

		assert_int_equal(arenas_open_sealed(&rig.engine->arenas, number, &sealed), 0);
		/* And its FRAME_END. */
		assert_true(sealed.trailer.num_objects + sealed.trailer.num_others <= 21);
		sealed_arena_close(&sealed);
	}
	store_reopen(&rig, true);
	check_objects(&rig, ids, NULL);
	rig_free(&rig);
}

/* Not by the size of the store: by its arenas two reads each, and by what is behind the commit. */
static void sealed__opening_reads_little(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	struct store_io io = store_io_file;
	uint64_t arenas;

	io.pread = counting_pread;
	rig.options.io = &io;
	store_fill(&rig, ids);
	store_seal(&rig);
	arenas = rig.engine->arenas.num;
	assert_true(arenas > 5);
	reads = read_bytes = 0;
	store_reopen(&rig, false);
	assert_true(reads <= 2 * arenas + 12);
	assert_true(read_bytes < arenas * 300 + 4096);
	rig_file(&rig, TREE_ROOT, "tail", NULL);
	rig_kill(&rig);
	reads = read_bytes = 0;
	rig_open(&rig);
	assert_true(reads <= 2 * arenas + 20);
	rig_free(&rig);
}

static void cut_footers(struct rig *rig, uint64_t (*size_of)(const struct arena *, uint64_t size))
{
	char name[32], path[96];
	struct stat st;

	for (size_t i = 0; i + 1 < rig->engine->arenas.num; i++) {
		const struct arena *arena = &rig->engine->arenas.list[i];

		snprintf(name, sizeof(name), "arena.%08u", arena->number);
		rig_path(rig, name, path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(truncate(path, (off_t)size_of(arena, (uint64_t)st.st_size)), 0);
	}
}

static uint64_t seed_of_cut;

static uint64_t cut_anywhere(const struct arena *arena, uint64_t size)
{
	return arena->size + rig_random(&seed_of_cut) % (size - arena->size);
}

static void sealed__a_torn_footer_is_made_again(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	uint64_t before;

	seed_of_cut = rig_seed();
	store_fill(&rig, ids);
	before = rig_digest(&rig, true);
	for (int i = 0; i < 20; i++) {
		store_seal(&rig);
		cut_footers(&rig, cut_anywhere);
		store_reopen(&rig, i & 1);
		assert_true(rig_digest(&rig, true) == before);
		assert_int_equal(damaged(&rig), 0);
		check_objects(&rig, ids, NULL);
	}
	rig_free(&rig);
}

static bool every_third(unsigned i)
{
	return i % 3 == 0 && i < 60;
}

static void freed_of(struct rig *rig, const uint8_t id[32], struct frame_freed *ret, bool punch)
{
	struct sealed_object found;
	struct sealed_arena s;
	struct place place;
	uint32_t slot;

	assert_int_equal(engine_locate(rig->engine, id, &place), 0);
	assert_int_equal(arenas_open_sealed(&rig->engine->arenas, place.arena, &s), 0);
	assert_int_equal(sealed_arena_find(&s, id, &slot, &place), 0);
	assert_int_equal(sealed_arena_slot(&s, slot, &found), 0);
	sealed_arena_close(&s);
	ret->arena = place.arena;
	ret->len = place.len + FRAME_OBJECT_HEAD;
	ret->offset = place.offset - FRAME_OBJECT_HEAD - FRAME_HEAD_SIZE;
	memcpy(ret->id, found.id, 32);
	memcpy(ret->tag, found.tag, 32);
	if (punch) {
		uint8_t zeros[6000] = { 0 };

		assert_int_equal(pwrite(arenas_fd(&rig->engine->arenas, place.arena), zeros,
					 place.len, (off_t)place.offset),
			place.len);
	}
}

static uint64_t cut_whole(const struct arena *arena, uint64_t size)
{
	return arena->size;
}

static void free_some(struct rig *rig, uint8_t ids[OBJECTS][32], bool named)
{
	struct frame_freed freed[OBJECTS];
	uint32_t num = 0;

	for (unsigned i = 0; i < OBJECTS; i++)
		if (every_third(i))
			freed_of(rig, ids[i], &freed[num++], true);
	if (named)
		assert_int_equal(object_free(rig->engine, freed, num), 0);
	assert_int_equal(engine_checkpoint(rig->engine), 0);
}

static void sealed__named_holes_are_no_damage(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	uint64_t before, bytes;

	store_fill(&rig, ids);
	store_seal(&rig);
	before = rig_digest(&rig, true);
	free_some(&rig, ids, true);
	bytes = rig.engine->object_bytes;
	assert_int_equal(bytes, (OBJECTS - 20) * 6000);
	for (int i = 0; i < 4; i++) {
		check_objects(&rig, ids, every_third);
		/* By the footers, and without them. */
		if (i & 1)
			cut_footers(&rig, cut_whole);
		store_reopen(&rig, true);
		assert_true(rig_digest(&rig, true) == before);
		assert_int_equal(damaged(&rig), 0);
		assert_int_equal(rig.engine->object_bytes, bytes);
		store_seal(&rig);
	}
	rig_free(&rig);
}

static void sealed__other_holes_are_damage(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };

	store_fill(&rig, ids);
	store_seal(&rig);
	free_some(&rig, ids, false);
	cut_footers(&rig, cut_whole);
	store_reopen(&rig, true);
	assert_int_equal(damaged(&rig), 20);
	rig_free(&rig);
}

static void census_of(struct rig *rig, struct census *ret)
{
	int r;

	assert_int_equal(census_begin(rig->engine, ret), 0);
	do
		r = census_step(rig->engine, ret, 7);
	while (r == 1);
	assert_int_equal(r, 0);
}

static void sealed__a_census_counts_every_object_once(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct census census;
	struct rig rig = { 0 };
	uint64_t live = 0, objects = 0, dead = 0;

	store_fill(&rig, ids);
	store_seal(&rig);
	free_some(&rig, ids, true);
	census_of(&rig, &census);
	assert_int_equal(census.num, rig.engine->arenas.num);
	for (size_t i = 0; i < census.num; i++) {
		const struct census_arena *a = &census.arenas[i];

		assert_true(a->is_sealed == (i + 1 < census.num));
		assert_int_equal(a->live, a->objects * 6000);
		objects += a->objects;
		live += a->live;
		dead += a->dead;
	}
	assert_int_equal(objects, OBJECTS - 20);
	assert_int_equal(live, rig.engine->object_bytes);
	assert_int_equal(dead, 20 * 6000);
	census_release(&census);
	rig_free(&rig);
}

static void sealed__known_damage_is_listed(void **state)
{
	static const uint8_t rubbish[64] = { 1, 2, 3 };
	static uint8_t ids[OBJECTS][32];
	struct census_range ranges[4];
	struct rig rig = { 0 };
	struct place place;

	store_fill(&rig, ids);
	store_seal(&rig);
	assert_int_equal(census_damage(rig.engine, ranges, 4), 0);
	assert_int_equal(engine_locate(rig.engine, ids[3], &place), 0);
	assert_int_equal(pwrite(arenas_fd(&rig.engine->arenas, place.arena), rubbish, 64,
				 (off_t)place.offset - 64 - FRAME_HEAD_SIZE),
		64);
	cut_footers(&rig, cut_whole);
	store_reopen(&rig, true);
	assert_int_equal(census_damage(rig.engine, ranges, 4), 1);
	assert_int_equal(ranges[0].arena, place.arena);
	assert_true(ranges[0].from < place.offset && ranges[0].to > ranges[0].from);
	/* The footer that is made next says it for ever. */
	store_seal(&rig);
	store_reopen(&rig, false);
	assert_int_equal(rig.engine->num_ranges, 0);
	assert_int_equal(census_damage(rig.engine, ranges, 4), 1);
	assert_int_equal(ranges[0].arena, place.arena);
	assert_int_equal(census_damage(rig.engine, ranges, 0), 0);
	rig_free(&rig);
}

static uint64_t told, told_total;

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
	told++;
	told_total = total;
	assert_true(done <= total);
}

static void sealed__a_rebuild_that_was_asked_for_is_told(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	char path[96];

	store_fill(&rig, ids);
	rig.options.progress = on_progress;
	store_reopen(&rig, true);
	assert_true(told > 0 && told_total > 0);
	assert_true(rig.engine->was_rebuilt);
	rig_path(&rig, "rebuild", path);
	assert_int_equal(access(path, F_OK), -1);
	check_objects(&rig, ids, NULL);
	store_reopen(&rig, false);
	assert_false(rig.engine->was_rebuilt);
	rig_free(&rig);
}

/* What compaction does: copies, gives the old places up, drops the arena. */
static void sealed__a_moved_object_outlives_its_arena(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct frame_freed freed[OBJECTS];
	struct sealed_object found;
	struct rig rig = { 0 };
	struct sealed_arena s;
	uint32_t num = 0;
	uint64_t before;

	store_fill(&rig, ids);
	store_seal(&rig);
	before = rig_digest(&rig, true);
	assert_int_equal(arenas_open_sealed(&rig.engine->arenas, 3, &s), 0);
	for (uint32_t i = 0; i < s.trailer.num_found; i++) {
		assert_int_equal(sealed_arena_slot(&s, i, &found), 0);
		freed_of(&rig, found.id, &freed[num++], false);
		assert_int_equal(engine_read_object(rig.engine, found.id, found.place, got), 0);
		assert_int_equal(object_move(rig.engine, &found, got), 0);
	}
	sealed_arena_close(&s);
	assert_int_equal(object_free(rig.engine, freed, num), 0);
	assert_int_equal(engine_checkpoint(rig.engine), 0);
	check_objects(&rig, ids, NULL);
	store_reopen(&rig, true);
	check_objects(&rig, ids, NULL);
	assert_int_equal(arenas_unlink(&rig.engine->arenas,
				 rig.engine->arenas.list[rig.engine->arenas.num - 1].number),
		-EBUSY);
	assert_int_equal(arenas_unlink(&rig.engine->arenas, 99), -ENOENT);
	assert_int_equal(arenas_unlink(&rig.engine->arenas, 3), 0);
	check_objects(&rig, ids, NULL);
	assert_true(rig_digest(&rig, true) == before);
	store_reopen(&rig, false);
	check_objects(&rig, ids, NULL);
	rig_free(&rig);
}

static void sealed__a_thread_seals_while_serving_goes_on(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct rig rig = { 0 };
	size_t i, num = 0;

	rig.options.threads = true;
	store_fill(&rig, ids);
	for (int tries = 0; tries < 2000 && num + 1 < rig.engine->arenas.num; tries++) {
		assert_int_equal(engine_tick(rig.engine), 0);
		for (i = num = 0; i < rig.engine->arenas.num; i++)
			num += rig.engine->arenas.list[i].is_sealed;
		usleep(1000);
	}
	assert_int_equal(num + 1, rig.engine->arenas.num);
	store_reopen(&rig, true);
	check_objects(&rig, ids, NULL);
	rig_free(&rig);
}

/* ---- a full disk */

static bool is_full;
static uint64_t later;

static ssize_t full_pwrite(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
	/* A footer begins behind the arena's end, which is above 64 KiB. */
	if (is_full && offset >= 64 << 10) {
		store_io_file.pwrite(NULL, fd, data, len / 2, offset);
		return -ENOSPC;
	}
	return store_io_file.pwrite(NULL, fd, data, len, offset);
}

static uint64_t later_now(void *ctx)
{
	return store_io_file.now(NULL) + later;
}

static void sealed__a_full_disk_leaves_it_for_later(void **state)
{
	static uint8_t ids[OBJECTS][32];
	struct store_io io = store_io_file;
	struct rig rig = { 0 };
	uint64_t before;

	io.pwrite = full_pwrite;
	io.now = later_now;
	rig.options.io = &io;
	is_full = false;
	later = 0;
	store_fill(&rig, ids);
	before = rig_digest(&rig, true);
	is_full = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(engine_tick(rig.engine), 0);
	for (size_t i = 0; i + 1 < rig.engine->arenas.num; i++)
		assert_false(rig.engine->arenas.list[i].is_sealed);
	/* Half a footer is no damage. */
	rig_kill(&rig);
	rig_open(&rig);
	assert_true(rig_digest(&rig, true) == before);
	assert_int_equal(damaged(&rig), 0);
	check_objects(&rig, ids, NULL);
	assert_int_equal(engine_tick(rig.engine), 0);
	is_full = false;
	later = UINT64_C(61000000000);
	store_seal(&rig);
	store_reopen(&rig, true);
	check_objects(&rig, ids, NULL);
	assert_int_equal(damaged(&rig), 0);
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealed__every_object_is_found_and_no_other),
		cmocka_unit_test(sealed__an_id_twice_is_the_later_one),
		cmocka_unit_test(sealed__a_flipped_bit_is_found),
		cmocka_unit_test(sealed__punched_objects_leave_the_digest_true),
		cmocka_unit_test(sealed__a_rebuild_reads_footers_and_gives_the_same),
		cmocka_unit_test(sealed__opening_reads_little),
		cmocka_unit_test(sealed__a_torn_footer_is_made_again),
		cmocka_unit_test(sealed__named_holes_are_no_damage),
		cmocka_unit_test(sealed__other_holes_are_damage),
		cmocka_unit_test(sealed__a_census_counts_every_object_once),
		cmocka_unit_test(sealed__known_damage_is_listed),
		cmocka_unit_test(sealed__a_rebuild_that_was_asked_for_is_told),
		cmocka_unit_test(sealed__a_moved_object_outlives_its_arena),
		cmocka_unit_test(sealed__a_thread_seals_while_serving_goes_on),
		cmocka_unit_test(sealed__more_arenas_than_descriptors),
		cmocka_unit_test(sealed__an_arena_ends_behind_so_many_frames),
		cmocka_unit_test(sealed__a_full_disk_leaves_it_for_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
