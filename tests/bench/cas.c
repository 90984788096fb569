/*
 * How fast each step between a written byte and a sealed one is, on one core.
 * Usage: bench_cas [FILE]   FILE: contents to work on (64 MiB of it at most), else made-up text.
 */
#include "cas/chunker.h"
#include "cas/metaseal.h"
#include "cas/object.h"
#include "cas/suite.h"
#include "cas/tree.h"
#include "cas/zstd.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DATA_MAX (64u << 20)

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void report(const char *what, size_t bytes, uint64_t start)
{
	double s = (double)(now_ns() - start) / 1e9;

	printf("%-44s %9.0f MB/s\n", what, (double)bytes / 1e6 / s);
}

static void report_ops(const char *what, size_t num, uint64_t start)
{
	printf("%-44s %9.0f ns\n", what, (double)(now_ns() - start) / (double)num);
}

static size_t make_data(const char *path, uint8_t *data)
{
	static const char *const words[] = { "the ", "store ", "peer ", "chunk ", "of ", "a ",
		"volume ", "is ", "and ", "sealed ", "return ", "0;\n", "if (", ") {\n", "name ",
		"00" };
	uint64_t x = 88172645463325252u;
	size_t n = 0;

	if (path) {
		FILE *f = fopen(path, "rb");

		if (!f) {
			perror(path);
			exit(1);
		}
		n = fread(data, 1, DATA_MAX, f);
		fclose(f);
		return n;
	}
	while (n + 16 < DATA_MAX) {
		const char *w;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		w = words[x % 16];
		memcpy(data + n, w, strlen(w));
		n += strlen(w);
	}
	return n;
}

struct piece {
	size_t off, len;
};

static size_t cut_all(
	const struct cas_chunker *chunker, const uint8_t *data, size_t len, struct piece *pieces)
{
	size_t num = 0;

	for (size_t off = 0; off < len;) {
		size_t n = cas_chunker_cut(chunker, data + off, len - off, true);

		pieces[num++] = (struct piece){ off, n };
		off += n;
	}
	return num;
}

static void bench_level(struct cas_suite *suite, const char *kind, int level, const uint8_t *data,
	size_t len, const struct piece *pieces, size_t num)
{
	static uint8_t buf[CAS_OBJECT_MAX];
	uint64_t start = now_ns();
	size_t sealed = 0;
	char what[80];

	for (size_t i = 0; i < num; i++) {
		size_t n;

		if (cas_chunk_prepare(suite, level, data + pieces[i].off, pieces[i].len, buf,
			    sizeof(buf), &n) < 0)
			exit(1);
		sealed += n;
	}
	snprintf(what, sizeof(what), "prepare, %s, level %d (ratio %.3f)", kind, level,
		(double)sealed / (double)len);
	report(what, len, start);
}

static void bench_seal(struct cas_suite *suite, const char *kind, const uint8_t *data, size_t len,
	const struct piece *pieces, size_t num)
{
	static const uint8_t key[CAS_KEY_SIZE] = { 1 };
	static uint8_t buf[CAS_OBJECT_MAX], plain[CAS_CHUNK_PLAIN_MAX];
	uint64_t sealing = 0, opening = 0, start;
	size_t bytes = 0;

	for (size_t i = 0; i < num; i++) {
		struct cas_hash h = { { 0 } };
		struct cas_id id;
		const void *stored;
		size_t n, m, stored_len;

		if (cas_chunk_prepare(suite, cas_zstd_level(data + pieces[i].off, pieces[i].len),
			    data + pieces[i].off, pieces[i].len, buf, sizeof(buf), &n) < 0)
			exit(1);
		start = now_ns();
		stored = cas_chunk_stored(buf, &stored_len);
		if (!stored) {
			stored = data + pieces[i].off;
			stored_len = pieces[i].len;
		}
		cas_id_of(suite, stored, stored_len, &id);
		memcpy(h.b, id.b, sizeof(h.b));
		cas_chunk_seal(suite, buf, n, key, &h, buf, &id);
		sealing += now_ns() - start;
		start = now_ns();
		if (cas_chunk_open(suite, buf, n, key, &h, plain, sizeof(plain), &m) < 0)
			exit(1);
		opening += now_ns() - start;
		bytes += n;
	}
	printf("seal and id, %-31s %9.0f MB/s of objects, %.0f MB/s of data\n", kind,
		(double)bytes * 1e3 / (double)sealing, (double)len * 1e3 / (double)sealing);
	printf("open, %-38s %9.0f MB/s of objects, %.0f MB/s of data\n", kind,
		(double)bytes * 1e3 / (double)opening, (double)len * 1e3 / (double)opening);
}

static void bench_records(const struct cas_volume_keys *keys)
{
	static const size_t num = 200000;
	uint8_t aad[32] = { 0 }, plain[100] = { 0 }, sealed[140], tag[16];
	uint64_t start = now_ns();

	for (size_t i = 0; i < num; i++) {
		plain[0]++;
		cas_meta_seal(keys, aad, sizeof(aad), plain, sizeof(plain), sealed);
	}
	report_ops("seal a record of 100 bytes", num, start);
	start = now_ns();
	for (size_t i = 0; i < num; i++)
		if (cas_meta_open(keys, aad, sizeof(aad), sealed, sizeof(sealed), plain) < 0)
			exit(1);
	report_ops("open it", num, start);
	start = now_ns();
	for (size_t i = 0; i < num; i++)
		cas_name_tag(keys, i, "some-file-name.txt", 18, tag);
	report_ops("name tag", num, start);
}

static int no_load(void *ctx, const struct cas_id *id, uint8_t *buf, size_t *ret_len)
{
	return -EIO;
}

static int count_emit(void *ctx, const uint8_t *node, size_t len, struct cas_id *ret_id)
{
	*ret_id = (struct cas_id){ { 1 } };
	*(size_t *)ctx += len;
	return 0;
}

static void bench_tree(void)
{
	static const struct cas_tree_ops ops = { no_load, count_emit };
	static const size_t num = 1000000;
	struct cas_extent e = { .len = 65536, .chunk_len = 65536 };
	struct cas_tree_root root;
	struct cas_tree *tree;
	uint64_t start = now_ns(), at, x = 1;
	size_t bytes = 0;

	if (cas_tree_open(&tree, NULL, &ops, &bytes) < 0)
		exit(1);
	for (size_t i = 0; i < num; i++) {
		memcpy(e.id.b, &(uint64_t){ i + 1 }, 8);
		if (cas_tree_replace(tree, i * 65536, 65536, &e, 1) < 0)
			exit(1);
	}
	report_ops("tree: append, a million extents", num, start);
	start = now_ns();
	for (size_t i = 0; i < num; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		if (cas_tree_find(tree, (x >> 20) % (num * 65536), &e, &at) < 0)
			exit(1);
	}
	report_ops("tree: find at random", num, start);
	start = now_ns();
	for (size_t i = 0; i < num; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		memcpy(e.id.b, &x, 8);
		e = (struct cas_extent){ .len = 4096, .chunk_len = 4096, .id = e.id };
		if (cas_tree_replace(
			    tree, (x >> 20) % (num * 65536 - 4096) & ~4095ull, 4096, &e, 1) < 0)
			exit(1);
	}
	report_ops("tree: replace 4 KiB at random", num, start);
	start = now_ns();
	if (cas_tree_flush(tree, &root) < 0)
		exit(1);
	printf("tree: flush %zu nodes, %zu bytes: %.1f ms\n", cas_tree_num_nodes(tree), bytes,
		(double)(now_ns() - start) / 1e6);
	cas_tree_free(tree);
}

int main(int argc, char **argv)
{
	static const uint8_t secret[CAS_KEY_SIZE] = { 7 }, volume[CAS_VOLUME_SIZE] = { 9 };
	static struct piece pieces[DATA_MAX / 1024];
	struct cas_suite *suite;
	struct cas_sharing_keys sharing;
	struct cas_volume_keys keys;
	struct cas_chunker chunker;
	struct cas_id id;
	uint8_t *data = malloc(DATA_MAX), *noise = malloc(DATA_MAX);
	size_t len, num, num_noise;
	uint64_t start;

	if (sodium_init() < 0 || !data || !noise || !(suite = cas_suite_new()))
		return 1;
	cas_kdf_sharing(secret, &sharing);
	cas_kdf_volume(&sharing, volume, &keys);
	cas_chunker_init(&chunker, keys.chunker, NULL);
	len = make_data(argc > 1 ? argv[1] : NULL, data);
	randombytes_buf_deterministic(noise, DATA_MAX, secret);

	start = now_ns();
	for (size_t off = 0; off + 65536 <= DATA_MAX; off += 65536)
		cas_id_of(suite, noise + off, 65536, &id);
	report("id of 64 KiB", DATA_MAX, start);
	start = now_ns();
	for (size_t i = 0; i < 1000000; i++)
		cas_id_of(suite, noise + i, 64, &id);
	report_ops("id of 64 bytes", 1000000, start);
	start = now_ns();
	num = cut_all(&chunker, data, len, pieces);
	report("chunker, data", len, start);
	printf("%44zu chunks, mean %zu bytes\n", num, len / num);
	for (int level = 0; level <= 5; level++)
		bench_level(suite, "data", level, data, len, pieces, num);
	bench_seal(suite, "data", data, len, pieces, num);
	start = now_ns();
	num_noise = cut_all(&chunker, noise, DATA_MAX, pieces);
	report("chunker, noise", DATA_MAX, start);
	printf("%44zu chunks, mean %zu bytes\n", num_noise, DATA_MAX / num_noise);
	bench_level(suite, "noise", 1, noise, DATA_MAX, pieces, num_noise);
	bench_seal(suite, "noise", noise, DATA_MAX, pieces, num_noise);
	bench_records(&keys);
	bench_tree();
	cas_suite_free(suite);
	free(data);
	free(noise);
	return 0;
}
