#include "peers.h"

#include "stored/settings.h"

#include <errno.h>
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

static struct entry entry;
static struct page page;

const uint8_t *peers_name;

void peers_join(struct rig *rig, const struct rig *first)
{
	struct volume_info info;

	rig_new(rig);
	volume_info(first->vol, &info);
	must(settings_volume_remove(rig->engine, "v") == 0);
	must(settings_volume_add(rig->engine, "v", info.id, "default", info.keyid) == 0);
	rig->vol = engine_volume_named(rig->engine, "v");
	volume_info(rig->vol, &info);
	rig->replica = info.replica;
}

static uint8_t blob[120000];

void peers_stage(struct rig *p, struct pull *pull, struct peers_answer *a, size_t cap)
{
	uint64_t cursor = 0;
	size_t len, pages = 0;
	bool end = false;
	int r;

	while (!end) {
		r = engine_serve_page(a->serve, &cursor, blob, cap, &len, &end);
		if (r == -ENOBUFS)
			r = engine_serve_page(a->serve, &cursor, blob, sizeof(blob), &len, &end);
		must(r == 0);
		must(engine_pull_put(
			     p->engine, pull, blob, len / 2, blob + len / 2, len - len / 2) == 0);
		must(++pages < 100000);
	}
}

int peers_pull_with(struct rig *p, struct rig *q, size_t cap, struct engine_changes *changes,
	uint64_t *ret_conflicts)
{
	static struct peers_answer a;
	static uint8_t asked[TREE_KNOWLEDGE_SIZE], need[60000];
	struct pull_result result = { .need = need, .need_cap = sizeof(need) };
	struct pull *pull;
	size_t len;
	int r, steps = 0;

	must(engine_pull_begin(p->engine, p->vol, &pull, asked, &len) == 0);
	if (peers_name)
		engine_pull_name(pull, peers_name);
	memset(&a, 0, sizeof(a));
	a.info.known = a.known;
	must(engine_serve_begin(q->engine, q->vol, asked, len, &a.serve, &a.info) == 0);
	if (a.info.has_nothing) {
		must(!a.serve);
		engine_pull_abort(p->engine, pull);
		return 1;
	}
	peers_stage(p, pull, &a, cap);
	for (;;) {
		r = engine_pull_step(
			p->engine, pull, a.known, a.info.known_len, a.info.is_full, &result);
		if (r < 0 || result.need_len == 0)
			break;
		must(++steps < 100);
		must(engine_serve_inodes(
			     a.serve, need, result.need_len, blob, sizeof(blob), &len) == 0);
		must(engine_pull_put(p->engine, pull, blob, len, NULL, 0) == 0);
	}
	engine_serve_end(a.serve);
	if (ret_conflicts)
		*ret_conflicts = result.num_conflicts;
	if (changes)
		*changes = result.changes;
	else
		engine_changes_release(&result.changes);
	return r;
}

int peers_pull(struct rig *p, struct rig *q)
{
	return peers_pull_with(p, q, 60000, NULL, NULL);
}

/* ---- at random */

bool peers_has_inode(struct rig *rig, uint64_t oid)
{
	return oid == TREE_ROOT ||
	       (engine_inode(rig->engine, rig->vol, oid, page_init(&page)) == 0 &&
		       page.nodes[0].nlink > 0);
}

uint64_t peers_view(struct rig *rig)
{
	struct volume_info info;

	volume_info(rig->vol, &info);
	return info.view;
}

/* Mostly mountd sees what was pulled, sometimes it does not yet. */
static uint64_t some_view(struct rig *rig, uint64_t *seed)
{
	uint64_t view = peers_view(rig);

	return view > 0 && rig_random(seed) % 4 == 0 ? view - 1 : view;
}

void peers_random_op(struct rig *rig, struct peers_model *m, uint64_t *seed)
{
	uint64_t what = rig_random(seed) % 12, dir = m->dirs[rig_random(seed) % m->num_dirs], x;
	size_t i = m->num_files ? rig_random(seed) % m->num_files : 0;
	char name[24];

	snprintf(name, sizeof(name), "n%llu", (unsigned long long)(rig_random(seed) % 20));
	if (!peers_has_inode(rig, dir))
		dir = TREE_ROOT;
	if ((what < 3 || m->num_files == 0) && m->num_files < 600) {
		m->files[m->num_files] = rig_file(rig, dir, name, &m->lids[m->num_files]);
		m->num_files++;
		return;
	}
	if (what == 3 && m->num_dirs < 200) {
		m->dirs[m->num_dirs++] = rig_dir(rig, dir, name);
		return;
	}
	entry_start(&entry, some_view(rig, seed));
	x = m->dirs[rig_random(seed) % m->num_dirs];
	switch (what) {
	case 4:
	case 5:
		entry_remove(&entry, TREE_LINK, m->lids[i], NULL);
		if (rig_random(seed) & 1)
			entry_remove(&entry, TREE_ATTR, m->files[i], NULL);
		break;
	case 6:
		if (x == TREE_ROOT || x == dir || !peers_has_inode(rig, x))
			return;
		put_link(&entry, x, dir, name, x, true);
		break;
	case 7:
		if (x == TREE_ROOT)
			return;
		entry_remove(&entry, TREE_LINK, x, NULL);
		entry_remove(&entry, TREE_ATTR, x, NULL);
		break;
	case 8:
		if (!peers_has_inode(rig, m->files[i]))
			return;
		put_link(&entry, rig_id(rig), dir, name, m->files[i], false);
		break;
	case 9:
		put_xattr(&entry, m->files[i], name, rig_random(seed) % 5, 30);
		break;
	case 10:
		if (!peers_has_inode(rig, m->files[i]))
			return;
		put_link(&entry, m->lids[i], dir, name, m->files[i], false);
		break;
	default:
		put_body(&entry, m->files[i], rig_random(seed) % 5, rig_random(seed) % 3000);
		break;
	}
	/* An inode of a peer that was never heard of is no op a mountd could have sent. */
	int r = rig_apply(rig, &entry);
	must(r == 0 || r == -EBADMSG);
}
