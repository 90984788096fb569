#include "sample.h"

#include "stored/base.h"
#include "stored/gc.h"
#include "stored/settings.h"
#include "stored/snapshot.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define FRIEND "f1e2d3c4b5a69788f1e2d3c4b5a69788f1e2d3c4b5a69788f1e2d3c4b5a69788"
#define GONE   10

static struct entry entry;
static uint8_t bytes[20000], got[20000];

static size_t object_of(unsigned i)
{
	size_t len = 500 + i * 300;

	for (size_t k = 0; k < len; k++)
		bytes[k] = (uint8_t)(k / 64 * 7 + i);
	return len;
}

/* A file with an object. */
static uint64_t put_file(struct rig *rig, uint64_t dir, unsigned i)
{
	struct tree_record rec = { .e.key.kind = TREE_BODY };
	uint8_t tag[32], id[32], sealed[100];
	size_t len = object_of(i);
	char name[16];

	memset(tag, (int)i + 1, sizeof(tag));
	must(engine_put_object(rig->engine, tag, bytes, len, id) == 0);
	snprintf(name, sizeof(name), "f%u", i);
	rec.e.key.id = rig_file(rig, dir, name, NULL);
	memcpy(rec.e.vtag, id, sizeof(rec.e.vtag));
	memset(sealed, (int)i, sizeof(sealed));
	rec.num_refs = 1;
	rec.refs = id;
	rec.sealed = sealed;
	rec.sealed_len = sizeof(sealed);
	entry_start(&entry, 0);
	entry_put(&entry, &rec);
	must(rig_apply(rig, &entry) == 0);
	return rec.e.key.id;
}

/* A run of objects that nothing refers to, each smaller than a block. */
static void put_dead(struct rig *rig, unsigned i)
{
	size_t len = object_of(5);
	uint8_t id[32];

	for (unsigned k = 0; k < 10; k++) {
		bytes[0] = (uint8_t)i;
		bytes[1] = (uint8_t)k;
		must(engine_put_object(rig->engine, NULL, bytes, len, id) == 0);
	}
}

static void put_files(struct rig *rig, uint64_t files[SAMPLE_OBJECTS])
{
	uint64_t dirs[4] = { TREE_ROOT };

	dirs[1] = rig_dir(rig, TREE_ROOT, "a");
	dirs[2] = rig_dir(rig, TREE_ROOT, "b");
	dirs[3] = rig_dir(rig, dirs[2], "c");
	for (unsigned i = 0; i < SAMPLE_OBJECTS; i++) {
		files[i] = put_file(rig, dirs[i % 4], i);
		if (i % 10 == 9)
			put_dead(rig, i);
	}
	entry_start(&entry, 0);
	put_xattr(&entry, files[0], "far", 7, 3000);
	must(rig_apply(rig, &entry) == 0);
}

/* Files that only the past has. */
static void put_snapshot(struct rig *rig, uint64_t *ret_time)
{
	uint64_t oids[GONE], lids[GONE];
	uint8_t tag[16] = { 1 };
	char name[16];

	for (unsigned i = 0; i < GONE; i++) {
		snprintf(name, sizeof(name), "g%u", i);
		oids[i] = rig_file(rig, TREE_ROOT, name, &lids[i]);
	}
	must(snapshot_create(rig->engine, rig->vol, tag, tag, sizeof(tag), ret_time) == 0);
	for (unsigned i = 0; i < GONE; i++)
		rig_unlink(rig, lids[i], oids[i], i % 2);
}

/* Returns how many arenas have gaps by it. */
static uint64_t collect(struct rig *rig)
{
	const struct gc_options options = { .is_final = true, .roll = 1 };
	uint64_t compacted;
	int r;

	must(engine_flush(rig->engine) == 0);
	must(gc_begin(rig->engine, &options) == 0);
	while ((r = gc_step(rig->engine)) > 0)
		;
	must(r == 0);
	compacted = gc_report(rig->engine)->compacted;
	gc_end(rig->engine);
	for (int i = 0; i < 20; i++)
		must(engine_tick(rig->engine) == 0);
	return compacted;
}

static void touch(struct rig *rig, const uint64_t files[SAMPLE_OBJECTS], unsigned value)
{
	for (unsigned i = 0; i < SAMPLE_OBJECTS; i++) {
		entry_start(&entry, 0);
		put_attr(&entry, files[i], false, value * 1000 + i);
		must(rig_apply(rig, &entry) == 0);
	}
}

static void check_made(struct rig *rig)
{
	struct engine_stat stat;
	struct base_list list;

	must(engine_stat(rig->engine, &stat) == 0 && stat.objects == SAMPLE_OBJECTS);
	must(base_list(rig->engine, &list) == 0 && list.num == BASE_KEPT);
}

static uint64_t then_of(struct rig *rig, uint64_t at)
{
	uint64_t sum;

	rig->at = at;
	sum = rig_digest(rig, true);
	rig->at = 0;
	return sum;
}

void sample_make(struct rig *rig, struct sample *ret)
{
	uint64_t files[SAMPLE_OBJECTS], compacted = 0;

	rig->options.arena_size = 128 << 10;
	rig->options.map_size = 64u << 20;
	rig->options.base_size = 1;
	rig->options.base_percent = 1;
	rig_new(rig);
	must(settings_peer_add(rig->engine, FRIEND, "friend") == 0);
	put_files(rig, files);
	put_snapshot(rig, &ret->at);
	for (unsigned i = 0; i < 4; i++) {
		touch(rig, files, i);
		compacted += collect(rig);
	}
	must(compacted > 0);
	check_made(rig);
	must(engine_checkpoint(rig->engine) == 0);
	rig_file(rig, rig_dir(rig, TREE_ROOT, "tail"), "t", NULL);
	ret->now = rig_digest(rig, true);
	ret->then = then_of(rig, ret->at);
	rig_kill(rig);
}

static void check_object(struct rig *rig, unsigned i)
{
	uint8_t tag[32], id[32];
	struct place place;
	size_t len = object_of(i);

	memset(tag, (int)i + 1, sizeof(tag));
	must(engine_have(rig->engine, tag, id) == 0);
	must(engine_locate(rig->engine, id, &place) == 0);
	must(place.len == len);
	must(engine_read_object(rig->engine, id, place, got) == 0);
	must(memcmp(got, bytes, len) == 0);
}

void sample_check(struct rig *rig, const struct sample *sample)
{
	struct engine_stat stat;

	must(engine_stat(rig->engine, &stat) == 0 && stat.damaged == 0);
	must(rig_digest(rig, true) == sample->now);
	must(sample->at == 0 || then_of(rig, sample->at) == sample->then);
	for (unsigned i = 0; i < SAMPLE_OBJECTS; i++)
		check_object(rig, i);
}
