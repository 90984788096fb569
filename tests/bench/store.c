/*
 * How much processor time the store engine takes for the metadata and objects of many small files,
 * as when an archive is unpacked: 42,000 files of which two thirds are inline, in groups as they
 * come out of a ring. Prints microseconds of this process for each step.
 *
 * usage: bench_store [FILES [DIR]]
 */
#include "stored/engine.h"
#include "stored/intake.h"
#include "stored/settings.h"
#include "tree/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	uint8_t data[64 << 10];
	size_t len;
} entry;

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench_store: %s: %s\n", what, strerror(-r));
	exit(1);
}

static double cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void start(void)
{
	struct intake_batch head = { .version = INTAKE_VERSION };

	memcpy(entry.data, &head, sizeof(head));
	entry.len = sizeof(head);
}

static void op(enum intake_op_type type, const void *data, size_t len)
{
	struct intake_op o = { .type = (uint8_t)type, .len = (uint32_t)len };
	struct intake_batch head;

	memcpy(entry.data + entry.len, &o, sizeof(o));
	memcpy(entry.data + entry.len + sizeof(o), data, len);
	memset(entry.data + entry.len + sizeof(o) + len, 0, INTAKE_PAD(len) - len);
	entry.len += sizeof(o) + INTAKE_PAD(len);
	memcpy(&head, entry.data, sizeof(head));
	head.num_ops++;
	memcpy(entry.data, &head, sizeof(head));
}

static void put(
	enum tree_kind kind, uint64_t id, uint64_t parent, uint64_t target, size_t sealed_len)
{
	static uint8_t sealed[8192], buf[16384];
	struct tree_record rec = { .e = { .key = { .id = id, .kind = (uint8_t)kind },
					   .stamp = { .replica = 1, .epoch = 1 },
					   .lamport = 1,
					   .parent = parent,
					   .target = target } };

	if (kind == TREE_LINK)
		for (int i = 0; i < 16; i++)
			rec.e.tag[i] = (uint8_t)(id * 0x9e3779b97f4a7c15u >> 4 * i);
	rec.sealed = sealed;
	rec.sealed_len = (uint32_t)sealed_len;
	op(INTAKE_PUT, buf, (size_t)tree_record_emit(&rec, buf, sizeof(buf)));
}

static void put_dir(uint64_t oid, uint64_t parent)
{
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_ATTR },
					   .flags = TREE_DIRECTORY,
					   .stamp = { .replica = 1, .epoch = 1 },
					   .lamport = 1 } };
	uint8_t buf[256];

	op(INTAKE_PUT, buf, (size_t)tree_record_emit(&rec, buf, sizeof(buf)));
	rec.e.key.kind = TREE_LINK;
	rec.e.parent = parent;
	rec.e.target = oid;
	memcpy(rec.e.tag, &oid, sizeof(oid));
	op(INTAKE_PUT, buf, (size_t)tree_record_emit(&rec, buf, sizeof(buf)));
}

static void removal(enum tree_kind kind, uint64_t id)
{
	struct tree_key key = { .id = id, .kind = (uint8_t)kind };
	uint8_t packed[TREE_KEY_SIZE];

	tree_key_pack(&key, packed);
	op(INTAKE_REMOVE, packed, sizeof(packed));
}

struct bench {
	struct engine *engine;
	struct volume *vol;
	uint64_t position;
	size_t grouped;
};

static void apply(struct bench *b)
{
	struct engine_changes changes = { 0 };

	b->position += entry.len;
	must(engine_apply(b->engine, b->vol, entry.data, entry.len, 1, b->position, &changes),
		"applying");
	engine_changes_release(&changes);
	if (++b->grouped % 64 == 0) {
		must(engine_flush(b->engine), "writing");
		must(engine_tick(b->engine), "committing");
	}
}

static void report(const char *what, double since, size_t num)
{
	double took = cpu() - since;

	printf("%-28s %8.3f s  %7.2f us each\n", what, took, took * 1e6 / (double)num);
}

int main(int argc, char **argv)
{
	size_t files = argc > 1 ? strtoul(argv[1], NULL, 0) : 42000, i;
	char path[] = "/tmp/bazil-bench-XXXXXX";
	const char *dir = argc > 2 ? argv[2] : mkdtemp(path);
	struct engine_options options = { .path = dir, .create = true, .threads = true };
	static uint8_t object[64 << 10], records[110000];
	static struct engine_node nodes[1024];
	struct engine_page page = {
		.records = records, .cap = sizeof(records), .nodes = nodes, .max_nodes = 1024
	};
	struct bench b = { 0 };
	uint64_t first, parent = 0;
	uint8_t id[32];
	double t;

	options.dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	must(engine_open(&b.engine, &options), engine_error(NULL));
	must(settings_volume_add(b.engine, "v", NULL, "default", (const uint8_t *)"12345678"),
		engine_error(b.engine));
	b.vol = engine_volume_named(b.engine, "v");
	must(engine_oids(b.engine, b.vol, (uint32_t)(4 * files + 4), &first), "numbers");

	/* Each file: created with an empty body, then its contents: as mountd publishes it. */
	t = cpu();
	for (i = 0; i < files; i++) {
		uint64_t oid = first + 4 * i;

		if (i % 15 == 0) {
			parent = oid + 2;
			start();
			put_dir(parent, TREE_ROOT);
			apply(&b);
		}
		start();
		put(TREE_ATTR, oid, 0, 0, 140);
		put(TREE_LINK, oid + 1, parent, oid, 140);
		apply(&b);
		start();
		put(TREE_ATTR, oid, 0, 0, 140);
		put(TREE_BODY, oid, 0, 0, i % 3 ? 2000 : 140);
		apply(&b);
	}
	must(engine_flush(b.engine), "writing");
	report("create and write", t, files);
	t = cpu();
	must(engine_checkpoint(b.engine), "committing");
	report("checkpoint", t, files);

	t = cpu();
	for (i = 0; i < files / 3; i++) {
		memcpy(object, &i, sizeof(i));
		must(engine_put_object(b.engine, NULL, object, 48 << 10, id), "objects");
		if (i % 64 == 0) {
			must(engine_flush(b.engine), "writing");
			must(engine_tick(b.engine), "committing");
		}
	}
	must(engine_flush(b.engine), "writing");
	report("objects of 48 KiB", t, files / 3);

	t = cpu();
	for (i = 0; i < files; i += 15)
		must(engine_dir(b.engine, b.vol, first + 4 * i + 2, 0, 0, &page), "reading");
	report("list directories", t, files);

	t = cpu();
	for (i = 0; i < files; i++) {
		start();
		removal(TREE_LINK, first + 4 * i + 1);
		removal(TREE_ATTR, first + 4 * i);
		apply(&b);
	}
	must(engine_flush(b.engine), "writing");
	must(engine_checkpoint(b.engine), "committing");
	report("unlink, with commit", t, files);
	must(engine_close(b.engine), "closing");
	if (argc <= 2) {
		static const char *const names[] = { "arena.00000001", "arena.00000002", "index",
			"index-lock", "format", "reserve" };

		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			unlinkat(options.dir_fd, names[i], 0);
		rmdir(path);
	}
	return 0;
}
