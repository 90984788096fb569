#include "mountd/group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cas/chunker.h"
#include "cas/tree.h"
#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/jobs.h"
#include "mountd/mountd.h"
#include "mountd/run.h"

#define FILE_JOBS (GROUP_FILE_MAX / CAS_CHUNKER_MIN + 1)
#define LOOK_MAX  1024 /* files passed by in search of more */

struct member {
	struct inode *inode;
	size_t first, num; /* jobs */
};

struct group {
	struct mountd *m;
	struct jobs jobs;
	uint8_t *buf;
	size_t len, num;
	struct member members[JOBS_MAX];
};

int group_new(struct group **ret, struct mountd *m)
{
	struct group *group = calloc(1, sizeof(*group));

	if (group == NULL)
		return -ENOMEM;
	group->m = m;
	group->buf = malloc(GROUP_BYTES);
	if (group->buf == NULL || jobs_init(&group->jobs, m, GROUP_BYTES) < 0) {
		group_free(group);
		return -ENOMEM;
	}
	*ret = group;
	return 0;
}

void group_free(struct group *group)
{
	if (group == NULL)
		return;
	jobs_release(&group->jobs);
	free(group->buf);
	free(group);
}

bool group_takes(const struct inode *inode)
{
	const struct dirty_head *head = &inode->dirty;
	const struct dirty_file *file;
	const struct dirty_extent *last;

	if (inode->head == DIRTY_NO_HEAD || inode->goes_alone || !inode_is_file(inode) ||
		inode->contents == NULL || head->base_limit > 0 ||
		head->size <= SEALED_INLINE_MAX || head->size > GROUP_FILE_MAX)
		return false;
	file = &inode->contents->file;
	if (file->num == 0 || file->extents[0].offset > 0 || file->extents[0].is_zero ||
		run_end(file, 0) < file->num)
		return false;
	last = &file->extents[file->num - 1];
	return last->offset + last->len == head->size;
}

static bool has_room(const struct group *group, const struct inode *inode)
{
	return group->len + inode->dirty.size <= GROUP_BYTES &&
	       group->jobs.num + FILE_JOBS <= JOBS_MAX;
}

/* A file this small is no stream's: what cuts it cancels that. */
static void add(struct group *group, struct inode *inode)
{
	const struct dirty_file *file = &inode->contents->file;
	struct member *member = &group->members[group->num++];
	uint8_t *from = group->buf + group->len;

	for (size_t i = 0; i < file->num; i++)
		memcpy(from + file->extents[i].offset,
			dirty_data(group->m->dirty, &file->extents[i]), file->extents[i].len);
	*member = (struct member){ .inode = inode, .first = group->jobs.num };
	(void)jobs_cut(&group->jobs, from, inode->dirty.size, true);
	member->num = group->jobs.num - member->first;
	group->len += inode->dirty.size;
	inode->pins++;
}

static void gather(struct group *group, struct inode *first, double since)
{
	const struct inode *end = &group->m->inodes.dirty;
	struct inode *inode = first;

	jobs_clear(&group->jobs);
	group->len = group->num = 0;
	for (size_t i = 0; i < LOOK_MAX && inode != end && inode->dirty_since <= since; i++) {
		if (group_takes(inode)) {
			if (!has_room(group, inode))
				break;
			add(group, inode);
		}
		inode = inode->dirty_next;
	}
}

/* What is stored of the old contents no longer counts: the tree is all new. */
static int make_tree(
	struct inode *inode, const struct cas_extent *extents, size_t num, struct sealed_body *body)
{
	struct cas_tree *tree;
	int r = contents_tree(inode, &tree);

	if (r == 0)
		r = cas_tree_resize(tree, 0);
	if (r == 0)
		r = cas_tree_replace(tree, 0, inode->dirty.size, extents, num);
	return r < 0 ? r : flush_describe(tree, body);
}

static int describe(
	const struct group *group, const struct member *member, struct sealed_body *body)
{
	struct cas_extent extents[FILE_JOBS];

	body->size = body->filled = member->inode->dirty.size;
	(void)jobs_extents(&group->jobs, member->first, member->num, extents);
	if (member->num > SEALED_FEW)
		return make_tree(member->inode, extents, member->num, body);
	body->form = SEALED_CHUNKS;
	body->num_chunks = (uint32_t)member->num;
	memcpy(body->chunks, extents, member->num * sizeof(*extents));
	return 0;
}

static int publish(struct group *group, const struct member *member)
{
	struct sealed_body body = { 0 };
	int r = jobs_publish(&group->jobs, member->first, member->num);

	if (r == 0)
		r = describe(group, member, &body);
	if (r == 0)
		r = flush_publish(group->m, member->inode, &body, NULL);
	if (r < 0)
		contents_reset(member->inode);
	return r;
}

static void let_go(struct group *group, struct inode *inode, bool is_stored)
{
	inode->pins--;
	inode->goes_alone = !is_stored;
	if (is_stored && inode->pins == 0)
		contents_free(group->m, inode);
}

void group_store(struct group *group, struct inode *first, double since)
{
	int r;

	gather(group, first, since);
	r = jobs_seal(&group->jobs);
	for (size_t i = 0; i < group->num; i++) {
		const struct member *member = &group->members[i];
		bool is_stored = r == 0 && publish(group, member) == 0;

		let_go(group, member->inode, is_stored);
	}
}
