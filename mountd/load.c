#include "mountd/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/changed.h"
#include "mountd/mountd.h"
#include "mountd/next_dir.h"
#include "mountd/records.h"
#include "mountd/sibling.h"
#include "mountd/snapshots.h"
#include "tree/view.h"

#define NAMES_MAX     (256u << 10) /* in all directories together */
#define NAMES_SMALL   64	   /* loading them costs no more than asking for one */
#define NAMES_PER_ASK 8		   /* that cost about what asking for one does */

/* The records of one inode as they come by: the greatest of each register is kept. */
struct gathered {
	uint64_t oid;
	struct tree_record attr, body;
	bool has_attr, has_body;
	bool has_values; /* the body has several */
};

static void keep_greatest(struct tree_record *best, bool *has, const struct tree_record *rec)
{
	if (!*has || tree_element_compare(&rec->e, &best->e) > 0)
		*best = *rec;
	*has = true;
}

static void gather(struct gathered *gathered, const struct tree_record *rec)
{
	if (rec->e.key.id != gathered->oid)
		*gathered = (struct gathered){ .oid = rec->e.key.id };
	if (rec->e.key.kind == TREE_ATTR)
		keep_greatest(&gathered->attr, &gathered->has_attr, rec);
	if (rec->e.key.kind == TREE_BODY && gathered->has_body &&
		memcmp(rec->e.vtag, gathered->body.e.vtag, TREE_TAG_SIZE) != 0)
		gathered->has_values = true;
	if (rec->e.key.kind == TREE_BODY)
		keep_greatest(&gathered->body, &gathered->has_body, rec);
}

static const struct store_node *find_node(const struct store_node *nodes, size_t num, uint64_t oid)
{
	for (size_t i = 0; i < num; i++)
		if (nodes[i].oid == oid)
			return &nodes[i];
	return NULL;
}

/* Makes the inode from its records unless it is cached: what is cached is never older. beside: a
 * node of the same instant. */
static int absorb(struct mountd *m, uint64_t beside, const struct gathered *gathered,
	const struct store_node *node, struct inode **ret)
{
	uint64_t id = at_node(m, beside, gathered->oid);
	struct inode *inode = inode_find(&m->inodes, id);
	struct sealed_attr attr = { 0 };
	struct sealed_body body = { 0 };
	int r;

	*ret = inode;
	if (inode != NULL && !inode->is_stale)
		return 0;
	if (!gathered->has_attr || node == NULL)
		return -EBADMSG;
	if (id == 0)
		return -ENFILE;
	r = sealed_get_attr(&m->sealer, &gathered->attr, &attr);
	if (r == 0 && gathered->has_body) {
		r = sealed_get_body(&m->sealer, &gathered->body, &body);
		if (r < 0)
			free(attr.symlink);
	}
	if (r < 0)
		return r;
	if (inode != NULL)
		inode_drop(&m->inodes, inode);
	inode = inode_add(&m->inodes, id);
	inode->attr = attr;
	inode->body = body;
	inode->has_body = gathered->has_body;
	inode->has_siblings = gathered->has_values && S_ISREG(attr.mode);
	inode->nlink = node->nlink;
	inode->subdirs = node->subdirs;
	inode->entries = node->entries;
	inode->num_xattrs = node->num_xattrs;
	inode->strays = node->strays;
	if (gathered->oid == TREE_ROOT)
		inode->nlink = 1; /* which no link names */
	/* The root of a snapshot is shown as old as that. */
	if (at_is_history(id) && gathered->oid == TREE_ROOT)
		inode->attr.mtime = inode->body.mtime = (int64_t)at_time(m, id);
	*ret = inode;
	return 0;
}

/* What stored says of an inode. The records lie in the reply, which is to be released. */
struct found {
	struct store_inode_reply reply;
	struct gathered gathered;
	struct tree_record link;
	bool has_link;
};

/* at: the instant; 0: what is there at present. */
static int ask_inode(struct mountd *m, uint64_t oid, uint64_t at, struct found *ret)
{
	struct store_inode req = { .oid = oid, .at = at };
	struct tree_record rec;
	struct records records;
	int r;

	*ret = (struct found){ .gathered.oid = oid };
	do {
		r = store_inode_wait(edge_store(m), &req, EDGE_WAIT_MS, &ret->reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	records = (struct records){ ret->reply.records.data, ret->reply.records.len };
	while ((r = records_next(&records, &rec)) == 0)
		if (rec.e.key.kind == TREE_LINK)
			keep_greatest(&ret->link, &ret->has_link, &rec);
		else if (rec.e.key.id == oid)
			gather(&ret->gathered, &rec);
	if (r == -ENOENT)
		return 0;
	store_inode_reply_release(&ret->reply);
	return r;
}

static int fetch_inode(struct mountd *m, uint64_t node, struct inode **ret)
{
	const uint64_t oid = at_oid(m, node), at = at_time(m, node);
	const struct store_node *about;
	struct found found;
	int r;

	/* A number of an instant that is over. */
	if (at_is_history(node) && at == 0)
		return -ESTALE;
	r = ask_inode(m, oid, at, &found);
	if (r < 0)
		return r;
	about = find_node(found.reply.nodes, found.reply.num_nodes, oid);
	r = absorb(m, node, &found.gathered, about, ret);
	if (r == 0 && found.has_link)
		(*ret)->parent = at_node(m, node,
			about != NULL && about->is_fallen ? TREE_ROOT : found.link.e.parent);
	store_inode_reply_release(&found.reply);
	return r;
}

int load_link(struct mountd *m, uint64_t oid, struct sealed_link *ret)
{
	struct found found;
	int r = ask_inode(m, oid, 0, &found);

	if (r < 0)
		return r;
	r = found.has_link ? sealed_get_link(&m->sealer, &found.link, ret) : -ENOENT;
	store_inode_reply_release(&found.reply);
	return r;
}

int load_inode(struct mountd *m, uint64_t oid, struct inode **ret)
{
	*ret = oid == AT_SNAP_DIR ? snapshots_dir(m) : inode_find(&m->inodes, oid);
	if (*ret != NULL && (*ret)->is_stale)
		return changed_refresh(m, *ret);
	return *ret != NULL ? 0 : fetch_inode(m, oid, ret);
}

int load_dir(struct mountd *m, uint64_t oid, struct inode **ret)
{
	int r = load_inode(m, oid, ret);

	if (r < 0)
		return r;
	if (!inode_is_dir(*ret))
		return -ENOTDIR;
	if ((*ret)->dir == NULL)
		(*ret)->dir = dir_new();
	return 0;
}

void load_trim(struct mountd *m)
{
	inodes_trim(&m->inodes);
	/* Names are dropped by whole directories, least recently used first. */
	for (struct inode *inode = m->inodes.newest.newer;
		m->num_names > NAMES_MAX && inode != &m->inodes.newest; inode = inode->newer)
		if (inode->dir != NULL && inode->pins == 0) {
			m->num_names -= inode->dir->num;
			dir_free(inode->dir);
			inode->dir = NULL;
		}
}

/* --- names --- */

/* Which of the links of one name is this one? 0: it has the name. */
static int rank_of(struct mountd *m, const struct inode *dir, const struct sealed_link *link,
	const uint8_t tag[TREE_TAG_SIZE], uint32_t *ret_rank, uint32_t *ret_replica)
{
	struct store_lookup req = { .parent = link->parent, .at = at_time(m, dir->oid) };
	struct store_lookup_reply reply;
	struct tree_element elements[64], *e;
	uint32_t ranks[64];
	struct tree_record rec;
	struct records records;
	size_t num = 0;
	int r;

	*ret_rank = *ret_replica = 0;
	memcpy(req.tag, tag, TREE_TAG_SIZE);
	do {
		r = store_lookup_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	records = (struct records){ reply.records.data, reply.records.len };
	while ((r = records_next(&records, &rec)) == 0) {
		if (rec.e.key.kind != TREE_LINK)
			continue;
		for (e = elements; e < elements + num && e->key.id != rec.e.key.id; e++)
			;
		if (e == elements + num && num < 64)
			elements[num++] = rec.e;
		else if (e < elements + num && tree_element_compare(&rec.e, e) > 0)
			*e = rec.e;
	}
	store_lookup_reply_release(&reply);
	if (r != -ENOENT)
		return r;
	tree_view_names(elements, num, ranks);
	for (size_t i = 0; i < num; i++)
		if (elements[i].key.id == link->lid) {
			*ret_rank = ranks[i];
			*ret_replica = elements[i].stamp.replica;
		}
	return 0;
}

static struct dirent_entry *put_name(struct mountd *m, const struct inode *inode,
	const struct sealed_link *link, const char *name, size_t len)
{
	struct dir *dir = inode->dir;
	struct dirent_entry *entry;

	m->num_names -= dir->num;
	entry = dir_add(
		dir, link->lid, at_node(m, inode->oid, link->target), link->type, name, len);
	m->num_names += dir->num;
	entry->is_computed = len != link->name_len || memcmp(name, link->name, len) != 0;
	return entry;
}

static int add_name(struct mountd *m, struct inode *inode, const struct sealed_link *link,
	const uint8_t tag[TREE_TAG_SIZE])
{
	struct dirent_entry *same = dir_find(inode->dir, link->name, link->name_len);
	char name[SEALED_NAME_MAX + 1];
	uint32_t rank, replica;
	struct sealed_link other = *link;
	int r;

	if (same == NULL || same->lid == link->lid) {
		put_name(m, inode, link, link->name, link->name_len);
		return 0;
	}
	/* Two of one name: the one that comes second may be the winner. */
	r = rank_of(m, inode, link, tag, &rank, &replica);
	if (r < 0)
		return r;
	if (rank == 0) {
		other.lid = same->lid;
		other.target = at_oid(m, same->target);
		other.type = same->type;
		r = rank_of(m, inode, &other, tag, &rank, &replica);
		if (r < 0)
			return r;
		put_name(m, inode, link, link->name, link->name_len);
	}
	put_name(m, inode, &other, name,
		sibling_name(name, link->name, link->name_len, replica, rank));
	return 0;
}

/* A directory out of a cycle, under the first conflict name that nobody has. */
static void add_fallen(
	struct mountd *m, struct inode *root, const struct sealed_link *link, uint32_t replica)
{
	char name[SEALED_NAME_MAX + 1];
	struct dirent_entry *entry;
	uint32_t rank = 1;
	size_t len;

	do {
		len = sibling_name(name, link->name, link->name_len, replica, rank++);
		entry = dir_find(root->dir, name, len);
	} while (entry != NULL && entry->lid != link->lid);
	put_name(m, root, link, name, len);
}

/* A link is shown where its greatest element says, which rec is, unless that closes a cycle
 * (tree/view.h). One record that is damaged must not hide all others. */
static int absorb_link(struct mountd *m, struct inode *dir, const struct tree_record *rec,
	struct sealed_link *ret_shown)
{
	struct sealed_link link;
	int r = sealed_get_link(&m->sealer, rec, &link);

	if (r == 0)
		*ret_shown = link;
	if (r == 0 && link.parent != at_oid(m, dir->oid))
		add_fallen(m, dir, &link, rec->e.stamp.replica);
	else if (r == 0)
		r = add_name(m, dir, &link, rec->e.tag);
	return r == -EBADMSG || r == -EPROTONOSUPPORT ? 0 : r;
}

/* The link records of a reply, with their targets' records and nodes behind each. */
static int absorb_names(struct mountd *m, struct inode *dir, const struct ipc_bytes *records,
	const struct store_node *nodes, size_t num_nodes, uint64_t *ret_last)
{
	struct records left = { records->data, records->len };
	struct gathered gathered = { 0 };
	struct sealed_link shown = { 0 };
	struct tree_record rec, link;
	bool has_link = false;
	struct inode *inode;
	size_t next = 0;
	int r, end;

	for (;;) {
		end = records_next(&left, &rec);
		if (end < 0 && end != -ENOENT)
			return end;
		/* The inode is complete when something else begins. */
		if (gathered.has_attr &&
			(end < 0 || rec.e.key.kind == TREE_LINK || rec.e.key.id != gathered.oid)) {
			/* Nodes come in the order of their inodes. */
			while (next < num_nodes && nodes[next].oid != gathered.oid)
				next++;
			r = absorb(m, dir->oid, &gathered,
				next < num_nodes ? &nodes[next]
						 : find_node(nodes, num_nodes, gathered.oid),
				&inode);
			if (next == num_nodes)
				next = 0;
			if (r < 0 && r != -EBADMSG)
				return r;
			if (r == 0)
				inode->parent = dir->oid;
			if (r == 0 && inode->has_siblings &&
				at_node(m, dir->oid, shown.target) == inode->oid)
				(void)sibling_add(m, dir, &shown);
			gathered = (struct gathered){ 0 };
		}
		if (has_link &&
			(end < 0 || rec.e.key.kind != TREE_LINK || rec.e.key.id != link.e.key.id)) {
			has_link = false;
			r = absorb_link(m, dir, &link, &shown);
			if (r < 0)
				return r;
		}
		if (end < 0)
			return 0;
		if (rec.e.key.kind == TREE_LINK) {
			*ret_last = rec.e.key.id;
			keep_greatest(&link, &has_link, &rec);
		} else {
			gather(&gathered, &rec);
		}
	}
}

int load_page(struct mountd *m, struct inode *dir, uint64_t after, uint32_t max, uint64_t *ret_last,
	bool *ret_end)
{
	struct store_dir req = { .parent = at_oid(m, dir->oid),
		.after = after,
		.max = max,
		.at = at_time(m, dir->oid) };
	struct store_dir_reply reply;
	bool is_taken = next_dir_take(m, &req, &reply);
	int r = 0;

	if (!is_taken)
		do {
			r = store_dir_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
		} while (edge_again(m, r));
	if (r < 0)
		return r;
	*ret_last = after;
	*ret_end = reply.end;
	/* A page of the past may hold nothing and not be the last. */
	r = absorb_names(m, dir, &reply.records, reply.nodes, reply.num_nodes, ret_last);
	if (reply.next > *ret_last)
		*ret_last = reply.next;
	if (r == 0 && !reply.end && *ret_last == after)
		r = -EBADMSG; /* else the listing would never end */
	if (!is_taken)
		store_dir_reply_release(&reply);
	return r;
}

/* The first page of what is not loaded yet. */
static int load_more_names(struct mountd *m, struct inode *inode)
{
	struct dir *dir = inode->dir;
	uint64_t last;
	bool end;
	int r;

	inode->pins++;
	r = load_page(m, inode, dir->upto, 0, &last, &end);
	inode->pins--;
	if (r < 0)
		return r;
	dir->upto = last;
	dir->complete = end;
	return 0;
}

int load_all_names(struct mountd *m, struct inode *inode)
{
	int r = 0;

	while (r == 0 && !inode->dir->complete)
		r = load_more_names(m, inode);
	return r;
}

static int ask_tag(
	struct mountd *m, struct inode *dir, const uint8_t tag[TREE_TAG_SIZE], uint64_t *ret_lid)
{
	struct store_lookup req = { .parent = at_oid(m, dir->oid), .at = at_time(m, dir->oid) };
	struct store_lookup_reply reply;
	int r;

	memcpy(req.tag, tag, TREE_TAG_SIZE);
	do {
		r = store_lookup_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	r = absorb_names(m, dir, &reply.records, reply.nodes, reply.num_nodes, ret_lid);
	store_lookup_reply_release(&reply);
	return r;
}

int load_tag(struct mountd *m, struct inode *dir, const uint8_t tag[TREE_TAG_SIZE], char *ret_name)
{
	const struct dirent_entry *entry;
	uint64_t lid = 0;
	int r = ask_tag(m, dir, tag, &lid);

	if (r < 0)
		return r;
	entry = dir_find_lid(dir->dir, lid);
	if (entry == NULL)
		return -ENOENT;
	memcpy(ret_name, entry->name, entry->name_len + 1u);
	return 0;
}

static int ask_name(struct mountd *m, struct inode *dir, const char *name, size_t len)
{
	uint8_t tag[TREE_TAG_SIZE];
	uint64_t lid;

	cas_name_tag(&m->sealer.keys, at_oid(m, dir->oid), name, len, tag);
	dir->dir->asked++;
	return ask_tag(m, dir, tag, &lid);
}

/* Who looks at each file of a large directory would ask for each name: the more were asked for, the
 * more is loaded, and the names that come next are here. */
static int find_name(struct mountd *m, struct inode *inode, const char *name, size_t len)
{
	struct dir *dir = inode->dir;
	int r = 0;

	if (inode->entries <= LOAD_NAMES_MAX && dir->num < dir->asked * NAMES_PER_ASK)
		r = load_more_names(m, inode);
	if (r < 0 || dir->complete || dir_find(dir, name, len) != NULL)
		return r;
	return ask_name(m, inode, name, len);
}

int load_name(struct mountd *m, struct inode *dir, const char *name, size_t len,
	struct dirent_entry **ret)
{
	static const char mark[] = ".conflict-";
	int r;

	*ret = dir_find(dir->dir, name, len);
	if (*ret != NULL)
		return 0;
	if (dir->dir->complete)
		return -ENOENT;
	/* A conflict name is found only among all of them. */
	if (dir->entries <= NAMES_SMALL || memmem(name, len, mark, sizeof(mark) - 1) != NULL)
		r = dir->entries > LOAD_NAMES_MAX ? -ENOENT : load_all_names(m, dir);
	else
		r = find_name(m, dir, name, len);
	if (r < 0)
		return r;
	*ret = dir_find(dir->dir, name, len);
	return *ret != NULL ? 0 : -ENOENT;
}
