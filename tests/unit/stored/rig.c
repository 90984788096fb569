#include "rig.h"

#include "stored/settings.h"
#include "tree/knowledge.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

uint64_t rig_seed(void)
{
	const char *text = getenv("BAZIL_SEED");
	uint64_t seed = 0;

	if (text)
		seed = strtoull(text, NULL, 0);
	else
		must(getrandom(&seed, sizeof(seed), 0) == sizeof(seed));
	seed |= 1;
	printf("BAZIL_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

uint64_t rig_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed * UINT64_C(0x2545f4914f6cdd1d);
}

static void rig_log(void *arg, int level, const char *text)
{
	if (getenv("BAZIL_VERBOSE"))
		fprintf(stderr, "<%d> %s\n", level, text);
}

int rig_try_open(struct rig *rig)
{
	int r;

	rig->options.dir_fd = rig->dir_fd;
	rig->options.path = rig->path;
	rig->options.log = rig_log;
	r = engine_open(&rig->engine, &rig->options);
	rig->options.create = rig->options.rebuild = false;
	rig->vol = NULL;
	if (r < 0) {
		rig->engine = NULL;
		return r;
	}
	rig->vol = engine_volume_named(rig->engine, "v");
	if (rig->vol) {
		struct volume_info info;

		volume_info(rig->vol, &info);
		rig->replica = info.replica;
		rig->position = engine_taken(rig->vol, 7);
		rig->next_id = rig->last_id = 0;
	}
	return 0;
}

void rig_open(struct rig *rig)
{
	int r = rig_try_open(rig);

	if (r < 0)
		fprintf(stderr, "open: %s (%s)\n", strerror(-r), engine_error(NULL));
	must(r == 0);
}

void rig_new(struct rig *rig)
{
	uint64_t reserve = rig->options.reserve_size;

	/* Thousands of fdatasyncs: in memory where there is such a place. */
	snprintf(rig->path, sizeof(rig->path), "%s/bazil-store-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	must(mkdtemp(rig->path));
	rig->dir_fd = open(rig->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(rig->dir_fd >= 0);
	rig->options.create = true;
	rig->options.reserve_size = reserve ? reserve : UINT64_MAX;
	if (rig->options.map_size == 0)
		rig->options.map_size = 256u << 20;
	rig_open(rig);
	must(settings_volume_add(rig->engine, "v", NULL, "default", (const uint8_t *)"keyid678") ==
		0);
	rig->vol = engine_volume_named(rig->engine, "v");
	must(rig->vol);
	struct volume_info info;
	volume_info(rig->vol, &info);
	rig->replica = info.replica;
}

void rig_close(struct rig *rig)
{
	must(engine_close(rig->engine) == 0);
	rig->engine = NULL;
}

void rig_kill(struct rig *rig)
{
	engine_abandon(rig->engine);
	rig->engine = NULL;
}

void rig_path(const struct rig *rig, const char *name, char ret[96])
{
	snprintf(ret, 96, "%s/%s", rig->path, name);
}

void rig_free(struct rig *rig)
{
	struct dirent *entry;
	DIR *dir;

	if (rig->engine)
		engine_abandon(rig->engine);
	dir = opendir(rig->path);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(rig->path);
	close(rig->dir_fd);
	engine_changes_release(&rig->changes);
	memset(rig, 0, sizeof(*rig));
}

uint64_t rig_id(struct rig *rig)
{
	if (rig->next_id == rig->last_id) {
		must(engine_oids(rig->engine, rig->vol, 256, &rig->next_id) == 0);
		rig->last_id = rig->next_id + 256;
	}
	return rig->next_id++;
}

void entry_start(struct entry *entry, uint64_t view)
{
	struct intake_batch head = { .version = INTAKE_VERSION, .view = view };

	memcpy(entry->data, &head, sizeof(head));
	entry->len = sizeof(head);
}

static void entry_op(struct entry *entry, enum intake_op_type type, const void *data, uint32_t len)
{
	struct intake_op op = { .type = (uint8_t)type, .len = len };
	struct intake_batch head;

	must(entry->len + sizeof(op) + INTAKE_PAD(len) <= sizeof(entry->data));
	memcpy(entry->data + entry->len, &op, sizeof(op));
	memcpy(entry->data + entry->len + sizeof(op), data, len);
	memset(entry->data + entry->len + sizeof(op) + len, 0, INTAKE_PAD(len) - len);
	entry->len += sizeof(op) + INTAKE_PAD(len);
	memcpy(&head, entry->data, sizeof(head));
	head.num_ops++;
	memcpy(entry->data, &head, sizeof(head));
}

void entry_put(struct entry *entry, const struct tree_record *rec)
{
	static uint8_t buf[TREE_RECORD_MAX];
	struct tree_record r = *rec;
	int n;

	r.e.stamp = (struct tree_stamp){ .replica = 1, .epoch = 1 };
	r.e.lamport = 1;
	n = tree_record_emit(&r, buf, sizeof(buf));
	must(n > 0);
	entry_op(entry, INTAKE_PUT, buf, (uint32_t)n);
}

void entry_remove(struct entry *entry, enum tree_kind kind, uint64_t id, const uint8_t *tag)
{
	struct tree_key key = { .id = id, .kind = (uint8_t)kind };
	uint8_t packed[TREE_KEY_SIZE];

	if (tag)
		memcpy(key.tag, tag, TREE_TAG_SIZE);
	tree_key_pack(&key, packed);
	entry_op(entry, INTAKE_REMOVE, packed, sizeof(packed));
}

int rig_apply(struct rig *rig, struct entry *entry)
{
	static struct entry copy;
	int r, tries = 0;

	rig->position += entry->len + 8;
	do {
		memcpy(copy.data, entry->data, entry->len);
		r = engine_apply(rig->engine, rig->vol, copy.data, entry->len, 7, rig->position,
			&rig->changes);
		if (r == 0)
			r = engine_flush(rig->engine);
	} while (r == -ERESTART && ++tries < 4);
	return r;
}

void tag_of(const char *name, uint8_t ret_tag[TREE_TAG_SIZE])
{
	uint64_t h = 1469598103934665603u;

	memset(ret_tag, 0, TREE_TAG_SIZE);
	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * 1099511628211u;
	memcpy(ret_tag, &h, sizeof(h));
	snprintf((char *)ret_tag + 8, 8, "%.7s", name);
}

static void value_of(struct tree_record *rec, uint64_t value, uint8_t *sealed, size_t len)
{
	memset(rec->e.vtag, 0x55, sizeof(rec->e.vtag));
	memcpy(rec->e.vtag, &value, sizeof(value));
	for (size_t i = 0; i < len; i++)
		sealed[i] = (uint8_t)(value * 31 + i * 7);
	rec->sealed = sealed;
	rec->sealed_len = (uint32_t)len;
}

static uint8_t sealed_buf[TREE_XATTR_SEALED_MAX];

void put_attr(struct entry *entry, uint64_t oid, bool is_dir, uint64_t value)
{
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_ATTR } } };

	rec.e.flags = is_dir ? TREE_DIRECTORY : 0;
	value_of(&rec, value, sealed_buf, 96);
	entry_put(entry, &rec);
}

void put_body(struct entry *entry, uint64_t oid, uint64_t value, size_t sealed_len)
{
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_BODY },
					   .flags = TREE_INLINE } };

	value_of(&rec, value, sealed_buf, sealed_len);
	entry_put(entry, &rec);
}

void put_link(struct entry *entry, uint64_t lid, uint64_t parent, const char *name, uint64_t target,
	bool is_dir)
{
	struct tree_record rec = { .e = { .key = { .id = lid, .kind = TREE_LINK } } };

	rec.e.flags = is_dir ? TREE_DIRECTORY : 0;
	rec.e.parent = parent;
	rec.e.target = target;
	tag_of(name, rec.e.tag);
	value_of(&rec, parent * 1000003 + target + rec.e.tag[0] + (uint64_t)rec.e.tag[1] * 256,
		sealed_buf, 80);
	entry_put(entry, &rec);
}

void put_xattr(struct entry *entry, uint64_t oid, const char *name, uint64_t value, size_t len)
{
	struct tree_record rec = { .e = { .key = { .id = oid, .kind = TREE_XATTR } } };

	tag_of(name, rec.e.key.tag);
	memcpy(rec.e.tag, rec.e.key.tag, TREE_TAG_SIZE);
	value_of(&rec, value, sealed_buf, len);
	entry_put(entry, &rec);
}

static struct entry one;

static uint64_t view_of(const struct rig *rig)
{
	struct volume_info info;

	volume_info(rig->vol, &info);
	return info.view;
}

uint64_t rig_file(struct rig *rig, uint64_t parent, const char *name, uint64_t *ret_lid)
{
	uint64_t oid = rig_id(rig), lid = rig_id(rig);

	entry_start(&one, view_of(rig));
	put_attr(&one, oid, false, oid);
	put_body(&one, oid, oid, 100);
	put_link(&one, lid, parent, name, oid, false);
	must(rig_apply(rig, &one) == 0);
	if (ret_lid)
		*ret_lid = lid;
	return oid;
}

uint64_t rig_dir(struct rig *rig, uint64_t parent, const char *name)
{
	uint64_t oid = rig_id(rig);

	entry_start(&one, view_of(rig));
	put_attr(&one, oid, true, oid);
	put_link(&one, oid, parent, name, oid, true);
	must(rig_apply(rig, &one) == 0);
	return oid;
}

void rig_unlink(struct rig *rig, uint64_t lid, uint64_t oid, bool drop)
{
	entry_start(&one, view_of(rig));
	entry_remove(&one, TREE_LINK, lid, NULL);
	if (drop)
		entry_remove(&one, TREE_ATTR, oid, NULL);
	must(rig_apply(rig, &one) == 0);
}

struct engine_page *page_init(struct page *page)
{
	page->page = (struct engine_page){ .records = page->records,
		.cap = sizeof(page->records),
		.nodes = page->nodes,
		.max_nodes = 1024 };
	return &page->page;
}

static struct engine_page *rig_page(const struct rig *rig, struct page *page)
{
	page_init(page)->at = rig->at;
	return &page->page;
}

static size_t record_at(const struct page *page, size_t pos, struct tree_record *ret)
{
	const uint8_t *p = page->records + pos;
	size_t len = TREE_RECORD_HEAD + (size_t)p[3] * TREE_REF_SIZE +
		     ((size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16);

	must(tree_record_parse(p, len, ret) == 0);
	return len;
}

size_t page_count(const struct page *page)
{
	struct tree_record rec;
	size_t num = 0;

	for (size_t pos = 0; pos < page->page.len; num++)
		pos += record_at(page, pos, &rec);
	return num;
}

bool page_find(const struct page *page, enum tree_kind kind, uint64_t id, struct tree_record *ret)
{
	for (size_t pos = 0; pos < page->page.len;) {
		pos += record_at(page, pos, ret);
		if (ret->e.key.kind == kind && ret->e.key.id == id)
			return true;
	}
	return false;
}

static uint64_t mix(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * 1099511628211u;
	return sum;
}

/* Order of elements within a register is not part of the state: each is summed on its own. */
static uint64_t mix_records(const struct page *page, bool stamps)
{
	struct tree_record rec;
	uint64_t sum = 0, one_sum;

	for (size_t pos = 0; pos < page->page.len;) {
		pos += record_at(page, pos, &rec);
		one_sum = mix(1469598103934665603u, &rec.e.key.id, 8);
		one_sum = mix(one_sum, &rec.e.key.kind, 1);
		one_sum = mix(one_sum, &rec.e.parent, 8);
		one_sum = mix(one_sum, &rec.e.target, 8);
		one_sum = mix(one_sum, rec.e.tag, TREE_TAG_SIZE);
		one_sum = mix(one_sum, rec.e.vtag, TREE_TAG_SIZE);
		one_sum = mix(one_sum, rec.sealed, rec.sealed_len);
		if (stamps) {
			one_sum = mix(one_sum, &rec.e.stamp.replica, 4);
			one_sum = mix(one_sum, &rec.e.stamp.epoch, 8);
			one_sum = mix(one_sum, &rec.e.lamport, 8);
		}
		sum += one_sum;
	}
	return sum;
}

/* What is found by name and by number is what the directory shows. */
static uint64_t digest_again(struct rig *rig, uint64_t parent, const struct tree_record *link)
{
	struct page *page = calloc(1, sizeof(*page));
	uint64_t sum;
	int r;

	must(page);
	rig_page(rig, page);
	/* A loser of a conflict, or a directory that fell into the root, has no such name. */
	r = engine_lookup(rig->engine, rig->vol, parent, link->e.tag, &page->page);
	must(r == 0 || r == -ENOENT);
	sum = mix_records(page, false);
	rig_page(rig, page);
	must(engine_inode(rig->engine, rig->vol, link->e.target, &page->page) == 0);
	sum += mix_records(page, false) * 17 + page->nodes[0].nlink;
	free(page);
	return sum;
}

static uint64_t digest_dir(struct rig *rig, uint64_t oid, bool stamps, int depth)
{
	struct page *page = calloc(1, sizeof(*page));
	uint64_t sum = 0, after = 0;
	uint8_t zero[TREE_TAG_SIZE] = { 0 };
	struct tree_record rec;

	must(page && depth < 64);
	do {
		rig_page(rig, page);
		must(engine_dir(rig->engine, rig->vol, oid, after, 0, &page->page) == 0);
		sum += mix_records(page, stamps);
		for (size_t i = 0; i < page->page.num_nodes; i++)
			sum = mix(sum, &page->nodes[i], offsetof(struct engine_node, nlink)) +
			      page->nodes[i].nlink + page->nodes[i].entries * 3 +
			      page->nodes[i].subdirs * 7 + page->nodes[i].num_xattrs * 11;
		for (size_t pos = 0; pos < page->page.len;) {
			pos += record_at(page, pos, &rec);
			if (rec.e.key.kind != TREE_LINK)
				continue;
			if (rig->is_thorough)
				sum += digest_again(rig, oid, &rec) * 19;
			if (rec.e.flags & TREE_DIRECTORY)
				sum += digest_dir(rig, rec.e.target, stamps, depth + 1) * 5;
			struct page *x = calloc(1, sizeof(*x));
			must(x);
			if (engine_xattrs(rig->engine, rig->vol, rec.e.target, zero,
				    rig_page(rig, x)) == 0)
				sum += mix_records(x, stamps) * 13;
			free(x);
		}
		must(page->page.end || page->page.next > after);
		after = page->page.next;
	} while (!page->page.end);
	free(page);
	return sum;
}

uint64_t rig_digest(struct rig *rig, bool stamps)
{
	return digest_dir(rig, TREE_ROOT, stamps, 0);
}
