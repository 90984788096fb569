#include "mountd/mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/key.gen.h"
#include "ipc/store.gen.h"
#include "ipc/work.gen.h"
#include "mountd/contents.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/publish.h"
#include "mountd/request.h"
#include "mountd/snapshots.h"
#include "mountd/tree_edit.h"
#include "worker/log.h"

static int get_keys(struct mountd *m)
{
	struct cas_volume_keys *keys = &m->sealer.keys;
	struct key_volume_reply reply;
	int r;

	do {
		r = key_volume_wait(edge_key(m), &(struct key_volume){ 0 }, EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	memcpy(keys->chunker, reply.chunker, CAS_KEY_SIZE);
	memcpy(keys->seal, reply.seal, CAS_KEY_SIZE);
	memcpy(keys->siv, reply.siv, CAS_KEY_SIZE);
	memcpy(keys->name, reply.name, CAS_KEY_SIZE);
	memcpy(keys->value, reply.value, CAS_KEY_SIZE);
	key_volume_reply_release(&reply);
	m->has_keys = true;
	return cas_chunker_init(&m->chunker, keys->chunker, NULL);
}

static int get_volume(struct mountd *m)
{
	struct store_attach_reply reply;
	int r;

	do {
		r = store_attach_wait(edge_store(m), &(struct store_attach){ .reader = m->at != 0 },
			EDGE_WAIT_MS, &reply);
	} while (edge_again(m, r));
	if (r < 0)
		return r;
	memcpy(m->sealer.volume, reply.volume, CAS_VOLUME_SIZE);
	m->replica = reply.replica;
	m->view = reply.view;
	store_attach_reply_release(&reply);
	return 0;
}

/* The root's attr is the same bytes on every peer that makes it: no conflict. */
static int make_root(struct mountd *m)
{
	struct sealed_attr attr = { .mode = S_IFDIR | 0755 };
	struct inode *root;
	struct batch batch;
	int r = load_inode(m, TREE_ROOT, &root);

	if (r != -ENOENT)
		return r;
	batch_begin(m, &batch);
	batch_put_attr(&batch, TREE_ROOT, &attr);
	return batch_publish_aside(&batch, m->view);
}

/* A mount of an instant: which one that is was settled by the first mountd of the mount, as what
 * is kept may become less. */
static int settle_instant(struct mountd *m)
{
	struct inode *root;
	int r = 0;

	if (m->at == 0)
		return 0;
	if (m->at > (uint64_t)request_now())
		return -EINVAL;
	if (state_at(&m->state) == 0)
		r = snapshots_settle(m, m->at, &m->at);
	else
		m->at = state_at(&m->state);
	if (r == 0)
		r = load_inode(m, TREE_ROOT, &root);
	if (r == 0)
		state_set_at(&m->state, m->at);
	return r;
}

/* --- what an earlier mountd had not stored yet --- */

static void recover_attr(struct inode *inode)
{
	struct dirty_head *head = &inode->dirty;

	if (!inode_is_file(inode) || !S_ISREG(head->mode))
		head->holds_attr = 0;
	if (!head->holds_attr)
		return;
	inode->attr.mode = head->mode;
	inode->attr.uid = head->uid;
	inode->attr.gid = head->gid;
	inode->attr.atime = head->atime;
	if (head->ctime > inode->attr.ctime)
		inode->attr.ctime = head->ctime;
}

static bool recover_head(void *ctx, uint32_t index, const struct dirty_head *head)
{
	struct mountd *m = ctx;
	struct inode *inode;

	if (load_inode(m, head->oid, &inode) < 0 || inode->head != DIRTY_NO_HEAD)
		return false;
	if (inode_is_file(inode) && contents_open(m, inode) < 0)
		return false;
	inode->head = index;
	inode->dirty = *head;
	recover_attr(inode);
	inode_mark_dirty(&m->inodes, inode, ev_now(m->loop));
	return true;
}

static struct dirty_file *recover_file(void *ctx, uint64_t oid)
{
	struct mountd *m = ctx;
	struct inode *inode = inode_find(&m->inodes, oid);

	if (inode == NULL || inode->head == DIRTY_NO_HEAD || inode->contents == NULL)
		return NULL;
	return &inode->contents->file;
}

static int recover(struct mountd *m)
{
	struct dirty_recovery recovery = {
		.ctx = m, .on_head = recover_head, .on_file = recover_file
	};
	int r = dirty_recover(m->dirty, &recovery);

	if (r < 0)
		return r;
	/* A slot beyond its file's end was being written when mountd died. */
	for (struct inode *inode = m->inodes.dirty.dirty_next; inode != &m->inodes.dirty;
		inode = inode->dirty_next)
		if (inode->contents != NULL)
			dirty_truncate(m->dirty, &inode->contents->file, inode->dirty.size);
	m->inodes.counts_lost = state_has_init(&m->state);
	return 0;
}

int mount_begin(struct mountd *m, const struct work_mount *req, const char **ret_why)
{
	int state_fd, r;

	m->uid = req->uid;
	m->gid = req->gid;
	m->keep_owner = req->keep_owner;
	m->read_only = req->flags & 1 || req->at != 0;
	/* It is asked for the volume with store_attach before: a second one says this. */
	m->at = req->at;
	setenv("TZ", *req->zone ? req->zone : "UTC0", 1);
	tzset();
	*ret_why = "the memory shared with the supervisor";
	if (m->ring == NULL)
		return -ENOTCONN;
	r = state_lock(IPC_TAKE_FD(req->state), &state_fd);
	if (r == 0)
		r = state_map(&m->state, state_fd);
	if (r == 0)
		r = dirty_log_open(&m->dirty, req->dirty);
	if (r < 0)
		return r;
	*ret_why = "the keys of the volume";
	r = get_keys(m);
	if (r < 0)
		return r;
	*ret_why = "the records of the volume";
	r = get_volume(m);
	if (r == 0 && !m->read_only)
		r = make_root(m);
	if (r < 0)
		return r;
	*ret_why = "that instant";
	r = settle_instant(m);
	if (r == -ENOENT || r == -ESTALE)
		*ret_why = "nothing is kept of that time";
	if (r < 0)
		return r;
	*ret_why = "what was written before";
	r = recover(m);
	if (r == 0 && !state_has_init(&m->state) && !m->read_only)
		r = edit_remove_orphans(m);
	if (r < 0)
		return r;
	*ret_why = "the connection to the kernel";
	r = session_start(m, IPC_TAKE_FD(req->fuse));
	if (r == 0)
		flush_start_timer(m);
	return r;
}
