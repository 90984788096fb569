#include "mountd/sibling.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/changed.h"
#include "mountd/dir.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/records.h"
#include "tree/view.h"

#define VALUES_MAX 16

size_t sibling_name(char *out, const char *name, size_t len, uint32_t replica, uint32_t rank)
{
	char suffix[40];
	int n = snprintf(suffix, sizeof(suffix), ".conflict-%08x-%u", replica, rank);

	if (len + (size_t)n > SEALED_NAME_MAX)
		len = SEALED_NAME_MAX - (size_t)n;
	memcpy(out, name, len);
	memcpy(out + len, suffix, (size_t)n);
	return len + (size_t)n;
}

static uint64_t sibling_oid(const struct tree_element *e)
{
	uint64_t mix = e->key.id * UINT64_C(0x9e3779b97f4a7c15);

	mix = (mix ^ e->stamp.replica) * UINT64_C(0xbf58476d1ce4e5b9);
	mix = (mix ^ e->stamp.epoch ^ mix >> 29) * UINT64_C(0x94d049bb133111eb);
	return tree_oid(SIBLING_REPLICA, (uint32_t)(mix >> 32) | 1);
}

static int make_sibling(struct mountd *m, const struct inode *dir, const struct tree_record *rec,
	uint32_t rank, struct inode **ret)
{
	struct inode *file = inode_find(&m->inodes, at_node(m, dir->oid, rec->e.key.id));
	uint64_t node = at_node(m, dir->oid, sibling_oid(&rec->e));
	struct sealed_body body;
	int r;

	*ret = inode_find(&m->inodes, node);
	if (*ret != NULL || file == NULL || node == 0)
		return *ret == NULL ? -ENOENT : 0;
	r = sealed_get_body(&m->sealer, rec, &body);
	if (r < 0)
		return r;
	*ret = inode_add(&m->inodes, node);
	(*ret)->attr = file->attr;
	(*ret)->body = body;
	(*ret)->has_body = true;
	(*ret)->nlink = 1;
	(*ret)->pins = 1;
	(*ret)->parent = dir->oid;
	(*ret)->sibling_of = file->oid;
	(*ret)->sibling_rank = rank;
	return 0;
}

/* The name is computed from the rank; where a person uses that name already, from the next. */
static void put_name(struct mountd *m, struct inode *dir, const struct sealed_link *link,
	const struct inode *sibling, uint32_t replica, uint32_t rank)
{
	char name[SEALED_NAME_MAX + 1];
	struct dirent_entry *entry;
	size_t len;

	do {
		len = sibling_name(name, link->name, link->name_len, replica, rank++);
		entry = dir_find(dir->dir, name, len);
	} while (entry != NULL && entry->target != sibling->oid);
	m->num_names -= dir->dir->num;
	entry = dir_add(dir->dir, at_oid(m, sibling->oid), sibling->oid, link->type, name, len);
	entry->is_computed = true;
	m->num_names += dir->dir->num;
}

int sibling_add(struct mountd *m, struct inode *dir, const struct sealed_link *link)
{
	struct store_inode req = { .oid = link->target, .at = at_time(m, dir->oid) };
	struct store_inode_reply reply;
	struct tree_record recs[VALUES_MAX], rec;
	struct tree_element elements[VALUES_MAX];
	struct records records;
	size_t order[VALUES_MAX], num = 0, values;
	struct inode *sibling;
	int r;

	do {
		r = store_inode_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	records = (struct records){ reply.records.data, reply.records.len };
	while (num < VALUES_MAX && records_next(&records, &rec) == 0)
		if (rec.e.key.kind == TREE_BODY && rec.e.key.id == link->target) {
			elements[num] = rec.e;
			recs[num++] = rec;
		}
	values = num > 0 ? tree_view_values(elements, num, order) : 0;
	for (size_t i = 1; r == 0 && i < values; i++) {
		r = make_sibling(m, dir, &recs[order[i]], (uint32_t)i, &sibling);
		if (r == 0)
			put_name(
				m, dir, link, sibling, recs[order[i]].e.stamp.replica, (uint32_t)i);
	}
	store_inode_reply_release(&reply);
	return r;
}

void sibling_drop(struct mountd *m, struct inode *inode)
{
	struct inode *at = m->inodes.newest.newer, *next;

	if (!inode->has_siblings)
		return;
	inode->has_siblings = false;
	for (; at != &m->inodes.newest; at = next) {
		struct inode *dir;
		struct dirent_entry *entry;

		next = at->newer;
		if (at->sibling_of != inode->oid || at->pins > 1)
			continue;
		dir = inode_find_quietly(&m->inodes, at->parent);
		entry = dir != NULL && dir->dir != NULL ? dir_find_lid(dir->dir, at->oid) : NULL;
		if (entry != NULL) {
			changed_forget_name(m->changed, dir->oid, entry->name, entry->name_len);
			changed_forget_inode(m->changed, dir->oid);
			dir_remove(dir->dir, entry);
			m->num_names--;
		}
		inode_drop(&m->inodes, at);
	}
}

static size_t count_siblings(const struct mountd *m, uint64_t oid)
{
	size_t num = 0;

	for (const struct inode *at = m->inodes.newest.newer; at != &m->inodes.newest;
		at = at->newer)
		num += at->sibling_of == oid;
	return num;
}

static bool is_same_value(
	struct mountd *m, const struct sealed_body *a, const struct sealed_body *b)
{
	uint8_t buf[2][SEALED_RECORD_SMALL];
	struct tree_record recs[2];
	const size_t len[] = { sealed_put_body(&m->sealer, 1, a, buf[0]),
		sealed_put_body(&m->sealer, 1, b, buf[1]) };

	return tree_record_parse(buf[0], len[0], &recs[0]) == 0 &&
	       tree_record_parse(buf[1], len[1], &recs[1]) == 0 &&
	       memcmp(recs[0].e.vtag, recs[1].e.vtag, TREE_TAG_SIZE) == 0;
}

/*
 * Storing the file is the removal. Where it stands on what is shown as the sibling, the version
 * that won was never seen, and stays.
 */
static int remove_by_storing(struct mountd *m, struct inode *file, const struct inode *sibling)
{
	const bool is_base = is_same_value(m, &file->body, &sibling->body);

	return flush_answer(m, file, is_base ? file->dirty.view : m->view);
}

int sibling_remove(struct mountd *m, struct inode *sibling)
{
	struct inode *file;
	struct batch batch;
	int r = load_inode(m, sibling->sibling_of, &file);

	if (r < 0)
		return r;
	if (count_siblings(m, file->oid) > 1)
		return -EPERM;
	if (file->head != DIRTY_NO_HEAD)
		return remove_by_storing(m, file, sibling);
	batch_begin(m, &batch);
	batch_put_body(&batch, file->oid, &file->body);
	r = batch_publish(&batch, m->view, 0);
	if (r == 0)
		sibling_drop(m, file);
	return r;
}
