#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cas/tree.h"
#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/contents.h"
#include "mountd/edges.h"
#include "mountd/hidden.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/records.h"

/* More chunks than this are not looked at: a request takes some milliseconds. */
#define CHUNKS_MAX 32768u
#define AT_ONCE	   256u

struct chunk_figures {
	uint64_t chunks, far_chunks, bytes, stored;
	bool is_partial; /* the map of the rest is far, or there are too many */
};

/* The writers of the elements of a register, the winner first. */
struct writers {
	struct tree_element best;
	size_t num;
};

static int locate(
	struct mountd *m, const struct cas_extent *extents, size_t num, struct chunk_figures *sum)
{
	uint8_t ids[AT_ONCE][32];
	struct store_locate req = { .ids = ids };
	struct store_locate_reply reply;
	int r;

	for (size_t i = 0; i < num; i++) {
		if (cas_extent_is_hole(&extents[i]))
			continue;
		memcpy(ids[req.num_ids++], extents[i].id.b, 32);
		sum->bytes += extents[i].len;
	}
	if (req.num_ids == 0)
		return 0;
	do {
		r = store_locate_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	sum->chunks += req.num_ids;
	for (size_t i = 0; i < reply.num_places; i++) {
		sum->stored += reply.places[i].arena != 0 ? reply.places[i].len : 0;
		sum->far_chunks += reply.places[i].arena == 0;
	}
	store_locate_reply_release(&reply);
	return 0;
}

static int count_tree(struct mountd *m, struct inode *inode, struct chunk_figures *sum)
{
	struct cas_extent *extents = malloc(AT_ONCE * sizeof(*extents));
	struct cas_tree *tree;
	uint64_t offset = 0;
	size_t num = 1;
	int r = extents != NULL ? contents_open(m, inode) : -ENOMEM;

	if (r == 0)
		r = contents_tree(inode, &tree);
	while (r == 0 && offset < inode->body.size && num > 0) {
		if (sum->chunks >= CHUNKS_MAX) {
			sum->is_partial = true;
			break;
		}
		r = cas_tree_slice(tree, offset, inode->body.size - offset, extents, AT_ONCE, &num);
		for (size_t i = 0; r == 0 && i < num; i++)
			offset += extents[i].len;
		if (r == 0)
			r = locate(m, extents, num, sum);
	}
	free(extents);
	if (r == -EAGAIN) {
		sum->is_partial = true;
		r = 0;
	}
	return r;
}

static int count_chunks(struct mountd *m, struct inode *inode, struct chunk_figures *sum)
{
	const struct sealed_body *body = &inode->body;

	if (!inode_is_file(inode) || body->form == SEALED_INLINE) {
		sum->bytes = sum->stored = inode_is_file(inode) ? body->size : 0;
		return 0;
	}
	if (body->form == SEALED_CHUNKS)
		return locate(m, body->chunks, body->num_chunks, sum);
	return count_tree(m, inode, sum);
}

static void see_writer(struct writers *writers, const struct tree_element *e)
{
	if (writers->num++ == 0 || tree_element_compare(e, &writers->best) > 0)
		writers->best = *e;
}

static int find_writers(struct mountd *m, uint64_t node, struct writers *attr, struct writers *body,
	size_t *ret_links)
{
	struct store_inode req = { .oid = at_oid(m, node), .at = at_time(m, node) };
	struct store_inode_reply reply;
	struct records records;
	struct tree_record rec;
	int r;

	do {
		r = store_inode_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	records = (struct records){ reply.records.data, reply.records.len };
	while (records_next(&records, &rec) == 0)
		if (rec.e.key.kind == TREE_LINK)
			++*ret_links;
		else if (rec.e.key.kind == TREE_ATTR)
			see_writer(attr, &rec.e);
		else if (rec.e.key.kind == TREE_BODY)
			see_writer(body, &rec.e);
	store_inode_reply_release(&reply);
	return 0;
}

static void print_writer(FILE *out, const char *what, const struct writers *writers)
{
	if (writers->num == 0)
		return;
	fprintf(out,
		",\"%s\":{\"replica\":\"%08x\",\"epoch\":%" PRIu64 ",\"lamport\":%" PRIu64
		",\"values\":%zu}",
		what, writers->best.stamp.replica, writers->best.stamp.epoch, writers->best.lamport,
		writers->num);
}

static void print(FILE *out, const struct mountd *m, const struct inode *inode,
	const struct chunk_figures *sum)
{
	static const char *const forms[] = {
		[SEALED_INLINE] = "inline", [SEALED_CHUNKS] = "chunks", [SEALED_TREE] = "tree"
	};

	fprintf(out,
		"{\"inode\":\"%016" PRIx64 "\",\"at\":%" PRIu64
		",\"mode\":%u,\"nlink\":%u,\"size\":%" PRIu64 ",\"btime\":%" PRId64
		",\"mtime\":%" PRId64 ",\"ctime\":%" PRId64 ",\"xattrs\":%u,\"unstored\":%s",
		at_oid(m, inode->oid), at_time(m, inode->oid), inode->attr.mode, inode->nlink,
		inode_size(inode), inode->attr.btime, inode_mtime(inode), inode_ctime(inode),
		inode->num_xattrs, inode->head != DIRTY_NO_HEAD ? "true" : "false");
	if (inode_is_dir(inode))
		fprintf(out, ",\"entries\":%" PRIu64, inode->entries);
	if (inode_is_file(inode))
		fprintf(out,
			",\"form\":\"%s\",\"chunks\":%" PRIu64 ",\"far_chunks\":%" PRIu64
			",\"chunk_bytes\":%" PRIu64 ",\"stored_bytes\":%" PRIu64 ",\"complete\":%s",
			forms[inode->body.form], sum->chunks, sum->far_chunks, sum->bytes,
			sum->stored, sum->is_partial ? "false" : "true");
}

int hidden_stat(struct mountd *m, struct inode *inode, char **ret, size_t *ret_len)
{
	struct writers attr = { 0 }, body = { 0 };
	struct chunk_figures sum = { 0 };
	size_t links = 0;
	FILE *out;
	int r = 0;

	if (inode->oid != AT_SNAP_DIR && inode->sibling_of == 0)
		r = find_writers(m, inode->oid, &attr, &body, &links);
	if (r == 0)
		r = count_chunks(m, inode, &sum);
	if (r < 0)
		return r;
	out = open_memstream(ret, ret_len);
	if (out == NULL)
		return -ENOMEM;
	print(out, m, inode, &sum);
	print_writer(out, "attributes", &attr);
	print_writer(out, "contents", &body);
	fprintf(out, ",\"links\":%zu,\"conflicts\":%zu}", links,
		body.num > 1 ? body.num - 1 : (size_t)0);
	return fclose(out) == 0 ? 0 : -ENOMEM;
}
