#include "tests/crash/world.h"

#include "stored/engine_state.h"
#include "stored/intake.h"
#include "stored/rows.h"
#include "stored/settings.h"
#include "stored/snapshot.h"
#include "tree/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIRS_MAX 512
#define PAGE	 (400u << 10) /* a file with every element of a register must fit */

struct digester {
	struct engine *engine;
	struct volume *vol;
	uint64_t dirs[DIRS_MAX];
	size_t num_dirs;
	uint64_t at; /* instant; 0: now */
	uint64_t sum;
};

static uint64_t mix(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t word;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		sum ^= sum >> 29;
	}
	for (; len > 0; p++, len--)
		sum = (sum ^ *p) * 1099511628211u;
	return sum;
}

static uint64_t mix_u64(uint64_t sum, uint64_t value)
{
	return mix(sum, &value, sizeof(value));
}

static uint8_t records[PAGE], more[PAGE];
static struct engine_node nodes[1024], more_nodes[8];

static struct engine_page page_of(uint8_t *buf, struct engine_node *list, size_t max)
{
	return (struct engine_page){ .records = buf, .cap = PAGE, .nodes = list, .max_nodes = max };
}

static int next_record(const struct engine_page *page, size_t *pos, struct tree_record *ret)
{
	const uint8_t *p = page->records + *pos;
	size_t len = TREE_RECORD_HEAD + (size_t)p[3] * TREE_REF_SIZE +
		     ((size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16);

	if (len > page->len - *pos || tree_record_parse(p, len, ret) < 0)
		return -EUCLEAN;
	*pos += len;
	return 0;
}

/* Objects are put before the record that refers to them. */
static int check_refs(struct digester *d, const struct tree_record *rec)
{
	static uint8_t buf[INTAKE_OBJECT_MAX];
	struct place place;
	int r = 0;

	for (size_t i = 0; r == 0 && i < rec->num_refs; i++) {
		r = engine_locate(d->engine, rec->refs + i * TREE_REF_SIZE, &place);
		if (r == 0)
			r = engine_read_object(
				d->engine, rec->refs + i * TREE_REF_SIZE, place, buf);
	}
	return r;
}

struct state_set *state_set;

/* Not the stamp: it follows from the order of events. */
static void meet(const struct tree_record *rec)
{
	struct state_set *set = state_set;
	uint64_t value;

	/* One that cannot be read back is nothing that was written, and is told (element_bare). */
	if (rec->sealed_len == 0)
		return;
	value = mix_u64(mix_u64(rec->e.key.id, rec->e.parent), rec->e.target);
	value = mix_u64(mix_u64(value, rec->e.key.kind), rec->e.flags);
	value = mix(mix(value, rec->e.tag, TREE_TAG_SIZE), rec->e.vtag, TREE_TAG_SIZE);
	value = mix(value, rec->refs, (size_t)rec->num_refs * TREE_REF_SIZE);
	value = mix(value, rec->sealed, rec->sealed_len);
	for (size_t i = 0; i < set->num; i++)
		if (set->values[i] == value)
			return;
	if (set->is_closed) {
		set->strangers++;
		return;
	}
	if (set->num == set->cap) {
		set->cap = set->cap ? set->cap * 2 : 1024;
		set->values = realloc(set->values, set->cap * sizeof(*set->values));
		sim_must(set->values);
	}
	set->values[set->num++] = value;
}

/* The order of the elements of a register is no part of the state: each is summed on its own. */
static int digest_records(struct digester *d, const struct engine_page *page, bool is_dir)
{
	struct tree_record rec;
	int r = 0;

	for (size_t pos = 0; r == 0 && pos < page->len;) {
		size_t from = pos;

		r = next_record(page, &pos, &rec);
		if (r == 0 && state_set)
			meet(&rec);
		if (r == 0)
			r = check_refs(d, &rec);
		if (r < 0)
			break;
		d->sum += mix(1, page->records + from, pos - from);
		if (!is_dir || rec.e.key.kind != TREE_LINK || !(rec.e.flags & TREE_DIRECTORY))
			continue;
		for (size_t i = 0; i < d->num_dirs; i++)
			if (d->dirs[i] == rec.e.target)
				goto known;
		if (d->num_dirs < DIRS_MAX)
			d->dirs[d->num_dirs++] = rec.e.target;
	known:;
	}
	return r;
}

static int digest_node(struct digester *d, const struct engine_node *node)
{
	static const uint8_t zero[TREE_TAG_SIZE];
	struct engine_page page = page_of(more, more_nodes, 8);

	page.at = d->at;
	int r;

	d->sum +=
		mix_u64(mix_u64(mix_u64(mix_u64(mix_u64(2, node->oid), node->nlink), node->entries),
				node->subdirs),
			node->num_xattrs);
	if (node->num_xattrs == 0)
		return 0;
	r = engine_xattrs(d->engine, d->vol, node->oid, zero, &page);
	return r < 0 ? r : digest_records(d, &page, false);
}

static int digest_dir(struct digester *d, uint64_t oid)
{
	struct engine_page page = page_of(records, nodes, 1024);
	struct tree_record rec;
	uint64_t after = 0;
	int r;

	page.at = d->at;
	do {
		r = engine_dir(d->engine, d->vol, oid, after, 0, &page);
		if (r == 0)
			r = digest_records(d, &page, true);
		for (size_t pos = 0; r == 0 && pos < page.len;) {
			r = next_record(&page, &pos, &rec);
			if (rec.e.key.kind == TREE_LINK)
				after = rec.e.key.id;
		}
		for (size_t i = 0; r == 0 && i < page.num_nodes; i++)
			r = digest_node(d, &nodes[i]);
	} while (r == 0 && !page.end);
	return r;
}

static int digest_orphans(struct digester *d)
{
	struct engine_page page = page_of(records, nodes, 1024);
	uint64_t oids[256];
	size_t num;
	bool end;
	int r;

	r = engine_orphans(d->engine, d->vol, 0, oids, 256, &num, &end);
	for (size_t i = 0; r == 0 && i < num; i++) {
		d->sum += mix_u64(3, oids[i]);
		r = engine_inode(d->engine, d->vol, oids[i], &page);
		if (r == 0)
			r = digest_records(d, &page, false);
	}
	return r;
}

/* Each snapshot, and the tree as it was then. */
static int digest_snapshots(struct digester *d)
{
	static const uint8_t zero[16];
	struct snapshot snapshots[16];
	size_t num;
	bool end;
	int r;

	r = snapshot_list(d->engine, d->vol, zero, snapshots, 16, &num, &end);
	for (size_t i = 0; r == 0 && i < num; i++) {
		d->sum += mix_u64(mix(11, snapshots[i].tag, 16), snapshots[i].time);
		d->at = snapshots[i].time;
		d->num_dirs = 1;
		for (size_t k = 0; r == 0 && k < d->num_dirs; k++)
			r = digest_dir(d, d->dirs[k]);
	}
	return r;
}

/* A deletion that the horizon covers may be in the log or not. */
static int digest_deaths(struct engine *engine, const struct volume *vol, uint64_t *sum)
{
	static uint8_t horizon[TREE_KNOWLEDGE_SIZE];
	struct row_key k;
	struct db_iter it;
	int r, len;

	len = tree_knowledge_encode(&vol->state.horizon, horizon, sizeof(horizon));
	if (len < 0)
		return -EUCLEAN;
	*sum = mix(*sum, horizon, (size_t)len);
	row_start(&k, vol->number);
	r = db_iter_first(&it, txn(engine), DB_LABELS, k.b, k.len, NULL, 0);
	while (r == 1) {
		struct tree_stamp label = { be64_get(it.key + 8), be32_get(it.key + 4) };

		if (!tree_knowledge_covers(&vol->state.horizon, label))
			*sum += mix(12, it.key, it.key_len);
		r = db_iter_next(&it);
	}
	db_iter_close(&it);
	return r;
}

static int digest_volume(struct engine *engine, struct volume *vol, uint64_t *sum)
{
	static struct digester d;
	uint8_t known[TREE_KNOWLEDGE_SIZE];
	struct volume_info info;
	int r, len;

	d = (struct digester){ .engine = engine, .vol = vol, .num_dirs = 1, .dirs[0] = TREE_ROOT };
	volume_info(vol, &info);
	d.sum = mix(mix(5, info.id, 16), info.keyid, 8);
	d.sum = mix(d.sum, info.name, strlen(info.name) + 1);
	d.sum = mix(d.sum, info.sharing, strlen(info.sharing) + 1);
	d.sum = mix_u64(mix_u64(d.sum, info.replica), info.view);
	d.sum = mix_u64(mix_u64(mix_u64(d.sum, info.links), info.inodes), info.conflicts);
	d.sum = mix_u64(mix_u64(d.sum, info.incarnation), info.position);
	d.sum = mix_u64(mix_u64(d.sum, vol->state.clock.epoch), vol->state.clock.lamport);
	len = tree_knowledge_encode(&vol->state.known, known, sizeof(known));
	if (len < 0)
		return -EUCLEAN;
	d.sum = mix(d.sum, known, (size_t)len);
	r = 0;
	for (size_t i = 0; r == 0 && i < d.num_dirs; i++)
		r = digest_dir(&d, d.dirs[i]);
	if (r == 0)
		r = digest_orphans(&d);
	if (r == 0)
		r = digest_snapshots(&d);
	if (r == 0)
		r = digest_deaths(engine, vol, &d.sum);
	*sum += d.sum;
	return r;
}

static int digest_settings(struct engine *engine, uint64_t *sum)
{
	static struct settings_peer peers[SETTINGS_PEERS_MAX];
	static struct settings_storage storages[SETTINGS_STORAGES_MAX];
	struct volume_info info;
	struct volume *vol;
	size_t num = 0, i, k;
	int r;

	r = settings_peers(engine, peers, SETTINGS_PEERS_MAX, &num);
	for (i = 0; r == 0 && i < num; i++) {
		*sum += mix(6, &peers[i], sizeof(peers[i]));
		for (k = 0; (vol = engine_volume_at(engine, k)); k++) {
			volume_info(vol, &info);
			*sum += mix(7, info.id, 16) *
				settings_peer_may_pull(engine, peers[i].key, info.id);
		}
	}
	for (k = 0; r == 0 && (vol = engine_volume_at(engine, k)); k++) {
		volume_info(vol, &info);
		r = settings_storages(engine, info.id, storages, SETTINGS_STORAGES_MAX, &num);
		for (i = 0; r == 0 && i < num; i++)
			*sum += mix(8, storages[i].storage, strlen(storages[i].storage)) * 3 +
				mix(9, storages[i].sharing, strlen(storages[i].sharing));
	}
	return r;
}

static int digest_objects(struct engine *engine, const struct world *world, uint64_t *sum)
{
	static uint8_t buf[INTAKE_OBJECT_MAX];
	struct place place;
	uint8_t id[32], tag[32];
	int r = 0;

	for (size_t i = 0; i < world->num_objects; i++) {
		r = engine_locate(engine, world->objects[i], &place);
		if (r == -ENOENT)
			continue;
		if (r == 0)
			r = engine_read_object(engine, world->objects[i], place, buf);
		/* In the middle of the workload: what is not flushed yet cannot be read. */
		if (r == -EIO && world->disk.is_recording)
			r = 0;
		memset(tag, (int)i + 1, sizeof(tag));
		/* A collection keeps what it tells somebody to be here. */
		if (r == 0 && !world->is_collecting && engine_have(engine, tag, id) == 0 &&
			memcmp(id, world->objects[i], 32) != 0)
			r = -EUCLEAN;
		if (r < 0)
			return r;
		*sum += mix_u64(10, i);
	}
	return 0;
}

int state_digest(struct engine *engine, const struct world *world, uint64_t *ret)
{
	struct volume *vol;
	size_t i;
	int r = 0;

	*ret = 0;
	for (i = 0; r == 0 && (vol = engine_volume_at(engine, i)); i++)
		r = digest_volume(engine, vol, ret);
	if (r == 0)
		r = digest_settings(engine, ret);
	if (r == 0)
		r = digest_objects(engine, world, ret);
	return r;
}
