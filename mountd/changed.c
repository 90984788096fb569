#define FUSE_USE_VERSION 314
#include "mountd/changed.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ipc/chan.h"
#include "ipc/store.gen.h"
#include "mountd/contents.h"
#include "mountd/dir.h"
#include "mountd/figure_walk.h"
#include "mountd/flush.h"
#include "mountd/load.h"
#include "mountd/mountd.h"
#include "mountd/next_dir.h"
#include "mountd/sibling.h"

#define NOTIFY_INC_EPOCH 8

/* Something to tell the kernel. name NULL: the inode itself; oid 0: all names. */
struct told {
	struct told *next;
	uint64_t oid;
	bool keeps_pages; /* of the inode only its attributes are to be asked again */
	uint64_t seen;	  /* not for the kernel: all before it was told, this view is shown */
	size_t name_len;
	char *name;
};

/* A notice that came while a handler was waiting. */
struct held {
	struct held *next;
	struct store_changed msg;
};

struct changed {
	struct mountd *m;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct told *first, **last; /* under the lock */
	_Atomic uint64_t seen;	    /* the last view shown: from the thread to the loop */
	int seen_fd;		    /* an eventfd, that says so */
	ev_io seen_signal;
	bool is_apart;			/* the thread's: it has its own table of descriptors */
	struct held *held, **held_last; /* the main thread's */
	ev_timer timer;
};

static void notify(struct mountd *m, const struct told *told)
{
	struct fuse_out_header epoch = { .len = sizeof(epoch), .error = NOTIFY_INC_EPOCH };

	/* Errors are not ours: ENOENT (the kernel does not know it), EINVAL (an old kernel). */
	if (told->oid == 0)
		(void)!write(m->session.fd, &epoch, sizeof(epoch));
	else if (told->name != NULL)
		(void)fuse_lowlevel_notify_inval_entry(
			m->session.se, told->oid, told->name, told->name_len);
	else
		(void)fuse_lowlevel_notify_inval_inode(
			m->session.se, told->oid, told->keeps_pages ? -1 : 0, 0);
}

/*
 * If this process is killed while the thread waits in the kernel, that wait may last until the next
 * mountd serves. Whatever else is open here, and the lock on the state memory, must not: so the
 * thread has a table of its own, with the two descriptors in it that it needs. (remains.h of the
 * supervisor.)
 */
static void stand_apart(struct changed *changed)
{
	const unsigned a = (unsigned)changed->m->session.fd, b = (unsigned)changed->seen_fd;
	const unsigned low = a < b ? a : b, high = a < b ? b : a;

	if (changed->is_apart)
		return;
	changed->is_apart = true;
	if (close_range(high + 1, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		return; /* no worse than before Linux 5.9 */
	if (high > low + 1)
		(void)close_range(low + 1, high - 1, 0);
	if (low > 0)
		(void)close_range(0, low - 1, 0);
}

static void *changed_main(void *arg)
{
	struct changed *changed = arg;

	pthread_mutex_lock(&changed->lock);
	for (;;) {
		struct told *told;

		while (changed->first == NULL)
			pthread_cond_wait(&changed->wake, &changed->lock);
		told = changed->first;
		changed->first = told->next;
		if (changed->first == NULL)
			changed->last = &changed->first;
		pthread_mutex_unlock(&changed->lock);
		stand_apart(changed);
		if (told->seen) {
			atomic_store(&changed->seen, told->seen);
			eventfd_write(changed->seen_fd, 1);
		} else {
			notify(changed->m, told);
		}
		free(told->name);
		free(told);
		pthread_mutex_lock(&changed->lock);
	}
	return NULL;
}

static void on_seen(struct ev_loop *loop, ev_io *signal, int events)
{
	struct changed *changed = signal->data;
	struct store_seen msg;
	eventfd_t ignored;

	eventfd_read(changed->seen_fd, &ignored);
	msg.view = atomic_load(&changed->seen);
	if (changed->m->edges.store != NULL)
		(void)store_seen(changed->m->edges.store, &msg);
}

int changed_new(struct changed **ret, struct mountd *m)
{
	struct changed *changed = calloc(1, sizeof(*changed));
	sigset_t all, old;
	int r;

	if (changed == NULL)
		return -ENOMEM;
	changed->m = m;
	changed->last = &changed->first;
	changed->held_last = &changed->held;
	changed->seen_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (changed->seen_fd < 0)
		return -errno;
	ev_io_init(&changed->seen_signal, on_seen, changed->seen_fd, EV_READ);
	changed->seen_signal.data = changed;
	ev_io_start(m->loop, &changed->seen_signal);
	pthread_mutex_init(&changed->lock, NULL);
	pthread_cond_init(&changed->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = -pthread_create(&changed->thread, NULL, changed_main, changed);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*ret = changed;
	return r;
}

static void enqueue(struct changed *changed, struct told *told)
{
	pthread_mutex_lock(&changed->lock);
	*changed->last = told;
	changed->last = &told->next;
	pthread_cond_signal(&changed->wake);
	pthread_mutex_unlock(&changed->lock);
}

/* Behind all that the kernel is to be told of this view. */
static void tell_seen(struct changed *changed, uint64_t view)
{
	struct told *told = calloc(1, sizeof(*told));

	if (told == NULL)
		abort();
	told->seen = view;
	enqueue(changed, told);
}

static void tell(struct changed *changed, uint64_t oid, const char *name, size_t len)
{
	struct told *told = calloc(1, sizeof(*told));

	if (told == NULL)
		abort();
	told->oid = oid;
	if (name != NULL) {
		told->name = strndup(name, len);
		told->name_len = len;
		if (told->name == NULL)
			abort();
	}
	enqueue(changed, told);
}

/*
 * What is dirty here is what its pages say, and stays so until it is stored (changed_look_again).
 * To drop them the kernel waits for each that is being written; a mountd that is killed while it
 * waits for a writer cannot end before its successor has answered that writer.
 */
static void tell_inode(struct changed *changed, uint64_t oid)
{
	const struct inode *inode = inode_find_quietly(&changed->m->inodes, oid);
	struct told *told = calloc(1, sizeof(*told));

	if (told == NULL)
		abort();
	told->oid = oid;
	told->keeps_pages = inode != NULL && inode->head != DIRTY_NO_HEAD;
	enqueue(changed, told);
}

void changed_forget_name(struct changed *changed, uint64_t parent, const char *name, size_t len)
{
	tell(changed, parent, name, len);
}

void changed_forget_inode(struct changed *changed, uint64_t oid)
{
	tell(changed, oid, NULL, 0);
}

static void drop_names(struct mountd *m, struct inode *inode)
{
	if (inode->dir == NULL)
		return;
	m->num_names -= inode->dir->num;
	dir_clear(inode->dir);
}

int changed_refresh(struct mountd *m, struct inode *inode)
{
	struct inode *fresh, old = *inode;
	uint64_t oid = inode->oid;
	int r;

	/* Beside what came, as its view says, and then the greater of both is shown. */
	(void)flush_attr(m, inode);
	/* Under a number that is nobody's, the old one is out of the way of its successor. */
	inode_rename(&m->inodes, inode, UINT64_MAX);
	r = load_inode(m, oid, &fresh);
	if (r == 0) {
		if (!inode_holds_attr(inode)) {
			free(inode->attr.symlink);
			inode->attr = fresh->attr;
			fresh->attr.symlink = NULL;
		}
		inode->nlink = fresh->nlink;
		inode->entries = fresh->entries;
		inode->subdirs = fresh->subdirs;
		inode->num_xattrs = fresh->num_xattrs;
		inode->strays = fresh->strays;
		inode->has_no_default_acl = false;
		if (fresh->parent != 0)
			inode->parent = fresh->parent;
		inode->has_siblings = fresh->has_siblings;
		if (old.head == DIRTY_NO_HEAD) {
			free(inode->body.data);
			inode->body = fresh->body;
			inode->has_body = fresh->has_body;
			inode->is_near = false;
			fresh->body.data = NULL;
			contents_reset(inode);
		}
		inode_drop(&m->inodes, fresh);
	} else if (r == -ENOENT) {
		/* Any other error says nothing about the file, whose last bytes may be here only.
		 */
		inode->nlink = 0;
		r = 0;
	}
	inode->is_stale = r < 0;
	inode_rename(&m->inodes, inode, oid);
	return r;
}

static void forget_inode(struct mountd *m, uint64_t oid)
{
	struct inode *inode = inode_find(&m->inodes, oid);

	if (inode == NULL || inode->sibling_of != 0)
		return;
	drop_names(m, inode);
	if (inode->pins > 0 || inode->head != DIRTY_NO_HEAD || inode->nlink == 0)
		(void)changed_refresh(m, inode);
	else if (lookup_held(&m->inodes, oid) > 0)
		inode->is_stale = true; /* if it is gone, who has it open needs it as it was */
	else
		inode_drop(&m->inodes, inode);
}

static void link_changed(struct changed *changed, const struct store_change *change)
{
	struct mountd *m = changed->m;
	struct inode *dir = inode_find(&m->inodes, change->parent);
	struct dirent_entry *entry = NULL;
	char name[SEALED_NAME_MAX + 1];
	bool known = false;

	if (dir != NULL && dir->dir != NULL)
		entry = dir_find_lid(dir->dir, change->id);
	if (entry != NULL) {
		known = true;
		tell(changed, change->parent, entry->name, entry->name_len);
	}
	forget_inode(m, change->parent);
	/* A name that came: the kernel may remember that it is not there. */
	if (load_dir(m, change->parent, &dir) == 0 && load_tag(m, dir, change->tag, name) == 0) {
		known = true;
		tell(changed, change->parent, name, strlen(name));
	}
	if (!known)
		tell(changed, 0, NULL, 0);
	tell(changed, change->parent, NULL, 0);
}

/* A body that came may be one of several now, or the last of them: the names beside the file are
 * computed anew. */
static void body_changed(struct changed *changed, uint64_t oid)
{
	struct mountd *m = changed->m;
	struct inode *inode = inode_find(&m->inodes, oid), *dir;
	bool had = inode != NULL && inode->has_siblings;

	if (had)
		sibling_drop(m, inode);
	forget_inode(m, oid);
	if (load_inode(m, oid, &inode) < 0 || (!had && !inode->has_siblings))
		return;
	dir = inode_find(&m->inodes, inode->parent);
	if (dir != NULL)
		drop_names(m, dir);
	tell(changed, inode->parent, NULL, 0);
	tell(changed, 0, NULL, 0);
}

/* Figures: it may be in another directory now, or have more names. */
static void count_anew(struct mountd *m, uint64_t oid)
{
	struct inode *inode;

	if (figures_empty(m->figures) || load_inode(m, oid, &inode) < 0)
		return;
	figure_walk_changed(m, oid);
	if (inode->nlink > 1 && !inode_is_dir(inode))
		figures_lose_links(m->figures);
}

/* By number: a wait for stored may evict any inode that nobody pins. */
static void apply_all(struct changed *changed)
{
	struct mountd *m = changed->m;
	uint64_t *oids = calloc(m->inodes.num + 1, sizeof(*oids));
	struct inode *inode;
	size_t num = 0;

	if (oids == NULL)
		abort();
	for (inode = m->inodes.newest.newer; inode != &m->inodes.newest; inode = inode->newer)
		oids[num++] = inode->oid;
	for (size_t i = 0; i < num; i++) {
		inode = inode_find_quietly(&m->inodes, oids[i]);
		if (inode == NULL || inode->sibling_of != 0)
			continue;
		tell_inode(changed, oids[i]);
		forget_inode(m, oids[i]);
	}
	free(oids);
	tell(changed, 0, NULL, 0);
}

static void apply(struct changed *changed, const struct store_changed *msg)
{
	struct mountd *m = changed->m;
	/* A stored that died between committing a pull and telling it leaves a gap. */
	bool all = msg->all || msg->since > m->view;

	if (msg->view > m->view)
		m->view = msg->view;
	if (all) {
		figures_forget_all(m->figures);
		apply_all(changed);
		return;
	}
	for (size_t i = 0; i < msg->num_changes; i++) {
		const struct store_change *change = &msg->changes[i];

		if (change->kind == TREE_LINK) {
			figures_touch(m->figures, change->parent);
			link_changed(changed, change);
		} else {
			figure_walk_changed(m, change->id);
			if (change->kind == TREE_BODY)
				body_changed(changed, change->id);
			else
				forget_inode(m, change->id);
			tell_inode(changed, change->id);
			count_anew(m, change->id);
		}
	}
}

static void apply_held(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct changed *changed = timer->data;
	struct mountd *m = changed->m;
	struct held *held;

	if (m->nested > 0)
		return; /* the timer repeats */
	ev_timer_stop(loop, timer);
	while ((held = changed->held) != NULL) {
		changed->held = held->next;
		if (changed->held == NULL)
			changed->held_last = &changed->held;
		apply(changed, &held->msg);
		if (held->msg.view && !held->msg.more)
			tell_seen(changed, held->msg.view);
		free(held->msg.changes);
		free(held);
	}
}

/* Kept and applied from the loop: a handler that waits for stored must find what it looked at. */
static void hold(struct changed *changed, const struct store_changed *msg)
{
	struct held *held = calloc(1, sizeof(*held));

	if (held == NULL)
		abort();
	next_dir_drop(changed->m->next_dir);
	held->msg = *msg;
	held->msg.changes = calloc(msg->num_changes + 1, sizeof(*msg->changes));
	if (held->msg.changes == NULL)
		abort();
	if (msg->num_changes > 0)
		memcpy(held->msg.changes, msg->changes, msg->num_changes * sizeof(*msg->changes));
	*changed->held_last = held;
	changed->held_last = &held->next;
	if (!ev_is_active(&changed->timer)) {
		ev_timer_init(&changed->timer, apply_held, 0., 0.001);
		changed->timer.data = changed;
		ev_timer_start(changed->m->loop, &changed->timer);
	}
}

void on_store_changed(struct store_client *self, const struct store_changed *msg)
{
	/* Nothing that a pull brings changes what was. */
	if (self->m->is_mounted && self->m->at == 0) {
		hold(self->m->changed, msg);
		return;
	}
	self->m->view = msg->view;
	if (!msg->more)
		(void)store_seen(self->m->edges.store, &(struct store_seen){ .view = msg->view });
}

void changed_all(struct changed *changed, uint64_t view)
{
	hold(changed, &(struct store_changed){ .since = view, .view = view, .all = true });
}

void changed_look_again(struct changed *changed, uint64_t oid)
{
	struct store_change change = { .kind = TREE_BODY, .id = oid };

	hold(changed, &(struct store_changed){ .since = changed->m->view,
			      .view = changed->m->view,
			      .changes = &change,
			      .num_changes = 1 });
}

void on_store_room(struct store_client *self, const struct store_room *msg)
{
	/* Waking the loop was all: whoever waits for room looks again. */
}
