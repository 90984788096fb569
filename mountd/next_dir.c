#include "mountd/next_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"

#define TYPE_DIR   (S_IFDIR >> 12)
#define LEVELS_MAX 64
#define LOOK_MAX   1024 /* names passed by in search of a directory */
#define SPINS	   200

struct next_dir {
	struct mountd *m;
	uint64_t current, expected; /* nodes: where a walker is, and goes next; 0: nowhere */
	/* The page asked for: of which node, and what had been published and seen then. */
	uint64_t node, position, view;
	bool is_asked, is_here, is_void;
	uint8_t records[STORE_DIR_REPLY_RECORDS_MAX];
	size_t len;
	struct store_node nodes[STORE_DIR_REPLY_NODES_MAX];
	size_t num_nodes;
	bool end;
	uint64_t next;
};

int next_dir_new(struct next_dir **ret, struct mountd *m)
{
	*ret = calloc(1, sizeof(**ret));
	if (*ret == NULL)
		return -ENOMEM;
	(*ret)->m = m;
	return 0;
}

void next_dir_drop(struct next_dir *next)
{
	next->is_here = false;
	next->is_void = true; /* what is on its way */
}

/* The first subdirectory with a link id above `after`; 0: none. */
static uint64_t subdir_after(const struct inode *dir, uint64_t after)
{
	size_t at, end;

	if (dir->dir == NULL || !dir->dir->complete || dir->subdirs == 0)
		return 0;
	at = dir_after(dir->dir, after);
	end = dir->dir->num - at > LOOK_MAX ? at + LOOK_MAX : dir->dir->num;
	for (; at < end; at++)
		if (dir->dir->order[at]->type == TYPE_DIR)
			return dir->dir->order[at]->target;
	return 0;
}

static uint64_t next_of(struct mountd *m, const struct inode *dir)
{
	uint64_t found = subdir_after(dir, 0);

	for (int level = 0; found == 0 && dir != NULL && level < LEVELS_MAX; level++) {
		uint64_t from = at_oid(m, dir->oid); /* the link id of a directory, too */

		dir = dir->parent == 0 ? NULL : inode_find_quietly(&m->inodes, dir->parent);
		found = dir == NULL ? 0 : subdir_after(dir, from);
	}
	return found;
}

static bool is_valid(const struct next_dir *next)
{
	return !next->is_void && next->position == publish_position(next->m) &&
	       next->view == next->m->view;
}

/* An empty directory has a page of nothing, which is nowhere. */
static void copy(void *to, const void *from, size_t len)
{
	if (len > 0)
		memcpy(to, from, len);
}

static void on_page(void *arg, int err, const struct store_dir_reply *reply)
{
	struct next_dir *next = arg;

	next->is_asked = false;
	if (err < 0 || !is_valid(next))
		return;
	copy(next->records, reply->records.data, reply->records.len);
	copy(next->nodes, reply->nodes, reply->num_nodes * sizeof(*reply->nodes));
	next->len = reply->records.len;
	next->num_nodes = reply->num_nodes;
	next->end = reply->end;
	next->next = reply->next;
	next->is_here = true;
}

/* Known, and none of its names is. */
static bool is_unlisted(struct mountd *m, uint64_t node)
{
	const struct inode *inode = inode_find_quietly(&m->inodes, node);

	return inode != NULL && !inode->is_stale &&
	       (inode->dir == NULL || (!inode->dir->complete && inode->dir->num == 0));
}

static void ask(struct mountd *m, uint64_t node)
{
	struct next_dir *next = m->next_dir;
	struct store_dir req = { .parent = at_oid(m, node), .at = at_time(m, node) };

	if (next->is_asked || !m->edges.is_attached || m->edges.store == NULL)
		return;
	next->node = node;
	next->position = publish_position(m);
	next->view = m->view;
	next->is_here = next->is_void = false;
	next->is_asked = store_dir(m->edges.store, &req, on_page, next) == 0;
}

void next_dir_at(struct mountd *m, const struct inode *dir)
{
	struct next_dir *next = m->next_dir;
	bool is_walk = dir->oid == next->expected;

	if (dir->oid == next->current || !dir->dir->complete)
		return;
	next->current = dir->oid;
	next->expected = next_of(m, dir);
	if (is_walk && next->expected != 0 && is_unlisted(m, next->expected))
		ask(m, next->expected);
}

/* Some microseconds when stored is awake, as any question (mountd/edges.h). */
static void wait_for_page(struct mountd *m)
{
	struct next_dir *next = m->next_dir;

	for (unsigned spins = 0; next->is_asked && spins < SPINS; spins++)
		if (ipc_chan_pump(m->edges.store, 0) < 0)
			return;
	while (next->is_asked)
		if (ipc_chan_pump(m->edges.store, EDGE_WAIT_MS) <= 0)
			return;
}

bool next_dir_take(struct mountd *m, const struct store_dir *req, struct store_dir_reply *ret_reply)
{
	struct next_dir *next = m->next_dir;

	if (!(next->is_asked || next->is_here) || at_oid(m, next->node) != req->parent ||
		at_time(m, next->node) != req->at || req->after != 0 || req->max != 0)
		return false;
	wait_for_page(m);
	if (!next->is_here || !is_valid(next))
		return false;
	next->is_here = false;
	*ret_reply = (struct store_dir_reply){ .records = { next->records, next->len },
		.nodes = next->nodes,
		.num_nodes = next->num_nodes,
		.end = next->end,
		.next = next->next };
	return true;
}

void next_dir_load(struct mountd *m)
{
	struct next_dir *next = m->next_dir;
	struct inode *dir;

	/* A long page would keep others waiting. */
	if (!next->is_here || !next->end || !is_valid(next) || !is_unlisted(m, next->node))
		return;
	if (load_dir(m, next->node, &dir) == 0)
		(void)load_all_names(m, dir);
}
