#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/at.h"
#include "mountd/edges.h"
#include "mountd/hidden.h"
#include "mountd/mountd.h"
#include "mountd/records.h"

/* A line takes some 190 bytes. */
#define VERSIONS_MAX 320u
#define INODES_MAX   16u

/* The newest versions that were seen, in a ring. */
struct version {
	uint64_t since, until;
	uint64_t inode, epoch;
	uint32_t replica;
	uint8_t kind;
	uint32_t mode, type; /* attr; link */
	uint64_t size;	     /* body */
	int64_t mtime;
};

struct history {
	struct mountd *m;
	struct version *ring;
	size_t num;
	uint64_t inodes[INODES_MAX]; /* that the name stood for */
	size_t num_inodes;
};

static void read_body(const struct sealer *sealer, const struct tree_record *rec, struct version *v)
{
	struct sealed_body body;

	if (sealed_get_body(sealer, rec, &body) < 0)
		return;
	v->size = body.size;
	v->mtime = body.mtime;
	free(body.data);
}

static void read_attr(const struct sealer *sealer, const struct tree_record *rec, struct version *v)
{
	struct sealed_attr attr;

	if (sealed_get_attr(sealer, rec, &attr) < 0)
		return;
	v->mode = attr.mode;
	v->mtime = attr.mtime;
	free(attr.symlink);
}

static void remember(struct history *h, uint64_t oid)
{
	for (size_t i = 0; i < h->num_inodes; i++)
		if (h->inodes[i] == oid)
			return;
	/* Of very many files of one name the last ones. */
	if (h->num_inodes == INODES_MAX)
		memmove(h->inodes, h->inodes + 1, --h->num_inodes * sizeof(*h->inodes));
	h->inodes[h->num_inodes++] = oid;
}

static void add(
	struct history *h, const struct store_version *version, const struct tree_record *rec)
{
	struct version *v = &h->ring[h->num++ % VERSIONS_MAX];

	*v = (struct version){ .since = version->since,
		.until = version->until,
		.inode = rec->e.key.id,
		.kind = rec->e.key.kind,
		.replica = rec->e.stamp.replica,
		.epoch = rec->e.stamp.epoch };
	if (v->kind == TREE_BODY)
		read_body(&h->m->sealer, rec, v);
	else if (v->kind == TREE_ATTR)
		read_attr(&h->m->sealer, rec, v);
	if (v->kind == TREE_LINK) {
		v->inode = rec->e.target;
		remember(h, rec->e.target);
	}
}

/* Of each version the element that was shown. */
static int add_page(struct history *h, const struct store_versions_reply *reply, uint64_t *after)
{
	const uint8_t *data = reply->records.data;
	size_t left = reply->records.len;

	for (size_t i = 0; i < reply->num_versions; i++) {
		const struct store_version *version = &reply->versions[i];
		struct records records = { data, version->size };
		struct tree_record rec, best;
		bool has = false;

		if (version->size > left)
			return -EBADMSG;
		while (records_next(&records, &rec) == 0) {
			if (!has || tree_element_compare(&rec.e, &best.e) > 0)
				best = rec;
			has = true;
		}
		if (has)
			add(h, version, &best);
		data += version->size;
		left -= version->size;
		*after = version->since;
	}
	return 0;
}

static int add_versions(struct history *h, struct store_versions *req)
{
	struct store_versions_reply reply;
	bool end = false;
	int r = 0;

	while (r == 0 && !end) {
		uint64_t before = req->after;

		do {
			r = store_versions_wait(edge_store(h->m), req, EDGE_WAIT_MS, &reply);
		} while (edge_again(h->m, r));
		if (r < 0)
			return r;
		end = reply.end || reply.num_versions == 0;
		r = add_page(h, &reply, &req->after);
		if (!end && req->after <= before)
			r = -EBADMSG; /* else it would never end */
		store_versions_reply_release(&reply);
	}
	return r;
}

static int add_inode(struct history *h, uint64_t oid)
{
	struct store_versions body = { .kind = TREE_BODY, .id = oid };
	struct store_versions attr = { .kind = TREE_ATTR, .id = oid };
	int r = add_versions(h, &body);

	return r < 0 ? r : add_versions(h, &attr);
}

static void print(FILE *out, const struct history *h)
{
	static const char *const kinds[] = { [TREE_LINK] = "name",
		[TREE_BODY] = "contents",
		[TREE_ATTR] = "attributes",
		[TREE_XATTR] = "xattr" };
	size_t first = h->num > VERSIONS_MAX ? h->num - VERSIONS_MAX : 0;

	fprintf(out, "{\"complete\":%s,\"versions\":[", first == 0 ? "true" : "false");
	for (size_t i = first; i < h->num; i++) {
		const struct version *v = &h->ring[i % VERSIONS_MAX];

		fprintf(out,
			"%s{\"kind\":\"%s\",\"since\":%" PRIu64 ",\"until\":%" PRIu64
			",\"inode\":\"%016" PRIx64 "\",\"replica\":\"%08x\"",
			i > first ? "," : "", kinds[v->kind], v->since, v->until, v->inode,
			v->replica);
		if (v->kind == TREE_BODY)
			fprintf(out, ",\"size\":%" PRIu64 ",\"mtime\":%" PRId64, v->size, v->mtime);
		if (v->kind == TREE_ATTR)
			fprintf(out, ",\"mode\":%u", v->mode);
		fprintf(out, "}");
	}
	fprintf(out, "]}");
}

int hidden_log(struct mountd *m, struct inode *inode, const char *name, char **ret, size_t *ret_len)
{
	struct history h = { .m = m };
	struct store_versions names = { .kind = TREE_LINK, .parent = at_oid(m, inode->oid) };
	FILE *out = NULL;
	int r = 0;

	if (inode->oid == AT_SNAP_DIR)
		return -ENODATA;
	h.ring = calloc(VERSIONS_MAX, sizeof(*h.ring));
	if (h.ring == NULL)
		return -ENOMEM;
	if (name != NULL) {
		cas_name_tag(&m->sealer.keys, names.parent, name, strlen(name), names.tag);
		r = add_versions(&h, &names);
	} else {
		remember(&h, names.parent);
	}
	for (size_t i = 0; r == 0 && i < h.num_inodes; i++)
		r = add_inode(&h, h.inodes[i]);
	if (r == 0 && h.num == 0)
		r = -ENODATA;
	if (r == 0)
		out = open_memstream(ret, ret_len);
	if (out != NULL) {
		print(out, &h);
		r = fclose(out) == 0 ? 0 : -ENOMEM;
	}
	free(h.ring);
	return r;
}
