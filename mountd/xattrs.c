#include "mountd/xattrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cas/metaseal.h"
#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/acl.h"
#include "mountd/at.h"
#include "mountd/mountd.h"
#include "mountd/records.h"

/* A page of records, the last one's tag into after. 1: fn had enough. */
static int visit_page(struct mountd *m, const struct ipc_bytes *records,
	uint8_t after[TREE_TAG_SIZE], xattrs_fn *fn, void *arg)
{
	uint8_t *buf = malloc(TREE_XATTR_SEALED_MAX), last[TREE_TAG_SIZE] = { 0 };
	struct records cursor = { records->data, records->len };
	struct tree_record rec;
	int r = 0;

	if (buf == NULL)
		return -ENOMEM;
	while (r == 0 && records_next(&cursor, &rec) == 0) {
		const uint8_t *value;
		const char *name;
		size_t name_len, len;

		/* Of several elements stored gives the winner first. */
		if (memcmp(last, rec.e.tag, sizeof(last)) == 0)
			continue;
		memcpy(last, rec.e.tag, sizeof(last));
		memcpy(after, rec.e.tag, sizeof(last));
		if (sealed_get_xattr(&m->sealer, &rec, buf, &name, &name_len, &value, &len) == 0)
			r = fn(arg, name, name_len, value, len);
	}
	free(buf);
	return r;
}

static int visit_after(struct mountd *m, uint64_t oid, const uint8_t after[TREE_TAG_SIZE],
	xattrs_fn *fn, void *arg)
{
	struct store_xattrs req = { .oid = at_oid(m, oid), .at = at_time(m, oid) };
	struct store_xattrs_reply reply;
	bool end = false;
	int r = 0;

	memcpy(req.after, after, TREE_TAG_SIZE);
	while (r == 0 && !end) {
		do {
			r = store_xattrs_wait(edge_store(m), &req, EDGE_WAIT_MS, &reply);
		} while (edge_again(m, r));
		if (r < 0)
			return r;
		end = reply.end || reply.records.len == 0;
		r = visit_page(m, &reply.records, req.after, fn, arg);
		store_xattrs_reply_release(&reply);
	}
	return r < 0 ? r : 0;
}

int xattrs_visit(struct mountd *m, const struct inode *inode, xattrs_fn *fn, void *arg)
{
	static const uint8_t first[TREE_TAG_SIZE];

	return inode->num_xattrs == 0 ? 0 : visit_after(m, inode->oid, first, fn, arg);
}

struct wanted {
	const char *name;
	size_t name_len;
	uint8_t *value; /* malloc'ed */
	size_t len;
};

static int take_wanted(
	void *arg, const char *name, size_t name_len, const uint8_t *value, size_t len)
{
	struct wanted *wanted = arg;

	/* Asked for from just before its tag: it is the first or it is not there. */
	if (name_len != wanted->name_len || memcmp(name, wanted->name, name_len) != 0)
		return 1;
	wanted->value = malloc(len + 1);
	if (wanted->value == NULL)
		return -ENOMEM;
	memcpy(wanted->value, value, len);
	wanted->len = len;
	return 1;
}

int xattrs_find(struct mountd *m, const struct inode *inode, const char *name, uint8_t **ret_value,
	size_t *ret_len)
{
	struct wanted wanted = { .name = name, .name_len = strlen(name) };
	uint8_t tag[TREE_TAG_SIZE];
	int r = 0;

	if (inode->num_xattrs > 0) {
		cas_xattr_tag(&m->sealer.keys, at_oid(m, inode->oid), name, wanted.name_len, tag);
		for (int i = TREE_TAG_SIZE - 1; i >= 0 && tag[i]-- == 0; i--)
			;
		r = visit_after(m, inode->oid, tag, take_wanted, &wanted);
	}
	*ret_value = wanted.value;
	*ret_len = wanted.len;
	return r;
}

int xattrs_find_acl(struct mountd *m, const struct inode *inode, const char *name,
	uint8_t **ret_value, size_t *ret_len)
{
	int r = xattrs_find(m, inode, name, ret_value, ret_len);

	if (r < 0 || *ret_value == NULL)
		return r;
	if (!acl_is_sound(*ret_value, *ret_len)) {
		free(*ret_value);
		*ret_value = NULL;
	} else if (strcmp(name, ACL_ACCESS) == 0) {
		acl_set_mode(*ret_value, *ret_len, inode->attr.mode);
	}
	return 0;
}
