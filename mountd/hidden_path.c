#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/edges.h"
#include "mountd/hidden.h"
#include "mountd/mountd.h"
#include "mountd/records.h"
#include "mountd/sibling.h"

#define DEPTH_MAX 4096

/* The name of an inode in its parent: of a file with several, of the one that wins; of a directory
 * out of a cycle the one in the root. */
static int name_of(struct mountd *m, uint64_t oid, uint64_t at, struct sealed_link *ret,
	char name[SEALED_NAME_MAX + 1])
{
	struct store_inode_reply reply;
	struct tree_record rec, best = { 0 };
	struct records records;
	int r;

	do {
		r = store_inode_wait(edge_store(m), &(struct store_inode){ .oid = oid, .at = at },
			EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	records = (struct records){ reply.records.data, reply.records.len };
	while ((r = records_next(&records, &rec)) == 0)
		if (rec.e.key.kind == TREE_LINK && rec.e.target == oid &&
			(best.sealed == NULL || tree_element_compare(&rec.e, &best.e) > 0))
			best = rec;
	if (r == -ENOENT)
		r = best.sealed != NULL ? sealed_get_link(&m->sealer, &best, ret) : -ENOENT;
	if (r == 0 && reply.num_nodes > 0 && reply.nodes[0].is_fallen) {
		ret->parent = TREE_ROOT;
		ret->name_len = (uint16_t)sibling_name(
			name, ret->name, ret->name_len, best.e.stamp.replica, 1);
		name[ret->name_len] = '\0';
	} else if (r == 0) {
		memcpy(name, ret->name, ret->name_len);
		name[ret->name_len] = '\0';
	}
	store_inode_reply_release(&reply);
	return r;
}

int hidden_path(struct mountd *m, const char *hex, char **ret, size_t *ret_len)
{
	char name[SEALED_NAME_MAX + 1], *path, *end;
	uint64_t oid = strtoull(hex, &end, 16);
	size_t at = HIDDEN_MAX;
	uint64_t at_time = 0;
	int r = 0;

	if (*end == '.' && end[1] != '\0')
		at_time = strtoull(end + 1, &end, 16);
	if (*hex == '\0' || *end != '\0' || oid == 0)
		return -ENODATA;
	path = malloc(HIDDEN_MAX);
	if (path == NULL)
		return -ENOMEM;
	for (int depth = 0; r == 0 && oid != TREE_ROOT; depth++) {
		struct sealed_link link;

		r = depth < DEPTH_MAX ? name_of(m, oid, at_time, &link, name) : -ELOOP;
		if (r == 0 && (size_t)link.name_len + 1 > at)
			r = -E2BIG;
		if (r < 0)
			break;
		at -= link.name_len;
		memcpy(path + at, name, link.name_len);
		path[--at] = '/';
		oid = link.parent;
	}
	if (r == 0) {
		*ret_len = HIDDEN_MAX - at;
		memmove(path, path + at, *ret_len);
		*ret = path;
		return 0;
	}
	free(path);
	return r == -ENOENT ? -ENODATA : r;
}
