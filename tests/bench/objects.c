/*
 * bench_objects DIRECTORY OBJECTS: how a store of many small objects behaves. Fills an empty
 * directory with that many objects of 300 bytes, each with a dedup tag; half of them are referred
 * to by records, four by a file. Then prints, one figure a line: filling, sizes, opening, memory,
 * look-ups, reads, a rebuild of the index, and a garbage collection that frees the other half.
 *
 * The page cache is warm: what is measured is work and memory, not the disk.
 */
#include "stored/digest.h"
#include "stored/engine.h"
#include "stored/gc.h"
#include "stored/intake.h"
#include "stored/settings.h"
#include "tree/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REFS	4
#define SEALED	300
#define LOOKUPS 200000u
#define READS	50000u

static struct engine *engine;
static struct engine_options options = { .reserve_size = UINT64_MAX, .threads = true };
static struct digest *digest;

static double seconds_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(void)
{
	return seconds_of(CLOCK_MONOTONIC);
}

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench_objects: %s: %s\n", what, strerror(-r));
	exit(1);
}

static void print(const char *what, double value, const char *unit)
{
	printf("%-28s %14.2f %s\n", what, value, unit);
	fflush(stdout);
}

/* kB of this line of a file of /proc/self. */
static double proc_mib(const char *file, const char *key)
{
	FILE *f = fopen(file, "r");
	unsigned long kb = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			kb = strtoul(line + strlen(key) + 1, NULL, 10);
	if (f)
		fclose(f);
	return (double)kb / 1024;
}

static void memory_start(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);

	/* What earlier steps left is not of this one. */
	malloc_trim(0);
	if (fd >= 0 && write(fd, "5", 1) == 1)
		close(fd);
}

static void memory(const char *what)
{
	char name[64];

	snprintf(name, sizeof(name), "%s, peak resident", what);
	print(name, proc_mib("/proc/self/status", "VmHWM:"), "MiB");
	snprintf(name, sizeof(name), "%s, anonymous", what);
	print(name, proc_mib("/proc/self/smaps_rollup", "Anonymous:"), "MiB");
}

static void sizes(void)
{
	double arenas = 0, index = 0;
	DIR *d = fdopendir(dup(options.dir_fd));
	struct dirent *e;
	struct stat st;

	must(d ? 0 : -1, "the directory");
	rewinddir(d);
	while ((e = readdir(d)) != NULL) {
		if (fstatat(options.dir_fd, e->d_name, &st, 0) < 0)
			continue;
		if (strncmp(e->d_name, "arena.", 6) == 0)
			arenas += (double)st.st_blocks * 512;
		if (strcmp(e->d_name, "index") == 0)
			index = (double)st.st_blocks * 512;
	}
	closedir(d);
	print("arenas", arenas / 1048576, "MiB");
	print("index", index / 1048576, "MiB");
}

/* ---- filling */

static void object_of(uint64_t i, uint8_t *ret)
{
	memset(ret, (int)i, SEALED);
	memcpy(ret, &i, sizeof(i));
}

static void id_of(uint64_t i, uint8_t ret[32])
{
	uint8_t bytes[SEALED];

	object_of(i, bytes);
	must(digest_of(digest, bytes, sizeof(bytes), ret), "hashing");
}

static size_t op_put(uint8_t *entry, size_t at, const struct tree_record *rec)
{
	struct intake_op op = { .type = INTAKE_PUT };
	int n = tree_record_emit(rec, entry + at + sizeof(op), 8192);

	must(n, "a record");
	op.len = (uint32_t)n;
	memcpy(entry + at, &op, sizeof(op));
	memset(entry + at + sizeof(op) + n, 0, 8);
	return at + sizeof(op) + INTAKE_PAD(op.len);
}

/* A file with these objects; oid and the next number are its and its link's. */
static void put_file(struct volume *vol, uint64_t oid, const uint8_t *refs, uint64_t position)
{
	static uint8_t entry[65536], sealed[64];
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_BODY },
					   .stamp = { .replica = 1, .epoch = 1 },
					   .lamport = 1 },
		.num_refs = REFS,
		.refs = refs,
		.sealed = sealed,
		.sealed_len = sizeof(sealed) };
	struct intake_batch head = { .version = INTAKE_VERSION, .num_ops = 3 };
	struct engine_changes changes = { 0 };
	size_t len = sizeof(head);

	memcpy(entry, &head, sizeof(head));
	len = op_put(entry, len, &rec);
	rec.num_refs = 0;
	rec.e.key.kind = TREE_ATTR;
	len = op_put(entry, len, &rec);
	rec.e.key = (struct tree_key){ .id = oid + 1, .kind = TREE_LINK };
	rec.e.parent = TREE_ROOT;
	rec.e.target = oid;
	memcpy(rec.e.tag, &oid, sizeof(oid));
	len = op_put(entry, len, &rec);
	must(engine_apply(engine, vol, entry, len, 1, position, &changes), "a batch");
	engine_changes_release(&changes);
}

static void fill(struct volume *vol, uint64_t num)
{
	uint8_t bytes[SEALED], refs[REFS * 32], id[32], tag[32];
	uint64_t oid = 0, last = 0, n = 0;
	double start = seconds(), part = start, longest = 0, step;

	for (uint64_t i = 0; i < num; i++) {
		object_of(i, bytes);
		must(digest_of(digest, &i, sizeof(i), tag), "hashing");
		must(engine_put_object(engine, tag, bytes, sizeof(bytes), id), "an object");
		if (i % 2 == 0)
			memcpy(refs + 32 * (n++ % REFS), id, 32);
		if (i % 2 == 0 && n % REFS == 0) {
			if (oid == last) {
				must(engine_oids(engine, vol, 1024, &oid), "numbers");
				last = oid + 1024;
			}
			put_file(vol, oid, refs, n * 4096);
			oid += 2;
		}
		if (i % 64 == 0)
			must(engine_flush(engine), "flush");
		step = seconds();
		if (i % 512 == 0)
			must(engine_tick(engine), "tick");
		step = seconds() - step;
		longest = step > longest ? step : longest;
		if ((i + 1) % (num / 10) == 0) {
			printf("  filled %" PRIu64 ": %.1f s\n", i + 1, seconds() - part);
			fflush(stdout);
			part = seconds();
		}
	}
	must(engine_checkpoint(engine), "checkpoint");
	print("fill", (double)num / (seconds() - start), "objects/s");
	print("fill, longest tick", longest * 1e3, "ms");
	memory("fill");
}

/* ---- using */

static void open_it(const char *what)
{
	double start = seconds();

	memory_start();
	must(engine_open(&engine, &options), engine_error(NULL));
	print(what, seconds() - start, "s");
	memory(what);
}

static void close_it(void)
{
	double start = seconds();

	must(engine_close(engine), "closing");
	print("close", seconds() - start, "s");
}

static void lookups(uint64_t first, uint64_t num, const char *what, int expect)
{
	uint8_t(*ids)[32] = calloc(LOOKUPS, sizeof(*ids));
	uint64_t x = 88172645463325252u;
	struct place place;
	double start;

	for (uint32_t i = 0; i < LOOKUPS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		id_of(first + x % num, ids[i]);
	}
	start = seconds();
	for (uint32_t i = 0; i < LOOKUPS; i++)
		must(engine_locate(engine, ids[i], &place) == expect ? 0 : -EINVAL, what);
	print(what, LOOKUPS / (seconds() - start), "/s");
	if (expect == 0) {
		uint8_t buf[4096];

		start = seconds();
		for (uint32_t i = 0; i < READS; i++) {
			must(engine_locate(engine, ids[i], &place), what);
			must(engine_read_object(engine, ids[i], place, buf), "reading");
		}
		print("locate, read and verify", READS / (seconds() - start), "/s");
	}
	free(ids);
}

static void collect(const char *what)
{
	struct gc_options gc_options = { .is_final = true, .roll = 1, .is_single = true };
	const struct gc_report *report;
	double start = seconds(), longest = 0, step, work = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
	char name[64];
	int r;

	memory_start();
	must(gc_begin(engine, &gc_options), "gc_begin");
	do {
		step = seconds();
		r = gc_step(engine);
		step = seconds() - step;
		longest = step > longest ? step : longest;
	} while (r > 0);
	must(r, "gc_step");
	report = gc_report(engine);
	print(what, seconds() - start, "s");
	snprintf(name, sizeof(name), "%s, processor time", what);
	print(name, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - work, "s");
	snprintf(name, sizeof(name), "%s, longest step", what);
	print(name, longest * 1e3, "ms");
	memory(what);
	print("  live", (double)report->live.objects, "objects");
	print("  freed", (double)report->freed.objects, "objects");
	print("  freed", (double)report->freed.bytes / 1048576, "MiB");
	print("  given back", (double)report->punched / 1048576, "MiB");
	gc_end(engine);
}

int main(int argc, char **argv)
{
	uint64_t num = argc == 3 ? strtoull(argv[2], NULL, 0) : 0;
	double start;

	if (num < 10) {
		fprintf(stderr, "usage: %s EMPTY-DIRECTORY OBJECTS\n", argv[0]);
		return 2;
	}
	digest = digest_new();
	options.path = argv[1];
	options.dir_fd = open(argv[1], O_RDONLY | O_DIRECTORY);
	options.create = true;
	must(engine_open(&engine, &options), engine_error(NULL));
	options.create = false;
	must(settings_volume_add(engine, "v", NULL, "default", (const uint8_t *)"keyid678"),
		"volume");
	memory_start();
	fill(engine_volume_named(engine, "v"), num);
	close_it();
	sizes();
	open_it("open");
	lookups(0, num, "locate, here", 0);
	lookups(num, num, "locate, absent", -ENOENT);
	memory("look-ups");
	engine_abandon(engine);
	open_it("open after a kill");
	close_it();
	options.rebuild = true;
	open_it("rebuild");
	options.rebuild = false;
	sizes();
	close_it();
	/* LMDB keeps the memory of its largest transaction. */
	open_it("open before gc");
	collect("gc");
	start = seconds();
	must(engine_checkpoint(engine), "checkpoint");
	print("checkpoint after gc", seconds() - start, "s");
	close_it();
	open_it("open after gc");
	sizes();
	close_it();
	return 0;
}
