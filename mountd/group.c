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
#include "mountd/sealed.h"

#define LOOK_MAX    1024 /* files passed by in search of more */
#define FILES_MAX   512
#define POLL_FILES  4 /* published between two requests */
#define FILE_CHUNKS (GROUP_FILE_MAX / CAS_CHUNKER_MIN + 1)

struct member {
	uint64_t oid;
	size_t at, len;	   /* in buf */
	size_t first, num; /* jobs; of what goes into its record: none, */
	size_t packed_len; /* but this many bytes at the same place of packed */
};

struct group {
	struct mountd *m;
	struct jobs jobs;
	uint8_t *buf, *packed;
	size_t len, max_jobs;
	struct member members[FILES_MAX];
	size_t num, num_published;
	bool is_busy, is_sealed;
	int err;
};

static void release(struct group *group)
{
	jobs_release(&group->jobs);
	free(group->buf);
	free(group->packed);
	free(group);
}

int group_new(struct group **ret, struct mountd *m)
{
	struct group *group = calloc(1, sizeof(*group));

	if (group == NULL)
		return -ENOMEM;
	group->m = m;
	group->buf = malloc(GROUP_BYTES);
	group->packed = malloc(GROUP_BYTES);
	if (group->buf == NULL || group->packed == NULL ||
		jobs_init(&group->jobs, m, GROUP_BYTES) < 0) {
		release(group);
		return -ENOMEM;
	}
	*ret = group;
	return 0;
}

bool group_takes(const struct inode *inode)
{
	const struct dirty_head *head = &inode->dirty;
	const struct dirty_file *file;
	const struct dirty_extent *last;

	if (inode->head == DIRTY_NO_HEAD || inode->goes_alone || !inode_is_file(inode) ||
		inode->contents == NULL || head->base_limit > 0 || head->size == 0 ||
		head->size > GROUP_FILE_MAX)
		return false;
	file = &inode->contents->file;
	if (file->num == 0 || file->extents[0].offset > 0 || file->extents[0].is_zero ||
		run_end(file, 0) < file->num)
		return false;
	last = &file->extents[file->num - 1];
	return last->offset + last->len == head->size;
}

static size_t most_jobs(size_t len)
{
	return len > SEALED_INLINE_MAX ? len / CAS_CHUNKER_MIN + 1 : 0;
}

static bool has_room(const struct group *group, const struct inode *inode)
{
	return group->num < FILES_MAX && group->len + inode->dirty.size <= GROUP_BYTES &&
	       group->max_jobs + most_jobs(inode->dirty.size) <= JOBS_MAX;
}

static void add(struct group *group, struct inode *inode)
{
	const struct dirty_file *file = &inode->contents->file;
	uint8_t *to = group->buf + group->len;

	for (size_t i = 0; i < file->num; i++)
		memcpy(to + file->extents[i].offset, dirty_data(group->m->dirty, &file->extents[i]),
			file->extents[i].len);
	group->members[group->num++] =
		(struct member){ .oid = inode->oid, .at = group->len, .len = inode->dirty.size };
	group->len += inode->dirty.size;
	group->max_jobs += most_jobs(inode->dirty.size);
	inode->is_copied = true;
}

bool group_is_worth(const struct group *group)
{
	const struct inode *end = &group->m->inodes.dirty, *inode = end->dirty_next;
	size_t len = 0, num = 0;

	if (group->is_busy)
		return false;
	for (size_t i = 0; i < LOOK_MAX && inode != end; i++, inode = inode->dirty_next) {
		if (!group_takes(inode))
			continue;
		len += inode->dirty.size;
		if (len >= GROUP_BYTES / 2 || ++num == FILES_MAX)
			return true;
	}
	return false;
}

static void gather(struct group *group, struct inode *first, double since)
{
	const struct inode *end = &group->m->inodes.dirty;
	struct inode *inode = first;

	for (size_t i = 0; i < LOOK_MAX && inode != end && inode->dirty_since <= since; i++) {
		if (group_takes(inode)) {
			if (!has_room(group, inode))
				break;
			add(group, inode);
		}
		inode = inode->dirty_next;
	}
}

/* By a helper. */
static void cut(struct cas_suite *suite, void *arg, size_t num)
{
	struct group *group = arg;

	for (size_t i = 0; i < group->num; i++) {
		struct member *member = &group->members[i];
		const uint8_t *from = group->buf + member->at;

		member->first = group->jobs.num;
		if (member->len <= SEALED_INLINE_MAX)
			member->packed_len =
				sealed_pack(suite, from, member->len, group->packed + member->at);
		else
			(void)jobs_cut(&group->jobs, from, member->len, true);
		member->num = group->jobs.num - member->first;
	}
}

void group_start(struct group *group, struct inode *first, double since)
{
	if (group->is_busy)
		return;
	jobs_clear(&group->jobs);
	group->len = group->max_jobs = group->num = group->num_published = 0;
	group->is_sealed = false;
	gather(group, first, since);
	group->is_busy = group->num > 0;
	if (group->is_busy)
		jobs_start(&group->jobs, cut, group);
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

static int describe_inline(
	const struct group *group, const struct member *member, struct sealed_body *body)
{
	body->form = SEALED_INLINE;
	body->data = malloc(member->len);
	if (body->data == NULL)
		return -ENOMEM;
	memcpy(body->data, group->buf + member->at, member->len);
	body->packed = group->packed + member->at;
	body->packed_len = member->packed_len;
	return 0;
}

static int describe(const struct group *group, const struct member *member, struct inode *inode,
	struct sealed_body *body)
{
	struct cas_extent extents[FILE_CHUNKS];

	body->size = body->filled = member->len;
	if (member->num == 0)
		return describe_inline(group, member, body);
	(void)jobs_extents(&group->jobs, member->first, member->num, extents);
	if (member->num > SEALED_FEW)
		return make_tree(inode, extents, member->num, body);
	body->form = SEALED_CHUNKS;
	body->num_chunks = (uint32_t)member->num;
	memcpy(body->chunks, extents, member->num * sizeof(*extents));
	return 0;
}

static int publish(const struct group *group, const struct member *member, struct inode *inode)
{
	struct sealed_body body = { 0 };
	int r = group->err;

	if (r == 0)
		r = jobs_publish(&group->jobs, member->first, member->num);
	if (r == 0)
		r = describe(group, member, inode, &body);
	if (r == 0)
		r = flush_publish(group->m, inode, &body, NULL);
	if (r < 0) {
		free(body.data);
		contents_reset(inode);
	}
	return r;
}

static void publish_member(struct group *group, const struct member *member)
{
	struct inode *inode = inode_find_quietly(&group->m->inodes, member->oid);
	int r;

	if (inode == NULL || !inode->is_copied)
		return;
	inode->pins++;
	r = publish(group, member, inode);
	inode->pins--;
	inode->is_copied = false;
	inode->goes_alone = r < 0;
	if (r == 0 && inode->pins == 0)
		contents_free(group->m, inode);
}

static void publish_some(struct group *group, size_t max)
{
	for (size_t i = 0; i < max && group->num_published < group->num; i++)
		publish_member(group, &group->members[group->num_published++]);
	group->is_busy = group->num_published < group->num;
}

static void seal(struct group *group)
{
	int r = jobs_go_on(&group->jobs);

	group->is_sealed = r != 0;
	group->err = r < 0 ? r : 0;
}

void group_poll(struct group *group)
{
	struct mountd *m = group->m;

	if (!group->is_busy || m->nested > 0)
		return;
	if (group->is_sealed)
		publish_some(group, POLL_FILES);
	else if (jobs_are_due(&group->jobs))
		seal(group);
	if (!group->is_busy)
		flush_ahead(m);
	else if (group->is_sealed)
		ev_async_send(m->loop, &m->sealed); /* when no request comes */
}

void group_finish(struct group *group)
{
	while (group->is_busy && !group->is_sealed)
		seal(group);
	if (group->is_busy)
		publish_some(group, group->num);
}
