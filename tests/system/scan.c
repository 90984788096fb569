/*
 * Looks for plaintext where none may be.
 *
 * usage: scan [--harmless FILE]... [--tree DIR]... [--secret FILE]... -- TARGET...
 *
 * Needles: every 16-byte run at a 16-byte aligned place of every regular file below the trees (so
 * any leaked run of 31 bytes or more holds one), every file name of at least 8 bytes, and the
 * 16-byte runs of the secrets at every place. Runs of fewer than 6 different bytes tell nothing and
 * are left out, as is what also stands in a harmless file (our programs and libraries). TARGET: a
 * file, a folder, or pid:N for all readable memory of a process. Prints each target that holds a
 * needle, with the needle; exit 1 when there was one, 2 on errors.
 *
 * Runs are kept as 64-bit hashes: with 2^24 needles and 2^32 places the chance of a false alarm is
 * 2^-8.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN	 16
#define NAME_MIN 8
#define BLOCK	 ((size_t)4 << 20)
#define OVERLAP	 512

struct table {
	uint64_t *slots;
	size_t mask, num;
};

struct name {
	struct name *next;
	size_t len;
	char text[];
};

/*
 * Which values the first 8 bytes of a needle have, as bits: nearly every place is passed over by
 * one look into this, which fits a cache where the tables do not.
 */
static uint64_t starts[1 << 20];

static struct table runs;
static struct name *names[1 << 20];
static size_t num_names;

static void *must(void *p)
{
	if (!p) {
		perror("scan");
		exit(2);
	}
	return p;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	x ^= x >> 29;
	x *= 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t x;

	memcpy(&x, p, 8);
	return x;
}

static uint64_t *start_word(const uint8_t *p, uint64_t *ret_bit)
{
	uint64_t hash = load64(p) * 0x9e3779b97f4a7c15u;

	*ret_bit = (uint64_t)1 << (hash >> 58);
	return &starts[(hash >> 38) & ((1 << 20) - 1)];
}

static void add_start(const uint8_t *p)
{
	uint64_t bit, *word = start_word(p, &bit);

	*word |= bit;
}

static bool may_start(const uint8_t *p)
{
	uint64_t bit, *word = start_word(p, &bit);

	return *word & bit;
}

/* Never 0, which marks a free slot. */
static uint64_t run_hash(const uint8_t *p)
{
	return mix(load64(p) + mix(load64(p + 8) + 1)) | 1;
}

static bool telling(const uint8_t *p)
{
	uint64_t seen[4] = { 0 };
	int num = 0;

	for (int i = 0; i < RUN; i++) {
		uint64_t bit = (uint64_t)1 << (p[i] & 63);
		num += !(seen[p[i] >> 6] & bit);
		seen[p[i] >> 6] |= bit;
	}
	return num >= 6;
}

static uint64_t *find(const struct table *t, uint64_t hash)
{
	size_t i = (hash >> 8) & t->mask;

	while (t->slots[i] && t->slots[i] != hash)
		i = (i + 1) & t->mask;
	return &t->slots[i];
}

static void grow(struct table *t)
{
	struct table bigger = { .mask = t->mask ? 2 * t->mask + 1 : (1 << 16) - 1 };

	bigger.slots = must(calloc(bigger.mask + 1, sizeof(*bigger.slots)));
	for (size_t i = 0; t->slots && i <= t->mask; i++)
		if (t->slots[i])
			*find(&bigger, t->slots[i]) = t->slots[i];
	bigger.num = t->num;
	free(t->slots);
	*t = bigger;
}

static void add_run(const uint8_t *p)
{
	uint64_t hash = run_hash(p), *slot;

	if (!telling(p))
		return;
	add_start(p);
	if (2 * (runs.num + 1) > runs.mask)
		grow(&runs);
	slot = find(&runs, hash);
	runs.num += *slot == 0;
	*slot = hash;
}

static struct name **name_list(const uint8_t *p)
{
	return &names[mix(load64(p)) & ((sizeof(names) / sizeof(names[0])) - 1)];
}

static void add_name(const char *text)
{
	size_t len = strlen(text);
	struct name *n, **list;

	if (len < NAME_MIN)
		return;
	list = name_list((const uint8_t *)text);
	for (n = *list; n; n = n->next)
		if (n->len == len && memcmp(n->text, text, len) == 0)
			return;
	add_start((const uint8_t *)text);
	n = must(malloc(sizeof(*n) + len + 1));
	n->len = len;
	memcpy(n->text, text, len + 1);
	n->next = *list;
	*list = n;
	num_names++;
}

typedef bool block_fn(const uint8_t *data, size_t len, const char *what);

/* Calls fn for the whole of a file in overlapping blocks, from offset `at` for `len` bytes. */
static bool read_blocks(int fd, uint64_t at, uint64_t len, block_fn *fn, const char *what)
{
	static uint8_t buf[OVERLAP + BLOCK];
	size_t kept = 0;

	while (len > 0) {
		size_t want = len < BLOCK ? (size_t)len : BLOCK;
		ssize_t n = pread(fd, buf + kept, want, (off_t)at);

		if (n <= 0)
			return true; /* the end, or a hole in the memory of a process */
		if (!fn(buf, kept + (size_t)n, what))
			return false;
		at += (uint64_t)n;
		len -= (uint64_t)n;
		n += (ssize_t)kept;
		kept = n < OVERLAP ? (size_t)n : OVERLAP;
		memmove(buf, buf + n - kept, kept);
	}
	return true;
}

static bool with_file(const char *path, block_fn *fn)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool go_on;

	if (fd < 0)
		return true;
	go_on = read_blocks(fd, 0, UINT64_MAX, fn, path);
	close(fd);
	return go_on;
}

static void walk(const char *dir, bool (*fn)(const char *path, const char *name))
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char path[PATH_MAX];
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (lstat(path, &st) < 0)
			continue;
		if (fn && !fn(path, e->d_name))
			continue;
		if (S_ISDIR(st.st_mode))
			walk(path, fn);
	}
	if (d)
		closedir(d);
}

static bool learn(const char *path, const char *name)
{
	uint8_t run[1 << 16];
	struct stat st;
	ssize_t n;
	int fd;

	add_name(name);
	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, run, sizeof(run))) > 0)
		for (ssize_t i = 0; i + RUN <= n; i += RUN)
			add_run(run + i);
	if (fd >= 0)
		close(fd);
	return true;
}

static bool learn_secret(const uint8_t *data, size_t len, const char *what)
{
	for (size_t i = 0; i + RUN <= len; i++)
		add_run(data + i);
	return true;
}

/* A hash cannot be taken out of an open-addressed table: it is replaced by a value that nothing
 * has. */
static bool unlearn(const uint8_t *data, size_t len, const char *what)
{
	for (size_t i = 0; i + RUN <= len; i++) {
		uint64_t *slot = find(&runs, run_hash(data + i));
		if (*slot)
			*slot = 2;
	}
	for (size_t i = 0; i + NAME_MIN <= len; i++) {
		struct name **n = name_list(data + i);
		while (*n) {
			if ((*n)->len <= len - i && memcmp((*n)->text, data + i, (*n)->len) == 0)
				*n = (*n)->next;
			else
				n = &(*n)->next;
		}
	}
	return true;
}

static bool found;

static void report(const char *what, const char *kind, const uint8_t *p, size_t len)
{
	printf("%s: holds %s '", what, kind);
	for (size_t i = 0; i < len; i++)
		printf(p[i] >= 0x20 && p[i] < 0x7f ? "%c" : "\\x%02x", p[i]);
	printf("'\n");
	found = true;
}

static bool search(const uint8_t *data, size_t len, const char *what)
{
	for (size_t i = 0; i + NAME_MIN <= len; i++) {
		if (!may_start(data + i))
			continue;
		for (const struct name *n = *name_list(data + i); n; n = n->next)
			if (n->len <= len - i && memcmp(n->text, data + i, n->len) == 0) {
				report(what, "the name", data + i, n->len);
				return false;
			}
		if (i + RUN <= len && runs.slots && *find(&runs, run_hash(data + i)) &&
			telling(data + i)) {
			report(what, "the run", data + i, RUN);
			return false;
		}
	}
	return true;
}

static bool search_path(const char *path, const char *name)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
		with_file(path, search);
	return true;
}

/* Mappings beyond 8 GiB are LMDB's sparse map: its file is a target of its own. */
static void search_memory(const char *what, const char *pid)
{
	char path[64], line[PATH_MAX + 200], mode[8];
	uint64_t start, end;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	maps = must(fopen(path, "re"));
	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	if (mem < 0)
		must(NULL);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &start, &end, mode) != 3)
			continue;
		/* Whatever its mode: root reads what the process itself has locked away. */
		if (strstr(line, "[v") || end - start > (uint64_t)8 << 30)
			continue;
		if (!read_blocks(mem, start, end - start, search, what))
			break;
	}
	close(mem);
	fclose(maps);
}

static void search_target(const char *target)
{
	struct stat st;

	if (strncmp(target, "pid:", 4) == 0) {
		search_memory(target, target + 4);
	} else if (lstat(target, &st) < 0) {
		perror(target);
		exit(2);
	} else if (S_ISDIR(st.st_mode)) {
		walk(target, search_path);
	} else {
		with_file(target, search);
	}
}

int main(int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
		if (strcmp(argv[i], "--tree") == 0)
			walk(argv[i + 1], learn);
		else if (strcmp(argv[i], "--secret") == 0)
			with_file(argv[i + 1], learn_secret);
	}
	if (i >= argc || strcmp(argv[i], "--") != 0 || i + 1 == argc) {
		fprintf(stderr,
			"usage: scan [--harmless FILE]... [--tree DIR]... [--secret FILE]... "
			"-- TARGET...\n");
		return 2;
	}
	if (!runs.slots)
		grow(&runs);
	for (int j = 1; j + 1 < i + 1; j += 2)
		if (strcmp(argv[j], "--harmless") == 0)
			with_file(argv[j + 1], unlearn);
	printf("%zu runs, %zu names\n", runs.num, num_names);
	for (i++; i < argc; i++)
		search_target(argv[i]);
	return found;
}
