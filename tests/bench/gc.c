/*
 * bench_gc DIRECTORY OBJECTS BYTES: garbage collection of that many objects, half of them referred
 * to by records, the rest by nothing. Prints seconds and memory of each of the two collections.
 */
#include "stored/gc.h"
#include "stored/engine.h"
#include "stored/intake.h"
#include "stored/settings.h"
#include "tree/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define REFS 4

static struct engine *engine;

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(1);
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

static void fill(struct volume *vol, uint64_t num, size_t len)
{
	uint8_t *bytes = calloc(1, len), refs[REFS * 32], id[32];
	uint64_t oid = 0, last = 0, n = 0;

	for (uint64_t i = 0; i < num; i++) {
		memcpy(bytes, &i, sizeof(i));
		must(engine_put_object(engine, NULL, bytes, len, id), "an object");
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
		if (i % 4096 == 0)
			must(engine_tick(engine), "tick");
	}
	free(bytes);
}

static void collect(const char *what)
{
	struct gc_options options = { .is_final = true, .roll = 1 };
	const struct gc_report *report;
	double start = seconds(), longest = 0, step;
	struct rusage usage;
	int r;

	must(gc_begin(engine, &options), "gc_begin");
	do {
		step = seconds();
		r = gc_step(engine);
		step = seconds() - step;
		longest = step > longest ? step : longest;
	} while (r > 0);
	must(r, "gc_step");
	report = gc_report(engine);
	getrusage(RUSAGE_SELF, &usage);
	printf("%s: %.2f s, longest step %.1f ms, %llu live, %llu noted, %llu freed, %llu MB given "
	       "back, "
	       "%ld MB resident\n",
		what, seconds() - start, longest * 1e3, (unsigned long long)report->live.objects,
		(unsigned long long)report->noted.objects,
		(unsigned long long)report->freed.objects,
		(unsigned long long)report->punched >> 20, usage.ru_maxrss >> 10);
	gc_end(engine);
}

int main(int argc, char **argv)
{
	struct engine_options options = { .create = true, .reserve_size = UINT64_MAX };
	struct volume *vol;
	double start;

	if (argc != 4) {
		fprintf(stderr, "usage: %s EMPTY-DIRECTORY OBJECTS BYTES\n", argv[0]);
		return 2;
	}
	options.path = argv[1];
	options.dir_fd = open(argv[1], O_RDONLY | O_DIRECTORY);
	must(engine_open(&engine, &options), "engine_open");
	must(settings_volume_add(engine, "v", NULL, "default", (const uint8_t *)"keyid678"),
		"volume");
	vol = engine_volume_named(engine, "v");
	start = seconds();
	fill(vol, strtoull(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
	must(engine_checkpoint(engine), "checkpoint");
	printf("filled in %.1f s\n", seconds() - start);
	collect("first");
	collect("second");
	must(engine_close(engine), "engine_close");
	return 0;
}
