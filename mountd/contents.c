#include "mountd/contents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mountd/ahead.h"
#include "mountd/chunks.h"
#include "mountd/dir.h"
#include "mountd/figure_walk.h"
#include "mountd/flush.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/stream.h"

#define READ_NEAR (256u << 10)

static int load_node(void *ctx, const struct cas_id *id, uint8_t *buf, size_t *ret_len)
{
	struct contents *contents = ctx;

	return chunks_read_node(contents->m, id, buf, ret_len);
}

static int emit_node(void *ctx, const uint8_t *node, size_t len, struct cas_id *ret_id)
{
	struct contents *contents = ctx;

	return flush_node(contents->m, node, len, ret_id);
}

static const struct cas_tree_ops tree_ops = { .load = load_node, .emit = emit_node };

int contents_open(struct mountd *m, struct inode *inode)
{
	if (inode->contents != NULL)
		return 0;
	inode->contents = calloc(1, sizeof(*inode->contents));
	if (inode->contents == NULL)
		return -ENOMEM;
	inode->contents->m = m;
	return 0;
}

void contents_reset(struct inode *inode)
{
	if (inode->contents == NULL)
		return;
	cas_tree_free(inode->contents->tree);
	inode->contents->tree = NULL;
}

void contents_free(struct mountd *m, struct inode *inode)
{
	if (inode->contents == NULL)
		return;
	contents_reset(inode);
	/* The slots stay in the log: whoever drops an inode with unstored bytes cleared them first,
	 * or is about to exit and leaves them to the next mountd. */
	free(inode->contents->file.extents);
	free(inode->contents);
	inode->contents = NULL;
}

/* Takes a place among the files with a tree in memory, and its tree from whoever had it. */
static void take_place(struct mountd *m, uint64_t oid)
{
	uint64_t *place = &m->trees[m->next_tree++ % MOUNTD_TREES];
	struct inode *old = *place != 0 ? inode_find(&m->inodes, *place) : NULL;

	if (old != NULL && old->pins == 0)
		contents_reset(old);
	*place = oid;
}

static uint64_t base_limit(const struct inode *inode)
{
	return inode->head != DIRTY_NO_HEAD ? inode->dirty.base_limit : inode->body.size;
}

int contents_tree(struct inode *inode, struct cas_tree **ret_tree)
{
	static const struct sealed_body nothing = { .form = SEALED_CHUNKS };
	struct contents *contents = inode->contents;
	/* Of what does not count no node is needed, which may be in another store. */
	const struct sealed_body *body = base_limit(inode) > 0 ? &inode->body : &nothing;
	int r = 0;

	if (contents->tree == NULL) {
		take_place(contents->m, inode->oid);
		r = cas_tree_open(&contents->tree, body->form == SEALED_TREE ? &body->root : NULL,
			&tree_ops, contents);
		if (r < 0)
			return r;
		if (body->form == SEALED_CHUNKS)
			r = cas_tree_replace(
				contents->tree, 0, body->size, body->chunks, body->num_chunks);
		if (r < 0)
			contents_reset(inode);
	}
	*ret_tree = contents->tree;
	return r;
}

/* As cas_tree_slice, without a tree for a file of few chunks. */
static int slice(struct inode *inode, uint64_t offset, uint64_t len, struct cas_extent *extents,
	size_t max, size_t *ret_num)
{
	const struct sealed_body *body = &inode->body;
	struct cas_tree *tree;
	uint64_t start = 0;
	int r;

	if (body->form == SEALED_TREE || inode->contents->tree != NULL) {
		r = contents_tree(inode, &tree);
		return r < 0 ? r : cas_tree_slice(tree, offset, len, extents, max, ret_num);
	}
	*ret_num = 0;
	for (uint32_t i = 0; i < body->num_chunks && *ret_num < max; i++) {
		struct cas_extent extent = body->chunks[i];
		uint64_t end = start + extent.len, from = offset > start ? offset : start;
		uint64_t to = offset + len < end ? offset + len : end;

		if (from < to) {
			if (!cas_extent_is_hole(&extent))
				extent.chunk_off += (uint32_t)(from - start);
			extent.len = to - from;
			extents[(*ret_num)++] = extent;
		}
		start = end;
	}
	return 0;
}

/* The chunks of the small files that follow it in a directory whose files are read one after the
 * other, as grep -r does, behind the num that are there. Returns how many are there then. */
static size_t add_following(
	struct mountd *m, const struct inode *inode, struct cas_extent *extents, size_t num)
{
	const struct inode *dir = inode_find_quietly(&m->inodes, inode->parent);
	size_t at = 0;

	if (dir == NULL || dir->dir == NULL || !dir->is_searched)
		return num;
	while (at < dir->dir->num && dir->dir->order[at]->target != inode->oid)
		at++;
	for (at++; at < dir->dir->num && num + SEALED_FEW <= CHUNKS_BATCH; at++) {
		const struct inode *file =
			inode_find_quietly(&m->inodes, dir->dir->order[at]->target);

		if (file == NULL || file->body.form != SEALED_CHUNKS)
			continue;
		memcpy(extents + num, file->body.chunks, file->body.num_chunks * sizeof(*extents));
		num += file->body.num_chunks;
	}
	return num;
}

/* What the next reads will want too: a question for one chunk costs as much as for 256. */
static int prepare_ahead(struct mountd *m, struct inode *inode, uint64_t offset)
{
	struct cas_extent *ahead = malloc(CHUNKS_BATCH * sizeof(*ahead));
	size_t num = 0;
	int r;

	if (ahead == NULL)
		return -ENOMEM;
	/* -EAGAIN here is about a later node; what is needed now is found by the caller. */
	r = slice(inode, offset, 16u << 20, ahead, CHUNKS_BATCH, &num);
	if (r == 0)
		r = chunks_prepare(m, ahead, add_following(m, inode, ahead, num));
	free(ahead);
	return r == -EAGAIN ? 0 : r;
}

/* The chunks of the next AHEAD_BYTES of the file. */
static void start_group(struct inode *inode)
{
	struct contents *contents = inode->contents;
	struct cas_extent extents[AHEAD_GROUP];
	size_t num;

	if (slice(inode, contents->ahead_end, AHEAD_BYTES, extents, AHEAD_GROUP, &num) < 0)
		num = 0; /* a far node: what is read next finds it out */
	if (num > 0 && chunks_are_unknown(contents->m, extents, num))
		(void)prepare_ahead(contents->m, inode, contents->ahead_end);
	chunks_read_ahead(contents->m, extents, num);
	for (size_t i = 0; i < num; i++)
		contents->ahead_end += extents[i].len;
	if (num == 0)
		contents->ahead_end += AHEAD_BYTES;
}

/* For who reads on where the last read ended. The kernel asks for 128 KiB at a time, two at once,
 * and not always in order. */
static void read_ahead(struct inode *inode, uint64_t offset, size_t len)
{
	struct contents *contents = inode->contents;
	uint64_t end = offset + len, was = contents->read_end;
	bool is_next = offset > 0 && offset < was + READ_NEAR && was < end + READ_NEAR;

	contents->read_end = is_next && was > end ? was : end;
	if (!is_next || contents->ahead_end < contents->read_end)
		contents->ahead_end = contents->read_end;
	if (is_next && contents->ahead_end < contents->read_end + AHEAD_BYTES &&
		contents->ahead_end < base_limit(inode))
		start_group(inode);
}

static int read_tree(struct inode *inode, uint64_t offset, uint8_t *buf, size_t len)
{
	struct mountd *m = inode->contents->m;
	struct cas_extent extents[64];
	size_t num;
	int r = 0;

	while (r == 0 && len > 0) {
		r = slice(inode, offset, len, extents, 64, &num);
		if (r < 0)
			return r;
		if (num == 0)
			return -EBADMSG;
		if (chunks_are_unknown(m, extents, num))
			r = prepare_ahead(m, inode, offset);
		for (size_t i = 0; r == 0 && i < num; i++) {
			if (cas_extent_is_hole(&extents[i]))
				memset(buf, 0, extents[i].len);
			else
				r = chunks_read(m, &extents[i], 0, buf, extents[i].len);
			buf += extents[i].len;
			offset += extents[i].len;
			len -= extents[i].len;
		}
	}
	if (inode->contents->tree != NULL && cas_tree_num_nodes(inode->contents->tree) > 64)
		cas_tree_trim(inode->contents->tree, 16);
	return r;
}

static int read_base(struct inode *inode, uint64_t offset, uint8_t *buf, size_t len)
{
	uint64_t limit = base_limit(inode);
	size_t stored = offset >= limit ? 0 : limit - offset < len ? limit - offset : len;
	int r;

	memset(buf + stored, 0, len - stored);
	if (stored == 0)
		return 0;
	if (inode->body.form == SEALED_INLINE) {
		memcpy(buf, inode->body.data + offset, stored);
		return 0;
	}
	r = read_tree(inode, offset, buf, stored);
	if (r == 0)
		read_ahead(inode, offset, stored);
	return r;
}

int contents_read(struct inode *inode, uint64_t offset, uint8_t *buf, size_t len, size_t *ret_len)
{
	struct contents *contents = inode->contents;
	uint64_t size = inode_size(inode), end;
	size_t at;
	int r;

	*ret_len = 0;
	if (offset >= size)
		return 0;
	len = size - offset < len ? size - offset : len;
	end = offset + len;
	*ret_len = len;
	for (at = dirty_find(&contents->file, offset); offset < end; at++) {
		const struct dirty_extent *extent = &contents->file.extents[at];
		uint64_t start =
			at < contents->file.num && extent->offset < end ? extent->offset : end;
		size_t n;

		if (start > offset) {
			r = read_base(inode, offset, buf, start - offset);
			if (r < 0)
				return r;
			buf += start - offset;
			offset = start;
		}
		if (offset == end)
			break;
		n = extent->offset + extent->len - offset;
		n = n < end - offset ? n : end - offset;
		if (extent->is_zero)
			memset(buf, 0, n);
		else
			memcpy(buf,
				dirty_data(contents->m->dirty, extent) + (offset - extent->offset),
				n);
		buf += n;
		offset += n;
	}
	return 0;
}

static int base_kind(struct inode *inode, uint64_t offset, bool *ret_is_data, uint64_t *ret_end)
{
	uint64_t limit = base_limit(inode), data;
	struct cas_tree *tree;
	int r;

	*ret_is_data = false;
	*ret_end = UINT64_MAX;
	if (offset >= limit)
		return 0;
	*ret_is_data = true;
	*ret_end = limit;
	if (inode->body.form == SEALED_INLINE)
		return 0;
	r = contents_tree(inode, &tree);
	if (r == 0)
		r = cas_tree_seek(tree, offset, false, &data);
	if (r == -ENXIO) {
		*ret_is_data = false;
		return 0;
	}
	if (r < 0)
		return r;
	*ret_is_data = data == offset;
	if (*ret_is_data)
		r = cas_tree_seek(tree, offset, true, &data);
	*ret_end = data < limit ? data : limit;
	return r;
}

int contents_kind(struct inode *inode, uint64_t offset, bool *ret_is_data, uint64_t *ret_end)
{
	const struct dirty_file *file = &inode->contents->file;
	uint64_t size = inode_size(inode);
	size_t at = dirty_find(file, offset);
	int r = 0;

	if (at < file->num && file->extents[at].offset <= offset) {
		*ret_is_data = !file->extents[at].is_zero;
		*ret_end = file->extents[at].offset + file->extents[at].len;
	} else {
		r = base_kind(inode, offset, ret_is_data, ret_end);
		if (at < file->num && file->extents[at].offset < *ret_end)
			*ret_end = file->extents[at].offset;
	}
	if (*ret_end > size)
		*ret_end = size;
	return r;
}

void contents_head(struct mountd *m, struct inode *inode)
{
	/* The head was taken by contents_touch: this cannot fail. */
	(void)dirty_head_set(m->dirty, &inode->head, &inode->dirty);
	figure_walk_changed(m, inode->oid);
}

bool contents_hold_attr(struct mountd *m, struct inode *inode, const struct sealed_attr *attr)
{
	if (!inode_is_file(inode) || inode->head == DIRTY_NO_HEAD || inode->dirty.view != m->view ||
		!dirty_log_takes_attrs(m->dirty) || publish_error(m) < 0)
		return false;
	inode->attr = *attr;
	inode->dirty.mode = attr->mode;
	inode->dirty.uid = attr->uid;
	inode->dirty.gid = attr->gid;
	inode->dirty.atime = attr->atime;
	if (attr->ctime > inode->dirty.ctime)
		inode->dirty.ctime = attr->ctime;
	inode->dirty.holds_attr = 1;
	contents_head(m, inode);
	return true;
}

void contents_attr_stored(struct mountd *m, struct inode *inode)
{
	if (!inode_holds_attr(inode))
		return;
	inode->dirty.holds_attr = 0;
	contents_head(m, inode);
}

/* Whether it can be stored if only a part of it is written: what is not here is known before the
 * first byte, and the nodes on the way are needed for storing it anyway. */
static bool is_far(struct inode *inode)
{
	struct cas_extent extent;
	struct cas_tree *tree;
	uint64_t start;

	return inode->body.form == SEALED_TREE && contents_tree(inode, &tree) == 0 &&
	       cas_tree_find(tree, 0, &extent, &start) == -EAGAIN;
}

int contents_touch(struct mountd *m, struct inode *inode, uint32_t slots)
{
	int r = publish_error(m);

	if (r < 0)
		return r;
	if (inode_is_file(inode)) {
		r = contents_open(m, inode);
		if (r < 0)
			return r;
		if (inode->head == DIRTY_NO_HEAD && !inode->is_near)
			inode->is_far = is_far(inode);
		inode->is_near = !inode->is_far;
	}
	/* Files that cannot be stored for now leave half of the log to the others. */
	if (inode->is_far)
		slots += dirty_log_num_slots(m->dirty) / 2;
	/* It may be the oldest, and be stored for that; its contents are for who goes on writing.
	 */
	inode->pins++;
	r = flush_make_room(m, slots + 2);
	inode->pins--;
	if (r < 0)
		return r == -ENOSPC && inode->is_far && publish_error(m) == 0 ? -EHOSTUNREACH : r;
	if (inode->head != DIRTY_NO_HEAD)
		return 0;
	inode->dirty = (struct dirty_head){ .oid = inode->oid,
		.size = inode_size(inode),
		.base_limit = inode->body.size,
		.view = m->view,
		.mtime = inode_mtime(inode),
		.ctime = inode_ctime(inode) };
	r = dirty_head_set(m->dirty, &inode->head, &inode->dirty);
	if (r < 0)
		return r;
	inode_mark_dirty(&m->inodes, inode, ev_now(m->loop));
	return 0;
}

/* Bytes that live in the record move to the log before the first change: from then on there is
 * one kind of base less. */
static void lift_inline(struct mountd *m, struct inode *inode)
{
	uint64_t limit = inode->dirty.base_limit;

	if (inode->body.form != SEALED_INLINE || limit == 0)
		return;
	inode->dirty.base_limit = 0;
	dirty_write(m->dirty, &inode->contents->file, inode->oid, 0, inode->body.data, limit);
}

static void changed(struct mountd *m, struct inode *inode, int64_t now)
{
	inode->dirty.mtime = inode->dirty.ctime = now;
	inode->is_copied = false;
	contents_head(m, inode);
}

void contents_write(struct mountd *m, struct inode *inode, uint64_t offset, const void *data,
	size_t len, int64_t now)
{
	lift_inline(m, inode);
	/* The head first: bytes beyond the size that it says would be cut by a recovery. */
	if (offset + len > inode->dirty.size)
		inode->dirty.size = offset + len;
	changed(m, inode, now);
	dirty_write(m->dirty, &inode->contents->file, inode->oid, offset, data, len);
	m->bytes_written += len;
}

void contents_zero(
	struct mountd *m, struct inode *inode, uint64_t offset, uint64_t len, int64_t now)
{
	lift_inline(m, inode);
	changed(m, inode, now);
	dirty_zero(m->dirty, &inode->contents->file, inode->oid, offset, len);
}

void contents_resize(struct mountd *m, struct inode *inode, uint64_t size, int64_t now)
{
	if (size < inode->dirty.size)
		stream_cancel(m->stream, inode->oid);
	if (size > 0)
		lift_inline(m, inode);
	/* Slots go before the head says the new size: a killed resize is repeated by the kernel,
	 * and must not find bytes that were cut. */
	if (size < inode->dirty.size)
		dirty_truncate(m->dirty, &inode->contents->file, size);
	inode->dirty.size = size;
	if (inode->dirty.base_limit > size)
		inode->dirty.base_limit = size;
	inode->is_far = inode->is_far && inode->dirty.base_limit > 0;
	changed(m, inode, now);
}
